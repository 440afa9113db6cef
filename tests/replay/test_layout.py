"""Rows become columns of bytes and come back; what replay refuses, and how it says so."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.replay import BadRow
from dreamworld.replay.layout import RowLayout, make_columns, pack, unpack
from dreamworld.types import Space

MIXED = {
    "a": Space((3,), "uint8"),
    "b": Space((), "float64"),
    "c": Space((2, 2), "int16"),
    "d": Space((400,), "bfloat16"),
    "e": Space((), "bool"),
    "f": Space((5,), "float32"),
}


def test_any_dtypes_and_shapes_survive_packing():
    random = np.random.default_rng(0)
    rows = {
        key: random.integers(0, 2, (4, 6, *s.shape)).astype(ml_dtypes.bfloat16 if key == "d" else s.dtype)
        for key, s in MIXED.items()
    }
    columns = make_columns(MIXED)
    back = unpack(columns, pack(columns, rows, (4, 6)))
    assert back.keys() == rows.keys()
    for key in rows:
        assert back[key].dtype == rows[key].dtype
        np.testing.assert_array_equal(back[key], rows[key])


def test_large_keys_have_their_own_column_and_small_ones_share_one():
    assert [tuple(f.key for f in c.fields) for c in make_columns(MIXED)] == [
        ("d",),
        ("b", "f", "c", "a", "e"),
    ]


def test_required_keys_are_named():
    with pytest.raises(UserError, match="missing: is_last, is_terminal"):
        RowLayout({"reward": Space((), "float32"), "is_first": Space((), "bool")})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_observation_is_refused_naming_environment_key_and_step(kit, value):
    replay = kit.replay(num_envs=3)
    kit.fill(replay, 17)
    digest = replay.digest()
    rows = kit.rows(17, 3)
    rows["obs/position"][2, 1] = value
    with pytest.raises(BadRow, match=r"environment 2 .* 'obs/position' at index \[1\] of its step 17"):
        replay.add(rows)
    assert replay.digest() == digest
    assert replay.stats()["refused"] == 1


def test_a_non_finite_reward_is_refused(kit):
    replay = kit.replay()
    rows = kit.rows(0, 2)
    rows["reward"][1] = np.nan
    with pytest.raises(BadRow, match=r"environment 1 .*'reward'"):
        replay.add(rows)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_bfloat16_latents_are_refused(value):
    columns = make_columns({"latent/deter": Space((4,), "bfloat16")})
    array = np.array([[1, 3e38, -3e38, 1e-40]], ml_dtypes.bfloat16)
    pack(columns, {"latent/deter": array}, (1,))
    array[0, 3] = value
    with pytest.raises(BadRow, match="latent/deter"):
        pack(columns, {"latent/deter": array}, (1,))


def test_a_value_that_overflows_the_stored_dtype_is_refused(kit):
    rows = kit.rows(0, 2)
    rows["reward"] = np.array([0.0, 1e300])
    with np.errstate(over="ignore"), pytest.raises(BadRow, match="reward"):
        kit.replay().add(rows)


def test_wrong_keys_shapes_and_kinds_are_refused(kit):
    replay = kit.replay()
    rows = kit.rows(0, 2)
    with pytest.raises(BadRow, match=r"missing \['reward'\], not expected \['rew'\]"):
        replay.add({("rew" if k == "reward" else k): v for k, v in rows.items()})
    with pytest.raises(BadRow, match=r"'reward' has the shape \(3,\); replay expects \(2,\)"):
        replay.add(rows | {"reward": np.zeros(3)})
    with pytest.raises(BadRow, match=r"'action/action' holds float32 values; replay expects int32"):
        replay.add(rows | {"action/action": np.zeros((2, 2), np.float32)})
    assert replay.rows == 0
