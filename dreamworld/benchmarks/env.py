"""`dreamworld benchmark env`: environment steps per second and CPU per step, beside gymnasium's async vector.

All contestants run in one process, in turns, so that what else the machine does hits them alike; the figures
are medians over the turns, the ratios medians of the ratios within a turn. CPU times are totals over all
turns, as rare resets can be most of the cost.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from dreamworld import cli, presets
from dreamworld.benchmarks.contestants import AsGym, async_atari, plain_crafter
from dreamworld.benchmarks.machine import cpu_seconds, load_average, resident_mb
from dreamworld.benchmarks.printing import print_row
from dreamworld.config import Config
from dreamworld.limits import COUNT, PERIOD, Range
from dreamworld.types import Array, EnvSource, Spaces, Tree, VectorEnv

SUITES = {"atari100k_": "atari100k", "atari_": "atari", "crafter_": "crafter"}
ACTIONS = 64  # different random actions that are sent in turn
ASYNC_LIMIT = 64  # processes of the gymnasium baseline, one for each environment


@dataclasses.dataclass(frozen=True)
class Flags:
    num: Annotated[int, COUNT] = 16
    """Parallel environments."""
    rounds: Annotated[int, Range(1, 1e6)] = 5
    """Turns of every contestant."""
    turn_s: Annotated[float, Range(0.001, 1e6)] = 2.0
    """Length of a turn."""
    memory_steps: Annotated[int, PERIOD] = 0
    """Also step this many rows (over all environments) and report how resident memory grew."""
    json: bool = False
    """One JSON line instead of a table."""


class Contestant(NamedTuple):
    """Something that steps `num` environments."""

    step: Callable[[int], Any]  # takes the number of the action
    close: Callable[[], Any]


class Turn(NamedTuple):
    """One measurement."""

    steps: int
    wall_s: float
    cpu_s: float

    @property
    def steps_per_s(self) -> float:
        """Environment steps per second."""
        return self.steps / self.wall_s


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints. The preset of the task's suite is the base, unless presets are named."""
    load = load_average()
    config, flags = parse(argv)
    print_row(measure(config, flags), load, as_json=flags.json)
    return 0


def parse(argv: Sequence[str]) -> tuple[Config, Flags]:
    """The command line, with the preset of the suite underneath."""
    about = "Measure environment steps per second and CPU per step."

    def read(base: Config | None) -> tuple[Config, Flags]:
        return cli.parse_with(argv, Flags(), prog="dreamworld benchmark env", description=about, base=base)

    config, flags = read(None)
    suite = next((preset for prefix, preset in SUITES.items() if config.task.startswith(prefix)), None)
    return read(presets.apply(Config(), [suite])) if suite else (config, flags)


def measure(config: Config, flags: Flags) -> dict[str, Any]:
    """One row of results; `ratio` is ours over gymnasium async in steps per second."""
    from dreamworld.envs import make_vector_env

    env = make_vector_env(config.task, config.env, seed=0, num=flags.num)
    actions = random_actions(env.act_space, flags.num)
    env.reset(0)
    row = {
        "task": config.task,
        "num": flags.num,
        "engine": env.engine,
        "engine_reason": getattr(env, "engine_reason", ""),
    }
    contestants = {"ours": Contestant(lambda i: env.step(actions[i]), env.close)}
    try:
        contestants |= _rivals(config, flags.num, env)
        turns = take_turns(contestants, flags.num, flags.rounds, flags.turn_s)
        row |= summarise(turns)
        if env.engine == "jax":
            row["scan_steps_per_s"] = round(scan_rate(config.task, flags.num))
        if flags.memory_steps:
            row["memory"] = memory_growth(env, actions, flags.memory_steps)
    finally:
        for contestant in contestants.values():
            contestant.close()
    return row


def random_actions(space: Spaces, num: int) -> list[dict[str, np.ndarray]]:
    """Actions drawn beforehand, so that drawing them is not measured."""
    random = np.random.default_rng(0)
    return [{key: one.sample(random, num) for key, one in space.items()} for _ in range(ACTIONS)]


def take_turns(
    contestants: dict[str, Contestant], num: int, rounds: int, turn_s: float
) -> dict[str, list[Turn]]:
    """Measurements of every contestant, in turns."""
    calls = {name: _calibrate(contestant, turn_s) for name, contestant in contestants.items()}
    turns: dict[str, list[Turn]] = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants) if number % 2 == 0 else list(reversed(contestants))
        for name in order:
            start_cpu, start = cpu_seconds(), time.perf_counter()
            for call in range(calls[name]):
                contestants[name].step(call % ACTIONS)
            wall = time.perf_counter() - start
            turns[name].append(Turn(calls[name] * num, wall, cpu_seconds() - start_cpu))
    return turns


def summarise(turns: dict[str, list[Turn]]) -> dict[str, Any]:
    """Every contestant's rate and CPU, and how many times better ours are."""
    ours = turns["ours"]
    row = _figures(ours)
    for name, theirs in turns.items():
        if name == "ours":
            continue
        faster = statistics.median(a.steps_per_s / b.steps_per_s for a, b in zip(ours, theirs))
        cheaper = _cpu(theirs) / max(_cpu(ours), 1e-9)
        row[name] = _figures(theirs) | {"ratio": round(faster, 3), "cpu_ratio": round(cheaper, 3)}
    if "gymnasium_async" in turns:
        row["ratio"] = row["gymnasium_async"]["ratio"]
    return row


def _figures(turns: list[Turn]) -> dict[str, Any]:
    rate = statistics.median(turn.steps_per_s for turn in turns)
    return {"steps_per_s": round(rate, 1), "cpu_s_per_step": float(f"{_cpu(turns):.3g}")}


def _cpu(turns: list[Turn]) -> float:
    return sum(turn.cpu_s for turn in turns) / sum(turn.steps for turn in turns)


def memory_growth(env: VectorEnv, actions: list[dict[str, np.ndarray]], steps: int) -> dict[str, float]:
    """Resident memory of this process and its workers, in MB, after a tenth of `steps` and after all."""
    calls = max(1, steps // env.num_envs)
    early = max(1, calls // 10)
    start = 0.0
    for call in range(calls):
        env.step(actions[call % ACTIONS])
        if call + 1 == early:
            start = resident_mb()
    return {"steps": calls * env.num_envs, "early_mb": round(start, 1), "end_mb": round(resident_mb(), 1)}


def scan_rate(task: str, num: int, rows: int = 1000) -> float:
    """Environment steps per second of one jitted scan over a JAX environment under random actions."""
    import jax

    from dreamworld.envs.jax import make_jax_env
    from dreamworld.envs.jax.batched import batched
    from dreamworld.envs.vector.jax_engine import env_keys

    env = make_jax_env(task)
    functions = batched(env)
    one = random_actions(env.act_space, num)
    actions = {key: np.stack([action[key] for action in one]) for key in env.act_space}

    @jax.jit
    def run(state: Tree) -> Tree:
        def body(state: Tree, index: Array) -> Tree:
            state, row = functions.step(state, {key: value[index] for key, value in jax_actions.items()})
            # A sum over every observation, so that the compiler can't leave out drawing it.
            total = sum(jax.numpy.sum(x, dtype=jax.numpy.float32) for x in row.obs.values())
            return state, row.reward.sum() + total

        return jax.lax.scan(body, state, jax.numpy.arange(rows) % ACTIONS)

    jax_actions = {key: jax.numpy.asarray(value) for key, value in actions.items()}
    state = functions.reset(env_keys(0, num))[0]
    rates = []
    for _ in range(6):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(run(state))
        rates.append(rows * num / (time.perf_counter() - start))
    return statistics.median(rates[1:])  # the first compiles


def _rivals(config: Config, num: int, ours: VectorEnv) -> dict[str, Contestant]:
    rivals = {}
    if config.task.startswith("jax_") or num > ASYNC_LIMIT:
        return rivals  # a process for each environment would be no comparison
    rivals["gymnasium_async"] = gymnasium_async(config, num)
    if ours.engine == "atari" and config.env.atari.resize == "area":
        rivals["atari_vector_env"] = bare_atari(config, num)
    if (
        config.task.startswith("dmc_")
        and config.env.dmc.obs != "proprio"
        and config.env.dmc.quality == "fast"
    ):
        dmc = dataclasses.replace(config.env.dmc, quality="exact")
        rivals["default_rendering"] = another(config.task, config, num, ours, dmc=dmc)
    if config.task.startswith("crafter_"):
        rivals["plain_without_numba"] = another(plain_crafter(config.task), config, num, ours)
    return rivals


def gymnasium_async(config: Config, num: int) -> Contestant:
    """gymnasium's async vector of the same task."""
    import gymnasium

    task = config.task
    options: dict[str, Any] = {"context": "spawn"}  # forking a process with threads may deadlock
    if task.startswith("gym_"):
        mode = gymnasium.VectorizeMode.ASYNC
        env = gymnasium.make_vec(
            task.removeprefix("gym_"), num, vectorization_mode=mode, vector_kwargs=options
        )
    elif task.startswith(("atari_", "atari100k_")) and (made := async_atari(config, num)) is not None:
        env = made
    else:
        makers = [AsGym.maker(task, config.env)] * num
        env = gymnasium.vector.AsyncVectorEnv(makers, **options)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(ACTIONS)]
    return Contestant(lambda i: env.step(actions[i]), env.close)


def bare_atari(config: Config, num: int) -> Contestant:
    """AtariVectorEnv by itself, with the same options."""
    from dreamworld.envs.vector.atari import make_threads

    env = make_threads(config.task, config.env, num)
    env.reset(seed=np.arange(num))
    random = np.random.default_rng(0)
    actions = random.integers(0, env.single_action_space.n, (ACTIONS, num))
    return Contestant(lambda i: env.step(actions[i]), lambda: None)


def another(target: EnvSource, config: Config, num: int, ours: VectorEnv, **changes: Any) -> Contestant:
    """The same engine and number over another environment or other options."""
    from dreamworld.envs import make_vector_env

    options = dataclasses.replace(config.env, engine=ours.engine, **changes)
    env = make_vector_env(target, options, seed=0, num=num)
    env.reset(0)
    actions = random_actions(env.act_space, num)
    return Contestant(lambda i: env.step(actions[i]), env.close)


def _calibrate(contestant: Contestant, turn_s: float) -> int:
    """Calls that fill a turn."""
    contestant.step(0)  # the first call may compile
    calls, start = 0, time.perf_counter()
    while calls < 5 or time.perf_counter() - start < min(0.5, turn_s):
        contestant.step(calls % ACTIONS)
        calls += 1
    return max(5, round(calls * turn_s / (time.perf_counter() - start)))
