"""Remarks on an environment that are made once per process, and cost nothing where nobody takes them."""

from __future__ import annotations

import contextlib
import functools
import sys


@functools.lru_cache(maxsize=1000)
def say_once(text: str) -> None:
    """Prints a note on stderr, unless this process has printed it before."""
    with contextlib.suppress(
        OSError, ValueError, AttributeError
    ):  # a full disk, a closed stream, none at all
        print(f"note: {text}", file=sys.stderr, flush=True)
