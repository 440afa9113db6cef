"""The first updates of a tiny agent are those of the record; `make golden` writes it anew, deliberately."""

import json

import golden
import numpy as np
import pytest

# Versions of JAX differ by 2e-6; other processors and compile options by little more.
RTOL, ATOL = 5e-4, 1e-6


def compare(found, expected, rtol, atol):
    wrong = [
        f"{name}: {found[name]:.7g}, the record has {value:.7g}"
        for name, value in expected.items()
        if not np.isclose(found[name], value, rtol=rtol, atol=atol)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def rows(mixed):
    return golden.record(mixed.recorded, mixed.update)


@pytest.mark.parametrize("update", range(golden.UPDATES))
@pytest.mark.parametrize(
    "group",
    ["metrics", "gradient", "clipped", "nu", "mu", "params", "params_moved", "slow", "stats", "latents"],
)
def test_updates_equal_the_record(rows, update, group):
    expected, found = json.loads(golden.PATH.read_text("utf-8"))[update][group], rows[update][group]
    assert found.keys() == expected.keys()
    # Squares of gradients are small: there, only the relative error counts.
    compare(found, expected, RTOL, 1e-14 if group == "nu" else ATOL)


@pytest.mark.parametrize("update", range(golden.UPDATES))
def test_the_slow_critic_moves_as_the_record_says(rows, update):
    """Its steps are the last digits of its parameters, hence the tolerance."""
    expected = json.loads(golden.PATH.read_text("utf-8"))[update]["slow_moved"]
    compare(rows[update]["slow_moved"], expected, 1e-2, 0)


def test_the_record_says_something_about_every_tensor(rows):
    for row in json.loads(golden.PATH.read_text("utf-8")):
        assert row["gradient"].keys() == row["params"].keys()
        assert min(row["gradient"].values()) > 0
        assert any(row["clipped"][name] < 0.99 * value for name, value in row["gradient"].items())


def test_the_script_writes_the_record(mixed, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "PATH", tmp_path / "record.json")
    monkeypatch.setattr(golden.jax, "jit", lambda update, **options: mixed.update)  # compiled already
    assert golden.main() == 0
    written = json.loads((tmp_path / "record.json").read_text())
    assert written == golden.rounded(rows)
