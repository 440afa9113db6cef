"""Replay takes the first storage that fits; where none does, every way out that is offered works."""

from __future__ import annotations

import re

import pytest

from dreamworld import cli, presets
from dreamworld.config import ReplayConfig
from dreamworld.errors import UserError
from dreamworld.replay import check_memory
from dreamworld.types import Space

FLAGS = {k: Space((), "bool") for k in ("is_first", "is_last", "is_terminal")} | {
    "reward": Space((), "float32")
}
IMAGES = FLAGS | {
    "obs/image": Space((64, 64, 3), "uint8"),
    "action/action": Space((6,), "float32"),
    "latent/deter": Space((2048,), "bfloat16"),
    "latent/stoch": Space((32,), "uint8"),
}
GB = 10**9


def ways_out(config, steps, available_bytes, **options):
    """The configs that a refusal offers, and its text."""
    with pytest.raises(UserError) as caught:
        check_memory(IMAGES, config, steps, available_bytes=available_bytes, **options)
    text = str(caught.value)
    offered = []
    for line in text.splitlines()[1:]:
        values = dict(re.findall(r"--replay\.(\w+) (\S+)", line))
        offered += [presets.override(config, values)] if values else []
    return offered, text


def test_a_replay_that_fits_is_accepted():
    need = check_memory(IMAGES, ReplayConfig(capacity_steps=1e5), 1e6, available_bytes=8 * GB)
    assert need.ram_bytes < 2 * GB and need.storage == "raw"


@pytest.mark.parametrize(("gb", "storage"), [(30, "raw"), (16, "lz4"), (8, "disk")])
def test_the_first_storage_that_fits_is_chosen(gb, storage):
    need = check_memory(IMAGES, ReplayConfig(), 1.1e6, available_bytes=gb * GB)
    assert need.storage == storage and need.ram_bytes < 0.9 * gb * GB
    assert f"storage {storage}: " in str(need)


def test_a_storage_that_was_asked_for_is_kept():
    for storage in ("raw", "lz4", "disk"):
        need = check_memory(IMAGES, ReplayConfig(storage=storage), 1.1e6, available_bytes=100 * GB)
        assert need.storage == storage


def test_a_replay_that_does_not_fit_shows_the_arithmetic_and_three_ways_out():
    config = ReplayConfig(storage="raw")
    offered, text = ways_out(config, 1.1e6, 17 * GB)
    assert "1,100,000 rows x 16,448 bytes (observations 12,320 + latents 4,128) = 18.1 GB" in text
    assert "15.3 GB are usable (90% of the available memory)" in text
    assert [(each.storage, each.capacity_steps) for each in offered[1:]] == [("lz4", 5e6), ("disk", 5e6)]
    assert 0.85e6 < offered[0].capacity_steps < 0.95e6


@pytest.mark.parametrize("storage", ["auto", "raw", "lz4", "disk"])
@pytest.mark.parametrize("num_envs", [1, 16])
@pytest.mark.parametrize("gb", [2, 4, 6])
def test_every_way_out_works(storage, num_envs, gb):
    config = ReplayConfig(storage=storage)
    offered, text = ways_out(config, 5e6, gb * GB, num_envs=num_envs)
    assert offered, text
    for each in offered:
        check_memory(IMAGES, each, 5e6, num_envs=num_envs, available_bytes=gb * GB)


def test_a_model_whose_latents_take_most_is_told_to_be_smaller():
    large = IMAGES | {"latent/deter": Space((8192,), "float32")}
    with pytest.raises(UserError, match="a smaller model, such as --configs size12m"):
        check_memory(large, ReplayConfig(), 1.1e6, available_bytes=24 * GB)


def test_a_byte_capacity_makes_it_fit():
    config = ReplayConfig(capacity_bytes=4e9)
    assert check_memory(IMAGES, config, 5e6, available_bytes=8 * GB).ram_bytes <= 4e9


def test_the_disk_is_checked_too(tmp_path):
    config = ReplayConfig(capacity_steps=1e10, storage="disk")
    with pytest.raises(UserError, match=r"are free on the disk(.|\n)*--replay\.capacity_steps \d+"):
        check_memory(IMAGES, config, 1e12, directory=tmp_path / "new", available_bytes=1 << 60)


def test_the_default_is_to_choose():
    assert cli.parse([]).replay.storage == "auto"
