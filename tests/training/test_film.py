"""Pictures of an evaluation: what they may cost, what counts as one, and that the returns never depend on them."""

import numpy as np
import pytest

from dreamworld.envs.base import Step, Unsaved
from dreamworld.envs.vector.inprocess import InProcess
from dreamworld.frames import as_picture, fit
from dreamworld.training.evaluate import evaluate, random_act
from dreamworld.training.film import SHARE, Film
from dreamworld.types import Space


class Clock:
    """Time that passes only when it is told to."""

    now = 0.0

    def __call__(self):
        return self.now


class Drawn(Unsaved):
    """Counts to 40; its picture is what `draw` makes of the count, or its observation where `seen`."""

    def __init__(self, draw, seen=False):
        space = Space((8, 8, 1), "uint8", low=0, high=255) if seen else Space((), "float32")
        self.obs_space, self.act_space = {"x": space}, {"action": Space((2,), "float32")}
        self.draw, self.count = draw, 0

    def reset(self, seed=None, options=None):
        self.count = 0
        return self.row(is_first=True)

    def step(self, action):
        self.count += 1
        return self.row(is_first=False)

    def row(self, is_first):
        obs = np.full(self.obs_space["x"].shape, self.count, self.obs_space["x"].dtype)
        return Step({"x": obs}, 2.0 * self.count, is_first, self.count == 40, False)

    def render(self):
        return self.draw(self.count)

    def close(self):
        pass


def play(render, video=True, **options):
    env = InProcess(lambda: Drawn(render), 1)
    return evaluate(random_act(env.act_space, 1), None, env, 2, seed=0, video=video, **options)


def raising(count):
    raise RuntimeError(f"no window at step {count}")


RENDERS = {
    "fine": lambda count: np.full((20, 30, 3), count, np.uint8),
    "none": lambda count: None,
    "raises": raising,
    "raises later": lambda count: np.zeros((4, 4, 3), np.uint8) if count < 3 else raising(count),
    "text": lambda count: "a picture",
    "objects": lambda count: np.array([[[None]]]),
    "empty": lambda count: np.zeros((0, 30, 3), np.uint8),
    "a scalar": lambda count: 3,
    "a batch": lambda count: np.zeros((2, 4, 4, 3), np.uint8),
    "ragged": lambda count: [[1, 2], [3]],
    "gray": lambda count: np.full((20, 30), 7, np.uint8),
    "changes its size": lambda count: np.full((20 + count, 30, 3), 7, np.uint8),
    "a list": lambda count: np.full((4, 5, 3), 0.5).tolist(),
    "frames": lambda count: [np.zeros((4, 5, 3), np.uint8)] * 2,
    "no frames": lambda count: [],
    "channels first": lambda count: np.zeros((3, 24, 32)),
}
WORKS = {"fine", "gray", "changes its size", "a list", "frames", "channels first"}


@pytest.mark.parametrize("name", RENDERS)
def test_no_render_changes_or_ends_an_evaluation(name):
    found, without = play(RENDERS[name]), play(RENDERS[name], video=False)
    assert found.returns == without.returns == [1640.0, 1640.0]
    assert (without.frames, without.unfilmed) == (None, "")
    if name in WORKS:
        assert found.frames is not None and found.frames.shape[0] == 41 and not found.unfilmed
        assert found.frames.dtype == np.uint8 and found.frames.shape[-1] == 3
    else:
        assert found.unfilmed and "\n" not in found.unfilmed
        assert (len(found.frames) if found.frames is not None else 0) == 3 * (name == "raises later")
    assert ("no window" in found.unfilmed) == ("raises" in name)


@pytest.mark.parametrize("render_s", [0.0, 0.002, 0.1, 3.0])
def test_rendering_takes_no_more_than_its_share_and_the_video_its_true_length(render_s):
    clock, spent = Clock(), []

    def render(count):
        clock.now += render_s + 50.0 * (not spent)  # the first one starts a renderer
        spent.append(render_s)
        return np.full((4, 4, 3), count, np.uint8)

    env = InProcess(lambda: Drawn(render), 1)
    film, step = Film(env, clock), env.reset(0)
    while not step.is_last[0]:
        film.see(step)
        clock.now += 0.01
        step = env.step({"action": np.zeros((1, 2), np.float32)})
    film.see(step)
    frames = film.develop()
    assert frames is not None and len(frames) == 41
    shown = frames[:, 0, 0, 0].astype(int)
    assert shown[0] == 0 and (np.diff(shown) >= 0).all() and (shown <= np.arange(41)).all()
    played_s = 40 * 0.01
    assert sum(spent[1:]) <= SHARE * (played_s + sum(spent[1:])) + render_s
    assert (render_s > 0) or len(spent) == 41


def test_the_film_of_an_image_observation_needs_no_render():
    env = InProcess(lambda: Drawn(raising, seen=True), 1)
    found = evaluate(random_act(env.act_space, 1), None, env, 1, seed=0, video=True)
    assert found.frames is not None and found.frames[:, 0, 0, 2].tolist() == list(range(41))


def test_a_film_has_bounds():
    huge = np.zeros((3000, 5000, 3), np.uint8)
    assert max(as_picture(huge).shape) <= 1024
    film = Film(InProcess(lambda: Drawn(lambda count: huge), 1))
    step = film._env.reset(0)
    for _ in range(2000):
        film.see(step)
    frames = film.develop()
    assert frames is not None and len(frames) <= 1000 and frames.nbytes <= 512 << 20


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (np.full((2, 2, 3), 200, np.uint8), 200),
        (np.full((2, 2, 4), 0.5), 127),
        (np.full((2, 2, 1), True), 255),
        (np.full((2, 2), 300), 255),
        (np.full((2, 2, 3), [np.nan, -1.0, 300.0]), [0, 0, 255]),
        (np.full((2, 2, 12), 9, np.uint8), 9),
        ([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 9, np.uint8)], 9),
        (np.full((2, 2, 3), [0.0, np.nan, 1.0], np.float16), [0, 0, 255]),
    ],
)
def test_what_is_shown_of_each_kind_of_picture(value, want):
    picture = as_picture(value)
    assert picture.shape == (2, 2, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[0, 0], np.broadcast_to(want, 3))


def test_another_size_is_fitted():
    image = np.arange(4 * 6).reshape(4, 6, 1).astype(np.uint8)
    np.testing.assert_array_equal(fit(image, (2, 3, 1))[..., 0], [[0, 2, 4], [12, 14, 16]])
