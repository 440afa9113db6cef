"""`dreamworld benchmark NAME`: measurements of this machine; each lives in `dreamworld.benchmarks.<name>`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from dreamworld import text, words
from dreamworld.errors import UserError

BENCHMARKS = {
    "update": "one full learning step on a synthetic batch",
    "plain": "an update beside its plain forms, in pairs",
    "growth": "updates of growing size, batch, length and horizon",
    "act": "latency of the policy",
    "env": "environment steps per second, against gymnasium's async vector",
    "replay": "inserts, batches and saves of replay",
    "loop": "a whole training loop: frames per second, and how long it waits for data",
    "saves": "what checkpoints cost a training",
    "play": "the page to play in: latency from key to picture, steps per second, many sessions",
    "scale": "the mesh, several processes, several seeds",
}


def main(argv: Sequence[str]) -> int:
    """Dispatches to one benchmark."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: dreamworld benchmark NAME [OPTIONS]\n")
        for name, about in BENCHMARKS.items():
            print(f"  {name:<8} {about}")
        print("\ndreamworld benchmark NAME --help lists the options of one.")
        return 0 if argv else 2
    name, *rest = argv
    if name not in BENCHMARKS:
        text.check_filled("benchmark NAME", name, f"one of {', '.join(BENCHMARKS)}")
        known = ", ".join(BENCHMARKS)
        raise UserError(
            f"{name}: no such benchmark; did you mean {words.nearest(name, BENCHMARKS)}? There are: {known}"
        )
    return importlib.import_module(f"dreamworld.benchmarks.{name}").main(rest)


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("benchmark", main))
