"""The trainings of a study: ordinary runs below its folder, each trained once, or continued where it was stopped."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamworld import presets, text, writing
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.lists import parse_seeds
from dreamworld.logging.rundir import RunDir
from dreamworld.reading import read_json
from dreamworld.sessions import beginning, pieces
from dreamworld.sessions.job import Job
from dreamworld.spaces import DATA_SET
from dreamworld.text import expand_path

if TYPE_CHECKING:
    from dreamworld.assess.studies.study import Study
    from dreamworld.contract import Agent
    from dreamworld.types import Params, Spaces

PLAN = "plan.json"
HELD_OUT = 0.1  # share of the episodes, where no other one is given
SET: dict[str, Any] = {
    "seeds": "",
    "init_from": "",
    "resume": "auto",
    "run.mode": "host",
    "run.report_every": 0,
    "run.keep_last": 1,
    "run.keep_every": 0,
    "run.keep_best": False,
    "eval.every": 0,
    "assess.every": 0,
}
"""Options of the trainings that a study chooses itself."""


class Done(NamedTuple):
    """What came of a study that trains."""

    study: Study | None  # None: it was stopped
    paths: list[Path]
    notes: list[str]
    status: int  # exit code of the training that was stopped, else 0


def refuse_set(study: str, given: Collection[str], more: Collection[str] = ()) -> None:
    """UserError for an option of training, among those `given`, that the study chooses itself."""
    for key in sorted({*SET, *more} - {"seeds"}):
        if key in given:
            raise UserError(f"assess --study {study}: --{key} is chosen by the study; leave it out")


def require_folder(study: str, config: Config, given: Collection[str]) -> Path:
    """The folder of a study, --logdir; UserError where it is not given, or holds something else."""
    if "logdir" not in given:
        raise UserError(f"assess --study {study}: where to? Give the folder of the study: --logdir DIR")
    text.check_path("--logdir", config.logdir)
    if "{" in config.logdir:
        raise UserError(
            f"--logdir {config.logdir}: the folder of a study holds all of its seeds; leave {{…}} out"
        )
    path = expand_path(config.logdir).absolute()
    for name, what in (("config.yaml", "a run"), (DATA_SET, "a data set")):
        if (path / name).exists():
            raise UserError(f"--logdir {config.logdir}: holds {what}; give the study a folder of its own")
    return path


def seeds_of(config: Config) -> tuple[int, ...]:
    """The seeds of a study: those of --seeds, or the one of --seed."""
    return parse_seeds(config.seeds) if config.seeds else (config.seed,)


def check_plan(folder: Path, study: str, plan: Mapping[str, Any]) -> None:
    """UserError where the folder holds a study with another plan, beyond what the configs of its runs say."""
    path = folder / PLAN
    if not path.exists():
        return
    found = read_json(path)
    known = found if isinstance(found, dict) else {}
    if wrong := next((key for key, value in {"study": study, **plan}.items() if known.get(key) != value), ""):
        shown = text.printable(json.dumps(known.get(wrong)))
        raise UserError(
            f"--logdir {folder}: holds a study with other settings ({wrong} {shown}); use those, or another folder"
        )


def keep_plan(folder: Path, study: str, plan: Mapping[str, Any]) -> None:
    """Writes the plan into the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    writing.replace(folder / PLAN, json.dumps({"study": study, **plan}, indent=1) + "\n")


def partial(path: Path) -> Path:
    """An empty place for what becomes `path` when it is whole; what a stopped study left there is removed."""
    place = path.with_name(f"{path.name}.partial")
    shutil.rmtree(place, ignore_errors=True)
    return place


def plan_run(config: Config, path: Path, seed: int, values: Mapping[str, Any]) -> Config:
    """The config of one training of a study."""
    own = {**SET, "seed": seed, "logdir": str(path), **values}
    held_out = config.replay.held_out or HELD_OUT
    made = presets.replace(config, {"replay.held_out": held_out, **own})
    return beginning.name_task(beginning.name_data(made))[0]


def admit(configs: Sequence[Config]) -> None:
    """UserError where the folder of a training holds another run."""
    for config in configs:
        rundir = RunDir.of(config)
        if rundir.exists():
            rundir.admit(config)


def carry_out(configs: Sequence[Config]) -> int:
    """Trains what is not over yet, one after another; the exit code of the first that does not end well, else 0.

    All that trainings print goes to stderr: stdout is for what the study found.
    """
    from dreamworld.sessions.train import finished_already, train

    count = len(configs)
    for number, config in enumerate(configs, 1):
        if finished_already(Job.of(config)):
            print(f"training {number} of {count} is over already: {config.logdir}", file=sys.stderr)
            continue
        print(f"training {number} of {count}: {config.logdir}", file=sys.stderr, flush=True)
        with contextlib.redirect_stdout(sys.stderr):
            status = train(config)
        if status:
            print("the study was stopped; the same command goes on where it was", file=sys.stderr)
            return int(status)
    return 0


def require_agent(study: str, config: Config, spaces: tuple[Spaces, Spaces]) -> tuple[Agent, Params]:
    """The agent of a training, and its parameters as shapes; UserError for one whose world can't be studied."""
    import jax

    agent = pieces.build_agent(config, *spaces)
    if agent.simulator is None or agent.simulator.decode is None:
        raise UserError(
            f"assess --study {study}: the agent {config.agent.name} has no world that decodes what it dreams"
        )
    return agent, jax.eval_shape(lambda key: agent.acting(agent.init(key)), jax.random.PRNGKey(0))


def restore(config: Config, agent: Agent, step: int | None = None) -> Params:
    """What acting needs of a checkpoint of a training, the newest by default."""
    from dreamworld.sessions import load

    return load.restore_params(RunDir.of(config), agent, step)


def write(folder: Path, study: Study, title: str) -> list[Path]:
    """Writes `<study>.json` and `<study>.html` into the folder of a study."""
    from dreamworld.assess.studies.study import page

    content = json.dumps(study.plain(), indent=1, allow_nan=False) + "\n"
    paths = [folder / f"{study.kind}.json", folder / f"{study.kind}.html"]
    for path, text_ in zip(paths, (content, page([study], title))):
        writing.replace(path, text_)
    return paths
