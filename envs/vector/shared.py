"""Arrays in memory that this process and its workers share; the memory has no name, so none can leak."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile

import numpy as np

from dreamworld.envs.vector.common import row_arrays
from dreamworld.types import Spaces

ALIGN = 64  # bytes: a cache line, so that two workers never write to the same one


def make_memory() -> int:
    """File descriptor of an empty unnamed file in memory.

    multiprocessing.shared_memory would give it a name in /dev/shm, which stays behind when the process and
    its resource tracker are killed.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dreamworld-envs")
    with tempfile.TemporaryFile() as file:  # already unlinked
        return os.dup(file.fileno())


def shared_arrays(obs_space: Spaces, act_space: Spaces, num: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name to shape and dtype of everything that goes to and fro: rows and actions."""
    actions = {f"action/{key}": ((num, *space.shape), space.dtype) for key, space in act_space.items()}
    return row_arrays(obs_space, num) | actions


class SharedArrays:
    """The arrays of `shared_arrays`, mapped. Both sides compute the same layout from the same spaces."""

    def __init__(
        self, descriptor: int, specs: dict[str, tuple[tuple[int, ...], str]], *, create: bool = False
    ):
        offsets, size = {}, 0
        for name, (shape, dtype) in specs.items():
            offsets[name] = size
            length = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            size += -(-length // ALIGN) * ALIGN
        if create:
            os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)
        self.arrays = {
            name: np.ndarray(shape, dtype, self._memory, offsets[name])
            for name, (shape, dtype) in specs.items()
        }

    def close(self) -> None:
        """Unmaps the memory, at once or when the last array that views it goes."""
        self.arrays = {}
        with contextlib.suppress(BufferError):
            self._memory.close()
