"""A signal in the first seconds of a command: one line, the documented exit code, no traceback."""

import signal
import subprocess
import sys
import time

import pytest

from dreamworld.exits import Exit

TRAIN = "-m dreamworld train --configs debug --logdir {} --run.progress False"
COMMANDS = {
    "train": (TRAIN, Exit.PREEMPTED, Exit.PREEMPTED),
    "workers": (TRAIN + " --env.engine process", Exit.PREEMPTED, Exit.PREEMPTED),
    "supervise": (TRAIN + " --supervise", Exit.PREEMPTED, Exit.PREEMPTED),
    "sweep": ("-m dreamworld sweep --tasks jax_catch --configs debug --logdir {}", 75, 75),
    "doctor": ("-m dreamworld doctor", 130, 143),
    "demo": ("scripts/demo.py --logdir {}", 130, 143),
}
# Interpreter and imports, parsing and building; what a busy machine makes of the times is all right, too.
DELAYS = {"train": (0.0, 0.3, 2.0), "workers": (1.5,), "supervise": (0.3, 1.0), "sweep": (0.4,)}


def start(repo, words):
    """The process, once its interpreter runs our first line: before that no program can answer."""
    code = "import sys, runpy; from dreamworld import early; "
    code += "install = early.Early.install; "
    code += "early.Early.install = lambda self: (install(self), print('ready', flush=True)); "
    if words[0] == "-m":
        code += f"sys.argv = {['dreamworld', *words[2:]]!r}; "
        code += f"sys.orig_argv = [sys.executable, *{words!r}]; "
        code += "from dreamworld.__main__ import main; sys.exit(main())"
    else:
        code += f"sys.argv = {words!r}; runpy.run_path({words[0]!r}, run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=repo
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_interpreter_tidies_up_does_not_change_the_exit_status(repo, number):
    code = f"""
import os, sys
from dreamworld import early

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid()):
        kill(pid, {int(number)})

late = Late()
sys.exit(early.run("debug", lambda: 2))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "")


CASES = [
    (name, number, delay)
    for name in COMMANDS
    for delay in DELAYS.get(name, (0.1,))
    for number in (signal.SIGINT, signal.SIGTERM)
]


@pytest.mark.parametrize(("name", "number", "delay"), CASES)
def test_a_command_that_is_starting_ends_with_its_code(repo, tmp_path, name, number, delay):
    words, interrupted, terminated = COMMANDS[name]
    process = start(repo, words.format(tmp_path / "run").split())
    time.sleep(delay)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)  # the pipe is closed: no worker is left that holds it
    assert process.returncode == (interrupted if number == signal.SIGINT else terminated), err
    assert "Traceback" not in err and "Error" not in err and "stopped by SIG" in err


PROGRAM = """
import ctypes, sys, time
from dreamworld import early
def main():
    {body}
sys.exit(early.run({command!r}, main))
"""
BODIES = {
    "sleeping": "time.sleep(30)",
    "inside a call": "[ctypes.CDLL(None).poll(None, 0, 30000) for _ in range(3)]",
    "code that swallows it": """
    for _ in range(30):
        try: time.sleep(1)
        except BaseException: pass""",
    "a callback": """
    class A:
        def __del__(self): time.sleep(30)
    A()
    time.sleep(30)""",
    "code that makes an error of it": """
    try: time.sleep(30)
    except BaseException: 1 / 0""",
    "a stream that nobody reads": "sys.stderr.write('x' * 1000); time.sleep(30)",
}


def run(body, command, *numbers):
    body = body if "ready" in body else f"print('ready', flush=True)\n    {body}"
    code = PROGRAM.format(body=body, command=command)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    _, err = process.communicate(timeout=20)
    return process.returncode, err


@pytest.mark.parametrize("body", BODIES)
def test_nothing_keeps_it_from_ending(body):
    code, err = run(BODIES[body], "train", signal.SIGTERM)
    assert code == 75 and err.endswith("stopped by SIGTERM; the same command goes on\n")
    assert "Traceback" not in err and err.count("stopped") == 1


@pytest.mark.parametrize(("command", "status"), [("train", 75), ("doctor", 129)])
def test_a_closed_terminal_is_a_stop_like_any_other(command, status):
    code, err = run(BODIES["sleeping"], command, signal.SIGHUP)
    assert code == status and err.startswith("stopped by SIGHUP") and err.count("\n") == 1


def test_a_second_ctrl_c_of_a_training_is_not_lost_where_exceptions_are():
    """JAX has a callback for whenever Python collects garbage: the interrupt was printed as ignored, and no end."""
    body = """
    from dreamworld.training.stops import Stop
    class A:
        def __del__(self):
            print("ready", flush=True)
            while True: time.sleep(0.1)
    with Stop(20, unwind=False): A()"""
    code, err = run(body, "train", signal.SIGINT, signal.SIGINT)
    assert (code, err) == (130, "interrupted\n")


def test_what_came_after_the_command_keeps_its_status():
    code = "import os, signal, sys; from dreamworld import early; status = early.run('train', lambda: 3); "
    code += "os.kill(os.getpid(), signal.SIGTERM); sys.exit(status)"
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 3


def test_a_handler_that_is_installed_later_takes_over():
    body = "signal.signal(15, lambda *_: sys.exit(9)); print('now', flush=True); time.sleep(30)"
    code = PROGRAM.format(body=f"import signal; {body}", command="train")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline() != "now\n":
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 9


def test_a_signal_that_is_ignored_stays_so():
    code = "import os, signal, sys; signal.signal(2, signal.SIG_IGN); from dreamworld import early; "
    code += "sys.exit(early.run('train', lambda: os.kill(os.getpid(), 2) or 4))"
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 4


def test_codes_are_documented(repo):
    text = (repo / "docs" / "reliability.md").read_text()
    assert "| 143 |" in text and "first seconds" in text
