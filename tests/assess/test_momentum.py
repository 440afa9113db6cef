"""Momentum and energy of two balls: a contact that loses energy keeps momentum, one that stops both keeps neither."""

from typing import Any

import known
import pytest

from dreamworld.assess import objects


@pytest.fixture(scope="module")
def pairs():
    """Two large balls that meet often."""
    env = known.Shown(size=16, n=2, radius=0.12, speed=0.08)
    return env, known.make_segments(env, count=128, horizon=5, steps=1000, branched=False)


def physics(pairs, fault) -> dict[str, Any]:
    env, (made, truth) = pairs
    _, _, found, page = known.measure(known.make_known(env, fault), (made, truth), samples=1)
    objects.add_objects(page, made, found, objects.make_objects(truth, made))
    return page.metrics


def test_momentum_and_energy_tell_contacts_apart(pairs):
    sticky, stopped = (physics(pairs, fault) for fault in ("inelastic", "absorbed"))
    momentum, energy = "objects/momentum_error_pair", "objects/energy_error"
    # not 0: from then on the balls meet walls at other times
    assert sticky[momentum].value < stopped[momentum].low and sticky[momentum].high < stopped[momentum].value
    assert sticky[energy].low > 0.05 and stopped[energy].low > 0.05
