"""The benchmark of saves times real ones."""

import json

from dreamworld.benchmarks import saves


def test_intervals_hold_one_save_of_the_new_steps(capsys):
    words = [
        "--configs",
        "debug",
        "--task",
        "jax_catch",
        "--eval.every",
        "0",
        "--logger.tensorboard",
        "False",
    ]
    assert saves.main([*words, "--new_steps", "64", "--saves", "2", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["new_steps"] == 64 and len(row["training_waits_s"]) == 2
    for replay_s, waited_s, committed_s in zip(
        row["replay_save_s"], row["training_waits_s"], row["committed_s"]
    ):
        assert 0 < replay_s < waited_s  # the rest of the wait copies the agent
        assert committed_s > replay_s
    assert row["machine"]["cores"] > 0
    assert 0 < row["wait_fraction"] < 1 and row["replay_save_mb"] > 0
