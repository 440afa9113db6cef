"""docs/metrics.md names every tag that is logged and no other: it is compared with tiny trainings of every agent."""

import dataclasses
import json
import pathlib
import re
import struct
import sys

import gymnasium
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

import dreamworld
from dreamworld.agents import built_in, find
from dreamworld.config import AssessConfig, Config, EnvConfig, EvalConfig, ReplayConfig, RunConfig
from dreamworld.math import symexp_bins, two_hot

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from documents import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")
HEADINGS = {
    "dreamerv1": "DreamerV1",
    "dreamerv2": "DreamerV2",
    "dreamerv3": "DreamerV3",
    "planet": "PlaNet",
    "r2dreamer": "R2-Dreamer",
}  # of the sections with an agent's own tags
FILES = {
    "metrics.jsonl": "",
    "episodes.jsonl": "Episodes",
    "eval.jsonl": "Evaluations",
    "tensorboard": "TensorBoard",
}
ONCE = 48  # steps: between the two log rows
RUN = RunConfig(
    steps=64, train_ratio=16, batch_size=2, batch_length=4, log_every=32, save_every=ONCE,
    progress=False,
)  # fmt: skip


class Signal(gymnasium.Env):
    """An image, a vector, and a number for the log; the second action is paid."""

    observation_space = gymnasium.spaces.Dict(
        image=gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8), vector=gymnasium.spaces.Box(-1, 1, (3,))
    )
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.observe(), {}

    def step(self, action):
        self.time += 1
        return self.observe(), float(action), self.time == 9, False, {"log/time": self.time}

    def observe(self):
        random = self.np_random
        return {
            "image": random.integers(0, 255, (8, 8, 3), np.uint8),
            "vector": random.uniform(-1, 1, 3).astype("float32"),
        }


class Force(Signal):
    """The same with a continuous action."""

    action_space = gymnasium.spaces.Box(-1, 1, ())


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """agent -> file -> the tags that a tiny training of it wrote there; looks at the world and the like, of one."""
    found = {}
    for name in built_in():
        folder, all_of_it = tmp_path_factory.mktemp(name), name == "dreamerv3"
        config = Config(
            logdir=str(folder), agent=find(name).tiny, env=EnvConfig(num=2, image_keys="image"),
            run=dataclasses.replace(RUN, report_every=ONCE * all_of_it),
            replay=ReplayConfig(min_starts=8, chunk=16, capacity_steps=1000, held_out=0.2),
            eval=EvalConfig(every=ONCE * all_of_it, episodes=2, max_steps=5, video=False),
            assess=AssessConfig(every=ONCE * all_of_it, segments=4, horizon=5),
        )  # fmt: skip
        env = Signal if "discrete" in find(name).actions else Force
        assert dreamworld.train(config, env=env, on_log=dict) == 0
        found[name] = {file: tags(folder / file) if (folder / file).exists() else set() for file in FILES}
    return found


def tags(path):
    """The keys of all rows of a JSONL file; of a folder of TensorBoard's, its tags."""
    if path.suffix == ".jsonl":
        return {key for line in path.read_text().splitlines() for key in json.loads(line)}
    return {value.tag for file in path.iterdir() for event in events(file) for value in event.summary.value}


def events(path):
    """Read from the record format: length, checksum, data, checksum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield vars(event_pb2)["Event"].FromString(data[12 : 12 + length])
        data = data[16 + length :]


def documented(heading):
    """{tag: whether it needs something that its cell names} of the tables of the sections with this in their heading.

    With an empty heading, of the sections about `metrics.jsonl`: all that are not about another file.
    """
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0]
        other = any(name and title.startswith(name) for name in FILES.values())
        if heading in title if heading else not other:
            for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE):
                for tag, need in re.findall(r"`([\w/<>]+)`( \([^)]*\))?", cell):
                    found[tag] = bool(need)
    return found


def matches(pattern, tag):
    """Whether a documented tag, with `<name>` for any text without a slash, is this one."""
    return re.fullmatch(re.sub(r"\\?<\w+\\?>", "[^/]+", re.escape(pattern)), tag) is not None


def check(page, found):
    """Every tag that was found is on the page, and every one of the page that needs nothing was found."""
    missing = {tag for tag in found if not any(matches(pattern, tag) for pattern in page)}
    assert not missing, "logged, and not in docs/metrics.md"
    invented = {p for p, needs in page.items() if not needs and not any(matches(p, tag) for tag in found)}
    assert not invented, "in docs/metrics.md, and nothing logs them"


@pytest.mark.parametrize("name", built_in())
def test_losses_and_metrics_of_an_agent_are_explained(logged, name):
    own = {tag for tag in logged[name]["metrics.jsonl"] if tag.startswith(("loss/", "train/"))}
    assert len(own) > 5
    check(documented(HEADINGS[name]), own)


@pytest.mark.parametrize("file", ["metrics.jsonl", "episodes.jsonl", "eval.jsonl"])
def test_keys_of_a_file_are_explained(logged, file):
    check(documented(FILES[file]), set().union(*(found[file] for found in logged.values())))


def test_tags_of_tensorboard_are_explained(logged):
    for found in logged.values():
        columns = {"step", "frames", "updates", "time"}
        assert found["metrics.jsonl"] - columns <= found["tensorboard"]
    rest = set().union(*(found["tensorboard"] - found["metrics.jsonl"] for found in logged.values()))
    check(documented("TensorBoard"), rest)


def test_what_needs_something_is_logged_where_this_training_has_it(logged):
    """Guards the marks: of what is called optional, most is logged here."""
    found = set().union(*(tags for files in logged.values() for tags in files.values()))
    optional = {tag for file in FILES for tag, needs in documented(FILES[file]).items() if needs}
    absent = {pattern for pattern in optional if not any(matches(pattern, tag) for tag in found)}
    assert absent == {"time/device_fraction", "time/rows_fraction", "report/probe_<key>"}


def test_floors_of_the_reward_loss_are_those_of_the_page():
    bins = symexp_bins(255)

    def floor(rewards):
        target = np.asarray(two_hot(np.asarray(rewards, np.float32), bins), np.float64)
        return float(-(target * np.log(np.where(target > 0, target, 1))).sum(-1).mean())

    shown = [f"{floor([reward]):.3f}" for reward in (0.1, 0.5, 2, 10, 100)]
    assert f"| 0.1; 0.5; 2; 10; 100 | {'; '.join(shown)} |" in PAGE
    assert f"| always 1, or always −1 | {floor([1.0]):.3f} |" in PAGE
    assert floor([-1.0]) == pytest.approx(floor([1.0]))
    assert f"38 of 8,000 rows are resets, {floor([1.0]) * 7962 / 8000:.4f}" in PAGE
    even = [floor(np.linspace(0, most, 2000)) for most in (1000, 1)]
    assert f"over 0 to 1 | {even[0]:.2f}; {even[1]:.2f}." in PAGE
