"""`dreamworld eval`: plays episodes with the agent of a run and prints their returns."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dreamworld.errors import UserError
from dreamworld.limits import EPISODES, SEED, STEPS, Range

if TYPE_CHECKING:
    from dreamworld.logging.rundir import RunDir
    from dreamworld.training.evaluate import Evaluation


@dataclasses.dataclass(frozen=True)
class Flags:
    logdir: str = ""
    """Folder of the run."""
    episodes: Annotated[int, EPISODES] = 10
    mode: Literal["sample", "greedy"] = "sample"
    """Sampled (as published) or greedy actions."""
    step: Annotated[int, Range(-1, STEPS.high)] = -1
    """Checkpoint to load; -1 for the newest."""
    seed: Annotated[int, SEED] = 0
    video: bool = False
    """Write a video of the first episode into the run's folder `eval`."""
    json: bool = False
    """One JSON line instead of text."""


def main(argv: Sequence[str]) -> int:
    """Loads, plays, prints; adds a row to the run's eval.jsonl."""
    from dreamworld import cli

    flags = cli.parse_flags(argv, Flags(), prog="dreamworld eval", description="Evaluate the agent of a run.")
    if not flags.logdir:
        raise UserError("--logdir: needs the folder of a run")
    row = evaluate_run(flags)
    print(json.dumps(row) if flags.json else describe(row))
    return 0


def evaluate_run(flags: Flags) -> dict[str, Any]:
    """The row that was added to eval.jsonl."""
    from dreamworld.logging.rundir import RunDir
    from dreamworld.logging.writers import evaluation_row
    from dreamworld.scripts import common
    from dreamworld.training.checkpoint import Checkpointer
    from dreamworld.training.evaluate import evaluate

    rundir = RunDir(flags.logdir)
    config = rundir.require()
    common.setup_jax(config)
    with Checkpointer(rundir.checkpoints) as checkpointer:
        step = flags.step if flags.step >= 0 else checkpointer.latest()
    env = common.make_eval_env(config, episodes=flags.episodes)
    try:
        agent = common.build_agent(config, env.obs_space, env.act_space)
        player = common.load_player(config, rundir, agent, step=step, mode=flags.mode, seed=flags.seed)
        state = player.initial(env.num_envs)
        found = evaluate(
            functools.partial(player.act, normalised=True),
            state,
            env,
            flags.episodes,
            seed=flags.seed + 1_000_003,
            video=flags.video,
        )
    finally:
        env.close()
    frames = (step or 0) * common.frames_per_step(config)
    row = evaluation_row(step or 0, frames, flags.mode, found.returns, found.lengths, found.log)
    return keep(rundir, row, found)


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


def describe(row: dict) -> str:
    """What a person reads."""
    returns = ", ".join(f"{value:.4g}" for value in row["returns"])
    text = f"checkpoint {row['step']:,}, {row['mode']} actions: mean return {row['mean']:.4g} +- {row['std']:.4g}"
    return f"{text} over {len(row['returns'])} episodes\nreturns: {returns}" + (
        f"\nvideo: {row['video']}" if "video" in row else ""
    )


if __name__ == "__main__":
    from dreamworld import cli

    sys.exit(cli.run(main, sys.argv[1:]))
