"""`make demo`: trains a small agent, compares it with a random policy, and leaves pictures and a checkpoint.

Exits with 1 when the trained agent does not reach the threshold that the README states.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from dreamworld.limits import SEED

THRESHOLD = 400.0  # mean return over EPISODES; a random policy gets about 22, the best possible is 500
EPISODES = 10


@dataclasses.dataclass(frozen=True)
class Flags:
    logdir: str = "runs/demo"
    """Folder of the demo; what an earlier demo left there is replaced."""
    seed: Annotated[int, SEED] = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one demo reached."""

    seed: int
    random_return: float
    trained_return: float
    seconds: float


def main(argv: Sequence[str]) -> int:
    """Runs the demo and prints what it leaves."""
    from dreamworld import cli, streams

    streams.guard_process("stdout", "stderr")
    flags = cli.parse_flags(
        argv, Flags(), prog="scripts/demo.py", description="Train a small agent and show it."
    )
    logdir = Path(flags.logdir)
    outcome = run(logdir, flags.seed)
    strip = sorted(logdir.glob("report/*/*.png"), key=lambda path: int(path.parent.name))
    print(f"\nrandom policy   mean return {outcome.random_return:7.1f}  ({EPISODES} episodes)")
    print(
        f"trained agent   mean return {outcome.trained_return:7.1f}  ({EPISODES} episodes, threshold {THRESHOLD:g})"
    )
    print(f"time            {outcome.seconds:.0f} s\n")
    print(f"learning curve  {logdir / 'learning_curve.png'}")
    if strip:
        print(f"dream and truth {strip[-1]}")
    print(f"checkpoint      {logdir / 'checkpoints'}")
    print(f"again           dreamworld eval --logdir {logdir} --episodes 10")
    if outcome.trained_return < THRESHOLD:
        print(f"error: the trained agent stayed below {THRESHOLD:g}", file=sys.stderr)
        return 1
    return 0


def run(logdir: Path, seed: int) -> Outcome:
    """Trains the preset `demo` in `logdir`, then plays with it and with a random policy."""
    from dreamworld import cli
    from dreamworld.scripts import common, train
    from dreamworld.scripts.eval import Flags as EvalFlags
    from dreamworld.scripts.eval import evaluate_run
    from dreamworld.training.evaluate import evaluate, random_act

    if (logdir / "config.yaml").is_file():
        shutil.rmtree(logdir)
    began = time.monotonic()
    config = cli.parse(["--configs", "demo", "--logdir", str(logdir), "--seed", str(seed)])
    code = train.train(config)
    if code:
        raise SystemExit(code)
    row = evaluate_run(EvalFlags(logdir=str(logdir), episodes=EPISODES))
    env = common.make_eval_env(config, episodes=EPISODES)
    found = evaluate(random_act(env.act_space, env.num_envs, seed), None, env, EPISODES, seed=seed)
    env.close()
    random_return = sum(found.returns) / len(found.returns)
    return Outcome(seed, random_return, float(row["mean"]), time.monotonic() - began)  # type: ignore[arg-type]


if __name__ == "__main__":
    from dreamworld import cli

    sys.exit(cli.run(main, sys.argv[1:]))
