"""Several real processes over loopback: one update, checkpoints across process counts, a lost host."""

import importlib.util
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from dreamworld.config import ParallelConfig
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger
from dreamworld.training import hosts
from dreamworld.training.checkpoint import Checkpointer

PROGRAM = pathlib.Path(__file__).with_name("hosts_program.py")
specification = importlib.util.spec_from_file_location("hosts_program", PROGRAM)
assert specification and specification.loader
program = importlib.util.module_from_spec(specification)
specification.loader.exec_module(program)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(params=[2, pytest.param(4, marks=pytest.mark.soak)])
def updated(request, tmp_path):
    """Folder and learner: one update by a single process, and the same one by several."""
    count = request.param
    learner, batch = program.make_learner()
    with Checkpointer(tmp_path / "one") as checkpointer:
        checkpointer.save(0, learner.snapshot(), {}, {}, block=True)
    output = learner.update(learner.layout.put(batch))
    port = free_port()
    argv = [sys.executable, str(PROGRAM), str(tmp_path), str(port), str(count)]
    runs = [
        subprocess.Popen([*argv, str(index)], stderr=subprocess.PIPE, text=True) for index in range(count)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
    return count, tmp_path, learner, output


def test_several_processes_do_the_update_of_one_and_their_checkpoint_goes_back(updated):
    count, folder, learner, output = updated
    found = [np.load(folder / f"process_{index}.npz") for index in range(count)]
    for part in found:
        np.testing.assert_allclose(part["loss"], output.metrics["loss/total"], rtol=1e-5)
        assert part["agreed"].tolist() == [True, False, False, True]
        assert part["lagging"].tolist() == [False, True, False]  # the same answer everywhere, one call later
    deter = np.concatenate([part["deter"] for part in found])
    np.testing.assert_allclose(deter, output.writeback["latent/deter"], atol=1e-5)
    with Checkpointer(folder / "many") as checkpointer:
        restored = checkpointer.restore(1, learner.snapshot())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), restored.agent, learner.snapshot())
    told = [
        (folder / f"problem_{index}.txt").read_text() for index in range(count)
    ]  # where nothing can be saved
    assert "Not a directory" in told[0]
    assert all("checkpoint 1 was not saved" in text or "1 was not saved" in text for text in told)
    assert all("process 0 could not begin it" in text for text in told[1:])


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition, timeout_s=240):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)


def test_a_killed_host_ends_all_and_their_supervisors_go_on_from_the_snapshot(tmp_path):
    rundir = RunDir(tmp_path / "run")
    words = ["--configs", "debug", "--task", "jax_catch", "--env.engine", "jax", "--logdir", str(rundir)]
    words += ["--run.steps", "160", "--run.save_every", "40", "--run.report_every", "0", "--eval.every", "0"]
    words += [
        "--run.train_ratio",
        "8",
        "--run.log_every",
        "40",
        "--logger.tensorboard",
        "False",
        "--supervise",
    ]
    words += ["--parallel.coordinator", f"127.0.0.1:{free_port()}", "--parallel.processes", "2"]
    words += ["--parallel.heartbeat_s", "10", "--run.progress", "False"]
    argv = [sys.executable, "-m", "dreamworld", "train", *words, "--parallel.process_id"]
    supervisors = []
    for index in (0, 1):
        with (tmp_path / f"{index}.log").open("w") as log:
            supervisors.append(subprocess.Popen([*argv, str(index)], stderr=log))
    try:
        wait_for(lambda: list(rundir.checkpoints.glob("[0-9]*/snapshot.json")))
        victim = children(supervisors[1].pid)[0]
        os.kill(victim, signal.SIGKILL)
        codes = [host.wait(timeout=300) for host in supervisors]
    finally:
        for host in supervisors:
            host.terminate()
            host.wait(timeout=60)
    texts = [(tmp_path / f"{index}.log").read_text() for index in (0, 1)]
    assert codes == [0, 0], texts
    assert "killed by SIGKILL" in texts[1] and "supervise: " in texts[0]  # the other one ended, too
    assert "continued at step" in texts[0] and "continued at step" in texts[1]
    assert rundir.read_status()["state"] == "finished"
    rows = [json.loads(line) for line in rundir.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows] == [40, 80, 120, 160]  # process 0 alone wrote, each row once
    assert rows[-1]["replay/size_steps"] == 80  # each process has the rows of its own environments
    assert (rundir.path / "replay_1").is_dir()


WATCHED = """
import sys, dreamworld
watch = lambda row: print("episode ended at step", row["step"])
sys.exit(dreamworld.train(dreamworld.parse(sys.argv[1:]), on_episode=watch))
"""


def test_two_processes_go_through_every_stage_together(tmp_path):
    """Each sweeps over the rows of its own environments; both do as many updates as the one that has more of them."""
    rundir = RunDir(tmp_path / "run")
    words = ["--agent", "staged:SPEC", "--task", "jax_catch", "--env.num", "2", "--logdir", str(rundir)]
    words += [
        "--run.steps",
        "1000",
        "--run.log_every",
        "20",
        "--run.report_every",
        "0",
        "--run.save_every",
        "30",
    ]
    words += ["--replay.min_starts", "2", "--replay.chunk", "16", "--logger.tensorboard", "False"]
    words += ["--parallel.coordinator", f"127.0.0.1:{free_port()}", "--parallel.processes", "2"]
    argv = [sys.executable, "-c", WATCHED, *words, "--run.progress", "False"]
    path = os.pathsep.join([str(PROGRAM.parent), os.environ.get("PYTHONPATH", "")])
    runs = [
        subprocess.Popen(
            [*argv, "--parallel.process_id", str(index)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for index in (0, 1)
    ]
    for index, run in enumerate(runs):
        seen, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
        assert ("episode ended" in seen) == (index == 0), (
            "the first process alone calls functions of the user"
        )
    rows = [json.loads(line) for line in rundir.metrics.read_text().splitlines()]
    # 40 random steps make two streams of 10 rows in each process: three windows of 4 rows each, one in its half of a
    # batch. The steps of the third stage end with the iteration of four rows in which they are done.
    assert rows[-1]["step"] == 40 + 6 + 40 + 3
    assert sum(row.get("encode/encode_rows", 0) > 0 for row in rows) >= 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ParallelConfig(processes=2), "--parallel.processes 2 needs --parallel.coordinator"),
        (ParallelConfig(coordinator="somewhere", processes=2), "expects HOST:PORT"),
        (
            ParallelConfig(coordinator="h:1", processes=2, process_id=2),
            "--parallel.process_id 2: expects 0 to 1",
        ),
        (ParallelConfig(coordinator="auto"), "--parallel.coordinator auto"),
    ],
)
def test_processes_that_can_not_be_joined_are_one_line(config, message):
    with pytest.raises(UserError, match=message):
        hosts.connect(config)


def test_the_silent_logger_drops_what_loops_hand_to_any_logger():
    own = {name for name in vars(hosts.Silence) if not name.startswith("_")}
    assert own <= set(dir(Logger))
    folder = PROGRAM.parent.parent.parent / "dreamworld" / "training"
    text = "".join((folder / name).read_text() for name in ("record.py", "run.py", "loop.py"))
    guarded = {"told", "problems"}  # where `team.leads` is asked first
    assert set(re.findall(r"logger\.(\w+)", text)) - guarded <= own


def test_hosts_differ_in_seed_and_the_first_is_the_run_s_own():
    seeds = [hosts.Team(index, 4).seed(7) for index in range(4)]
    assert seeds[0] == 7 and len(set(seeds)) == 4
    assert hosts.Team(2, 4).seed(7) == seeds[2]


def test_a_batch_that_can_not_be_divided_over_processes_is_named():
    assert hosts.Team(0, 2).share(6) == 3
    with pytest.raises(UserError, match=r"--run.batch_size 6 can't be divided by 4 processes"):
        hosts.Team(0, 4).share(6)
