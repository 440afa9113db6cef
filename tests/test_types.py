import dataclasses
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.types import DTYPES, Space


def test_what_follows_the_dtype_of_a_space_is_named():
    with pytest.raises(TypeError, match="positional"):
        Space((3,), "float32", 5)  # type: ignore[misc]
    assert Space((3,), "int32", classes=5).discrete and not Space((3,), "float32", low=5).discrete


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "text"),
    [
        (3, "float32", {}, "shape=3: give a tuple of whole numbers"),
        ((-1,), "float32", {}, r"shape=\(-1,\)"),
        ((2.5,), "float32", {}, r"shape=\(2.5,\)"),
        ((True,), "float32", {}, r"shape=\(True,\)"),
        ((), "float", {}, "dtype='float': give one of bool, uint8"),
        ((), "str", {}, "dtype='str'"),
        ((), object, {}, "dtype=<class 'object'>"),
        ((), "int32", {"classes": 0}, "classes=0: give a whole number of at least 1"),
        ((), "int32", {"classes": 2.5}, "classes=2.5"),
        ((), "int32", {"classes": True}, "classes=True"),
        ((), "uint8", {"classes": 257}, "classes=257: uint8 holds at most 256"),
        ((), "float32", {"classes": 3}, "classes=3: float32 holds no classes; use int32"),
        ((), "float32", {"low": 1, "high": 0}, "low=1, high=0: low is above high"),
        ((), "float32", {"high": float("nan")}, "high=nan: give one number"),
        ((2,), "float32", {"low": np.zeros(2)}, "low=array.*: give one number, which holds for all elements"),
        ((), "float32", {"low": "0"}, "low='0': give one number"),
    ],
)
def test_a_space_that_describes_nothing_is_one_line(shape, dtype, options, text):
    with pytest.raises(UserError, match=text) as error:
        Space(shape, dtype, **options)
    assert "\n" not in str(error.value)


def test_equal_spaces_are_equal_however_shape_and_dtype_are_written():
    space = Space((3,), "float32", low=-1)
    assert space == Space([np.int64(3)], np.float32, low=-1) == Space((3,), np.dtype("float32"), low=-1)  # type: ignore[arg-type]
    assert Space((), jnp.bfloat16).dtype == "bfloat16"  # type: ignore[arg-type]
    assert Space((0,), "uint8").size == 0 and dataclasses.replace(space, classes=None) == space


def test_every_dtype_is_one_of_numpy_once_jax_is_loaded():
    assert [np.dtype(name).name for name in DTYPES] == list(DTYPES)


def test_spaces_load_no_jax():
    code = (
        "import sys; from dreamworld.types import Space; Space((), 'bfloat16'); print('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    "space",
    [
        Space((64, 64, 3), "uint8"),
        Space((), "int32", classes=5),
        Space((3,), "float32", low=-1.5, high=2),
        Space((2,), "float32", low=0),
    ],
)
def test_a_space_is_written_as_what_makes_it_again(space):
    assert eval(repr(space)) == space and len(repr(space)) < 50
    assert repr(Space((64, 64, 3), "uint8")) == "Space((64, 64, 3), 'uint8')"
