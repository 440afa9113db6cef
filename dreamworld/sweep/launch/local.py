"""A pool of processes on this machine, each bound to GPUs or cores of its own."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess

from dreamworld import system, words
from dreamworld.errors import UserError
from dreamworld.sweep.launch import process
from dreamworld.sweep.plan import Job
from dreamworld.sweep.spec import Spec

CORES = 2  # of a run without a GPU, unless stated
# The share of a GPU's memory that a process takes: what JAX calls it, and what it did. JAX refuses both at once,
# and what a user has set holds.
MEMORY = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")


@dataclasses.dataclass(frozen=True)
class Slot:
    """What one run of the pool may use."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...] | None  # ids; None where this machine has none
    share: float = 1.0  # of each of its GPUs

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that bind a run to it."""
        found = {"OMP_NUM_THREADS": str(len(self.cores)), "OPENBLAS_NUM_THREADS": str(len(self.cores))}
        if self.gpus is not None:
            found["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        if self.share < 1 and not any(os.environ.get(name) for name in MEMORY):
            found[MEMORY[0]] = f"{0.9 * self.share:.3f}"
        return found


def visible_gpus() -> list[str]:
    """Ids of the NVIDIA GPUs that this process may use."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(index) for index, _ in enumerate(listed.stdout.splitlines()) if listed.returncode == 0]


def visible_cores() -> list[int]:
    """Cores that this process may use."""
    return system.cores()


def make_slots(spec: Spec, gpus: list[str], cores: list[int]) -> list[Slot]:
    """Divides the machine: `workers` slots, or as many as GPUs (else cores) allow.

    UserError where a run wants more GPUs or cores than there are.
    """
    wanted = spec.gpus if spec.gpus >= 0 else float(bool(gpus))
    if wanted > len(gpus):
        raise UserError(f"gpus: each run wants {wanted:g} and this machine has {len(gpus)}")
    if spec.cores > len(cores):
        raise UserError(f"cores: each run wants {spec.cores} and this machine has {len(cores)}")
    on_gpu = _gpu_sets(wanted, gpus)
    count = spec.workers or len(on_gpu) or max(1, len(cores) // (spec.cores or CORES))
    if on_gpu and count > len(on_gpu):
        fits = f"{words.count(len(on_gpu), 'run')} with {words.count(wanted, 'GPU')} each"
        raise UserError(f"workers: got {count}, but this machine fits {fits}; share them: gpus: 0.5")
    width = spec.cores or (max(1, len(cores) // count) if on_gpu else min(CORES, len(cores)))
    none = () if gpus else None  # an empty list hides GPUs from runs that want none
    slots = []
    for index in range(count):
        bound = tuple(sorted({cores[(index * width + offset) % len(cores)] for offset in range(width)}))
        slots.append(Slot(bound, on_gpu[index] if on_gpu else none, min(1.0, wanted) if on_gpu else 1.0))
    return slots


def _gpu_sets(wanted: float, gpus: list[str]) -> list[tuple[str, ...]]:
    """The GPUs of each slot: several, one, or one that is shared."""
    if wanted == 0:
        return []
    if wanted < 1:
        return [(gpu,) for _ in range(int(1 / wanted + 1e-9)) for gpu in gpus]
    each = int(wanted)
    return [tuple(gpus[start : start + each]) for start in range(0, len(gpus) - each + 1, each)]


class LocalPool:
    """Runs as child processes, one per slot."""

    detached = False

    def __init__(self, slots: list[Slot], command: tuple[str, ...]):
        self.slots = self.limit = len(slots)
        self._command = command
        self._free = list(slots)
        self._running: list[tuple[Job, Slot, subprocess.Popen[bytes]]] = []
        used = {core for slot in slots for core in slot.cores}
        shared = sum(len(slot.cores) for slot in slots) > len(used)
        gpus = sorted({gpu for slot in slots for gpu in slot.gpus or ()})
        self.about = (
            f"{len(slots)} at a time here, {words.count(len(slots[0].cores), 'core')} each"
            + " (shared)" * shared
        )
        self.about += f", on GPU {', '.join(gpus)}" if gpus else ""

    def start(self, job: Job) -> None:
        """Starts a run in a free slot."""
        slot = self._free[0]
        child = process.start([*self._command, *job.args], job.logdir, env=slot.env, cores=slot.cores)
        self._free.remove(slot)
        self._running.append((job, slot, child))

    def poll(self) -> list[tuple[Job, int]]:
        """Runs that have ended, with exit codes."""
        ended = [entry for entry in self._running if entry[2].poll() is not None]
        for entry in ended:
            self._running.remove(entry)
            self._free.append(entry[1])
        return [(job, child.returncode) for job, _, child in ended]

    def stop(self, grace_s: float) -> None:
        """SIGTERM to every run, SIGKILL after `grace_s`."""
        process.stop([child for _, _, child in self._running], grace_s)

    def close(self) -> None:
        """Holds nothing."""


def make(spec: Spec, jobs: int, command: tuple[str, ...]) -> LocalPool:
    """The pool of this machine."""
    del jobs
    return LocalPool(make_slots(spec, visible_gpus(), visible_cores()), command)
