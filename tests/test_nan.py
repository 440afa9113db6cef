"""A training that blows up, from the command line: stopped, skipped over, explained by `dreamworld debug`."""

import json
import re
import subprocess
import sys

import pytest

from dreamworld.logging.rundir import RunDir
from dreamworld.training import snapshot

WORDS = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--run.report_every", "0"]
WORDS += ["--run.log_every", "20", "--run.steps", "100", "--logger.tensorboard", "False"]
WORDS += ["--agent.optim.lr", "1e37"]  # the first step leaves parameters whose squares overflow
# No rate that the option takes blows a training up within a minute, so its range is widened first.
PROGRAM = """
from typing import Annotated
from dreamworld import __main__, limits, options
options.OptimConfig.__annotations__["lr"] = Annotated[float, limits.Range(0, 1e38)]
raise SystemExit(__main__.main())
"""


def dreamworld(*words):
    command = [sys.executable, "-c", PROGRAM, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that the guard stopped: (its folder, how its process ended)."""
    logdir = tmp_path_factory.mktemp("nan") / "run"
    return RunDir(logdir), dreamworld("train", *WORDS, "--logdir", str(logdir))


def test_the_guard_stops_with_a_checkpoint_and_names_loss_tensor_and_rows(stopped):
    rundir, ended = stopped
    assert ended.returncode == 76, ended.stderr
    # Norms overflow far from the decoder, too: of the 39 tensors five are named.
    named = r"(\w+/[\w/]+(, | and )){5}\d+ more"
    assert re.search(
        rf"update \d+ was not applied.*losses: obs/vector, total; gradients: {named}", ended.stderr
    )
    assert re.search(r"replay rows \d+\.\.\d+, ", ended.stderr) and "its batch is finite" in ended.stderr
    (step,) = snapshot.snapshot_steps(rundir.checkpoints)
    assert f"the last finite state is saved at step {step:,}" in ended.stderr
    assert rundir.read_status()["state"] == "failed" and "losses" in rundir.read_status()["error"]


def test_debug_shows_where_it_began(stopped):
    rundir, _ = stopped
    shown = dreamworld("debug", str(rundir))
    assert shown.returncode == 0, shown.stderr
    assert "exactly those of the failure" in shown.stdout
    assert re.search(r"parameters are finite; the largest value is [\d.]+e\+3[67], in ", shown.stdout)
    assert "losses that are not finite: loss/obs/vector, loss/total" in shown.stdout
    # The first cause is the line of the loss that squares the error of the reconstruction.
    assert re.search(
        r"1\. \S*dists\.py:\d+ in loss `.*square\(error\).*`: square makes .* inf of", shown.stdout
    )


def test_skipping_ends_beyond_its_limit_or_goes_on_to_the_end(stopped):
    rundir, _ = stopped
    words = [*WORDS, "--logdir", str(rundir), "--run.nan_policy", "skip", "--run.nan_limit"]
    limited = dreamworld("train", *words, "3")
    assert limited.returncode == 76 and "4 skipped so far, 4 in a row" in limited.stderr, limited.stderr
    patient = dreamworld("train", *words, "1000000")
    assert patient.returncode == 0 and "training goes on" in patient.stderr, patient.stderr
    last = json.loads(rundir.metrics.read_text().splitlines()[-1])
    assert last["step"] == 100 and last["guard/skipped"] > 3
