"""Recognises what API an environment has: by several of its attributes, as one alone may mean anything."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Literal

from dreamworld import words
from dreamworld.envs.attributes import attribute, calls, has, is_a, parameters
from dreamworld.envs.scalars import kind_of

Kind = Literal["gymnasium", "own", "jax", "gymnax", "dm_env", "foreign"]
ACCEPTED = (
    "a gymnasium.Env, a dm_env.Environment, a JAX environment (dreamworld.types.JaxEnv), a dreamworld Env"
)
VECTOR = "is a vector environment; give one environment, we run many of them"
AGENTS = "is multi-agent ({}): give one agent's view, a gymnasium.Env whose step() lets the other agents act"
JAX_WAY = "write its reset and step as a dreamworld.types.JaxEnv (docs/jax_environments.md)"
OLD_GYM = (
    "has a {}, not a gymnasium space: the old gym API is not supported; convert it to gymnasium (shimmy's "
    "GymV21CompatibilityV0 does)"
)


def recognise(env: object) -> Kind:
    """The API of an environment object; "foreign" for one that is not supported, and `why_foreign` says why."""
    if _is_vector(env) or is_a(env, type):
        return "foreign"
    if _are_gymnasium(attribute(env, "observation_space"), attribute(env, "action_space")):
        return "gymnasium"
    if has(env, "obs_space", "act_space"):
        return "jax" if len(_positional(env, "step")) == 3 else "own"
    if _is_multi_agent(env) or not _steps(env):
        return "foreign"
    if is_gymnax(env):
        return "gymnax"
    if _is_dm(env):
        return "dm_env"
    return "foreign"


def is_gymnax(env: object) -> bool:
    """Spaces are functions of parameters; `step` takes key, state and action, `reset` a key."""
    if is_a(env, type) or not (calls(env, "observation_space") and calls(env, "action_space")):
        return False
    step, reset = _positional(env, "step"), _positional(env, "reset")
    return len(step) >= 3 and len(reset) >= 1 and not _is_multi_agent(env)


def makes_jax(made: type) -> bool:
    """Whether the objects of a class step with state, action and key, and reset with a key."""
    step, reset = _positional(made, "step"), _positional(made, "reset")
    return len(step) == 4 and len(reset) == 2 and not has(made, "observation_space")  # with self


def why_foreign(env: object) -> str:
    """What an environment is that is not supported, and the way out; the sentence begins with its name."""
    if is_a(env, type):
        return f"made the class {env.__name__}: return an environment, {env.__name__}(), or give the class itself"
    if _is_vector(env):
        return VECTOR
    if _is_multi_agent(env):
        turns = "one agent after the other" if has(env, "agent_iter", "last") else "all agents at once"
        return AGENTS.format(f"as PettingZoo's, {turns}")
    if (is_a(env, list) or is_a(env, tuple)) and env and _steps(env[0]):
        return f"made {kind_of(env)}: return the environment alone, not {type(env).__name__}(environment, …)"
    if not _steps(env):
        return f"made {words.type_of(env)}; expected {ACCEPTED}"
    if (way := _other_library(env)) is not None:
        return way
    for name in ("observation_space", "action_space"):
        if attribute(env, name) is None and _is_gymnasium(env):
            return f"has no {name}: set it to a gymnasium space, in the class or in __init__"
    space = attribute(env, "observation_space")
    if callable(space):
        return "has a method observation_space(), but does not step as gymnax does; give the spaces as attributes"
    if space is not None and has(env, "action_space"):
        name, wrong = next(
            (name, found)
            for name in ("observation_space", "action_space")
            if not _are_gymnasium(found := attribute(env, name))
        )
        if isinstance(wrong, Mapping | list | tuple):
            way = "gymnasium.spaces.Dict" if isinstance(wrong, Mapping) else "gymnasium.spaces.Tuple"
            return f"has a plain {type(wrong).__name__} as {name}: write {way}(…) around it"
        return OLD_GYM.format(f"{type(wrong).__module__}.{type(wrong).__name__}")
    return f"made {words.type_of(env)}; expected {ACCEPTED}"


def _is_gymnasium(env: object) -> bool:
    """Whether it is of gymnasium's class, which may not be imported for it."""
    return any(f"{base.__module__}.{base.__name__}" == "gymnasium.core.Env" for base in type(env).__mro__)


def _other_library(env: object) -> str | None:
    """Environments that are known and not supported as they are."""
    explicit_state = len(_required(env, "reset") or ()) >= 1 and len(_required(env, "step") or ()) == 2
    if explicit_state and has(env, "observation_spec", "action_spec"):
        return "is a jumanji environment: wrap it with jumanji's own jumanji.wrappers.JumanjiToGymWrapper"
    if explicit_state and has(env, "observation_size", "action_size"):
        return f"is a brax environment: {JAX_WAY}"
    if explicit_state:
        return f"is a JAX environment of another kind, with reset(key) and step(state, action): {JAX_WAY}"
    if has(env, "observation_spec", "action_spec", "rollout") and not calls(env, "observation_spec"):
        return "is a torchrl environment: give the environment that it wraps"
    if calls(env, "observation_spec") and isinstance(attribute(env, "action_spec"), tuple):
        return "is a robosuite environment: wrap it with robosuite.wrappers.GymWrapper"
    return None


def _is_vector(env: object) -> bool:
    return (
        has(env, "single_observation_space", "single_action_space")
        or has(env, "num_envs", "step_async", "step_wait")  # stable-baselines3
        or has(env, "num_envs", "obs_space", "act_space", "engine")  # our own
        or all(calls(env, name) for name in ("send", "recv", "async_reset"))  # envpool
    )


def _is_multi_agent(env: object) -> bool:
    named = has(env, "possible_agents") or has(env, "agents") or has(env, "agent_iter", "last")
    spaces = attribute(env, "observation_space")
    return named and (callable(spaces) or isinstance(attribute(env, "observation_spaces", spaces), Mapping))


def _is_dm(env: object) -> bool:
    return (
        calls(env, "observation_spec")
        and calls(env, "action_spec")
        and _required(env, "reset") in ([], None)
        and len(_required(env, "step") or (0,)) == 1
    )


def _are_gymnasium(*spaces: object) -> bool:
    import gymnasium

    return all(isinstance(space, gymnasium.Space) for space in spaces)


def _steps(env: object) -> bool:
    return calls(env, "step") and calls(env, "reset")


def _required(env: object, name: str) -> list[str] | None:
    """Parameters of a method that have no default; None where its signature can't be read or is open."""
    found = _parameters(env, name)
    if found is None or any(p.kind is p.VAR_POSITIONAL for p in found):
        return None
    return [p.name for p in found if p.default is p.empty and p.kind is not p.VAR_KEYWORD]


def _positional(env: object, name: str) -> list[str]:
    found = _parameters(env, name) or []
    return [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _parameters(env: object, name: str) -> list[inspect.Parameter] | None:
    function = attribute(env, name)
    found = parameters(function) if callable(function) else None
    return None if found is None else list(found.values())
