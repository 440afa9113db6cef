"""Runs as a SLURM job array, through submitit; a run that meets its time limit saves and is queued again."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import re
import secrets
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from dreamworld import text, words
from dreamworld.errors import UserError
from dreamworld.logging.rows import write_json
from dreamworld.reading import BadFile, read_json
from dreamworld.sweep.launch import process
from dreamworld.sweep.launch.local import CORES
from dreamworld.sweep.launch.sbatch import parameter
from dreamworld.sweep.plan import Job
from dreamworld.sweep.spec import Spec
from dreamworld.text import printable
from dreamworld.writing import making

POLL_S = 10.0
LOST = -1002  # SLURM no longer lists the job, and it left no result
MAX_TIMEOUTS = 1000  # times that a run may meet its time limit and be queued again
SETTLE_S = 30.0  # shared file systems show a result some seconds after the job has left the queue
DEFAULTS: dict[str, Any] = {"time": 24 * 60, "nodes": 1, "ntasks_per_node": 1}
log = logging.getLogger("dreamworld")


class SlurmTask:
    """What a job of the array executes; submitit pickles it, and calls `checkpoint` before the time limit."""

    def __init__(self, command: tuple[str, ...], logdir: str, threads: int, grace_s: float):
        self.command, self.logdir, self.threads, self.grace_s = command, logdir, threads, grace_s
        self.child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        env = {"OMP_NUM_THREADS": str(self.threads)}
        self.child = process.start(self.command, Path(self.logdir), env=env)
        return self.child.wait()

    def checkpoint(self) -> Any:
        """Stops the training, which saves, and asks for the same again."""
        from submitit.helpers import DelayedSubmission

        if self.child is not None:
            process.stop([self.child], self.grace_s)
        return DelayedSubmission(SlurmTask(self.command, self.logdir, self.threads, self.grace_s))


class SlurmArray:
    """Runs as job arrays: those started between two polls make one array."""

    def __init__(self, executor: Any, spec: Spec, jobs: int, command: tuple[str, ...]):
        self._executor, self._command, self._spec = executor, command, spec
        self._threads = spec.cores or CORES
        self._record = spec.folder / "slurm.json"
        self._new: list[Job] = []
        self._running: dict[str, tuple[Job, Any]] = {}
        self._gone: dict[str, float] = {}
        self._asked = 0.0
        self._refused_at: float | None = None
        self.limit = jobs
        self.slots = min(spec.workers or jobs, jobs)
        self.detached = not spec.wait
        self.about = (
            f"SLURM job array, {self.slots} at a time at most, {words.count(self._threads, 'core')} each"
        )

    def start(self, job: Job) -> None:
        """Puts a run in the next array."""
        self._new.append(job)

    def submit(self) -> list[str]:
        """Submits what was started as one array; returns the job ids."""
        waits = self._refused_at is not None and time.monotonic() - self._refused_at < POLL_S
        new, self._new = ([], self._new) if waits else (self._new, [])
        if not new:
            return []
        try:
            submitted = self._submit(new)
        except Exception as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            if not self._running:
                raise UserError(
                    f"launcher slurm: the job array was not submitted: {printable(cause)}"
                ) from None
            if self._refused_at is None:
                log.warning("NOT SUBMITTED: %s; tried again until SLURM takes it", printable(cause))
            self._new, self._refused_at = new, time.monotonic()
            return []
        self._refused_at = None
        pairs = list(zip(new, submitted, strict=True))
        self._running |= {handle.job_id: (job, handle) for job, handle in pairs}
        try:
            write_json(self._record, recorded(self._record) | {job.name: h.job_id for job, h in pairs})
        except OSError as error:
            log.warning("NOT WRITTEN: the job ids of the sweep: %s. The sweep goes on.", error)
        return [handle.job_id for handle in submitted]

    def _submit(self, new: list[Job]) -> list[Any]:
        with contextlib.ExitStack() as made:
            for job in new:
                made.enter_context(making(job.logdir))
            with self._executor.batch():
                return [self._executor.submit(self._task(job)) for job in new]

    def _task(self, job: Job) -> SlurmTask:
        return SlurmTask((*self._command, *job.args), str(job.logdir), self._threads, self._spec.grace_s)

    def poll(self) -> list[tuple[Job, int]]:
        """Runs that have left the queue, with exit codes; LOST where they left no result."""
        self.submit()
        if not self._running or time.monotonic() - self._asked < POLL_S:
            return []
        self._asked = time.monotonic()
        listed = queued(list(self._running))
        ended = []
        for name in [name for name in self._running if name not in listed]:
            job, handle = self._running[name]
            gone_s = self._asked - self._gone.setdefault(name, self._asked)
            if handle.paths.result_pickle.exists():
                ended.append((job, self._code(handle)))
            elif gone_s > SETTLE_S:
                ended.append((job, LOST))
            else:
                continue
            del self._running[name], self._gone[name]
        return ended

    @staticmethod
    def _code(handle: Any) -> int:
        return 1 if handle.exception() is not None else int(handle.result())

    def stop(self, grace_s: float) -> None:
        """Cancels the jobs; SLURM sends SIGTERM, and SIGKILL after its KillWait."""
        del grace_s  # SLURM's own
        for _, handle in self._running.values():
            with contextlib.suppress(OSError):  # a job that ends at its own time
                handle.cancel(check=False)

    def close(self) -> None:
        """Holds nothing: jobs live in SLURM."""


def recorded(path: Path) -> dict[str, str]:
    """{run name: job id} of what was submitted for a sweep."""
    try:
        found = read_json(path)
    except BadFile:
        return {}
    rows = found.items() if isinstance(found, dict) else ()
    return {
        name: job for name, job in rows if isinstance(job, str) and re.fullmatch(r"[0-9]+(_[0-9]+)?", job)
    }


def queued(ids: list[str]) -> set[str]:
    """Those of the job ids that SLURM still lists, `123_4` for the tasks of an array."""
    if not ids:
        return set()
    masters = sorted({name.partition("_")[0] for name in ids})
    command = ["squeue", "-h", "-r", "-o", "%i %A", "-j", ",".join(masters)]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return set(ids)
    if listing.returncode and "Invalid job id" not in listing.stderr:
        return set(ids)  # the controller does not answer: suppose they go on
    return {line.split()[0] for line in listing.stdout.splitlines() if line.strip()} & set(ids)


def still_queued(spec: Spec, jobs: list[Job]) -> set[str]:
    """Names of runs that an earlier call submitted and SLURM still lists."""
    known = recorded(spec.folder / "slurm.json")
    ids = {known[job.name]: job.name for job in jobs if job.name in known}
    return {ids[name] for name in queued(list(ids))} if ids and shutil.which("squeue") else set()


def make(spec: Spec, jobs: int, command: tuple[str, ...]) -> SlurmArray:
    """An array on this cluster; UserError where submitit or SLURM is absent or a parameter is unknown."""
    for program in ("sbatch", "squeue", "scancel"):
        if shutil.which(program) is None:
            raise UserError(
                f"launcher slurm: there is no {program} here; run on a login node, or print scripts: --dry_run"
            )
    # submitit unpickles what it finds by the number of a job: nobody could have put that in a folder of this name.
    fresh = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(8)}"
    return SlurmArray(_executor(spec, fresh), spec, jobs, command)


def scripts(spec: Spec, jobs: list[Job], command: tuple[str, ...]) -> str:
    """The sbatch script and the commands of its tasks, without a cluster."""
    executor = _executor(spec)
    executor.parameters["map_count"] = len(jobs)
    text = executor._make_submission_file_text(executor._submitit_command_str, "dry-run")
    # A line break would end the comment, and what follows it would be a line of the script.
    lines = [f"# task {i}: {printable(shlex.join((*command, *job.args)))}" for i, job in enumerate(jobs)]
    return "\n".join([text.rstrip(), "", *lines, ""])


def _executor(spec: Spec, name: str = "") -> Any:
    """submitit's executor with the sweep's parameters, at home in `slurm/<name>`; UserError for an unknown one."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError("launcher slurm: submitit is not installed; pip install 'dreamworld[slurm]'")
    # Else it configures all logging as it is imported, which closes the streams of handlers that others have made.
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    from submitit.slurm.slurm import SlurmExecutor

    class Executor(SlurmExecutor):
        """Also without srun, to print scripts."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    for key, value in {"logdir": str(spec.folder), "name": spec.name, "slurm": spec.slurm}.items():
        text.check(key, value)
    if set("%\\") & set(str(spec.folder)):
        raise UserError(
            f"launcher slurm: the folder {spec.folder} can't hold % or \\, which SLURM replaces in names of "
            "log files; give another --logdir"
        )
    parameters: dict[str, Any] = {**DEFAULTS, "job_name": spec.name, "cpus_per_task": spec.cores or CORES}
    if spec.gpus > 0:
        parameters["gpus_per_node"] = math.ceil(spec.gpus)
    if spec.workers:
        parameters["array_parallelism"] = spec.workers
    known = Executor._valid_parameters()
    for pair in spec.slurm:
        key, _, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if key not in known:
            raise UserError(f"slurm: no such parameter {key!r}; did you mean {words.nearest(key, known)}?")
        parameters[key] = parameter(key, value, parameters.get(key))
    executor = Executor(folder=spec.folder / "slurm" / name, max_num_timeout=MAX_TIMEOUTS)
    executor.update_parameters(**parameters)
    return executor
