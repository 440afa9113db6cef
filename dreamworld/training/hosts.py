"""Several processes, one per host, that train one agent in lockstep: joining them and agreeing with each other."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections import deque
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.config import ParallelConfig
from dreamworld.errors import UserError


def connect(config: ParallelConfig) -> Team:
    """Joins the processes of a run; call it before anything else asks JAX for devices. One process: does nothing.

    A process that is not heard of for `parallel.heartbeat_s` ends all others (SIGABRT): that can't be caught,
    so recover with `dreamworld train --supervise` on every host.
    """
    if not config.coordinator:
        if config.processes != 1:
            raise UserError(
                f"--parallel.processes {config.processes} needs --parallel.coordinator HOST:PORT, or auto"
            )
        return Team()
    import jax

    timeout_s = max(1, int(config.heartbeat_s))
    try:
        jax.distributed.initialize(
            **_addresses(config), heartbeat_timeout_seconds=timeout_s, shutdown_timeout_seconds=timeout_s
        )
    except (ValueError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"--parallel.coordinator {config.coordinator}: {cause}") from error
    team = Team(jax.process_index(), jax.process_count())
    if jax.default_backend() == "cpu":
        _let_computation_go_first()
    return team


def _let_computation_go_first() -> None:
    """Lowers the priority of the thread that moves data between processes on CPUs (gloo's); Linux only.

    It polls without a pause while another process's data waits for ours, and takes half of a process's only
    core from the computation that all wait for.
    """
    for thread in pathlib.Path("/proc/self/task").glob("*"):
        try:
            if "epoll" in (thread / "wchan").read_text():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), 19)
        except OSError:  # the thread has ended, or the kernel doesn't tell
            continue


def _addresses(config: ParallelConfig) -> dict[str, Any]:
    if config.coordinator == "auto":
        return {}
    host, _, port = config.coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(
            f"--parallel.coordinator {config.coordinator}: expects HOST:PORT of process 0, or auto"
        )
    if not 0 <= config.process_id < config.processes:
        raise UserError(
            f"--parallel.process_id {config.process_id}: expects 0 to {config.processes - 1} "
            f"(--parallel.processes {config.processes})"
        )
    return {
        "coordinator_address": config.coordinator,
        "num_processes": config.processes,
        "process_id": config.process_id,
    }


@dataclasses.dataclass
class Team:
    """This process among those of the run. All of them must make the same calls in the same order."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        self._asked: deque[Any] = deque()
        self._program: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that logs, evaluates and owns the run directory."""
        return self.index == 0

    def any(self, flag: bool) -> bool:
        """Whether one process says so; waits for all."""
        return flag if self.count == 1 else bool(self._sum(flag) > 0)

    def all(self, flag: bool) -> bool:
        """Whether every process says so; waits for all."""
        return not self.any(not flag)

    def any_before(self, flag: bool) -> bool:
        """Whether one process said so at the call before: the same answer everywhere, and the device need not idle."""
        if self.count == 1:
            return flag
        self._asked.append(self._sum(flag))
        return len(self._asked) > 1 and bool(self._asked.popleft() > 0)

    def most(self, count: int) -> int:
        """The largest of what the processes count; waits for all."""
        if self.count == 1:
            return count
        from jax.experimental import multihost_utils

        return int(np.max(multihost_utils.process_allgather(np.int32(count))))

    def wait(self, name: str) -> None:
        """Until all processes are here."""
        if self.count > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(name)

    def seed(self, seed: int) -> int:
        """The seed of this process's environments and replay; that of process 0 is the run's own."""
        if self.leads:
            return seed
        return int(np.random.SeedSequence([seed, self.index]).generate_state(1)[0])

    def share(self, batch_size: int) -> int:
        """Rows of the batch that this process brings."""
        if batch_size % self.count:
            raise UserError(
                f"--run.batch_size {batch_size} can't be divided by {words.count(self.count, 'process', 'processes')}"
            )
        return batch_size // self.count

    def lock(self, rundir: Any) -> contextlib.AbstractContextManager[None]:
        """The run directory's lock, which process 0 holds for all."""
        return rundir.lock() if self.leads else contextlib.nullcontext()

    def claim(self, rundir: Any, config: Any) -> contextlib.AbstractContextManager[None]:
        """The run directory, created and held by process 0 for all."""
        return rundir.claim(config) if self.leads else contextlib.nullcontext()

    def _sum(self, flag: bool) -> Any:
        import jax
        import jax.numpy as jnp
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        mesh = Mesh(np.asarray(jax.devices()), ("all",))
        if self._program is None:
            self._program = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
        flags = np.full(jax.local_device_count(), flag, np.int32)
        return self._program(
            jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("all")), flags)
        )


class Silence:
    """The logger of processes other than 0: the methods of `Logger` that the loop calls, writing nothing."""

    def begin(self, *args: Any) -> None:
        """There are no files."""

    def scalars(self, *args: Any) -> None:
        """Dropped."""

    def episodes(self, *args: Any) -> None:
        """Dropped."""

    def report(self, *args: Any) -> None:
        """Dropped."""

    def take_problems(self) -> list[str]:
        """Nothing is written, so nothing fails."""
        return []
