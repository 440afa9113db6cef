"""Plots of vectors: which dimensions, on which axes, with what marked."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dreamworld.logging import traces, video


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn."""
    found, original = [], Figure.__init__
    monkeypatch.setattr(
        Figure, "__init__", lambda self, *args, **more: (found.append(self), original(self, *args, **more))[1]
    )
    return found


def count(picture, colour):
    return int((np.abs(picture.astype(int) - colour).sum(-1) < 40).sum())


def waves(count=1, steps=40):
    time = np.linspace(0, 6, steps)
    return np.stack([np.stack([np.sin(time + b), np.cos(time + b)], 1) for b in range(count)])


def test_vectors_are_drawn_with_truth_and_dream_apart():
    truth = waves()
    dream = truth + np.where(np.arange(40) < 10, 0.0, 0.1)[:, None]
    picture = traces.draw_traces(truth, dream, 10, title="arm")
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert (
        count(picture, video.DREAM) > 200
        and count(picture, video.INK) > 200
        and count(picture, video.CONTEXT) > 50
    )
    hidden = traces.draw_traces(truth, truth, 40, title="arm")
    assert count(hidden, video.DREAM) < count(picture, video.DREAM) / 2


def test_the_dimensions_that_vary_most_are_drawn(drawn):
    truth = np.zeros((1, 10, 40))
    truth[:, :, [3, 30]] = np.arange(10)[:, None]
    traces.draw_traces(truth, truth, 2, title="arm", limit=2)
    assert [axes.get_title() for axes in drawn[0].axes] == ["arm[3]", "arm[30]"]


def test_axes_are_those_of_the_truth_of_all_sequences_whatever_is_dreamt(drawn):
    truth = np.concatenate([waves(), 3 * waves()])
    for dream in (truth, truth + 100):
        traces.draw_traces(truth, dream, 10, title="arm")
    near, far = ([axes.get_ylim() for axes in figure.axes] for figure in drawn)
    assert near == far == [tuple(bounds) for bounds in traces.limits(truth).tolist()]
    assert 3 < near[0][1] < 4 and -4 < near[0][0] < -3
    marks = [axes.collections[-1].get_offsets() for figure in drawn for axes in figure.axes]
    assert [len(found) for found in marks] == [0, 0, 40, 40]
    assert set(np.asarray(marks[2])[:, 1]) == {far[0][1]}  # beyond: at the edge


@pytest.mark.parametrize("value", [0.0, -5.0, 1e6])
def test_a_dimension_that_never_changes_has_room_around_it(value):
    ((low, high),) = traces.limits(np.full((2, 4, 1), value))
    assert low < value < high and high - low == pytest.approx(0.2 * abs(value) or 2)


def test_numbers_at_an_axis_are_whole_values_and_not_offsets(drawn):
    truth = 1e5 + waves()
    traces.draw_traces(truth, truth, 10, title="arm")
    for axes in drawn[0].axes:
        labels = [text.get_text() for text in axes.get_yticklabels()]
        assert axes.yaxis.get_offset_text().get_text() == "" and len(labels) <= 6
        assert all(abs(float(label.replace("\N{MINUS SIGN}", "-")) - 1e5) < 2 for label in labels if label)


def test_starts_of_episodes_are_lines_named_once_in_the_legend(drawn):
    truth, first = waves(2), np.zeros((2, 40), bool)
    first[0, [12, 30]] = first[1, 3] = True
    traces.draw_traces(truth, truth, 10, title="arm", first=first)
    for axes in drawn[0].axes:
        lines = [line for line in axes.lines if line.get_label() == "episode start"]
        assert [line.get_xdata()[0] for line in lines] == [11.5, 29.5]
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert names == ["context", "truth", "reconstruction", "dream", "episode start"]
