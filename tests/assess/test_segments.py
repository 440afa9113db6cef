"""Segments lie within episodes, and those of one label are as many as asked for."""

import numpy as np
import pytest

from dreamworld.assess import segments
from dreamworld.errors import UserError
from dreamworld.types import Space

SPACES = ({"x": Space((), "float32")}, {"move": Space((), "int32", classes=3)})


def episode(number, rows, terminal):
    """The observation of row t is 100 number + t."""
    place = np.arange(rows)
    return {
        "obs/x": (100 * number + place).astype(np.float32),
        "action/move": np.where(place == rows - 1, 0, 1 + number % 2).astype(np.int32),
        "reward": place.astype(np.float32),
        "is_first": place == 0,
        "is_last": place == rows - 1,
        "is_terminal": (place == rows - 1) & terminal,
    }


def draw(episodes, labels=None, count=1000, **options):
    labels = labels or ["random"] * len(episodes)
    return segments.draw(episodes, labels, SPACES, count=count, context=3, horizon=4, **options)


def test_a_segment_has_all_its_rows_unless_the_episode_ends_truly():
    found = draw([episode(0, 20, False), episode(1, 20, True), episode(2, 5, False), episode(3, 3, True)])
    starts = {index: sorted(found.row[found.episode == index]) for index in range(4)}
    assert starts == {0: list(range(14)), 1: list(range(17)), 2: [0], 3: []}
    assert found.valid[found.episode == 0].all()
    last = found.valid[(found.episode == 1) & (found.row == 16)][0]
    assert last.tolist() == [True] * 4 + [False] * 3
    x = found.columns["obs/x"]
    expected = 100 * found.episode[:, None] + found.row[:, None] + np.arange(7)
    np.testing.assert_array_equal(x, np.where(found.valid, expected, 0))


def test_half_are_of_each_policy():
    episodes = [episode(index, 30, False) for index in range(8)]
    found = draw(episodes, ["random"] * 6 + ["agent"] * 2, count=20, shares={"random": 0.5, "agent": 0.5})
    assert found.labels == ("random", "agent")
    assert [(found.label == index).sum() for index in range(2)] == [10, 10]
    assert len(set(zip(found.episode, found.row))) == 20


def test_equal_seeds_draw_equal_segments():
    episodes = [episode(index, 30, False) for index in range(8)]
    one, same, other = (draw(episodes, count=10, seed=seed) for seed in (0, 0, 1))
    assert one.hash == same.hash != other.hash


def test_donors_are_of_other_episodes():
    episodes = [episode(index, 20 + index, False) for index in range(5)]
    found = draw(episodes, count=40)
    others = segments.donors(found)
    assert sorted(others) == list(range(40))
    assert (found.episode[others] != found.episode).all()


def test_where_one_episode_has_most_segments_donors_are_still_others():
    found = draw([episode(0, 40, False), episode(1, 8, False)])
    assert (segments.donors(found) != np.arange(len(found))).all()


def test_they_are_cut_to_fewer_rows_only():
    found = draw([episode(0, 20, False)])
    short = found.cut(3, 2)
    assert short.horizon == 2 and short.hash != found.hash and found.cut(3, 4) is found
    with pytest.raises(
        UserError, match="--horizon 5: 8 rows are needed, and these segments have 7; use --horizon 4"
    ):
        found.cut(3, 5)
    with pytest.raises(UserError, match="made with 3 observed rows; use --context 3"):
        found.cut(2, 4)


def test_no_row_after_the_context_is_an_error():
    with pytest.raises(UserError, match="no episode has a row after so many; the longest has 3 rows"):
        draw([episode(0, 3, True)])
