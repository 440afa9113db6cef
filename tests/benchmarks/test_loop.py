"""The loop benchmark counts what was trained, in both modes."""

import json

import pytest

from dreamworld.benchmarks import loop

WORDS = ["--configs", "debug", "--task", "jax_catch", "--seconds", "1", "--json", "--eval.every", "0"]


@pytest.mark.parametrize("mode", ["host", "fused"])
def test_frames_and_updates_are_in_the_train_ratio(mode, capsys):
    assert (
        loop.main([*WORDS, "--run.mode", mode, "--run.log_every", "16", "--logger.tensorboard", "False"]) == 0
    )
    row = json.loads(capsys.readouterr().out)
    assert row["frames_per_s"] > 0
    assert row["updates_per_s"] / row["frames_per_s"] == pytest.approx(1, rel=0.2)  # train_ratio 32 of 4 x 8
    assert 0 <= row["replay_wait_fraction"] <= 1
    assert row["machine"]["jaxlib"] and row["machine"]["cores"] > 0


def test_the_learner_hardly_waits_for_replay(capsys):
    # Updates of a size that matters: drawing a batch must hide behind them.
    words = [
        "--configs",
        "demo",
        "--env.num",
        "4",
        "--seconds",
        "3",
        "--json",
        "--logger.tensorboard",
        "False",
    ]
    assert loop.main(words) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["updates_per_s"] > 1
    assert row["replay_wait_fraction"] < 0.05
    phases = [row[f"{name}_fraction"] for name in ("act", "add", "env", "sample", "update")]
    assert 0.5 < sum(phases) < 1.05
