"""Host trees on disk: nested dicts, lists and tuples of numpy arrays and plain values, as JSON and .npy files."""

from __future__ import annotations

import json
from typing import IO, Any, cast

import numpy as np
from etils import epath

from dreamworld import npy, reading
from dreamworld.fields import Fields
from dreamworld.reading import BadFile
from dreamworld.training.snapshot import Writer, damage, is_local
from dreamworld.types import Tree

USER_DTYPE = 256  # of numpy's C interface: the types of other packages are numbered from here on
# Types that version 0.1 took for those of other packages, where arrays came from worker processes.
OWN = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
MAX_TREE_DEPTH = reading.MAX_DEPTH // 2 - 2  # of a host tree: each of its levels is two of JSON


def write_tree(directory: epath.Path, tree: Tree) -> None:
    """Writes nested dicts, lists and tuples of arrays and plain scalars as `tree.json` and .npy files."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays: list[np.ndarray] = []
    text = json.dumps(_encode(tree, arrays, ""))
    for index, array in enumerate(arrays):
        with (directory / f"{index}.npy").open("wb") as file:
            np.save(Writer(cast(IO[bytes], file)), array, allow_pickle=False)
    (directory / "tree.json").write_text(text)


def read_tree(directory: epath.Path) -> Tree:
    """Reads what `write_tree` wrote; object arrays are refused, so nothing that is stored can run code."""
    with damage(directory.parent):
        path = directory / "tree.json"
        return _decode(Fields(reading.read_json(path), path), directory, set())


def copy_tree(tree: Tree, where: str = "") -> Tree:
    """Copies a host tree, so that the caller may go on changing its arrays; TypeError names a bad leaf."""
    if where.count("/") > MAX_TREE_DEPTH:
        raise TypeError(f"host state {where[:40]}... is nested more than {MAX_TREE_DEPTH} deep")
    if isinstance(tree, dict):
        if bad := [key for key in tree if not isinstance(key, str)]:
            raise TypeError(f"host state {where or 'root'} has the key {bad[0]!r}; keys must be strings")
        return {key: copy_tree(value, f"{where}/{key}") for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(copy_tree(value, f"{where}/{index}") for index, value in enumerate(tree))
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    array = np.array(tree) if hasattr(tree, "__array__") else None
    if array is None or array.dtype.hasobject or array.dtype.names:
        kind = type(tree).__name__ if array is None else f"an array of {array.dtype}"
        raise TypeError(
            f"host state {where or 'root'} is {kind}; save arrays, numbers, strings, dicts or lists"
        )
    return array


def _encode(tree: Tree, arrays: list[np.ndarray], where: str) -> dict[str, Any]:
    if isinstance(tree, dict):
        return {"dict": {key: _encode(value, arrays, f"{where}/{key}") for key, value in tree.items()}}
    if isinstance(tree, list | tuple):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [_encode(value, arrays, where) for value in tree]}
    if isinstance(tree, np.ndarray):
        # .npy knows numpy's own types only: bfloat16 and its kind travel as unsigned integers of their size. The
        # type of an array that came from another process is not `isbuiltin`, but numpy's own all the same.
        native = tree.dtype.num < USER_DTYPE
        arrays.append(tree if native else tree.view(f"u{tree.dtype.itemsize}"))
        return {"array": len(arrays) - 1, "dtype": tree.dtype.name if not native else ""}
    return {"value": tree}


def _decode(node: Fields, directory: epath.Path, seen: set[int]) -> Tree:
    if "dict" in node:
        inner = node.fields("dict")
        return {key: _decode(inner.fields(key), directory, seen) for key in inner}
    if "list" in node or "tuple" in node:
        kind = list if "list" in node else tuple
        return kind(_decode(item, directory, seen) for item in node.rows(kind.__name__))
    if "array" not in node:
        value = node.get("value")
        if isinstance(value, dict | list):
            raise node.bad("value", "a number, text or null")
        return value
    index, name = node.integer("array"), node.text("dtype")
    if index in seen:  # a small file may name one array a million times
        raise BadFile(node.path, f"names {index}.npy twice")
    seen.add(index)
    array = _read_array(directory / f"{index}.npy")
    return array.view(_extension_dtype(name, array, node)) if name else array


def _read_array(path: epath.Path) -> np.ndarray:
    if is_local(path):
        return npy.read_array(path)
    with path.open("rb") as file:  # a remote store
        return np.load(cast(Any, file), allow_pickle=False)


def _extension_dtype(name: str, array: np.ndarray, node: Fields) -> np.dtype:
    import ml_dtypes  # bfloat16, the float8 family, int4 ...

    kind = np.dtype(name).type if name in OWN else getattr(ml_dtypes, name, None)
    dtype = np.dtype(kind) if isinstance(kind, type) and issubclass(kind, np.generic) else None
    if dtype is None or array.dtype != np.dtype(f"u{dtype.itemsize}"):
        raise BadFile(node.path, f"{node.name('dtype')} {name!r:.40} does not fit an array of {array.dtype}")
    return dtype
