"""Runs as tasks of a Ray cluster: an existing one, or one started in this process."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.sweep.launch import process
from dreamworld.sweep.launch.local import CORES
from dreamworld.sweep.plan import Job
from dreamworld.sweep.spec import Spec

LOST = -1001  # the worker went away with the run
CONNECT_S = 5.0
STORE_BYTES = 100 * 1024**2  # runs exchange nothing through Ray but their exit codes


def execute(command: tuple[str, ...], logdir: str, threads: int, grace_s: float) -> int:
    """On a worker: the training as a child process, stopped cleanly by a cancel. Returns its exit code."""
    # A sweep started in a shell's background ignores SIGINT, and so would its workers: Ray cancels by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    child: subprocess.Popen[bytes] | None = None
    try:
        child = process.start(command, Path(logdir), env={"OMP_NUM_THREADS": str(threads)})
        while (code := child.poll()) is None:  # Ray's interrupt does not wake a blocked wait()
            time.sleep(process.POLL_S)
        return code
    except KeyboardInterrupt:  # how Ray cancels a task
        if child is not None:
            process.stop([child], grace_s)
        raise


class RayPool:
    """Runs as Ray tasks; Ray places them by their resources."""

    detached = False

    def __init__(self, ray: Any, spec: Spec, jobs: int, command: tuple[str, ...]):
        self._ray, self._command, self._grace_s = ray, command, spec.grace_s
        total = ray.cluster_resources()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = int(max(node.get("CPU", 0) for node in nodes))
        self._cores = spec.cores or min(CORES, most)
        self._gpus = spec.gpus if spec.gpus >= 0 else float(total.get("GPU", 0) > 0)
        fits = sum(self._room(node) for node in nodes)
        if fits == 0:
            raise UserError(
                f"launcher ray: no node has {words.count(self._cores, 'core')} and "
                f"{words.count(self._gpus, 'GPU')} for a run; "
                f"the largest has {words.count(most, 'core')} and "
                f"{words.count(max(node.get('GPU', 0) for node in nodes), 'GPU')}"
            )
        self.limit = spec.workers or jobs
        self.slots = min(fits, self.limit)
        self.about = (
            f"Ray on {words.count(len(nodes), 'node')}, {words.count(self._cores, 'core')} and "
            f"{words.count(self._gpus, 'GPU')} each, "
            f"{self.slots} at a time now"
        )
        self._task = ray.remote(execute).options(num_cpus=self._cores, num_gpus=self._gpus, max_retries=0)
        self._running: dict[Any, Job] = {}

    def _room(self, node: dict[str, float]) -> int:
        by_cores = node.get("CPU", 0) // self._cores
        by_gpus = node.get("GPU", 0) // self._gpus if self._gpus else by_cores
        return int(min(by_cores, by_gpus))

    def start(self, job: Job) -> None:
        """Puts a run in Ray's line."""
        command = (*self._command, *job.args)
        self._running[self._task.remote(command, str(job.logdir), self._cores, self._grace_s)] = job

    def poll(self) -> list[tuple[Job, int]]:
        """Runs that have ended, with exit codes; LOST where a worker or node went away."""
        if not self._running:
            return []
        pending = list(self._running)
        ready, _ = self._ray.wait(pending, num_returns=len(pending), timeout=process.POLL_S)
        ended = []
        for reference in ready:
            try:
                code = self._ray.get(reference)
            except self._ray.exceptions.RayError:
                code = LOST
            ended.append((self._running.pop(reference), code))
        return ended

    def stop(self, grace_s: float) -> None:
        """Cancels every run, which saves and ends; by force after `grace_s`."""
        pending = list(self._running)
        for reference in pending:
            self._ray.cancel(reference)
        if pending:
            _, late = self._ray.wait(pending, num_returns=len(pending), timeout=grace_s + 5)
            for reference in late:
                with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                    self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Disconnects; a Ray that was started here ends."""
        self._ray.shutdown()


def make(spec: Spec, jobs: int, command: tuple[str, ...]) -> RayPool:
    """Connects to `ray_address`, or starts Ray here; UserError where Ray is absent or unreachable."""
    if importlib.util.find_spec("ray") is None:
        raise UserError("launcher ray: Ray is not installed; pip install 'dreamworld[ray]'")
    _check_reachable(spec.ray_address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        try:
            ray.init(address=spec.ray_address or "local", **quiet, **({} if spec.ray_address else own))
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"ray_address {spec.ray_address or 'local'}: no Ray cluster ({reason})") from None
    return RayPool(ray, spec, jobs, command)


def _check_reachable(address: str) -> None:
    """Ray itself tries for a minute; a closed port is known at once."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not address or address in ("auto", "local"):
        return
    if not colon or not port.isdecimal():
        raise UserError(f"ray_address {address}: expects host:port, or auto")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"ray_address {address}: no Ray cluster answers there ({reason})") from None
