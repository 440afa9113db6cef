"""Studies of the worlds of stored runs (`assess --study`): a file in each run, and a page in the first one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dreamworld.sessions import asked, load, stored
from dreamworld.sessions import assess as sessions
from dreamworld.sessions.stored import Stored

if TYPE_CHECKING:
    from dreamworld.assess.studies.study import Study
    from dreamworld.sessions.held import Held


class Studied(NamedTuple):
    """Studies of some runs, and where they are written."""

    held: Held
    studies: list[Study]
    paths: list[Path]
    problems: list[str]


def run(folders: list[str], flags: sessions.Flags) -> Studied:
    """Studies the newest checkpoint, or that of `flags.step`, of each run.

    Writes `assess/<study>-N.json` in each, and `assess/<study>.html` in the first one.
    """
    from dreamworld.assess.studies.study import page

    ready = sessions.prepare(folders, flags)
    studies, paths = [], []
    for name, one in zip(ready.names, ready.runs):
        made = _study(name, one, ready.held, flags)
        studies.append(made)
        path = one.rundir.assess / f"{flags.study}-{made.about['step']}.json"
        content = json.dumps(made.plain(), indent=1, allow_nan=False) + "\n"
        paths.append(sessions.replace(one, path, content, ready.problems))
    first = ready.runs[0]
    html = page(studies, f"{TITLES[flags.study]}: {ready.held.segments.task or first.name}")
    paths.append(sessions.replace(first, first.rundir.assess / f"{flags.study}.html", html, ready.problems))
    return Studied(ready.held, studies, [path for path in paths if path], ready.problems.take())


TITLES = {"temperature": "Dream score and real score over temperature", "drift": "What helps against drift"}


def _study(name: str, run: Stored, held: Held, flags: sessions.Flags) -> Study:
    from dreamworld.assess.dreams import Dreaming
    from dreamworld.assess.judge import describe_segments
    from dreamworld.assess.ranking import Policy
    from dreamworld.assess.scene import scenes
    from dreamworld.assess.studies import drift, temperature

    agent = stored.build_agent(run)
    assert agent.simulator is not None
    step, params = load.restore_step(run.rundir, agent, flags.step if flags.step >= 0 else None)
    segments = held.segments
    dreaming = Dreaming(
        agent.simulator, segments.obs_space, scenes(segments), segments.context, flags.samples
    )
    about = sessions.describe(run, step) | {"segments": describe_segments(segments, flags.samples)}
    if flags.study == "drift":
        world = params["world"]
        return drift.study(name, world, dreaming, segments, flags.every, flags.noise, about, flags.seed)
    own = Policy(str(step), agent, params)
    others = [one for one in asked.policies(run, agent, flags.checkpoints) if one.name != own.name]
    return temperature.study(
        name,
        [own, *others],
        params,
        dreaming,
        segments,
        held.ground,
        asked.temperatures(flags),
        about,
        flags.seed,
    )
