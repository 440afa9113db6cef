"""The loop benchmark counts what was trained, in both modes."""

import json

import pytest

from dreamworld.benchmarks import loop


def measured(words, capsys):
    assert loop.main([*words, "--json", "--logger.tensorboard", "False"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["machine"]["jaxlib"] and row["machine"]["cores"] > 0 and row["frames_per_s"] > 0
    return row


def test_the_fused_mode_keeps_the_train_ratio(capsys):
    words = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--seconds", "1"]
    row = measured([*words, "--run.mode", "fused", "--run.log_every", "16"], capsys)
    assert row["updates_per_s"] / row["frames_per_s"] == pytest.approx(1, rel=0.2)  # train_ratio 32 of 4 x 8


def test_the_learner_hardly_waits_for_replay(capsys):
    # Updates of a size that matters: drawing a batch must hide behind them.
    row = measured(["--configs", "demo", "--env.num", "4", "--seconds", "3"], capsys)
    assert row["updates_per_s"] / row["frames_per_s"] == pytest.approx(0.75, rel=0.2)  # 96 of 8 x 16
    assert 0 <= row["replay_wait_fraction"] < 0.05
    phases = [row[f"{name}_fraction"] for name in ("act", "add", "env", "sample", "update")]
    assert 0.5 < sum(phases) < 1.05
