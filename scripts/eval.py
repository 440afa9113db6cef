"""`dreamworld eval`: plays episodes with the agent of a run and prints their returns."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

from dreamworld import words
from dreamworld.sessions.evaluation import Flags, evaluate_run

DESCRIPTION = "Evaluate the agent of a run: dreamworld eval DIR"


def main(argv: Sequence[str]) -> int:
    """Loads, plays, prints; adds a row to the run's eval.jsonl."""
    from dreamworld.sessions import folders

    flags = read(argv)
    folders.require_run(flags.logdir)
    row = evaluate_run(flags)
    print(json.dumps(row) if flags.json else describe(row))
    return 0


def read(argv: Sequence[str]) -> Flags:
    """The options of a command line: DIR first, or --logdir DIR."""
    from dreamworld import cli
    from dreamworld.sessions import folders

    folder, options = folders.split(argv, "eval")
    flags = cli.parse_flags(options, Flags(), prog="dreamworld eval DIR", description=DESCRIPTION)
    return dataclasses.replace(flags, logdir=folders.agreed(folder, flags.logdir, "eval"))


def describe(row: dict) -> str:
    """What a person reads."""
    returns = ", ".join(f"{value:.4g}" for value in row["returns"])
    how = f"planned by {row['planner']}" if "planner" in row else f"{row['mode']} actions"
    line = f"checkpoint {row['step']:,}, {how}: mean return {row['mean']:.4g} +- {row['std']:.4g}"
    cut = (
        f", {row['cut']} of them cut at {words.count(max(row['lengths']), 'step')} (--max_steps)"
        if "cut" in row
        else ""
    )
    envs = words.count(row.get("envs", 1), "environment")
    speed = f"\nactions of a step of {envs}: {row['act_ms']:.3g} ms" if "act_ms" in row else ""
    return f"{line} over {words.count(len(row['returns']), 'episode')}{cut}\nreturns: {returns}{speed}" + (
        f"\nvideo: {row['video']}" if "video" in row else ""
    )


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("eval", main))
