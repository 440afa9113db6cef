"""Reads .npy files of others: plain arrays only, and nothing is allocated before the header fits the file."""

from __future__ import annotations

import math
import os
import tokenize
from typing import BinaryIO

import numpy as np

from dreamworld import words
from dreamworld.reading import INT64, BadFile, BlockedFile, PathLike, open_file

MAX_EMPTY = 1 << 16  # elements of an array of empty texts


def read_array(path: PathLike) -> np.ndarray:
    """The array of a .npy file; nothing is allocated before its header agrees with the file's length."""
    with open_file(path) as file:
        try:
            shape, fortran, dtype = _array_header(file, path)
            _check_length(path, shape, dtype, os.fstat(file.fileno()).st_size - file.tell())
            array = np.empty(shape, dtype, order="F" if fortran else "C")
            flat = array.T.reshape(-1) if fortran else array.reshape(-1)
            if flat.nbytes and file.readinto(memoryview(flat.view(np.uint8))) != flat.nbytes:  # type: ignore[attr-defined]
                raise BadFile(path, "is truncated")
        except OSError as error:
            raise BlockedFile(path, error) from None
        except ValueError as error:
            if isinstance(error, BadFile):
                raise
            raise BadFile(path, f"is no array that can be read: {error}") from None
    return array


def _array_header(file: BinaryIO, path: PathLike) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype of a .npy file, whose header is a literal and runs nothing."""
    form = np.lib.format
    try:
        version = form.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise BadFile(path, f"is a .npy file of version {version}, which is not read here")
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        return read(file)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(path, f"has no header of a .npy file: {str(error).splitlines()[0]:.120}") from None


def _check_length(path: PathLike, shape: tuple[int, ...], dtype: np.dtype, left: int) -> None:
    if dtype.hasobject or dtype.names or dtype.subdtype:
        raise BadFile(path, f"holds {'objects' if dtype.hasobject else 'records'}, which are never read")
    if any(isinstance(size, bool) or size < 0 for size in shape) or len(shape) > 32:
        raise BadFile(path, f"has the impossible shape {shape!s:.100}")
    count = math.prod(shape)
    if (
        count * dtype.itemsize != left
        or (dtype.itemsize == 0 and count > MAX_EMPTY)
        or max(shape, default=0) >= INT64
    ):
        raise BadFile(
            path, f"has {words.count(left, 'byte')} after a header of shape {shape!s:.100} and dtype {dtype}"
        )
