"""Trainings whose environments and replay are on the host (`--run.mode host`)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from dreamworld import flops, parallel
from dreamworld.config import Config
from dreamworld.contract import Agent, longest, mixes
from dreamworld.errors import UserError
from dreamworld.logging.metrics import Metrics
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger
from dreamworld.parallel import MeshLayout
from dreamworld.precision import precision_name
from dreamworld.replay.pipeline import Pipeline
from dreamworld.replay.replay import Replay
from dreamworld.sessions import budget, pieces, preflight
from dreamworld.sessions.job import Job
from dreamworld.training import seed_view, seeds
from dreamworld.training.hosts import Silence, Team
from dreamworld.training.learner import Learner
from dreamworld.training.loop import Loop
from dreamworld.types import EnvSource, Spaces, TrainState, VectorEnv


class Host:
    """Host loops around one learner, of a run or of several seeds."""

    def __init__(self, job: Job):
        self.job = job
        self.configs = job.configs
        self.envs: list[VectorEnv] = []  # of each seed

    @staticmethod
    def refuse(config: Config, source: EnvSource) -> None:
        """UserError for seeds in several processes."""
        if config.seeds and (config.parallel.coordinator or config.parallel.processes > 1):
            raise UserError(
                f"--seeds {config.seeds}: runs in one process; "
                "start one run per seed for the rest, for instance by `dreamworld sweep`"
            )

    def layout(self, devices: list[Any]) -> MeshLayout:
        """Seeds, batches and parameters over devices."""
        config = self.job.config
        layout = parallel.make_layout(
            config.parallel, batch_size=config.run.batch_size, seeds=len(self.job.seeds), devices=devices
        )
        self.job.team.share(config.run.batch_size)
        return layout

    def open(self, goes_on: bool, stack: contextlib.ExitStack) -> tuple[Spaces, Spaces]:
        """Builds the environments of each seed."""
        job = self.job
        budget.check_number_of_envs(job.config, job.source, len(job.configs))
        for each in job.configs:
            self.envs.append(pieces.make_train_env(self._for_env(each), job.source))
            stack.callback(self.envs[-1].close)
        return self.envs[0].obs_space, self.envs[0].act_space

    def _for_env(self, config: Config) -> Config:
        """Each process has environments of its own, and seeds share the cores: one worker process per core."""
        if not self.job.together:
            return dataclasses.replace(config, seed=self.job.team.seed(config.seed))
        workers = config.env.workers or max(1, (os.cpu_count() or 1) // len(self.job.seeds))
        return dataclasses.replace(config, env=dataclasses.replace(config.env, workers=workers))

    def fit(self, agent: Agent) -> str:
        """The memory of replay in words; what replay is stored in is chosen with it."""
        job = self.job
        need = budget.check(self.planned(), agent, len(job.configs), job.rundirs[0].path)
        preflight.check_replay(job.config, agent, self.envs[0].num_envs or 1)
        self.configs = [budget.with_storage(each, need) for each in job.configs]
        return f"{need}, all seeds together" if job.together else str(need)

    def planned(self) -> Config:
        """The config by which memory is measured."""
        return self.job.config

    def learn(self, agent: Agent, layout: MeshLayout) -> None:
        """Makes the learner of all seeds."""
        run, job = self.job.config.run, self.job
        self.learner = learner = Learner(
            agent,
            job.seeds or job.config.seed,
            num_envs=self.envs[0].num_envs or 1,
            batch_size=run.batch_size,
            nan_policy=run.nan_policy,
            nan_limit=run.nan_limit,
            layout=layout,
        )
        self.views: list[Any] = [learner]
        if job.together:
            take = seed_view.make_take(learner)
            self.views = [seed_view.SeedView(learner, index, take) for index in range(len(job.seeds))]

    def loop(
        self, index: int, progress: Any, stack: contextlib.ExitStack, also_keep: Callable[[], Iterable[int]]
    ) -> Loop:
        """The loop of a seed, as new."""
        return assemble(
            self.job.rundirs[index],
            self.configs[index],
            self.views[index],
            self.envs[index],
            progress,
            stack,
            self.job.team,
            seeds.SeedMetrics() if self.job.together else Metrics(),
            also_keep,
            self.job.seeds,
        )

    def fill(self, loops: list[Any]) -> str:
        """Replay is empty at the beginning."""
        return ""

    def take(self, view: Any, train: TrainState) -> None:
        """Gives a seed another train state."""
        view.load({**view.snapshot(), "train": train})

    def join(self) -> None:
        """Puts together what the views of several seeds were given."""
        if self.job.together:
            seed_view.load_seeds(self.learner, self.views)

    def runner(self, loops: list[Any], stack: contextlib.ExitStack) -> Loop | seeds.Lockstep:
        """What runs the loops: the only one itself, or several in lockstep."""
        if not self.job.together:
            return loops[0]
        executor = None
        if all(env.engine in seeds.PARALLEL_ENGINES for env in self.envs):
            executor = stack.enter_context(ThreadPoolExecutor(len(self.envs)))
        return seeds.Lockstep(self.learner, loops, executor)


def assemble(
    rundir: RunDir,
    config: Config,
    learner: Any,
    env: VectorEnv,
    progress: Any,
    stack: contextlib.ExitStack,
    team: Team,
    metrics: Metrics | None = None,
    also_keep: Callable[[], Iterable[int]] = tuple,
    group: tuple[int, ...] = (),
) -> Loop:
    """Replay, checkpoints, logger and the loop over them, as new."""
    run, window = config.run, longest(learner.agent)
    replay = Replay(
        pieces.row_spaces(learner.agent),
        config.replay,
        num_envs=env.num_envs or 1,
        length=window.context + window.length,
        context=window.context,
        directory=rundir.replay if team.leads else rundir.path / f"replay_{team.index}",
        seed=team.seed(config.seed),
        mixes=mixes(learner.agent),
        held_out=0.0 if config.data else config.replay.held_out,  # those of a data set are not put in
    )
    pipeline = Pipeline(replay, learner.put, batch_size=team.share(window.batch), depth=run.prefetch)
    stack.callback(pipeline.close)
    collect = lambda metas: replay.collect_garbage([meta["replay"] for meta in metas])
    logger: Any = Silence()
    checkpointer = stack.enter_context(pieces.make_checkpointer(rundir, run, also_keep, collect))
    if team.leads:
        logger = stack.enter_context(Logger(rundir, config, begin=False))
    return Loop(
        config=config,
        learner=learner,
        env=env,
        replay=replay,
        pipeline=pipeline,
        rundir=rundir,
        logger=logger,
        checkpointer=checkpointer,
        progress=progress,
        group=group,
        team=team,
        metrics=metrics or Metrics(),
        peak_flops=peak_flops(config, learner, team),
    )


def peak_flops(config: Config, learner: Any, team: Team) -> float | None:
    """Of the devices that this run trains on, all processes together; None when not known."""
    peak = flops.peak(precision_name(config.agent.precision))
    on_cpu = jax.default_backend() == "cpu"  # whose devices are threads of one machine
    return peak and peak * (team.count if on_cpu else learner.layout.mesh.size)
