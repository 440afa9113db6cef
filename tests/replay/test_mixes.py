"""Phases that read by mixtures of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dreamworld.config import ReplayConfig
from dreamworld.contract import Mix, Window
from dreamworld.replay import Replay

RECENT, PRIORITY = Mix(0.0, 0.0, 1.0), Mix(1.0, 1.0, 0.0, online=True)


def make(kit, mixes=(RECENT, PRIORITY), **options):
    config = ReplayConfig(capacity_steps=400, chunk=8, min_starts=1, **{"online": False, **options})
    return Replay(kit.SPACES, config, num_envs=2, length=5, context=1, seed=3, mixes=mixes)


def test_each_batch_is_drawn_by_its_mixture(kit):
    replay = make(kit)
    kit.fill(replay, 40)
    waiting = len(replay.sampler.queue)
    assert waiting > 4  # it is fed for the phase that asks for it
    assert set(replay.draw(500).kinds.tolist()) == {1} and set(replay.draw(500, RECENT).kinds.tolist()) == {3}
    assert len(replay.sampler.queue) == waiting
    kinds = replay.draw(500, PRIORITY).kinds
    assert (kinds == 0).sum() == waiting and set(kinds.tolist()) == {0, 1, 2}
    assert replay.counts["online"] == waiting


def test_priorities_are_kept_for_a_phase_that_asks_for_them(kit):
    replay = make(kit)
    kit.fill(replay, 40)
    rows = np.array([(c.stream << 40) + c.start + np.arange(c.rows) for c in replay.chunks])
    replay.update_priorities(rows, np.where(rows == 17, 1.0, 0.0))
    drawn = replay.draw(200, Mix(0.0, 1.0)).rows
    assert set(drawn.tolist()) == {13, 14, 15, 16}
    assert make(kit, mixes=()).sampler.tree is None


def test_parts_of_windows_are_drawn_by_it_too(kit):
    replay = make(kit)
    kit.fill(replay, 100)
    ages = lambda mix: 99 - (replay.sample_part(300, 2, mix=mix)["reward"] // 1000).mean()
    assert ages(RECENT) < 0.7 * ages(None)


def test_a_mixture_that_is_the_configured_one_changes_nothing(kit):
    options = {"uniform": 1.0, "prioritized": 1.0, "online": True}
    one, two = make(kit, (), **options), make(kit, (PRIORITY,), **options)
    for replay in (one, two):
        kit.fill(replay, 40)
    for _ in range(10):
        np.testing.assert_array_equal(one.sample(4)["row"], two.sample(4, PRIORITY)["row"])
    assert one.digest() == two.digest()


def test_all_phases_go_on_to_the_bit(kit, tmp_path):
    replay = make(kit)

    def play(replay, begin):
        found = []
        for step in range(begin, begin + 20):
            kit.fill(replay, 1, begin=step)
            for mix in (None, RECENT, PRIORITY):
                found.append(replay.sample(3, mix))
                rows = found[-1]["row"][:, 1:]
                replay.update_priorities(rows, rows % 7 / 7)
        return found

    kit.fill(replay, 20)
    play(replay, 20)
    manifest = json.loads(json.dumps(replay.save(tmp_path)))
    other = make(kit)
    assert other.load(tmp_path, manifest) == []
    for one, two in zip(play(replay, 40), play(other, 40), strict=True):
        np.testing.assert_array_equal(one["row"], two["row"])
        np.testing.assert_array_equal(one["latent/deter"], two["latent/deter"])
    assert other.digest() == replay.digest()


@pytest.mark.parametrize("shares", [(0, 0, 0), (-1, 1, 1), (float("nan"), 1, 0), (float("inf"), 0, 0)])
def test_impossible_mixtures_are_refused(shares):
    with pytest.raises(ValueError, match="none may be negative"):
        Mix(*shares)


@pytest.mark.parametrize("kind", [{"order": "sweep"}, {"align": "episode"}])
def test_what_is_not_drawn_has_no_mixture(kind):
    with pytest.raises(ValueError, match="not drawn by a mixture"):
        Window(2, 4, mix=Mix(), **kind)
