"""Trainings on the device (`--run.mode fused`): a JAX environment, its replay and the agent in one program."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from dreamworld import parallel
from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.envs.names import check_keys
from dreamworld.envs.vector.common import Failures
from dreamworld.errors import UserError
from dreamworld.logging.writers import Logger
from dreamworld.parallel import MeshLayout
from dreamworld.replay.memory import estimate
from dreamworld.sessions import budget, pieces
from dreamworld.sessions.job import Job
from dreamworld.training.fused_learner import FusedLearner
from dreamworld.training.fused_loop import FusedLoop
from dreamworld.training.fused_seeds import FusedLockstep, FusedSeeds, FusedSeedView
from dreamworld.training.refusals import Refusals
from dreamworld.types import EnvSource, Spaces, TrainState


class Fused:
    """Loops around the fused program, of a run or of several seeds. The methods are those of `Host`."""

    def __init__(self, job: Job):
        self.job = job

    @staticmethod
    def refuse(config: Config, source: EnvSource) -> None:
        """UserError for several processes, and for what the replay on the device can't do."""
        if config.parallel.coordinator or config.parallel.processes > 1:
            raise UserError("--run.mode fused trains in one process; use --run.mode host")
        if config.replay.held_out:
            share = config.replay.held_out
            raise UserError(
                f"--replay.held_out {share:g}: --run.mode fused holds nothing out; use --run.mode host"
            )
        if config.replay.beta:
            raise UserError(
                f"--replay.beta {config.replay.beta:g}: --run.mode fused draws uniformly; use --run.mode host"
            )

    def layout(self, devices: list[Any]) -> MeshLayout:
        """Seeds over devices; UserError for a mesh that splits one seed."""
        config = self.job.config
        data, fsdp = config.parallel.data, config.parallel.fsdp
        if data not in (-1, 1) or fsdp != 1:
            raise UserError(
                f"--parallel.data {data} --parallel.fsdp {fsdp}: --run.mode fused trains each seed on one device; "
                "lay several --seeds over devices by --parallel.seed, or use --run.mode host"
            )
        mesh = dataclasses.replace(config.parallel, data=1)
        seeds = len(self.job.seeds)
        return parallel.make_layout(mesh, batch_size=config.run.batch_size, seeds=seeds, devices=devices)

    def open(self, goes_on: bool, stack: contextlib.ExitStack) -> tuple[Spaces, Spaces]:
        """Builds the environment, which nothing has to close."""
        self.env = jax_environment(self.job.config, self.job.source)
        check_keys(self.env.obs_space, "an observation")
        check_keys(self.env.act_space, "an action")
        return self.env.obs_space, self.env.act_space

    def fit(self, agent: Agent) -> str:
        """The rows of replay in words."""
        config, job = self.job.config, self.job
        need = estimate(pieces.row_spaces(agent), config.replay, config.run.steps)
        budget.check_fused(config, agent, need, len(job.configs))
        return f"{need.describe_rows()}{' for each seed' if job.together else ''}, on the device"

    def learn(self, agent: Agent, layout: MeshLayout) -> None:
        """Compiles the program of all seeds, and begins its episodes."""
        from dreamworld.envs.jax.batched import batched

        job, parts = self.job, (agent, batched(self.env), pieces.row_spaces(agent))
        capacity = rows_per_env(job.config)
        if job.together:
            self.seeds = FusedSeeds(*parts, job.configs, capacity=capacity, layout=layout)
            self.views: list[Any] = [FusedSeedView(self.seeds, index) for index in range(len(job.configs))]
        else:
            self.views = [FusedLearner(*parts, job.config, capacity=capacity)]

    def loop(
        self, index: int, progress: Any, stack: contextlib.ExitStack, also_keep: Callable[[], Iterable[int]]
    ) -> FusedLoop:
        """Checkpoints, logger and the loop of a seed over them, as new."""
        config, rundir, view = self.job.configs[index], self.job.rundirs[index], self.views[index]
        checkpointer = stack.enter_context(pieces.make_checkpointer(rundir, config.run, also_keep))
        logger = stack.enter_context(Logger(rundir, config, begin=False))
        shell: Any = SimpleNamespace(
            num_envs=config.env.num,
            obs_space=view.agent.obs_space,
            act_space=view.agent.act_space,
            engine="fused",
            engine_reason="collection, replay and updates are one program",
        )
        return FusedLoop(
            config=config,
            learner=view,
            env=shell,
            rundir=rundir,
            logger=logger,
            checkpointer=checkpointer,
            progress=progress,
            refusals=Refusals(view.agent.obs_space, Failures(config.env.max_failures)),
            group=self.job.seeds,
        )

    def fill(self, loops: list[Any]) -> str:
        """The program collects the first rows by itself."""
        return ""

    def take(self, view: Any, train: TrainState) -> None:
        """Gives a seed another train state."""
        view.load(view.snapshot()._replace(train=train))

    def join(self) -> None:
        """Puts together what the views of several seeds were given."""
        if self.job.together:
            self.seeds.join([view.loaded for view in self.views])

    def runner(self, loops: list[Any], stack: contextlib.ExitStack) -> FusedLoop | FusedLockstep:
        """What runs the loops: the only one itself, or several in lockstep."""
        return FusedLockstep(self.seeds, loops) if self.job.together else loops[0]


def rows_per_env(config: Config) -> int:
    """Capacity of replay. The last chunk may run past `steps` by up to a log period."""
    rows = int(min(config.replay.capacity_steps, config.run.steps + config.run.log_every))
    return -(-rows // config.env.num) + config.run.batch_length


def jax_environment(config: Config, source: EnvSource) -> Any:
    """The JAX environment of a config or of a user; UserError for anything else."""
    from dreamworld.envs.vector.auto import as_jax_env, wrapper_options

    wrapped = wrapper_options(config.env)
    if wrapped:
        names = ", ".join(f"env.{name}" for name in wrapped)
        raise UserError(f"--run.mode fused does not serve {names}; use --run.mode host")
    return as_jax_env(config.task if source is None else source, config.env)
