"""Extra columns: stored at acting, written back in part by updates, saved and loaded as latents are."""

from __future__ import annotations

import numpy as np
import pytest

from dreamworld.config import ReplayConfig
from dreamworld.errors import UserError
from dreamworld.replay import Replay
from dreamworld.types import Space

EXTRAS = {
    "extra/policy": Space((200,), "float32"),  # has a column of its own
    "extra/age": Space((), "int32"),  # these share one
    "extra/value": Space((2,), "float32"),
}


def make(kit, extras=EXTRAS, **options):
    config = ReplayConfig(capacity_steps=400, chunk=8, min_starts=1, online=False, **options)
    return Replay(kit.SPACES | extras, config, num_envs=2, length=5, context=1)


def extras_of(code):
    """Values of any leading shape that tell `code`."""
    return {
        "extra/policy": (code[..., None] + np.arange(200)).astype(np.float32),
        "extra/age": code.astype(np.int32),
        "extra/value": (code[..., None] + np.array([0.25, 0.5])).astype(np.float32),
    }


def fill(kit, replay, steps, begin=0):
    ids = [
        replay.add(kit.rows(step, 2) | extras_of(step * 1000 + np.arange(2)))
        for step in range(begin, begin + steps)
    ]
    return np.stack(ids, 1)  # [N, steps]


def test_they_are_read_as_they_were_stored(kit):
    replay = make(kit)
    fill(kit, replay, 30)
    batch = replay.sample(20)
    for key, value in extras_of(batch["reward"].astype(np.int64)).items():
        np.testing.assert_array_equal(batch[key], value, err_msg=key)
        assert batch[key].dtype.name == EXTRAS[key].dtype


@pytest.mark.parametrize("given", [["extra/age"], ["extra/policy", "extra/value"], [*EXTRAS, "latent/stoch"]])
def test_an_update_may_write_back_some_of_them(kit, given):
    replay = make(kit)
    ids = fill(kit, replay, 30)
    rows = ids[:, 3:20]
    new = extras_of(rows % 1000 + 7) | kit.latents(rows % 1000 + 7)
    replay.write_back(rows, {key: new[key] for key in given})
    batch = replay.gather(type(replay.draw(1))(ids[:, 4], np.zeros(2, np.uint8)))
    code = batch["reward"].astype(np.int64)
    want = extras_of(code) | kit.latents(code)
    want |= {key: new[key][:, 1:6] for key in given}
    for key, value in want.items():
        np.testing.assert_array_equal(batch[key], value, err_msg=key)


def test_what_is_not_finite_is_refused_and_named(kit):
    replay = make(kit)
    ids = fill(kit, replay, 20)
    with pytest.raises(UserError, match="extra/value"):
        replay.write_back(ids, {"extra/value": np.full((*ids.shape, 2), np.nan)})
    rows = kit.rows(20, 2) | extras_of(np.arange(2))
    rows["extra/policy"][1, 3] = np.inf
    with pytest.raises(UserError, match=r"environment 1 gave .* 'extra/policy' .*the agent made it"):
        replay.add(rows)


@pytest.mark.parametrize("storage", ["raw", "lz4", "disk"])
def test_they_are_saved_and_journaled(kit, tmp_path, storage):
    options = {"storage": storage, "hot_chunks": 1}
    replay = Replay(
        kit.SPACES | EXTRAS,
        ReplayConfig(capacity_steps=400, chunk=8, min_starts=1, **options),
        num_envs=2,
        length=5,
        context=1,
        directory=tmp_path,
    )
    ids = fill(kit, replay, 30)
    replay.save(tmp_path)
    replay.write_back(ids[:, :9], {"extra/age": ids[:, :9] * 0 + 5})
    manifest = replay.save(tmp_path)
    assert manifest["cost"]["rows"] == 0 and manifest["cost"]["latent_rows"] == 18
    other = Replay(kit.SPACES | EXTRAS, replay.config, num_envs=2, length=5, context=1, directory=tmp_path)
    assert other.load(tmp_path, manifest) == []
    assert other.digest() == replay.digest()
    found = other.sample(50)
    assert (found["extra/age"][found["reward"] < 9000] == 5).all() and (found["reward"] < 9000).any()


def test_a_replay_with_other_extras_is_refused(kit, tmp_path):
    replay = make(kit)
    fill(kit, replay, 20)
    manifest = replay.save(tmp_path)
    with pytest.raises(UserError, match=r"extra/age: saved .*int32.*, now none"):
        make(kit, {key: space for key, space in EXTRAS.items() if key != "extra/age"}).load(
            tmp_path, manifest
        )
