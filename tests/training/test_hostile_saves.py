"""Host parts and manifests that somebody crafted: a resume names the file in one line and takes the older snapshot."""

import contextlib
import io
import json
import shutil
import zlib

import numpy as np
import pytest
from etils import epath

from dreamworld import cli
from dreamworld.logging.progress import Progress
from dreamworld.sessions.build import opened
from dreamworld.sessions.job import Job
from dreamworld.training import saving, snapshot, tensors, trees
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.stops import Stop


class StopAt(Stop):
    """Asks for a stop once the loop passed a step."""

    def __init__(self, loop, step):
        super().__init__(30)
        self.loop, self.step = loop, step

    @property
    def requested(self):
        return self.loop.counters.step >= self.step


def config_for(logdir):
    words = ["--configs", "debug", "--task", "jax_catch", "--logdir", str(logdir), "--env.engine", "jax"]
    words += ["--eval.every", "0", "--run.report_every", "0", "--run.steps", "400", "--run.save_every", "100"]
    words += ["--replay.prioritized", "0.5"]
    return cli.parse([*words, "--logger.tensorboard", "False"])


@contextlib.contextmanager
def open_loop(config, said):
    progress = Progress(config.run.steps, show=False, file=said)
    with opened(Job.of(config), progress) as session:
        yield session.loops[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    config = config_for(folder)
    with open_loop(config, io.StringIO()) as loop:
        loop.run(StopAt(loop, 250))
        steps = loop.checkpointer.steps()
    assert len(steps) == 2
    return folder, steps


@pytest.fixture
def run(trained, tmp_path):
    folder, (older, newer) = trained
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run", older, newer


def edit_host(folder, change):
    part = folder / "host_0"
    tree = trees.read_tree(epath.Path(part))
    change(tree)
    meta = (part / "meta.json").read_text()
    shutil.rmtree(part)
    trees.write_tree(epath.Path(part), tree)
    (part / "meta.json").write_text(meta)
    (part / "done").touch()
    sign(folder, lambda meta: None)


def sign(folder, change):
    body = json.loads((folder / "snapshot.json").read_text())["snapshot"]
    change(body["meta"]["0"])
    body["files"] = {
        name: list(snapshot.checksum(folder / name)) for name in snapshot.walk(epath.Path(folder))
    }
    text = json.dumps(body, sort_keys=True)
    (folder / "snapshot.json").write_text(f'{{"crc32": {zlib.crc32(text.encode())}, "snapshot": {text}}}')


@pytest.fixture(scope="module")
def loop(trained):
    """A loop that goes on from the run; `restored` reads other folders with its checks."""
    with open_loop(config_for(trained[0]), io.StringIO()) as loop:
        yield loop


def assert_older_one_is_taken(loop, run, caplog, words):
    folder, older, newer = run
    checkpoints = folder / "checkpoints"
    usual, loop.checkpointer = loop.checkpointer, Checkpointer(checkpoints)
    try:
        like = lambda stored: tensors.as_stored(loop.learner.snapshot(), stored, "carry")
        assert (
            loop.checkpointer.restore(None, like, check=lambda found: saving.check(loop, found)).meta["step"]
            == older
        )
    finally:
        loop.checkpointer = usual
    (line,) = [record.getMessage() for record in caplog.records if record.name == "dreamworld"]
    assert f"{checkpoints / str(newer)} is damaged" in line and words in line and line.isprintable()


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(tree):
        for key in keys:
            tree = tree[key]
        if isinstance(value, str) and value == "delete":
            del tree[last]
        else:
            tree[last] = value

    return change


HOSTS = {
    "no counters": put("counters", "delete"),
    "counters as list": put("counters", [1, 2]),
    "unknown counter": put("counters", "os", 1),
    "counter as text": put("counters", "step", "1"),
    "counter as array": put("counters", "step", np.zeros(10**4)),
    "counter below zero": put("counters", "step", -5),
    "counter of 10^200": put("counters", "step", 10**200),
    "counter that is nan": put("counters", "seconds", float("nan")),
    "half an update": put("counters", "accounts", "update", "updates", 1.5),
    "accounts of text": put("counters", "accounts", "x"),
    "account of nothing": put("counters", "accounts", {"update": 3}),
    "a stage that the agent has not": put("counters", "stage", 2),
    "stage in the future": put("counters", "stage_step", 10**6),
    "no batch": put("counters", "accounts", "update", "batch_rows", 0),
    "first update in the future": put("counters", "accounts", "update", "first_update", 10**6),
    "another step": put("counters", "step", 1 << 53),
    "more iterations than steps": put("counters", "iteration", 1 << 31),
    "a million years": put("counters", "seconds", 3e13),
    "no metrics": put("metrics", "delete"),
    "metrics of text": put("metrics", "count/x", "y"),
    "metrics of nobody": put("metrics", "x", np.asarray(1.0, np.float32)),
    "counted nothing": put("metrics", "count/train/loss", np.asarray(0)),
    "no episodes": put("episodes", "delete"),
    "episodes without returns": put("episodes", "return", "delete"),
    "episodes of other environments": put("episodes", "return", np.zeros(99)),
    "episodes of text": put("episodes", "length", np.array(["a"] * 4)),
    "million returns": put("episodes", "recent", np.zeros(10**6)),
    "sums of matrices": put("episodes", "sum/x", np.zeros((4, 4))),
    "env as list": put("env", [1]),
    "env of text": put("env", "leaf/0", "x"),
    "acting as mapping": put("act", {"a": 1}),
    "acting too short": put("act", []),
    "acting of other shapes": put("act", [np.zeros(3)] * 3),
    "pending as number": put("pending", 3),
    "pending of numbers": put("pending", {"update": [1, 2]}),
    "pending of nothing": put("pending", {"update": [{}]}),
    "pending as list, as it was": put("pending", [{}]),
    "pending of other keys": put("pending", [{"row": np.zeros((2, 2), np.int64), "consec": np.zeros(2)}]),
}


@pytest.mark.parametrize("damage", HOSTS)
def test_a_crafted_host_part_is_one_line(loop, run, caplog, damage):
    edit_host(run[0] / "checkpoints" / str(run[2]), HOSTS[damage])
    assert_older_one_is_taken(loop, run, caplog, "host_0/tree.json")


METAS = {
    "no replay": put("replay", "delete"),
    "replay as text": put("replay", "x"),
    "processes as text": put("processes", "1"),
    "no chunks": put("replay", "chunks", "delete"),
    "chunks of text": put("replay", "chunks", [["a"] * 7]),
    "layout of numbers": put("replay", "layout", "reward", [1 << 62, []]),
    "layout without a shape": put("replay", "layout", "reward", ["float32", -1]),
    "sampler as list": put("replay", "sampler", []),
    "slots": put("replay", "sampler", "free_slots", [10**9]),
    "a name that leads out": put("replay", "files", ["../../victim"]),
    "an absolute name": put("replay", "journals", ["/etc/hostname"]),
}


@pytest.mark.parametrize("damage", METAS)
def test_a_crafted_manifest_is_one_line(loop, run, caplog, damage):
    victim = run[0] / "victim"
    victim.write_text("precious")
    sign(run[0] / "checkpoints" / str(run[2]), METAS[damage])
    assert_older_one_is_taken(loop, run, caplog, "snapshot.json")
    assert victim.read_text() == "precious"


def test_a_resume_takes_the_older_snapshot_and_says_so(run, caplog):
    folder, older, newer = run
    edit_host(folder / "checkpoints" / str(newer), HOSTS["counter as text"])
    said = io.StringIO()
    with open_loop(config_for(folder), said) as loop:
        assert loop.counters.step == older and f"continued at step {older:,}" in said.getvalue()
        loop.run(StopAt(loop, older + 20))
    assert len([line for line in caplog.messages if "is damaged" in line]) == 1


def test_an_iteration_beyond_32_bits_has_a_key(loop):
    step, carry, actions = loop.env.reset(0), loop.learner.acting_state(), []
    for iteration in (5, (1 << 32) + 5):
        loop.learner.load_acting(carry)
        actions.append(np.asarray(loop.learner.act(step, iteration)[0]["action"]))
    np.testing.assert_array_equal(*actions)


class Clumsy:
    """Environments that can't take their state back."""

    def restore(self, state):
        raise KeyError("\x1b[31mleaf")


def test_a_state_that_environments_can_not_take_begins_new_episodes(loop, monkeypatch):
    monkeypatch.setattr(loop, "env", Clumsy())
    (line,) = saving.restore_env(loop, {"env": {"leaf/0": np.zeros(3)}, "act": []})
    assert "new episodes begin" in line and "KeyError" in line and line.isprintable()
    assert loop.timestep is None
