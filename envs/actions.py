"""What environments call their discrete actions: for people who play."""

from __future__ import annotations

from dreamworld.envs.attributes import attribute
from dreamworld.envs.wrappers import Wrapper


def names_of(env: object) -> tuple[str, ...]:
    """The `action_names` of an environment below all of its wrappers; empty where it has none."""
    while isinstance(env, Wrapper):
        env = env.env
    found = attribute(env, "action_names", ())
    texts = isinstance(found, tuple | list) and all(isinstance(name, str) for name in found)
    return tuple(found) if texts else ()
