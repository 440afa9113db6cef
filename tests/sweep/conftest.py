"""Sweeps of real processes that stand in for trainings."""

import json
import pathlib
import sys

import pytest

from dreamworld.sweep.driver import sweep
from dreamworld.sweep.spec import make_spec

COMMAND = (sys.executable, str(pathlib.Path(__file__).with_name("fake_train.py")))


@pytest.fixture
def run_sweep(tmp_path, monkeypatch):
    """run_sweep(tasks=…, faults={"gym_A/seed1": "crash"}, …) -> exit code, what was said."""

    def run(*, faults=None, **tree):
        said = []
        monkeypatch.setenv("FAKE_TRAIN", json.dumps(faults or {}))
        defaults = {"tasks": ["gym_A"], "seeds": "0", "logdir": str(tmp_path / "sweep"), "cores": "1"}
        options = {"run.steps": "100", **tree.pop("options", {})}
        spec = make_spec({**defaults, **tree, "options": options})
        return sweep(spec, command=COMMAND, say=said.append), "\n".join(said)

    return run


@pytest.fixture
def states(tmp_path):
    """states() -> {run: state} below the sweep's folder."""

    def read():
        folder = tmp_path / "sweep"
        return {
            path.parent.relative_to(folder).as_posix(): json.loads(path.read_text())["state"]
            for path in sorted(folder.rglob("status.json"))
        }

    return read
