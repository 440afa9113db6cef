"""The benchmark of scaling prints what it measured, and the machine."""

import json

from dreamworld.benchmarks import scale


def test_one_seed_is_one_json_line(capsys):
    words = [
        "--configs",
        "debug",
        "--obs",
        "vector:4",
        "--act",
        "discrete:2",
        "--seed_counts",
        "1",
        "--updates",
        "2",
    ]
    assert scale.main([*words, "--parts", "seeds", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["seeds_updates_per_s"]["1"] > 0 and row["machine"]["cores"] > 0
