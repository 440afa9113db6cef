"""`dreamworld sweep`: trains tasks x seeds x settings; the same command continues; ends with a report."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dreamworld.sweep import spec as specs


def main(argv: Sequence[str]) -> int:
    """Parses, plans and runs; returns the exit code."""
    spec = specs.parse(argv)
    from dreamworld.sweep.driver import sweep

    return sweep(spec)


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("sweep", main))
