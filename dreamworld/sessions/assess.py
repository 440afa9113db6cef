"""Judging the worlds of stored runs on the same segments: numbers in each run, and a table for people."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from dreamworld import words, writing
from dreamworld.errors import UserError
from dreamworld.limits import SEED, STEPS, Range
from dreamworld.reading import require_inside
from dreamworld.sessions.study_flags import Kind

if TYPE_CHECKING:
    from dreamworld.assess.judge import Judged
    from dreamworld.assess.strips import Strip
    from dreamworld.logging.problems import Problems
    from dreamworld.sessions.held import Held
    from dreamworld.sessions.stored import Stored


@dataclasses.dataclass(frozen=True)
class Flags:
    data: str = ""
    """Segments of this data set, or of a file that an earlier assess wrote; by default the environment is played."""
    segments: Annotated[int, Range(2, 100_000)] = 256
    """Segments to judge on."""
    context: Annotated[int, Range(1, 10_000)] = 5
    """Rows of a segment that the model sees."""
    horizon: Annotated[int, Range(1, 100_000)] = 50
    """Rows that it imagines after them."""
    samples: Annotated[int, Range(1, 1024)] = 8
    """Dreams of each segment."""
    step: Annotated[int, Range(-1, STEPS.high)] = -1
    """Checkpoint to load; -1 for the newest."""
    checkpoints: str = ""
    """Ranks the policies of these checkpoints (all, or steps N,M) in the world that is judged, and in reality."""
    study: Kind = "none"
    """Studies instead: temperature or drift of the worlds of runs; forgetting or scaling, which train (no DIR)."""
    temperatures: str = "0.1,0.5,1,1.15,1.3"
    """Temperatures of the study of temperature."""
    every: Annotated[int, Range(1, 100_000)] = 10
    """Rows after which the study of drift shows reality to the dream."""
    noise: Annotated[float, Range(0, 10)] = 0.05
    """Noise on the context in the study of drift: of pixels in 0..1, of vectors in standard deviations."""
    seed: Annotated[int, SEED] = 0
    """Seed of the environments, of the choice of segments, and of the dreams."""
    fresh: bool = False
    """Play the environment anew, also where segments were made before."""
    trust: bool = False
    """Import the code that the configs of somebody else's runs name."""
    json: bool = False
    """JSON lines instead of text, one for each run."""


@dataclasses.dataclass(frozen=True)
class Assessed:
    """The worlds of some runs, and where it is written."""

    held: Held
    judged: list[Judged]
    files: list[Path]
    page: Path | None
    problems: list[str]  # what could not be written


class Ready(NamedTuple):
    """Runs that can be judged, and what they are judged on."""

    runs: list[Stored]
    names: list[str]
    held: Held
    problems: Problems


def assess(folders: list[str], flags: Flags) -> Assessed:
    """Judges the newest checkpoint, or that of `flags.step`, of each run.

    Writes `assess/step-N.json` in each, and the page of all of them in the first one; what can't be written is told.
    """
    from dreamworld.sessions import held

    runs, names, found, problems = prepare(folders, flags)
    found.notes.extend(held.other_worlds(runs, found.segments.task))
    done = [_judge(name, run, found, flags) for name, run in zip(names, runs)]
    judged = [one for one, _ in done]
    found.notes.extend(note for run, one in zip(runs, judged) if (note := _smaller(run, one)))
    written = [_write(run, one, problems) for run, one in zip(runs, judged)]
    page = _write_page(runs[0], judged, found, [own for _, own in done], problems)
    return Assessed(found, judged, [path for path in written if path], page, problems.take())


def prepare(folders: list[str], flags: Flags) -> Ready:
    """Opens runs, refuses what can't be had, and finds or makes the segments."""
    from dreamworld.logging.problems import Problems
    from dreamworld.sessions import asked, held, pieces, stored
    from dreamworld.sessions import folders as known

    for folder in folders:
        known.require_run(folder)
    runs = [stored.open_run(folder, trusted=flags.trust) for folder in folders]
    names = _names(runs)
    for run in runs:
        asked.require_simulator(run)
        asked.require_checkpoint(run, flags.step)
        asked.choose_checkpoints(run, flags.checkpoints)
        asked.require_rows(run, flags)
        asked.require_study(run, flags)
    pieces.setup_jax(runs[0].config)
    wanted = held.Wanted(flags.data, flags.segments, flags.context, flags.horizon, flags.seed, flags.fresh)
    problems = Problems(then="")
    return Ready(runs, names, held.find(runs, wanted, problems), problems)


def _names(runs: list[Stored]) -> list[str]:
    """The names of the folders; the whole paths where two are alike."""
    short = [run.rundir.path.name for run in runs]
    if len(set(short)) == len(short):
        return short
    paths = [str(run.rundir) for run in runs]
    if len(set(paths)) < len(paths):
        raise UserError(f"{max(paths, key=paths.count)}: given twice; name each run once")
    return paths


def _judge(name: str, run: Stored, held: Held, flags: Flags) -> tuple[Judged, list[Strip]]:
    from dreamworld.assess.judge import World, judge
    from dreamworld.assess.strips import strips
    from dreamworld.sessions import asked, load, stored

    agent = stored.build_agent(run)
    assert agent.simulator is not None
    step, params = load.restore_step(run.rundir, agent, flags.step if flags.step >= 0 else None)
    policies = asked.policies(run, agent, flags.checkpoints)
    world = World(name, agent.simulator, params, agent, policies, describe(run, step))
    judged = judge(world, held.segments, samples=flags.samples, ground=held.ground, seed=flags.seed)
    return judged, strips(judged, agent.simulator, params["world"], held.segments)


def describe(run: Stored, step: int) -> dict[str, Any]:
    """Which world it is, as JSON values."""
    return {"run": str(run.rundir), "task": run.name, "agent": run.config.agent.name, "step": step}


def _write(run: Stored, judged: Judged, problems: Problems) -> Path | None:
    path = run.rundir.assess / f"step-{judged.about['step']}.json"
    return replace(run, path, json.dumps(judged.plain(), indent=1, allow_nan=False) + "\n", problems)


def _smaller(run: Stored, judged: Judged) -> str:
    """A note where a longer measurement of the same checkpoint is about to be replaced; empty where none is."""
    from dreamworld.fields import read_fields
    from dreamworld.reading import BadFile, inside

    name, new = f"step-{judged.about['step']}.json", judged.plain()["segments"]
    try:
        before = read_fields(inside(run.rundir.assess, name), 64 << 20).fields("segments")
        old = {key: before.integer(key) for key in ("count", "horizon", "samples")}
    except (BadFile, OSError):
        return ""
    size = lambda of: of["count"] * of["horizon"] * of["samples"]
    if size(old) <= size(new):
        return ""

    def tell(of: Any) -> str:
        rows = f"{words.count(of['count'], 'segment')} of {words.count(of['horizon'], 'imagined row')}"
        return f"{rows}, {words.count(of['samples'], 'dream')} each"

    return f"{run.rundir.assess / name}: a measurement on {tell(old)}, is replaced by one on {tell(new)}"


def _write_page(
    first: Stored, judged: list[Judged], held: Held, strips: list[list[Strip]], problems: Problems
) -> Path | None:
    """`assess/assess.html` of the first run, in place of an older one."""
    from dreamworld.assess.page import page

    title = f"World models of {held.segments.task or first.name}"
    html = page(judged, held.segments, strips, title)
    return replace(first, first.rundir.assess / "assess.html", html, problems)


def replace(run: Stored, path: Path, content: str, problems: Problems) -> Path | None:
    """Writes a file of a run; None where that can't be done, which is told."""
    require_inside(run.rundir.path, path.parent)
    with problems.told(str(path)):
        with writing.making(path.parent):
            writing.replace(path, content)
        return path
    return None
