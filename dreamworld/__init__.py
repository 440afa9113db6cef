"""dreamworld: agents that learn a world model and train inside its dreams.

    import dreamworld

    player = dreamworld.load("runs/walker")
    state = player.initial()
    state, action = player.act(state, obs)  # obs: {key: list or array}

    dreamworld.train(dreamworld.parse(["--configs", "size1m"]), env=MyEnv)

Importing it loads no JAX: the names below are looked up when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamworld import rollout
    from dreamworld.behaviours.plans import score_plans
    from dreamworld.cli import parse
    from dreamworld.config import Config
    from dreamworld.envs import make_env, make_vector_env
    from dreamworld.errors import StopTraining, UserError
    from dreamworld.player import Player
    from dreamworld.presets import override
    from dreamworld.sessions.evaluation import evaluate
    from dreamworld.sessions.load import load
    from dreamworld.sessions.train import train

__all__ = [
    "Config",
    "Player",
    "StopTraining",
    "UserError",
    "evaluate",
    "load",
    "make_env",
    "make_vector_env",
    "override",
    "parse",
    "rollout",
    "score_plans",
    "train",
]

_HOMES = {
    "Config": "dreamworld.config",
    "Player": "dreamworld.player",
    "StopTraining": "dreamworld.errors",
    "UserError": "dreamworld.errors",
    "evaluate": "dreamworld.sessions.evaluation",
    "load": "dreamworld.sessions.load",
    "make_env": "dreamworld.envs",
    "make_vector_env": "dreamworld.envs",
    "override": "dreamworld.presets",
    "parse": "dreamworld.cli",
    "score_plans": "dreamworld.behaviours.plans",
    "train": "dreamworld.sessions.train",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from dreamworld.__main__ import version

        return version()
    if name not in __all__:
        raise AttributeError(f"module 'dreamworld' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name not in _HOMES:
        return importlib.import_module(f"dreamworld.{name}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
