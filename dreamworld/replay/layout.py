"""How rows of named arrays become bytes: large keys get a column of their own, small ones share a packed one.

A window is then copied (or read from a file) with one contiguous copy per column, and not one per key.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dreamworld.errors import UserError
from dreamworld.types import FLAGS, Space, Spaces

WRITTEN = ("latent/", "extra/")  # prefixes of the columns that updates may write back
OWN_COLUMN_BYTES = 512  # smaller keys share a column: copying them one by one costs more than their bytes


class BadRow(UserError):
    """A row that replay refuses: wrong keys, shapes or dtypes, or a value that is not finite."""


class Field(NamedTuple):
    key: str
    dtype: np.dtype
    shape: tuple[int, ...]
    floating: bool  # looked up once: dtype names are slow to build
    bfloat16: bool


class Column(NamedTuple):
    """Fields that are stored side by side: `nbytes` a row, as the record type `record`."""

    name: str
    nbytes: int
    fields: tuple[Field, ...]
    record: np.dtype


def as_dtype(name: str) -> np.dtype:
    """The numpy dtype of `name`, which may be one of ml_dtypes (bfloat16)."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def is_float(dtype: np.dtype) -> bool:
    """Whether `dtype` is a floating type, those of ml_dtypes included."""
    return dtype.kind == "f" or "float" in dtype.name


def finite(values: np.ndarray, bfloat16: bool) -> np.ndarray:
    """Elementwise isfinite; bfloat16 by its exponent bits, much faster than its own loop."""
    if bfloat16:
        return (values.view(np.uint16) & 0x7F80) != 0x7F80
    return np.isfinite(values)


def make_columns(spaces: Spaces) -> tuple[Column, ...]:
    """Columns of the given keys: one per large key, then one shared by all small ones."""
    fields = [_make_field(key, space) for key, space in sorted(spaces.items())]
    sizes = [_row_bytes(f) for f in fields]
    columns = [_make_column((f,)) for f, size in zip(fields, sizes) if size >= OWN_COLUMN_BYTES]
    small = [f for f, size in zip(fields, sizes) if size < OWN_COLUMN_BYTES]
    small.sort(key=lambda f: -f.dtype.itemsize)  # little padding within the packed record
    return tuple(columns + ([_make_column(tuple(small))] if small else []))


class RowLayout:
    """The columns of a replay: `obs` never changes after insertion, `written` may be written back by training."""

    def __init__(self, spaces: dict[str, Space]):
        missing = [key for key in FLAGS if key not in spaces]
        if missing:
            raise UserError(f"replay rows need the keys {', '.join(FLAGS)}; missing: {', '.join(missing)}")
        self.spaces = dict(spaces)
        self.obs = make_columns({k: s for k, s in spaces.items() if not k.startswith(WRITTEN)})
        self.written = make_columns({k: s for k, s in spaces.items() if k.startswith(WRITTEN)})
        self.obs_bytes = sum(c.nbytes for c in self.obs)
        self.written_bytes = sum(c.nbytes for c in self.written)
        self.row_bytes = self.obs_bytes + self.written_bytes
        self._keys = frozenset(spaces)

    def written_spaces(self) -> Spaces:
        """Spaces of the written columns."""
        return {key: space for key, space in self.spaces.items() if key.startswith(WRITTEN)}

    def no_latents(self, count: int) -> dict[str, np.ndarray]:
        """Zeros [count, ...] in the place of the written columns, for rows that no agent acted on."""
        return {key: space.zeros(count) for key, space in self.written_spaces().items()}

    def describe(self) -> dict[str, list]:
        """JSON-able description by which a saved replay is matched with a run: {key: [dtype, shape]}."""
        return {key: [as_dtype(s.dtype).name, list(s.shape)] for key, s in sorted(self.spaces.items())}

    def check_keys(self, rows: dict[str, np.ndarray]) -> None:
        """Raises BadRow unless `rows` has exactly the keys of the spaces."""
        if self._keys != rows.keys():
            missing, extra = sorted(self._keys - rows.keys()), sorted(rows.keys() - self._keys)
            raise BadRow(f"replay rows have the wrong keys: missing {missing}, not expected {extra}")


def pack(
    columns: tuple[Column, ...], rows: dict[str, np.ndarray], leading: tuple[int, ...]
) -> list[np.ndarray]:
    """Bytes [*leading, nbytes] of each column; raises BadRow for wrong shapes and kinds, NonFinite."""
    packed = []
    for column in columns:
        if len(column.fields) == 1:
            field = column.fields[0]
            value = np.ascontiguousarray(convert(field, rows[field.key], leading))
            packed.append(value.reshape((*leading, -1)).view(np.uint8))
        else:
            record = np.zeros(leading, column.record)  # zeros: padding bytes are stored, too
            for field in column.fields:
                record[field.key] = convert(field, rows[field.key], leading)
            packed.append(record.view(np.uint8).reshape((*leading, column.nbytes)))
    return packed


def pack_some(
    columns: tuple[Column, ...], values: dict[str, np.ndarray], leading: tuple[int, ...]
) -> list[tuple[int, str, np.ndarray]]:
    """`pack` of some of the keys: (column, "", its bytes), or (column, key, values) of a column not wholly given."""
    parts: list[tuple[int, str, np.ndarray]] = []
    for index, column in enumerate(columns):
        given = [field for field in column.fields if field.key in values]
        if len(given) == len(column.fields):
            parts.append((index, "", pack((column,), values, leading)[0]))
        else:
            parts += [(index, field.key, convert(field, values[field.key], leading)) for field in given]
    return parts


def unpack(columns: tuple[Column, ...], packed: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Named arrays from the bytes [..., nbytes] of each column; large keys are views, small ones copies."""
    rows = {}
    for column, data in zip(columns, packed):
        leading = data.shape[:-1]
        if len(column.fields) == 1:
            field = column.fields[0]
            rows[field.key] = data.view(field.dtype).reshape((*leading, *field.shape))
        else:
            record = data.view(column.record)[..., 0]
            for field in column.fields:
                rows[field.key] = np.ascontiguousarray(record[field.key])
    return rows


def convert(field: Field, value: np.ndarray, leading: tuple[int, ...]) -> np.ndarray:
    """`value` in the dtype of the field, checked; raises BadRow."""
    value = np.asarray(value)
    if value.shape != (*leading, *field.shape):
        raise BadRow(f"{field.key!r} has the shape {value.shape}; replay expects {(*leading, *field.shape)}")
    if value.dtype != field.dtype:
        if is_float(value.dtype) and not field.floating:
            raise BadRow(f"{field.key!r} holds {value.dtype} values; replay expects {field.dtype}")
        value = value.astype(field.dtype)
    if field.floating:
        mask = finite(value, field.bfloat16)
        if not mask.all():
            where = tuple(int(i) for i in np.argwhere(~mask)[0])
            raise NonFinite(field.key, where, float(value[where]))
    return value


class NonFinite(BadRow):
    """A value that is not finite: `where` is its index, the first one being the environment."""

    def __init__(self, key: str, where: tuple[int, ...], value: float):
        super().__init__(f"{key!r} holds {value} at index {where}")
        self.key, self.where, self.value = key, where, value


def _make_field(key: str, space: Space) -> Field:
    dtype = as_dtype(space.dtype)
    return Field(key, dtype, tuple(space.shape), is_float(dtype), dtype.name == "bfloat16")


def _row_bytes(field: Field) -> int:
    return int(np.prod(field.shape, dtype=np.int64)) * field.dtype.itemsize


def _make_column(fields: tuple[Field, ...]) -> Column:
    record = np.dtype([(f.key, f.dtype, f.shape) for f in fields], align=len(fields) > 1)
    name = fields[0].key if len(fields) == 1 else fields[0].key.split("/")[0] + "+"
    return Column(name, record.itemsize, fields, record)
