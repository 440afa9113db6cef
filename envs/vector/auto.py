"""Chooses the engine: by what the environment is, then by what a step of it costs."""

from __future__ import annotations

import contextlib
import functools
import pickle
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from dreamworld import system, words
from dreamworld.config import EnvConfig
from dreamworld.envs.adapters.kinds import makes_jax, recognise, why_foreign
from dreamworld.envs.attributes import attribute, is_a
from dreamworld.envs.building import quietly, survivable
from dreamworld.envs.pictures import Reading
from dreamworld.envs.scalars import Misfit
from dreamworld.envs.sources import check_factory, is_object, name_of
from dreamworld.envs.vector.alone import beside_another
from dreamworld.envs.vector.common import describe
from dreamworld.errors import UserError
from dreamworld.types import EnvSource, JaxEnv, VectorEnv
from dreamworld.values import parse_options

if TYPE_CHECKING:
    from dreamworld.envs.base import Env

MEASURED = "measured"  # in the reason for an engine: an environment was built, stepped and closed
PROBE_S = 0.3  # time spent on measuring an environment
PROBE_FAILURES = 3  # survived while measuring
STRETCH = 20  # rows between two looks at the clock
MESSAGE_S = 100e-6  # what a step costs per worker, beside the environments' own work (measured on 2 cores)
WORTH = 0.8  # worker processes must take less than this share of the time
# Not measured beforehand, as building one here would load a renderer or a compiler into the training process.
COSTS_S = {"crafter_": 1.5e-3, "memorymaze_": 10e-3, "dmc_": 8e-3, "atari": 0.5e-3}  # dmc: with pixels


def build(target: EnvSource, config: EnvConfig, *, seed: int, num: int) -> VectorEnv:
    """Builds the engine that `config.engine` names, or for auto the one that should be fastest."""
    if is_single(target):
        _refuse_many(target, config.engine, num)
    engine, reason = config.engine, "asked for"
    if engine == "auto":
        engine, reason = choose(target, config, num)
    if engine == "jax":
        return _build_jax(target, config, seed, num, reason)
    if engine == "atari":
        return _build_atari(target, config, seed, num, reason)
    if engine == "process":
        system.require_posix("env.engine process", "use env.engine inprocess")
        from dreamworld.envs.vector.process import ProcessVector

        problem = _import_problem(target)
        if problem:
            raise UserError(f"{problem}: define it in a module of its own, or use env.engine inprocess")
        return ProcessVector(target, config, num, workers=_workers(config), seed=seed, reason=reason)
    from dreamworld.envs.vector.inprocess import InProcess
    from dreamworld.envs.vector.worker import maker

    beside = functools.partial(beside_another, target, config)
    options = {"max_failures": config.max_failures, "reason": reason, "seed": seed, "beside": beside}
    with beside() if MEASURED in reason else contextlib.nullcontext():
        return InProcess(maker(target, config), num, **options)


def choose(target: EnvSource, config: EnvConfig, num: int) -> tuple[str, str]:
    """The engine for an environment, and why."""
    wrapped = wrapper_options(config)
    if is_jax(target):
        if set(wrapped) <= {"time_limit"}:
            return "jax", "a JAX environment"
        return "inprocess", f"a JAX environment with {_list(wrapped)}, which wraps single environments"
    if _is_atari(target) and config.atari.resize == "area" and not wrapped:
        return "atari", "Atari with resize area, which its C++ threads do themselves"
    if num == 1:
        return "inprocess", "one environment"
    if not system.is_posix():
        return "inprocess", "this system has no worker processes for environments"
    problem = _import_problem(target)
    if problem:
        return "inprocess", problem
    return _by_cost(target, config, num)


def wrapper_options(config: EnvConfig) -> list[str]:
    """Options in use that `make_env` serves by wrapping one environment."""
    default = EnvConfig()
    names = ("time_limit", "repeat", "resize", "gray", "stack", "clip_reward", "randomize")
    return [name for name in names if getattr(config, name) != getattr(default, name)]


def _by_cost(target: EnvSource, config: EnvConfig, num: int) -> tuple[str, str]:
    cost, how, problem = _known_cost(target, config), "known", ""
    if cost is None:
        (cost, problem), how = measure_cost(target, config), MEASURED
    if cost is None:
        return "process", f"it raised {problem} while it was measured, and workers keep failures apart"
    workers = min(_workers(config), num)
    here = num * cost
    there = here / workers + MESSAGE_S * workers
    engine = "process" if there < WORTH * here else "inprocess"
    each, alone, shared = (words.rate(1e3 * seconds) for seconds in (cost, here, there))
    text = f"{words.count(num, 'environment')} at {each} ms a step ({how}): {alone} ms here"
    text += f", about {shared} ms in {words.count(workers, 'worker')}"
    return engine, text + (f"; it raised {problem} meanwhile" if problem else "")


def _known_cost(target: EnvSource, config: EnvConfig) -> float | None:
    if not is_a(target, str):
        return None
    if target.startswith("dmc_") and config.dmc.obs == "proprio":
        return None
    for prefix, cost in COSTS_S.items():
        if target.startswith(prefix):
            return cost * max(1, config.repeat)
    return None


class Measured(NamedTuple):
    """What trying an environment has shown."""

    cost_s: float | None  # per row; None where it failed too often to tell
    problem: str  # what it raised last, in one line; empty if nothing


def measure_cost(target: EnvSource, config: EnvConfig) -> Measured:
    """Seconds per row of one environment under random actions, resets included.

    The larger of its CPU time and of its fastest stretch of rows: so neither what else runs on the machine
    counts, nor is waiting missed. An environment that raises is built anew, as in training.
    """
    from dreamworld.envs.vector.worker import maker

    make, random, problem = maker(target, config), np.random.default_rng(0), ""
    stretches: list[tuple[float, float]] = []
    end = time.perf_counter() + PROBE_S
    for seed in range(1 + PROBE_FAILURES):
        env = make()
        try:
            last = env.reset(seed).is_last
            while len(stretches) < 10 and (not stretches or time.perf_counter() < end):
                taken_s, last = _stretch(env, last, random)
                stretches.append(taken_s)
            break
        except BaseException as error:
            if isinstance(error, UserError) and not isinstance(error, Misfit):
                raise
            problem = describe(survivable(error))[0]
        finally:
            with quietly():
                env.close()
    if not stretches:
        return Measured(None, problem)
    clock, cpu = np.array(stretches).T / STRETCH
    return Measured(float(max(cpu.mean(), clock.min())), problem)


def _stretch(env: Env, last: bool, random: np.random.Generator) -> tuple[tuple[float, float], bool]:
    """Takes STRETCH rows: seconds by the clock and of CPU time, and whether the last row ended an episode."""
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in range(STRETCH):
        if last:
            last = env.reset().is_last
        else:
            action = {key: space.sample(random) for key, space in env.act_space.items()}
            last = env.step(action).is_last
    return (time.perf_counter() - clock, time.process_time() - cpu), last


def _build_atari(target: EnvSource, config: EnvConfig, seed: int, num: int, reason: str) -> VectorEnv:
    if not _is_atari(target):
        raise UserError(f"env.engine atari is for atari_<game> and atari100k_<game>, not {target!r}")
    wrapped = wrapper_options(config)
    if wrapped:
        raise UserError(f"the atari engine does not serve {_list(wrapped)}; use env.engine process")
    from dreamworld.envs.vector.atari import AtariThreads

    return AtariThreads(target, config, num, seed=seed, reason=reason)


def _build_jax(target: EnvSource, config: EnvConfig, seed: int, num: int, reason: str) -> VectorEnv:
    env = as_jax_env(target, config)
    wrapped = [name for name in wrapper_options(config) if name != "time_limit"]
    if wrapped:
        raise UserError(f"the jax engine does not serve {_list(wrapped)}; use env.engine inprocess")
    from dreamworld.envs.vector.jax_engine import JaxVector

    return JaxVector(
        env,
        num,
        seed=seed,
        time_limit=config.time_limit,
        max_failures=config.max_failures,
        reason=reason,
    )


def as_jax_env(target: EnvSource, config: EnvConfig) -> JaxEnv:
    """The JAX environment of a name, object, class or factory; UserError for anything else."""
    from dreamworld.envs.adapters.custom import check_call, load_object, require_readable
    from dreamworld.envs.jax import from_gymnax, make_jax_env

    options, reading = parse_options(config.options), Reading.of(config)
    if is_a(target, str) and target.startswith("jax_"):
        reading.refuse(target)
        return make_jax_env(target, **options)
    value: EnvSource = target
    if is_a(target, str) and ":" in target:
        value = load_object(target)
    if callable(value) and not is_object(value):
        check_factory(value, name_of(target))
        check_call(value, name_of(target), (), options)
        value = cast(Any, value)(**options)
    elif options:
        raise UserError(f"{name_of(target)} is an object already and takes no options, got {sorted(options)}")
    kind = recognise(value)
    if kind == "gymnax":
        return from_gymnax(value, reading=reading)
    if kind == "foreign":
        require_readable(value, name_of(target))
        raise UserError(f"environment {name_of(target)!r} {why_foreign(value)}")
    if kind != "jax":
        raise UserError(f"env.engine jax needs a JAX environment (dreamworld.types.JaxEnv), not {target!r}")
    reading.refuse(name_of(target))
    return cast(JaxEnv, value)


def is_jax(target: EnvSource) -> bool:
    """Whether a name or an object is a JAX environment: it steps with (state, action, key)."""
    if is_a(target, str):
        if ":" not in target or target.startswith("gym_"):
            return target.startswith("jax_")
        from dreamworld.envs.adapters.custom import load_object

        target = load_object(target)
    if is_a(target, type):  # its spaces may come with its objects
        return makes_jax(target)
    return is_object(target) and recognise(target) in ("jax", "gymnax")


def _is_atari(target: EnvSource) -> bool:
    return is_a(target, str) and target.startswith(("atari_", "atari100k_"))


def is_single(target: EnvSource) -> bool:
    """Whether `target` is one environment object, of which there can be no second; a JAX environment is pure."""
    return is_object(target) and not is_jax(target)


def _refuse_many(target: EnvSource, engine: str, num: int) -> None:
    what = f"{words.type_of(target)} is one environment"
    if num > 1:
        raise UserError(f"{what}, and {num} are needed: pass its class or a factory, or use env.num 1")
    if engine == "process":
        raise UserError(
            f"{what} of this process, and can't be sent to a worker process: use env.engine inprocess"
        )


def _import_problem(target: EnvSource) -> str:
    """Why worker processes could not import a factory; empty if they can."""
    if is_a(target, str):
        return ""
    try:
        pickle.dumps(target)
    except Exception as error:  # of an object's own methods, too
        return f"worker processes can't import the factory {target!r} ({error})"
    made = attribute(target, "func", target)  # of functools.partial
    if attribute(made, "__module__") == "__main__":
        return f"worker processes don't load the main script, where the factory {target!r} is defined"
    return ""


def _workers(config: EnvConfig) -> int:
    if config.workers:
        return config.workers
    return len(system.cores())


def _list(names: list[str]) -> str:
    return ", ".join(f"env.{name}" for name in names)
