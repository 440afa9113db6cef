"""The plain forms beside those that replace them: processes of their own, in pairs, by turns."""

import json

import pytest

from dreamworld.benchmarks import plain
from dreamworld.errors import UserError

DEBUG = ["--configs", "debug", "--obs", "vector:4", "--act", "discrete:2", "--updates", "2", "--json"]


def measured(ours_s, plain_s):
    row = {"cpu_s": 1.0, "gflop": 1, "peak_rss_bytes": 1, "kernels": 7, "compile_s": 1, "xla_flags": ""}
    row |= dict.fromkeys(("params", "batch", "agent", "dtype", "device", "matmul_peak_gflops"), 1)
    return {"ours": row | {"update_s": ours_s}, "plain": row | {"update_s": plain_s, "cpu_s": 3.0}}


def test_the_ratio_is_that_within_a_pair():
    # The machine became four times slower in the second pair, after which ours was measured in a good moment.
    row = plain.summarise([measured(1, 2), measured(4, 8), measured(1, 3)])
    assert [pair["ratio"] for pair in row["pairs"].values()] == [2, 2, 3]
    assert (row["ratio"], row["cpu_ratio"]) == (2, 3)
    assert (row["ours"]["update_s"], row["plain"]["update_s"]) == (1, 3)


def test_one_pair_of_real_processes(capfd):
    assert plain.main([*DEBUG, "--pairs", "1"]) == 0
    row = json.loads(capfd.readouterr().out)
    assert row["pairs"].keys() == {"0"} and row["ratio"] == row["pairs"]["0"]["ratio"] > 0
    assert row["ours"]["update_s"] > 0 and row["plain"]["peak_rss_bytes"] > 1e8
    # The plain scan encodes row by row, which is many more kernels: the forms were in place.
    assert row["plain"]["kernels"] > 1.2 * row["ours"]["kernels"]
    assert row["machine"]["cores"] > 0


@pytest.mark.parametrize(
    ("option", "value"), [("--obs", "text:3"), ("--act", "box:2"), ("--worker", "theirs")]
)
def test_a_wrong_option_is_refused_before_anything_starts(option, value, capfd):
    with pytest.raises(UserError, match=value):
        plain.main([*DEBUG, option, value])
    assert capfd.readouterr().out == ""


def test_a_measurement_that_fails_is_one_line():
    with pytest.raises(UserError, match="ended with status 2"):
        plain.start_worker(["--no_such_option", "1"])
