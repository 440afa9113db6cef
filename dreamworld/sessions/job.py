"""What is to be trained: one run by itself, or the seeds of `--seeds` in one program."""

from __future__ import annotations

from typing import NamedTuple

from dreamworld.config import Config
from dreamworld.logging.rundir import RunDir
from dreamworld.training.callbacks import Callbacks
from dreamworld.training.group import seed_configs
from dreamworld.training.hosts import Team
from dreamworld.types import EnvSource

NONE = Callbacks()


class Job(NamedTuple):
    """What is to be trained, and where it is kept."""

    configs: list[Config]  # of each seed, as that of a run of its own
    rundirs: list[RunDir]
    together: bool  # by --seeds, be it one seed
    source: EnvSource  # an environment from Python; None for `config.task`
    team: Team
    callbacks: Callbacks = NONE

    @classmethod
    def of(
        cls, config: Config, source: EnvSource = None, team: Team | None = None, callbacks: Callbacks = NONE
    ) -> Job:
        """That of a command line."""
        configs = seed_configs(config) if config.seeds else [config]
        rundirs = [RunDir.of(each) for each in configs]
        return cls(configs, rundirs, bool(config.seeds), source, team or Team(), callbacks)

    @property
    def config(self) -> Config:
        """What all seeds have in common, with the seed and the folder of the first."""
        return self.configs[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those that train together; empty for a run by itself."""
        return tuple(each.seed for each in self.configs) if self.together else ()
