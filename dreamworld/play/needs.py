"""The packages of the extra `play`. Loads none of them."""

from __future__ import annotations

import importlib.util

from dreamworld.errors import UserError

PACKAGES = ("starlette", "uvicorn", "websockets")


def require_extra() -> None:
    """UserError where the extra is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"play needs {', '.join(missing)}, which {verb} not installed: pip install 'dreamworld[play]'"
        )
