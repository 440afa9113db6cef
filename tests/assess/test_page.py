"""The page of judged worlds: everything is in it, and nothing is fetched."""

import re

import jax
import known
import pytest

from dreamworld.assess import ground, judge, page, strips, table
from dreamworld.contract import Simulator

KEY = jax.random.PRNGKey(0)


@pytest.fixture(scope="module")
def judged():
    """The true environment and one that freezes, as whole judgements."""
    env = known.Shown(size=16)
    segments, truth = known.make_segments(env, count=16, horizon=6, steps=600)
    worlds, own = [], []
    for name in ("perfect <b>", "frozen"):
        simulator = known.make_known(env, "frozen" if name == "frozen" else "")
        params = {"world": {key: found.mean for key, found in judge.scenes(segments).items()}}
        world = judge.World(name, simulator, params, about={"agent": "known", "step": 7})
        worlds.append(judge.judge(world, segments, samples=2, ground=truth))
        own.append(strips.strips(worlds[-1], simulator, params["world"], segments))
    return worlds, segments, own


def test_the_page_needs_nothing_else(judged):
    worlds, segments, own = judged
    found = page.page(worlds, segments, own, "Worlds <i>")
    assert not re.search(r'(?:src|href)="(?!data:|#)', found) and "<script" not in found
    assert "perfect &lt;b&gt;" in found and "Worlds &lt;i&gt;" in found and "<b>>" not in found
    for part in (
        "Levels",
        "Drift",
        "Dreams",
        "Counterfactuals",
        "Rewards and ends",
        "All numbers",
        segments.hash,
    ):
        assert part in found
    assert found.count("data:image/png;base64,") == 2 * 2 + 2  # median and worst of each, a fan of each
    assert found.count("<svg") >= 6


def test_strips_show_the_median_and_the_worst_segment(judged):
    worlds, _, own = judged
    median, worst = own[1]
    error = worlds[1].found["mse/image"].mean((1, 2))
    assert (median.name, worst.name) == ("median", "worst")
    assert worst.number == error.argmax() and error[worst.number] >= error[median.number]
    assert median.truth.shape == median.dream.shape and median.rows.startswith("2, 3, 4")
    assert median.seen == 2 and (median.truth[:2] == median.dream[:2]).all()
    assert abs(own[0][1].dream - own[0][1].truth).max() < 1e-3


def test_the_table_has_a_column_for_each_world(judged):
    worlds, _, _ = judged
    rows = dict(table.rows(worlds))
    assert rows["  useful horizon, steps"][0].startswith("6 [")
    assert rows["  PSNR, dB at 1, 5"][0] == "58.9, 58.9"
    assert len(rows["  time to imagine a step, ms, at batch 1, 16, 1024"]) == 2
    assert "returns needs an agent that acts" in " ".join(table.left_out(worlds))


def test_a_world_that_can_only_imagine_is_judged_by_nothing_but_its_cost():
    env = known.Shown(size=16)
    segments, _ = known.make_segments(env, count=8, horizon=4, steps=300)
    whole = known.make_known(env)
    bare = Simulator(whole.initial, whole.observe, whole.imagine, whole.feature)
    world = judge.World("bare", bare, {"world": {}})
    found = judge.judge(world, segments, samples=1, ground=ground.make_ground(env, segments))
    assert found.sheet.metrics == {} and found.fan == {}
    reasons = found.sheet.left_out
    assert reasons["drift"].startswith("needs a decoder") and "predicts" in reasons["reward"]
    assert found.about["step_s"].keys() == {"imagine"}
    assert all(level.reached is None for level in found.card)
