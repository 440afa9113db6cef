"""Windows and macOS: their branches run here, in a process from which the parts of Linux were taken away.

That is no run on these systems: paths, the console, and what other packages do there are not tried.
"""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import fcntl as _fcntl, importlib, sys, types
# Other packages know their own ways: they are loaded as what they are on this system.
import asyncio, ctypes, multiprocessing.connection, multiprocessing.util, subprocess, tempfile, webbrowser
import urllib.request
import chex, etils.epath, flax, gymnasium, imageio, jax, lz4.frame, matplotlib.pyplot, numpy, optax, orbax.checkpoint
import psutil, rich.console, rich.live, rich.table, tensorboardX, tyro, yaml
import starlette.applications, uvicorn, websockets
jax.jit(lambda x: x + 1)(1).block_until_ready()
import os, select, shutil, signal, time
import dreamworld

def take(module, *names):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

system, logdir = sys.argv[1:]
gone = ["sched_getaffinity", "sched_setaffinity", "memfd_create", "waitid"]
if system == "win32":
    gone += "fork forkpty geteuid getuid setpgid getpgid killpg mkfifo O_NONBLOCK O_CLOEXEC".split()
    gone += "set_blocking setpriority sysconf confstr".split()
    take(signal, "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGPIPE", "pthread_sigmask", "sigwait")
    take(select, "poll", "epoll")
    for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty"):
        sys.modules[name] = None
    def locking(file, mode, size):
        # As of Windows: refused by PermissionError, and gone with the file that is closed.
        try:
            _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError from None
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    wake, unblock = signal.set_wakeup_fd, os.set_blocking
    # Windows does not mind a pipe that blocks.
    signal.set_wakeup_fd = lambda fd, **options: (fd < 0 or unblock(fd, False), wake(fd, **options))[1]
    shutil._use_fd_functions = False  # as there
    opened = os.open
    def open_file(path, flags, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)  # Windows opens no folders
        return opened(path, flags, *rest, **options)
    os.open = open_file
    synced = os.fsync
    def fsync(descriptor):
        if not _fcntl.fcntl(descriptor, _fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR):
            raise OSError(9, "Bad file descriptor")  # Windows syncs what may be written to
        synced(descriptor)
    os.fsync = fsync
take(os, *gone)
sys.platform = system

for name in MODULES:
    importlib.import_module(f"dreamworld.{name}".rstrip("."))
from dreamworld import cli, early
from dreamworld.errors import UserError
from dreamworld.scripts import train

words = ["--configs", "debug", "--task", "gym_CartPole-v1", "--logdir", logdir, "--run.steps", "60"]
words += ["--run.report_every", "0", "--run.save_every", "20", "--run.log_every", "20", "--eval.every", "40"]
words += ["--eval.video", "False", "--replay.min_starts", "8", "--run.train_ratio", "8"]
assert early.run("train", lambda: cli.run(train.main, words)) == 0
words[words.index("--run.steps") + 1] = "80"
assert cli.run(train.main, words) == 0
from dreamworld.logging.rundir import RunDir
from dreamworld.training import snapshot
rundir = RunDir(logdir)
assert snapshot.verify(snapshot.epath.Path(rundir.checkpoints / "80"))["step"] == 80
if system == "win32":
    again = [*words[:-2], "--run.steps", "90"]
    assert cli.run(train.main, [*again, "--supervise"]) == 2
    assert cli.run(train.main, [*again, "--env.engine", "process"]) == 2
    from dreamworld.scripts import sweep
    assert cli.run(sweep.main, ["--tasks", "jax_catch", "--configs", "debug", "--logdir", logdir + "s"]) == 2
from dreamworld.envs import render
assert render.backends() == {} and render.choose_backend(pixels=True) in ("cgl", "wgl", "glfw")
assert "MUJOCO_GL" not in os.environ
from dreamworld import system as here
assert here.cores() and here.is_alive(os.getpid()) and not here.is_alive(2**30)
print("done")
"""


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_every_module_is_imported_and_a_training_runs_and_goes_on(system, tmp_path, repo):
    files = [path.relative_to(repo) for path in (repo / "dreamworld").rglob("*.py")]
    files += [
        path.relative_to(repo) for top in ("agents", "envs", "scripts") for path in (repo / top).rglob("*.py")
    ]
    parts = {path.with_suffix("").parts for path in files}
    names = sorted({".".join(part).removeprefix("dreamworld.").removesuffix(".__init__") for part in parts})
    code = PROGRAM.replace("MODULES", repr(names))
    env = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "DISPLAY")}
    env |= {"PYTHONPATH": str(repo), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code, system, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
    )
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stdout[-500:] + done.stderr[-3000:]
    if system == "win32":
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert [line.split(" is not supported on this system (Windows)")[0] for line in lines] == [
            "error: --supervise",
            "error: env.engine process",
            "error: sweep",
        ]
