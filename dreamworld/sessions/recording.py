"""Recording episodes as a data set: one or more policies play the same environments in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dreamworld.config import Config
from dreamworld.datasets import DataSet, DataWriter, open_dataset
from dreamworld.datasets.collect import Act, Collected, collect, make_schema
from dreamworld.datasets.writer import require_free, require_writable
from dreamworld.sessions import pieces, policies
from dreamworld.sessions.stored import Stored
from dreamworld.text import expand_path
from dreamworld.training.stops import Stop
from dreamworld.types import EnvSource, Mode, VectorEnv

Tell = Callable[[int, float], None]  # steps so far, of all policies, and the return of the newest episode


class Plan(NamedTuple):
    """What is to be recorded."""

    config: Config
    policies: tuple[str, ...]  # each takes an equal share of the steps
    runs: dict[str, Stored]  # the policies that are runs
    source: EnvSource  # an environment from Python; None for `config.task`
    folder: str
    steps: int
    append: bool
    mode: Mode  # of agents
    step: int  # checkpoint of agents, -1 for the newest
    max_steps: int
    truth: bool


class Recorded(NamedTuple):
    """What came of it."""

    found: dict[str, Collected]  # by policy
    data: DataSet | None  # None where no episode has ended
    stopped: str  # the signal that ended it early; "" for none


def record(plan: Plan, tell: Tell) -> Recorded:
    """Plays all policies and writes their episodes; UserError, writing nothing, where the folder is not free."""
    config, path = plan.config, expand_path(plan.folder).absolute()
    if not plan.append or not path.exists():
        require_free(path)
    require_writable(path)
    pieces.setup_jax(config)
    env = pieces.make_train_env(config, plan.source)
    try:
        truth = getattr(env, "truth", None) if plan.truth else None
        if truth:
            env.reset(config.seed)
        schema = make_schema(env, truth)
        writer = DataWriter(path, schema, source="collect", task=config.task, append=plan.append)
        found: dict[str, Collected] = {}
        seeds = [draw_seeds(config.seed, writer.episodes, index) for index in range(len(plan.policies))]
        acts = [_make(plan, name, env, seed) for name, (_, seed) in zip(plan.policies, seeds)]
        with Stop(grace_s=60.0) as stop, writer:
            for index, (name, act) in enumerate(zip(plan.policies, acts)):
                before = sum(done.steps for done in found.values())
                found[name] = collect(
                    env,
                    act,
                    writer,
                    name,
                    steps=plan.steps * (index + 1) // len(acts) - plan.steps * index // len(acts),
                    seed=seeds[index][0],
                    truth=truth,
                    max_steps=plan.max_steps,
                    stop=lambda: stop.requested,
                    tell=lambda steps, last, before=before: tell(before + steps, last),
                )
    finally:
        env.close()
    return Recorded(found, open_dataset(path) if writer.episodes else None, stop.reason)


def draw_seeds(seed: int, episodes: int, index: int) -> tuple[int, int]:
    """Seeds of environments and actions for a policy: others for each, and when a data set is continued."""
    first, second = np.random.SeedSequence([seed, episodes, index]).generate_state(2).tolist()
    return first >> 1, second >> 1


def _make(plan: Plan, name: str, env: VectorEnv, seed: int) -> Act:
    spaces = (env.obs_space, env.act_space)
    if name in plan.runs:
        options = {"mode": plan.mode, "step": plan.step, "seed": seed}
        return policies.run_policy(plan.runs[name], plan.config.task, spaces, env.num_envs, **options)
    if name == policies.RANDOM:
        return policies.random_policy(env.act_space, env.num_envs, seed)
    return policies.function_policy(name, policies.load_function(name), env.act_space, env.num_envs, seed)
