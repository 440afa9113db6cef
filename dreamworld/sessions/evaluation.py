"""Evaluating a stored run: plays episodes with its agent and adds a row to its eval.jsonl."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dreamworld import text, words
from dreamworld.errors import UserError
from dreamworld.limits import EPISODES, SEED, STEPS, Range
from dreamworld.plan_options import DEFAULT, PlanConfig, Planning, check_used
from dreamworld.reading import require_inside
from dreamworld.types import EnvSource, Mode

if TYPE_CHECKING:
    from dreamworld.logging.rundir import RunDir
    from dreamworld.sessions.stored import Played, Stored
    from dreamworld.training.evaluate import Act, Evaluation


@dataclasses.dataclass(frozen=True)
class Flags:
    logdir: str = ""
    """Folder of the run, where it is not the first word."""
    episodes: Annotated[int, EPISODES] = 10
    mode: Literal["sample", "greedy"] = "sample"
    """Sampled (as published) or greedy actions; a planner does not tell them apart."""
    planner: Planning = "none"
    """Choose actions by planning in the dream of the agent, not by the agent itself."""
    plan: PlanConfig = DEFAULT
    step: Annotated[int, Range(-1, STEPS.high)] = -1
    """Checkpoint to load; -1 for the newest."""
    seed: Annotated[int, SEED] = 0
    max_steps: Annotated[int, STEPS] = 30_000
    """Agent steps after which an episode is cut."""
    video: bool = False
    """Write a video of the first episode into the run's folder `eval`."""
    task: str = ""
    """Environment to play; that of the run by default."""
    trust: bool = False
    """Import the code that the config of somebody else's run names."""
    json: bool = False
    """One JSON line instead of text."""


def evaluate_run(flags: Flags, env: EnvSource = None) -> dict[str, Any]:
    """Plays the environment of the run, or `env`; returns the row that was added to eval.jsonl."""
    check_used(flags.planner, flags.plan)
    from dreamworld.logging.writers import evaluation_row
    from dreamworld.sessions import load, pieces, planning, stored
    from dreamworld.training.checkpoint import Checkpointer
    from dreamworld.training.evaluate import evaluate

    run = stored.open_run(flags.logdir, trusted=flags.trust)
    played = stored.choose_env(run, flags.task, env)
    home = home_of(run, played, flags.planner)
    pieces.setup_jax(played.config)
    with Checkpointer(run.rundir.checkpoints) as checkpointer:
        step = flags.step if flags.step >= 0 else checkpointer.latest()
    envs = pieces.make_eval_env(played.config, played.source, episodes=flags.episodes)
    try:
        agent = stored.fitting_agent(run, played.name, envs.obs_space, envs.act_space)
        params = load.restore_params(run.rundir, agent, step)
        agent = planning.with_planner(agent, run.config.agent.name, flags.planner, flags.plan)
        player = load.make_player(played.config, agent, params, mode=flags.mode, seed=flags.seed)
        act = Timed(functools.partial(player.act, normalised=True))
        found = evaluate(
            act,
            player.initial(envs.num_envs),
            envs,
            flags.episodes,
            seed=flags.seed + 1_000_003,
            video=flags.video,
            max_steps=flags.max_steps,
        )
    finally:
        envs.close()
    frames = (step or 0) * played.config.frames_per_step
    log = found.log | ({"cut": found.cut} if found.cut else {})
    row = evaluation_row(step or 0, frames, flags.mode, found.returns, found.lengths, log)
    if flags.planner != "none":
        row |= {"planner": flags.planner, "plan": dataclasses.asdict(flags.plan)}
    row |= {"envs": envs.num_envs} | act.row()
    if home is not run.rundir:
        if not played.same:
            print(f"note: trained on {run.name}, evaluated on {played.name}; kept in {home}", file=sys.stderr)
        with contextlib.suppress(UserError):  # what can't be written is said by `keep`
            home.create()
    return keep(home, row, found)


class Timed:
    """`act`, which measures how long it takes on the clock."""

    def __init__(self, act: Act):
        self._act = act
        self._seconds: list[float] = []

    def __call__(self, state: Any, obs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        begin = time.perf_counter()
        found = self._act(state, obs)
        self._seconds.append(time.perf_counter() - begin)
        return found

    def row(self) -> dict[str, float]:
        """The median over steps, each of all environments; without the first, which compiles."""
        later = self._seconds[1:]
        return {"act_ms": 1e3 * statistics.median(later)} if later else {}


def home_of(run: Stored, played: Played, planner: str = "none") -> RunDir:
    """Where an evaluation is kept: in the run, and of another environment or a planner in a folder of its own below it.

    BadFile where that is a link out of the run.
    """
    from dreamworld.logging.rundir import RunDir

    if played.same and planner == "none":
        return run.rundir
    names = [*([] if played.same else [played.name]), *([] if planner == "none" else [planner])]
    home = RunDir(run.rundir.eval / re.sub(r"\W", "_", "_".join(names)))
    require_inside(run.rundir.path, home.path)
    home.check_links()
    return home


def keep(rundir: RunDir, row: dict[str, Any], found: Evaluation) -> dict[str, Any]:
    """Adds the row to eval.jsonl and writes the video; says on stderr what can't be written. Returns the row."""
    from dreamworld.logging.appender import append_row
    from dreamworld.logging.pictures import EVALUATIONS, Pictures
    from dreamworld.logging.problems import Problems

    problems = Problems(then="")
    with problems.told(str(rundir.evals)):
        append_row(rundir.evals, row)
    if found.frames is not None and (
        path := Pictures(rundir, problems).evaluation(row["step"], found.frames)
    ):
        row["video"] = str(path)
    if found.unfilmed:
        problems.give_up(EVALUATIONS, found.unfilmed)
    for problem in problems.take():
        print(problem, file=sys.stderr)
    return row


def evaluate(
    logdir: str | Path,
    *,
    env: EnvSource = None,
    episodes: int = 10,
    mode: Mode = "sample",
    step: int | None = None,
    seed: int = 0,
    max_steps: int = 30_000,
    video: bool = False,
    trust: bool = False,
    planner: Planning = "none",
    plan: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Plays episodes with the agent of a run, on its environment or on `env`; returns what `eval --json` prints.

    `step` is the checkpoint, None or -1 for the newest; `plan` are options of the planner, such as {"horizon": 15}.
    Raises UserError for what the command would refuse.
    """
    values = {"episodes": episodes, "mode": mode, "step": step, "seed": seed, "max_steps": max_steps}
    values |= {"video": video, "trust": trust, "planner": planner}
    flags = checked(logdir, {**values, **plan_values(plan)})
    return evaluate_run(flags, env)


def plan_values(plan: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of a planner that were given in Python, by their names on a command line."""
    if plan is not None and not isinstance(plan, Mapping):
        raise UserError(f'plan: is {words.type_of(plan)}; give options of the planner, {{"horizon": 15}}')
    return {f"plan.{key}": value for key, value in (plan or {}).items()}


def checked(logdir: str | Path, values: Mapping[str, Any]) -> Flags:
    """Options that were given in Python, in the ranges of those of the command; UserError for any other value."""
    from dreamworld import presets

    text.check_path("logdir", logdir)
    given = {key: value for key, value in values.items() if value is not None}
    return dataclasses.replace(presets.override(Flags(), given), logdir=str(logdir))
