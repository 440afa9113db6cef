import re
import sys

from dreamworld.envs import make_env
from dreamworld.envs.check import check_env
from dreamworld.envs.families import FAMILIES


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
