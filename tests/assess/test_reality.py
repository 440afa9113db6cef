"""Reality played again: its error is that of its noise, and a draw from reality is as far off as it is."""

import dataclasses
from typing import Any

import jax
import known
import numpy as np
import pytest

from dreamworld.assess import drift, reality, scene

KICK = 0.01  # box widths a step: standard deviation, on each axis


@dataclasses.dataclass(frozen=True)
class Shaken(known.Shown):
    """A ball whose velocity changes at random after each step."""

    kick: float = KICK

    def step(self, state, action, key):
        state, told = super().step(state, action, key)
        kick = self.kick * jax.random.normal(key, state.velocity.shape)
        state = state._replace(velocity=state.velocity + kick)
        return state, told._replace(obs=self.observe(state))


@pytest.fixture(scope="module")
def shaken():
    env = Shaken(size=16, speed=0.02, force=0.002)
    return env, known.make_segments(env, count=256, horizon=4, steps=1500, branched=False)


def page_of(shaken, world) -> Any:
    made, truth = shaken[1]
    dreaming, _, found, page = known.measure(known.make_known(world), (made, truth), samples=1)
    drift.add_drift(page, made, found, dreaming.scenes)
    reality.add_reality(page, made, found, truth, dreaming.scenes, known.KEY)
    return page


def test_the_floor_is_the_noise_of_reality(shaken):
    """After one step velocities differ by twice the variance of a kick, and places not at all."""
    _, (made, truth) = shaken
    scenes = scene.scenes(made)
    errors, alive = reality.play_again(truth, made, scenes, known.KEY)
    assert alive.all() and errors["image"][:, 0].max() == 0
    by_hand = (2 * KICK**2 / scenes["vector"].scale[2:] ** 2).sum() / 4
    first = errors["vector"][:, 0]
    assert float(first.mean()) == pytest.approx(float(by_hand), abs=3 * float(first.std()) / 16)
    assert (np.diff(errors["vector"].mean(0)) > 0).all()


def test_a_draw_from_reality_is_as_far_off_as_reality(shaken):
    page = page_of(shaken, shaken[0])
    for key in ("image", "vector"):
        share = page.metrics[f"drift/{key}/mse_by_reality"]
        assert share.low < 1 < share.high and share.high < 1.5
    assert 20 < page.value("drift/image/psnr_reality") < drift.MOST_DB


def test_the_mean_of_what_may_happen_has_half_of_its_error(shaken):
    page = page_of(shaken, dataclasses.replace(shaken[0], kick=0.0))
    share = page.metrics["drift/vector/mse_by_reality"]
    assert share.low < 0.5 < share.high
