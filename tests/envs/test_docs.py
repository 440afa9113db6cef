import re
import sys

from dreamworld import schema
from dreamworld.config import Config
from dreamworld.envs import make_env
from dreamworld.envs.check import check_env
from dreamworld.envs.families import FAMILIES
from dreamworld.limits import FIXED


def test_the_example_of_the_docs_runs_without_problems(repo, tmp_path, monkeypatch):
    text = (repo / "docs" / "environments.md").read_text()
    (code,) = re.findall(r"```python\n# my_env.py\n(.*?)```", text, re.DOTALL)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 25
    (tmp_path / "my_env.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_env", raising=False)
    env = make_env("my_env:Drive")
    assert env.obs_space["camera"].is_image and set(env.act_space) == {"throttle", "gear"}
    report = check_env(lambda: make_env("my_env:Drive"), steps=250)
    assert report.problems == [] and report.notes[1:] == [], report.text()


def test_the_docs_name_every_family(repo):
    text = (repo / "docs" / "environments.md").read_text()
    assert [family.prefix for family in FAMILIES if f"`{family.prefix}" not in text] == []


def test_atari_100k_says_how_to_compare_with_the_published_code(repo):
    for name in ("configs/atari100k.yaml", "docs/environments.md"):
        assert "--env.atari.sticky 0.25" in (repo / name).read_text(), name


def test_the_first_frame_of_a_game_is_said_to_be_as_published(repo):
    for name in ("envs/adapters/atari.py", "docs/environments.md"):
        text = " ".join((repo / name).read_text().split())
        assert "there the first image" not in text and "the first frame of an episode is the last" not in text


def test_the_page_on_replay_says_what_a_continued_run_may_change(repo):
    text = (repo / "docs" / "replay.md").read_text()
    assert (
        "env.num" in schema.marked(Config, FIXED)
        and "`env.num` stays" in text
        and "another number of environments, " not in text
    )
