"""Environments of which a process holds one only, as stable-retro's emulators: recognised, with the way out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dreamworld.config import EnvConfig
from dreamworld.envs.building import NotBuilt
from dreamworld.envs.sources import name_of
from dreamworld.envs.vector.common import describe
from dreamworld.errors import UserError
from dreamworld.types import EnvSource


@contextlib.contextmanager
def beside_another(target: EnvSource, config: EnvConfig) -> Iterator[None]:
    """For building environments in a process that has built one already: what they raise becomes a UserError."""
    try:
        yield
    except NotBuilt as error:
        raise _way_out(target, config, error.__cause__ or error) from error.__cause__
    except UserError:
        raise
    except Exception as error:
        raise _way_out(target, config, error) from error


def _way_out(target: EnvSource, config: EnvConfig, error: BaseException) -> UserError:
    return UserError(
        f"{name_of(target)}: one environment was built, another one in the same process raised "
        f"{describe(error)[0].rstrip('.')}; give each a process of its own: "
        f"--env.engine process --env.workers {config.num}"
    )
