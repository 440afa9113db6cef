"""Whether an environment can be made, found out without making one: its name, its packages, its options."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dreamworld import presets
from dreamworld.config import EnvConfig
from dreamworld.envs import families
from dreamworld.envs.families import find_family
from dreamworld.envs.names import unknown
from dreamworld.errors import UserError
from dreamworld.values import parse_options

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

TIMEOUT_S = 300.0
MARK = "resolved: "  # what else is printed comes from the packages that are imported


def resolve(name: str, config: EnvConfig) -> None:
    """Raises UserError where `make_env` would refuse the name, miss a package, or refuse an option.

    Imports the environment's package, or the user's module; builds nothing.
    """
    options = parse_options(config.options)
    family = find_family(name)
    if family is None:
        _resolve_custom(name, options)
        return
    if missing := families.missing_packages(family):
        raise UserError(f"{name} needs {', '.join(missing)}, which is not installed: {family.install}")
    if options and not family.options:
        raise UserError(f"{name} takes no options, got {sorted(options)}; its settings are in env.*")
    CHECKS[family.prefix](name.removeprefix(family.prefix), config, options)


def resolve_apart(asked: Sequence[tuple[str, EnvConfig]]) -> list[tuple[str, str]]:
    """(name, problem) of those that can't be made, looked up in a process of its own.

    So neither simulators nor a module of the user's own, and JAX with it, are loaded into this one.
    """
    questions = json.dumps([[name, presets.flat(config)] for name, config in asked])
    command = [sys.executable, "-m", "dreamworld.envs.resolve"]
    try:
        result = subprocess.run(command, input=questions, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return [(asked[0][0], f"{asked[0][0]}: importing it took longer than {TIMEOUT_S:.0f} s")]
    answers = [line.removeprefix(MARK) for line in result.stdout.splitlines() if line.startswith(MARK)]
    found = [(name, json.loads(answer)) for (name, _), answer in zip(asked, answers)]
    if len(answers) < len(asked):
        name = asked[len(answers)][0]
        said = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        found.append((name, f"{name}: importing it ended the process: {said}"))
    return [(name, problem) for name, problem in found if problem]


def _main() -> None:
    """Answers the questions on the standard input, one line each."""
    for name, config in json.load(sys.stdin):
        problem = ""
        try:
            resolve(name, presets.override(EnvConfig(), config))
        except UserError as error:
            problem = str(error)
        except Exception as error:  # of a module of the user's own
            problem = f"{name}: {type(error).__name__}: {error}".splitlines()[0]
        print(f"\n{MARK}{json.dumps(problem)}", flush=True)


def _resolve_custom(name: str, options: dict[str, Any]) -> None:
    from dreamworld.envs.adapters.custom import check_source, find_entry_point, load_object
    from dreamworld.envs.factory import unknown_environment

    if ":" in name:
        check_source(load_object(name), name, (), options)
        return
    found = find_entry_point(name)
    if found is None:
        raise unknown_environment(name)
    check_source(found[0], name, found[1], options)


def _atari(prefix: str) -> Callable[[str, EnvConfig, dict[str, Any]], None]:
    def check(rest: str, config: EnvConfig, options: dict[str, Any]) -> None:
        from dreamworld.envs.adapters.atari import GAMES, GAMES_100K, game_name

        game_name(prefix, rest, GAMES_100K if prefix == "atari100k_" else GAMES)

    return check


def _dmc(rest: str, config: EnvConfig, options: dict[str, Any]) -> None:
    from dreamworld.envs.adapters.dmc import parse_task
    from dreamworld.envs.render import choose_backend

    choose_backend(pixels=config.dmc.obs != "proprio")
    parse_task(rest)


def _listed(prefix: str) -> Callable[[str, EnvConfig, dict[str, Any]], None]:
    """A family whose names are all listed, without other spellings."""

    def check(rest: str, config: EnvConfig, options: dict[str, Any]) -> None:
        family = next(family for family in families.FAMILIES if family.prefix == prefix)
        if rest not in family.names():
            raise unknown("task", prefix + rest, families.family_names(family))

    return check


def _gym(rest: str, config: EnvConfig, options: dict[str, Any]) -> None:
    from dreamworld.envs.adapters.gym import find_spec

    _check_registered(find_spec(rest), f"gym_{rest}", options)


def _minigrid(rest: str, config: EnvConfig, options: dict[str, Any]) -> None:
    import gymnasium

    from dreamworld.envs.adapters.suites import minigrid_id

    _check_registered(gymnasium.spec(minigrid_id(rest)), f"minigrid_{rest}", options)


def _check_registered(spec: EnvSpec, label: str, options: dict[str, Any]) -> None:
    """Whether what makes a registered environment can be imported and takes the options."""
    from dreamworld.envs.adapters.gym import load_maker

    try:
        parameters = inspect.signature(load_maker(spec)).parameters
    except ImportError as error:
        raise UserError(f"{label} needs a package that is not installed: {error}") from None
    except UserError:
        raise
    except (TypeError, ValueError):
        return  # without a signature: only making it tells
    of_make = {"max_episode_steps", "render_mode", "disable_env_checker", "id"}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    if strange := sorted(set(options) - set(parameters) - of_make):
        known = ", ".join(parameters) or "none"
        raise UserError(f"{label} takes no option {strange[0]!r}; its options: {known}")


def _bsuite(rest: str, config: EnvConfig, options: dict[str, Any]) -> None:
    from dreamworld.envs.adapters.suites import bsuite_id

    bsuite_id(rest)


def _jax(rest: str, config: EnvConfig, options: dict[str, Any]) -> None:
    from dreamworld.envs.jax import make_jax_env

    make_jax_env(f"jax_{rest}", **options)  # a dataclass: cheap


CHECKS: dict[str, Callable[[str, EnvConfig, dict[str, Any]], None]] = {
    "atari100k_": _atari("atari100k_"),
    "atari_": _atari("atari_"),
    "dmc_": _dmc,
    "crafter_": _listed("crafter_"),
    "gym_": _gym,
    "minigrid_": _minigrid,
    "bsuite_": _bsuite,
    "memorymaze_": _listed("memorymaze_"),
    "jax_": _jax,
}

if __name__ == "__main__":
    _main()
