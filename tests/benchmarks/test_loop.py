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
