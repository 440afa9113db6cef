"""Policies rank in the dream of the true environment as they do in reality, and in a still world they do not."""

import jax
import known
import numpy as np
import players
import pytest

from dreamworld.assess import dreams, objects, ranking, scene, sheet

KEY = jax.random.PRNGKey(0)
SKILLS = (0.0, 0.5, 1.0)


def rank(balls, fault):
    env, (made, truth) = balls
    scenes = scene.scenes(made)
    world = {key: value.mean for key, value in scenes.items()}
    agent = players.make_agent(env)
    policies = [ranking.Policy(str(skill), agent, players.policy_params(skill, world)) for skill in SKILLS]
    simulator = known.make_known(env, fault)
    dreaming = dreams.Dreaming(simulator, made.obs_space, scenes, made.context, 1, objects.locator(truth))
    page = sheet.make_sheet(made.episode, resamples=100)
    ranking.add_ranking(page, policies, policies[0].params, dreaming, made, truth, KEY)
    return page


def test_in_the_true_environment_checkpoints_rank_as_they_do(balls):
    page = rank(balls, "")
    assert page.value("ranking/spearman") == pytest.approx(1)
    assert page.value("ranking/wrong_pairs") == page.value("ranking/violation") == 0
    assert (page.value("ranking/real@1.0") or 0) > (page.value("ranking/real@0.0") or 0)
    for skill in (0.0, 1.0):  # these two draw nothing that matters: the dream is what happens
        assert page.value(f"ranking/dreamt@{skill}") == pytest.approx(page.value(f"ranking/real@{skill}"))


def test_where_nothing_moves_all_checkpoints_look_alike(balls):
    page = rank(balls, "copy_last")
    assert page.value("ranking/spearman") is None
    assert page.value("ranking/dreamt@1.0") == page.value("ranking/dreamt@0.0")


def test_a_violation_is_what_the_wrong_order_would_cost():
    real = np.array([[0.0, 1.0, 4.0], [0.0, 1.0, 4.0], [2.0, 2.0, 2.0]])
    dreamt = np.array([[0.0, 1.0, 2.0], [9.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    wrong, violation = ranking.violations(real, dreamt)
    assert wrong.tolist() == [0, pytest.approx(2 / 3), 0]  # the first one is liked best: two of three pairs
    assert violation[:2].tolist() == [0, pytest.approx((4 + 1 + 4) / 3 / 4)] and np.isnan(violation[2])
