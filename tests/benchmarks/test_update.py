"""The update benchmark and its parts; that they run, that their figures fit together, and bad input."""

import json

import jax
import pytest

from dreamworld import cli
from dreamworld.benchmarks import act, growth, update
from dreamworld.errors import UserError

DEBUG = ["--configs", "debug", "--obs", "vector:4", "--act", "discrete:2", "--json"]


def rows(main, words, capsys):
    assert main([*DEBUG, *words]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(row["machine"]["cores"] > 0 for row in found)
    return found


def test_the_profile_is_written_and_the_program_names_its_parts(tmp_path, capsys):
    (row,) = rows(update.main, ["--updates", "2", "--profile", str(tmp_path)], capsys)
    assert row["profile"] == str(tmp_path)
    assert (
        row["matmul_peak_gflops"] > 0
        and row["memory_gb_per_s"] > 0
        and row["kernels"] > row["operations"]["dot"]
    )
    assert [*tmp_path.rglob("*.xplane.pb")] and [*tmp_path.rglob("perfetto_trace.json.gz")]
    config, flags = cli.parse_with(DEBUG, update.Flags(), prog="")
    agent = update.make_synthetic_agent(config, flags)
    state = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
    batch = update.synthetic_batch(agent, config.run.batch_size, config.run.batch_length + 1)
    text = jax.jit(agent.phase.update).lower(state, (), batch).as_text(debug_info=True)
    for name in ("world_model", "behaviour", "dream", "optimizer"):
        assert f"/{name}/" in text or f"({name})/" in text, name


def test_compile_only_says_what_the_compiler_knows(capsys):
    (row,) = rows(update.main, ["--compile_only"], capsys)
    assert "update_s" not in row
    # Parameters, two moments and the slow critic in float32, at least.
    assert row["state_bytes"] > 3 * 4 * row["params"]
    assert row["temporary_bytes"] > 0


def test_longer_batches_cost_more_operations(capsys, monkeypatch):
    measured, measure = [], growth.measure
    monkeypatch.setattr(growth, "measure", lambda *given: measured.append(given) or measure(*given))
    words = ["--batch", "4", "--length", "8", "16", "--horizon", "4", "--compile_only"]
    found = rows(growth.main, words, capsys)
    assert [(row["axis"], row["value"]) for row in found] == [
        ("batch", 4), ("length", 8), ("length", 16), ("horizon", 4),
    ]  # fmt: skip
    assert [row["batch"][:2] for row in found] == [[4, 8], [4, 8], [4, 16], [4, 8]]
    assert found[0]["temporary_bytes"] < found[2]["temporary_bytes"]
    assert len(measured) == 2  # three of the four are the options as given


def test_a_profile_that_could_not_be_written_is_refused_before_anything_is_compiled(tmp_path):
    (tmp_path / "file").write_text("precious")
    for folder in ("file", "file/below"):
        with pytest.raises(UserError, match=r"file.* can't be written: "):
            update.main([*DEBUG, "--profile", str(tmp_path / folder)])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_growth_refuses_what_no_run_would_take():
    with pytest.raises(UserError, match="--batch: got 0"):
        growth.main([*DEBUG, "--batch", "0"])


def test_the_latency_of_every_number_of_environments(capsys):
    (row,) = rows(act.main, ["--envs", "1", "3", "--calls", "2"], capsys)
    assert set(row["latency"]) == {"1", "3"}
    assert all(0 < entry["ms"] < 1000 for entry in row["latency"].values())
