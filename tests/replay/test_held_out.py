"""Episodes that are held out: stored, never trained on, drawn apart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dreamworld.config import ReplayConfig
from dreamworld.contract import Mix
from dreamworld.errors import UserError
from dreamworld.replay import Replay
from dreamworld.replay.chunks import HELD_LANES
from dreamworld.replay.disk import DiskBody
from dreamworld.replay.held_out import is_held_out
from dreamworld.replay.windows import EpisodeStarts
from dreamworld.types import Space

ENVS, LENGTH, SHARE = 3, 5, 0.4
FLAGS = ("is_first", "is_last", "is_terminal")
SPACES = {
    "obs/code": Space((), "int32"),  # 1000 times the number of the episode, plus the time in it
    "reward": Space((), "float32"),
    "latent/deter": Space((2,), "float32"),
    **dict.fromkeys(FLAGS, Space((), "bool")),
}
MIX = Mix(1.0, 1.0, 1.0, online=True)


class Play:
    """Episodes of random lengths, some of which break off without an end; knows which are held out."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.left, self.time = np.zeros(ENVS, int), np.zeros(ENVS, int)
        self.episode, self.held, self.count = np.zeros(ENVS, int), {}, 0

    def rows(self, clock):
        broken = self.random.random(ENVS) < 0.02
        first = (self.left == 0) | broken
        for env in np.flatnonzero(first):
            self.count += 1
            self.episode[env], self.time[env] = self.count, 0
            self.left[env] = self.random.integers(1, 25)
            self.held[self.count] = is_held_out(clock * ENVS + int(env), SHARE)
        code = (self.episode * 1000 + self.time).astype(np.int32)
        self.left -= 1
        self.time += 1
        zeros = np.zeros(ENVS, bool)
        flags = {"is_first": first, "is_last": self.left == 0, "is_terminal": zeros}
        deter = np.zeros((ENVS, 2), np.float32)
        return {"obs/code": code, "reward": np.zeros(ENVS, np.float32), "latent/deter": deter, **flags}


def make(capacity=300, share=SHARE, directory=None, **options):
    config = ReplayConfig(chunk=8, min_starts=1, hot_chunks=1, prioritized=1.0, recent=1.0, **options)
    sizes = {"num_envs": ENVS, "length": LENGTH, "context": 1, "capacity_steps": capacity}
    return Replay(SPACES, config, **sizes, directory=directory, held_out=share, mixes=(MIX,))


def play(replay, play, steps):
    """Adds rows; draws in every way, checks each batch, and sets priorities and latents."""
    episodes = lambda batch: set((batch["obs/code"] // 1000).ravel().tolist())
    trained, apart = set(), set()
    for step in range(steps):
        replay.add(play.rows(replay.sampler.clock))
        if not replay.starts or not replay.sampler.held_out.total:
            continue
        batch = replay.sample(2, MIX if step % 2 else None)
        replay.update_priorities(batch["row"][:, 1:], np.ones((2, LENGTH - 1)))
        replay.write_back(batch["row"][:, 1:], {"latent/deter": np.ones((2, LENGTH - 1, 2))})
        batches = [batch, replay.sample_part(2, 3, mix=MIX)]
        if step % 10 == 0:
            batches += [replay.sweep(2, 3, 1, index) for index in range(replay.sweep_updates(2, 3, 1))]
            batches.append(replay.sample_episodes(4))
            anew = EpisodeStarts(replay.chunks, replay.layout.obs, 0)
            assert replay.episodes.ranks.total == anew.ranks.total
        trained |= set().union(*map(episodes, batches))
        apart |= episodes(replay.sample_held_out(2))
    assert not any(play.held[episode] for episode in trained)
    assert all(play.held[episode] for episode in apart)
    return trained, apart


@pytest.mark.parametrize("storage", ["raw", "lz4", "disk"])
def test_no_trained_row_comes_from_a_held_out_episode(tmp_path, storage):
    replay, game = make(storage=storage, directory=tmp_path), Play()
    for session in range(
        4
    ):  # each session begins with new episodes, as environments that can't be restored do
        trained, apart = play(replay, game, 150)
        assert len(trained) > 15 and len(apart) > 4
        manifest = json.loads(json.dumps(replay.save(tmp_path)))
        other = make(storage=storage, directory=tmp_path)
        assert other.load(tmp_path, manifest) == []
        assert other.digest() == replay.digest()
        for key, value in replay.sample_held_out(8).items():
            np.testing.assert_array_equal(other.sample_held_out(8)[key], value)
        np.testing.assert_array_equal(other.sample(8)["row"], replay.sample(8)["row"])
        replay.files.close()
        replay = other
        if session % 2:
            game.left[:] = 0
    assert replay.counts["evicted_rows"] > 500 and replay.rows <= 300
    replay.files.close()


def test_both_kinds_of_rows_are_whole_and_in_order():
    replay, game = make(capacity=2000), Play(1)
    play(replay, game, 300)
    for batch in (replay.sample(200), replay.sample_held_out(200)):
        code, first = batch["obs/code"], batch["is_first"]
        follows = code[:, 1:] == code[:, :-1] + 1
        assert (follows | first[:, 1:]).all() and (~first[:, 1:]).any()
    stored = {
        kind: sum(c.rows for c in replay.chunks if c.held_out is kind) / replay.rows for kind in (True, False)
    }
    assert abs(stored[True] - SHARE) < 0.2


def test_a_damaged_window_is_replaced_by_one_of_its_kind(tmp_path):
    replay, game = make(capacity=2000, storage="disk", directory=tmp_path), Play(1)
    for _ in range(300):
        replay.add(game.rows(replay.sampler.clock))
    chunk = next(c for c in replay.chunks if c.held_out and isinstance(c.body, DiskBody) and c.valid)
    assert chunk.lane >= HELD_LANES
    for piece in chunk.pieces:
        piece.path.write_bytes(bytes(piece.path.stat().st_size))
        replay.files.forget(piece.path)
    episodes = (replay.sample_held_out(300)["obs/code"] // 1000).ravel().tolist()
    assert all(game.held[episode] for episode in episodes) and replay.counts["corrupt"] > 0
    replay.files.close()


def test_drawing_them_changes_no_later_draw():
    one, two = make(), make()
    games = Play(2), Play(2)
    for _ in range(100):
        one.add(games[0].rows(one.sampler.clock))
        two.add(games[1].rows(two.sampler.clock))
    first = one.sample_held_out(4)["row"]
    np.testing.assert_array_equal(first, one.sample_held_out(4)["row"])
    assert not np.array_equal(first, one.sample_held_out(4, index=1)["row"])
    np.testing.assert_array_equal(one.sample(4)["row"], two.sample(4)["row"])


def test_a_share_of_zero_holds_nothing_out():
    replay = make(share=0.0)
    game = Play()
    for _ in range(60):
        replay.add(game.rows(replay.sampler.clock))
    with pytest.raises(LookupError, match="no window of a held-out episode"):
        replay.sample_held_out(2)
    assert len(replay.all_lanes) == ENVS and "held_out_starts" not in replay.stats()


@pytest.mark.parametrize("share", [1.0, -0.1, float("nan")])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(UserError, match=r"a held-out share of .* is impossible"):
        make(share=share)


def test_the_memory_of_a_lane_that_is_written_seldom_is_not_in_the_way():
    """A held-out episode once in a while keeps an old chunk open, behind which everything else is evicted."""
    replay, game = make(share=0.02, capacity=400), Play(3)
    for _ in range(2000):
        replay.add(game.rows(replay.sampler.clock))
        assert replay.rows <= 400
