"""`dreamworld play`: what it accepts, what it says in one line, and how it ends."""

import importlib.util
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from dreamworld.__main__ import main
from dreamworld.play import opening, reality

ROOT = pathlib.Path(__file__).resolve().parents[2]


def refused(capsys, *words):
    """The line with which a command line is refused."""
    capsys.readouterr()
    assert main(["play", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            [],
            "error: play: what? Give the folder of a run or the name of an environment: dreamworld play DIR|TASK",
        ),
        (["a", "b"], "error: play a b: give one folder of a run, or one environment"),
        (["runs/none"], "error: runs/none: there is no such folder; give the folder of a run"),
        (
            ["jax_balls", "--task", "jax_catch"],
            "play jax_balls: --task jax_catch names an environment, too",
        ),
        (["jax_balls", "--port", "70000"], "--port: got 70000, expects at most 65535"),
        (["jax_balls", "--sessions", "0"], "--sessions: got 0, expects between 1 and 64"),
        (
            ["jax_balls", "--run.steps", "5"],
            "error: play: --run.steps is an option of training and has no effect here",
        ),
        (["jax_ballz"], "unknown JAX environment 'jax_ballz'"),
        (["jax_balls", "--env.options", "n=0"], "jax_balls"),
    ],
)
def test_bad_input_is_one_line(capsys, words, line):
    assert line in refused(capsys, *words, *(["--port", "0"] if "--port" not in words else []))


def test_a_busy_port_names_the_next_free_one(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(capsys, "jax_catch", "--port", str(port))
    said = f"error: --host 127.0.0.1 --port {port}: can't be served there (Address already in use); "
    found = re.fullmatch(re.escape(said) + r"(\d+) is free: --port \1", line)
    assert found and port < int(found[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", int(found[1])))


def test_a_missing_extra_is_one_line(capsys, monkeypatch):
    find = importlib.util.find_spec
    without = lambda name, *more: None if name == "uvicorn" else find(name, *more)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    line = refused(capsys, "jax_catch")
    assert line == "error: play needs uvicorn, which is not installed: pip install 'dreamworld[play]'"


def test_reading_the_command_line_loads_no_web_packages_and_no_jax():
    code = "import sys; from dreamworld.scripts.play import read; read(['jax_catch'])\n"
    code += "print({'starlette', 'uvicorn', 'websockets', 'jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_an_agent_without_simulator_has_no_dream(tmp_path, capsys, monkeypatch):
    options = ["--configs", "debug", "--task", "jax_catch", "--run.steps", "8", "--run.train_ratio", "0"]
    options += ["--run.report_every", "0", "--eval.every", "0", "--logger.tensorboard", "False"]
    assert main(["train", *options, "--logdir", str(tmp_path / "run")]) == 0
    build = opening.stored.fitting_agent
    monkeypatch.setattr(opening.stored, "fitting_agent", lambda *args: build(*args)._replace(simulator=None))
    line = refused(capsys, str(tmp_path / "run"), "--port", "0")
    assert "the agent dreamerv3 has no simulator" in line and "dreamworld play jax_catch" in line
    monkeypatch.undo()
    line = refused(capsys, str(tmp_path / "run"), "--port", "0", "--checkpoint", "7")
    assert "7" in line
    line = refused(capsys, str(tmp_path / "run"), "--port", "0", "--task", "jax_balls")
    assert "does not fit" in line


@pytest.mark.parametrize(
    ("number", "code", "times"), [(signal.SIGINT, 130, 1), (signal.SIGINT, 130, 2), (signal.SIGHUP, 129, 1)]
)
def test_a_signal_frees_the_port_and_ends_the_command(number, code, times):
    """The exception of a second Ctrl-C could come where Python loses it, and was printed as ignored."""
    words = [sys.executable, "-m", "dreamworld", "play", "jax_catch", "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process: Any = subprocess.Popen(
        words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert line.startswith("jax_catch: ") and found, line + process.stderr.read()
        with urllib.request.urlopen(found[0], timeout=20) as page:
            assert page.status == 200
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.05 if times > 1 else 0)
        assert process.wait(20) == code
    finally:
        process.kill()
    with socket.socket() as again:
        again.bind(("127.0.0.1", int(found[1])))
    assert "Traceback" not in process.stderr.read()


def test_another_host_needs_a_token_which_is_printed():
    words = [sys.executable, "-m", "dreamworld", "play", "jax_catch", "--port", "0", "--host", "0.0.0.0"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process: Any = subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        found = re.search(r":(\d+)/\?token=(\S{20,})", process.stdout.readline())
        assert found
        port, token = found.groups()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/?token={token}", timeout=20) as page:
            assert page.status == 200
    finally:
        process.terminate()
        process.wait(20)


def test_sessions_of_a_jax_environment_share_what_is_compiled():
    from dreamworld import presets
    from dreamworld.config import Config
    from dreamworld.sessions import pieces

    config = presets.replace(Config(), {"task": "jax_catch"})
    env: Any = pieces.make_eval_env(config, None, episodes=1)
    other: Any = reality.another(env, lambda: pytest.fail("made anew"))
    first, second = env.reset(1), other.reset(2)
    zero = {key: space.zeros(1) for key, space in env.act_space.items()}
    env.step(zero)
    assert other._step is env._step and not (first.obs["vector"] == second.obs["vector"]).all()
    again = env.reset(2)
    assert (again.obs["vector"] == second.obs["vector"]).all()
