"""Trainings without an environment (`--data`): replay is filled from data sets, a step is an update."""

from __future__ import annotations

import contextlib
from typing import Any

from dreamworld import agents, presets, words
from dreamworld.config import Config
from dreamworld.datasets import DataSet
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.replay.manifest import saved_rows
from dreamworld.runenv import read_run_env
from dreamworld.sessions import pieces
from dreamworld.sessions.host import Host
from dreamworld.sessions.job import Job
from dreamworld.training import snapshot
from dreamworld.training.offline import NoEnv, fill, open_all
from dreamworld.types import EnvSource, Spaces


class Offline(Host):
    """Host loops that collect nothing."""

    def __init__(self, job: Job):
        super().__init__(job)
        self.sets: list[DataSet] = []  # none where a run goes on: replay is in its checkpoints

    @staticmethod
    def refuse(config: Config, source: EnvSource) -> None:
        """UserError for what does not go with data sets."""
        for option, given in (
            ("--run.mode fused", config.run.mode == "fused"),
            ("--parallel.coordinator", bool(config.parallel.coordinator) or config.parallel.processes > 1),
            ("env=", source is not None),
        ):
            if given:
                raise UserError(f"{option} does not go with --data; leave it out")

    def open(self, goes_on: bool, stack: contextlib.ExitStack) -> tuple[Spaces, Spaces]:
        """Opens the data sets; of a run that goes on, the spaces that it keeps."""
        config = self.job.config
        needs = agents.find(config.agent.name).needs
        self.sets = [] if goes_on else open_all(config.data, needs, config.agent.name)
        spaces = (self.sets[0].obs_space, self.sets[0].act_space) if self.sets else self._kept()
        self.envs = [NoEnv(*spaces) for _ in self.job.configs]
        if self.sets and config.eval.every:
            _check_task(config, self.sets[0])
        return spaces

    def _kept(self) -> tuple[Spaces, Spaces]:
        rundir = self.job.rundirs[0]
        kept = read_run_env(rundir.spaces)
        if kept is None:
            raise UserError(f"{rundir}: spaces.json is missing, without which the run can't go on")
        return kept.obs_space, kept.act_space

    def planned(self) -> Config:
        """Replay holds the rows of the data sets; of a run that goes on, those that it was saved with."""
        rows = sum(data.rows for data in self.sets) or self._saved_rows() or self.job.config.run.steps
        return presets.replace(self.job.config, {"run.steps": rows})

    def _saved_rows(self) -> int:
        """Rows of the replay in the newest snapshot; 0 where it doesn't tell, which going on from it will say."""
        folder = self.job.rundirs[0].checkpoints
        for step in reversed(snapshot.snapshot_steps(folder)):
            path = snapshot.epath.Path(folder / str(step))
            with contextlib.suppress(UserError, snapshot.CorruptError):
                meta = Fields(snapshot.read_commit(path)["meta"], path / snapshot.COMMIT, "meta")
                return saved_rows(meta.fields("0").fields("replay"))
        return 0

    def fill(self, loops: list[Any]) -> str:
        """Puts the episodes to train on into the replay of each seed."""
        share = self.job.config.replay.held_out
        counts = [
            fill(loop.replay, self.sets, share) for loop in loops
        ]  # equal: the share is of the data alone
        held = sum(map(len, self.sets)) - counts[0]
        paths = ", ".join(str(data.path) for data in self.sets)
        told = f", {held:,} held out" if held else ""
        return f"{words.count(counts[0], 'episode')} of {paths} in replay{told}"


def _check_task(config: Config, data: DataSet) -> None:
    """UserError where evaluations would play in other spaces than those of the data."""
    env = pieces.make_eval_env(config, episodes=1)
    env.close()
    if difference := data.difference(env.obs_space, env.act_space):
        raise UserError(f"--task {config.task} does not fit --data {data.path}: {difference}")
