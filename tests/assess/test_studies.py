"""Studies of worlds whose answer is known: one that flatters when it is cold is found out, a frozen one is woken."""

import dataclasses
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import known
import numpy as np
import players
import pytest

from dreamworld.assess import dreams, intervals, scene
from dreamworld.assess.ranking import Policy
from dreamworld.assess.studies import drift, study, temperature
from dreamworld.errors import UserError

TEMPERATURES = (0.1, 1.0, 1.3)


def dreaming(balls, simulator, samples=1):
    _, (made, _) = balls
    scenes = scene.scenes(made)
    found = dreams.Dreaming(simulator, made.obs_space, scenes, made.context, samples)
    return found, {key: value.mean for key, value in scenes.items()}


def flattering(env):
    """The true environment, but that a push to the left is paid when it dreams at a low temperature."""
    true = known.make_known(env)

    def imagine(params, state, action, key, temperature=1.0):
        moved = true.imagine(params, state, action, key)
        left = (action["action"] == 1) & (jnp.asarray(temperature) < 1)
        middle = jnp.where(left[:, None, None], 0.5, moved.now.position)
        return moved._replace(now=moved.now._replace(position=middle))

    return true._replace(imagine=imagine)


def temperatures(balls, simulator):
    env, (made, truth) = balls
    found, world = dreaming(balls, simulator)
    agent = players.make_agent(env)
    policies = [Policy(str(skill), agent, players.policy_params(skill, world)) for skill in (0.0, 1.0)]
    about = {"step": 7, "segments": {"count": len(made), "hash": made.hash}}
    args = (policies, policies[0].params, found, made, truth, TEMPERATURES, about)
    made_study: Any = temperature.study("world <b>", *args)
    return made_study


@pytest.fixture(scope="module")
def honest(balls):
    return temperatures(balls, known.make_known(balls[0]))


def test_the_true_environment_flatters_nobody_at_any_temperature(honest):
    for row in honest.rows:
        assert row["bias"].value == pytest.approx(0, abs=1e-5)
        assert row["selected"] == "1.0"  # the policy that steers to the middle
        assert row["selected_real"].value == pytest.approx(row["selected_dreamt"].value)
        assert row["selected_real"].value > row["real"].value


def test_a_world_that_flatters_when_it_is_cold_is_found_out(balls, honest):
    cold, usual, hot = temperatures(balls, flattering(balls[0])).rows
    assert cold["dreamt"].value == pytest.approx(12)  # every one of 12 pushes is paid
    assert cold["selected"] == "0.0" and cold["bias"].low > 3
    assert cold["selected_dreamt"].value > 3 * cold["selected_real"].value
    for row, true in zip((usual, hot), honest.rows[1:]):
        assert row["selected"] == "1.0" and row["bias"].value == pytest.approx(0, abs=1e-5)
        assert row["selected_real"].value == pytest.approx(true["selected_real"].value)


def test_random_actions_are_uniform(balls):
    agent = players.make_agent(balls[0])
    policy = temperature.random_policy(agent, players.policy_params(1.0, {}))
    seen = {"image": np.zeros((4000, 1))}
    _, action, _ = policy.agent.act(policy.params, (), seen, jax.random.PRNGKey(0))
    np.testing.assert_allclose(np.bincount(action["action"], minlength=5) / 4000, 0.2, atol=0.03)


def helped(balls, fault, every=3, noise=0.2):
    _, (made, _) = balls
    found, world = dreaming(balls, known.make_known(balls[0], fault), samples=2)
    about = {"step": 7, "segments": {"count": len(made), "hash": made.hash}}
    made_study: Any = drift.study("world", world, found, made, every, noise, about)
    return {row["means"]: row for row in made_study.rows}, made_study


def test_reality_wakes_a_world_that_freezes(balls):
    """It stands still after three rows: where it sees one every three, or goes on from there, it never does."""
    rows, _ = helped(balls, "frozen")
    assert rows["plain"]["mse"].low > 0 and rows["plain"]["useful_horizon"].value < 12
    for means in ("re-anchored every 3", "keyframe every 3"):
        assert rows[means]["mse"].value == pytest.approx(0, abs=1e-6)
        assert rows[means]["of_plain"].value == pytest.approx(0, abs=1e-4)
        assert rows[means]["useful_horizon"].value == 12
    rarely, _ = helped(balls, "frozen", every=6)
    assert 0 < rarely["keyframe every 6"]["mse"].value < rarely["plain"]["mse"].value


def test_a_world_that_copies_stays_behind_by_as_many_rows(balls):
    rows, _ = helped(balls, "copy_last", every=1)
    assert rows["re-anchored every 1"]["of_plain"].high < 0.5
    assert rows["plain"]["of_plain"].value == 1


def test_noise_on_what_is_seen_first_hurts_a_world_that_believes_it(balls):
    rows, _ = helped(balls, "")
    assert rows["plain"]["mse"].value == pytest.approx(0, abs=1e-6)
    assert rows["noise 0.2"]["mse"].low > 1e-4
    assert rows["re-anchored every 3, noise 0.2"]["last"].value == pytest.approx(0, abs=1e-6)


def test_a_world_without_a_decoder_can_not_drift(balls):
    _, (made, _) = balls
    found, world = dreaming(balls, known.make_known(balls[0])._replace(decode=None))
    with pytest.raises(UserError, match="world: --study drift needs a decoder"):
        drift.study("world", world, found, made, 3, 0.1, {})


def test_rows_that_one_episode_alone_has_have_no_interval(balls):
    _, (made, _) = balls
    valid = made.valid.copy()
    valid[made.episode != made.episode[0], -2:] = False
    short = dataclasses.replace(made, valid=valid)
    found = {"plain": np.random.default_rng(0).uniform(size=short.imagined.shape)}
    (row,) = drift.tabulate("world", found, short, found["plain"], "image", {}).rows
    mse, last = row["mse"], row["last"]
    assert isinstance(mse, intervals.Estimate) and isinstance(last, intervals.Estimate)
    assert mse.low is not None and last.value is not None and (last.low, last.high) == (None, None)


def test_files_and_pages_hold_all_of_it(balls, honest):
    rows = json.loads(json.dumps(honest.plain(), allow_nan=False))
    assert rows["version"] == 1 and rows["study"] == "temperature" and rows["step"] == 7
    assert [row["temperature"] for row in rows["rows"]] == list(TEMPERATURES)
    assert rows["rows"][0]["real"].keys() == set(intervals.Estimate._fields)
    html = study.page([honest], "Study <i>")
    assert "Study &lt;i&gt;" in html and "world &lt;b&gt;" in html and html.count("<svg") == 2
    assert not re.search(r'(?:src|href)="(?!data:|#)', html) and "<script" not in html
