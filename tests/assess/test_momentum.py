"""Momentum and energy of two balls: a contact that loses energy keeps momentum, one that stops both keeps neither."""

import known
import pytest

from dreamworld.assess import objects


@pytest.fixture(scope="module")
def pairs():
    """Two large balls that meet often."""
    env = known.Shown(size=16, n=2, radius=0.12, speed=0.08)
    return env, known.make_segments(env, count=128, horizon=5, steps=1000, branched=False)


def physics(pairs, fault):
    env, (made, truth) = pairs
    _, _, found, page = known.measure(known.make_known(env, fault), (made, truth), samples=1)
    objects.add_objects(page, made, found, objects.make_objects(truth, made))
    return page.metrics


def test_momentum_and_energy_tell_contacts_apart(pairs):
    sticky, stopped = (physics(pairs, fault) for fault in ("inelastic", "absorbed"))
    momentum, energy = "objects/momentum_error_pair", "objects/energy_error"
    assert 0 <= sticky[momentum].value < sticky[momentum].high < stopped[momentum].low
    assert sticky[energy].low > 0.05 and stopped[energy].low > 0.05


def test_what_stands_still_has_lost_all_and_the_true_world_nothing(sheets):
    for name in ("objects/momentum_error", "objects/energy_error"):
        assert sheets().value(name) == pytest.approx(0, abs=1e-5)
        assert sheets("copy_last").value(name) == pytest.approx(1)
        assert sheets("mean_frame").value(name) is None  # no ball is there
        assert sheets("action_blind").metrics[name].low > 0.02
        assert sheets("reward_late").value(name) == sheets().value(name)
