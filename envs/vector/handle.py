"""A worker process from its parent's side: starting it, asking it, finding out how it died."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Pipe
from typing import Any

from dreamworld import system
from dreamworld.envs.vector.common import EnvFailure, EnvMisfit
from dreamworld.envs.vector.worker import Done, Failed, Ready, Setup

BOOT = """
import signal
signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
for number in signals:  # Ctrl-C, a scheduler, a closed terminal: they reach the whole group, and the parent decides
    signal.signal(number, lambda *_: None)  # what is ignored would stay so in programs that environments start
signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
import json, sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
try:
    sys.path[:] = json.loads(connection.recv_bytes())
except (EOFError, ConnectionError):  # the parent is gone
    sys.exit(1)
from dreamworld.envs.vector.worker import main
main(connection, int(sys.argv[2]), int(sys.argv[3]))
"""


class WorkerDied(Exception):
    """A worker is gone, hangs, or can't build its environments."""

    def __init__(self, what: str, trace: str = "", user: bool = False):
        super().__init__(what)
        self.what, self.trace, self.user = what, trace, user


class Worker:
    """One worker process, from the parent's side."""

    def __init__(self, number: int, setup: Setup, memory: int):
        self.name = f"environment worker {number}"
        self.first, self.num = setup.first, setup.num
        self.part = slice(setup.first, setup.first + setup.num)
        self.deaths = 0
        self.ready = False
        self._setup, self._memory = pickle.dumps(setup), memory
        self._start()

    def _start(self) -> None:
        self.ready = False
        self._connection, theirs = Pipe()
        # Where faulthandler writes; read when the worker is gone.
        self._trace = tempfile.TemporaryFile()  # noqa: SIM115
        descriptors = (theirs.fileno(), self._memory, self._trace.fileno())
        # One thread each: the workers already share out the cores. JAX_PLATFORMS, as an environment may use
        # JAX itself, and must not take the accelerator's memory.
        threads = {key: os.environ.get(key, "1") for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        # Python that is just starting would end by them, or answer Ctrl-C by a traceback.
        with system.held(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.process = subprocess.Popen(
                [sys.executable, "-c", BOOT, *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what environments print must not mix with a command's own output
                pass_fds=descriptors,
                env={**os.environ, **threads, "JAX_PLATFORMS": "cpu"},
            )
        theirs.close()
        self._poll = select.poll()
        self._poll.register(self._connection.fileno(), select.POLLIN)
        with contextlib.suppress(OSError):  # a worker that died already shows when its answer is awaited
            self._connection.send_bytes(json.dumps(sys.path).encode())
            self._connection.send_bytes(self._setup)

    def restart(self) -> None:
        """Starts another process after `kill`, without waiting for it."""
        self.deaths += 1
        self._start()

    def spaces(self, timeout_s: float) -> Ready:
        """Waits until the environments are built; WorkerDied if they can't be."""
        answer = self._receive(time.monotonic() + timeout_s, timeout_s)
        if isinstance(answer, Failed):
            raise WorkerDied(answer.what, answer.trace, answer.user)
        return answer

    def ask(self, verb: str, argument: object = None) -> None:
        """Sends a request; whether it arrived shows in the answer."""
        with contextlib.suppress(OSError):
            self._connection.send((verb, argument))

    def tell(self, message: object) -> None:
        """Sends what is not answered."""
        with contextlib.suppress(OSError):
            self._connection.send(message)

    def answer(self, deadline: float, timeout_s: float) -> Done:
        """Waits for the answer to the last request; WorkerDied if there is none, EnvFailure if it gave up."""
        answer = self._receive(deadline, timeout_s)
        if isinstance(answer, Failed):
            kind = EnvMisfit if answer.user else EnvFailure
            raise kind("\n\n".join(part for part in (answer.what, answer.trace) if part))
        return answer

    def _receive(self, deadline: float, timeout_s: float) -> Any:
        if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            with contextlib.suppress(OSError):
                self.process.send_signal(signal.SIGUSR1)  # writes the stacks of its threads to the trace file
            time.sleep(0.2)
            raise WorkerDied(
                f"process {self.process.pid} did not answer within {timeout_s:g} s", self._read_trace()
            )
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise WorkerDied(f"process {self.process.pid} {self._exit()}", self._read_trace()) from None

    def _exit(self) -> str:
        try:
            code = self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"

    def _read_trace(self) -> str:
        self._trace.seek(0)
        return self._trace.read().decode(errors="replace")

    def kill(self) -> None:
        """Ends the process now and releases its connection."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        self._connection.close()
        self._trace.close()


def shut_down(workers: list[Worker], memory: int, owner: int, grace_s: float = 3.0) -> None:
    """Asks workers to close their environments and kills those that don't in time."""
    if os.getpid() != owner:
        return  # a forked copy of the parent: the workers aren't its own
    for worker in workers:
        worker.ask("close")
    deadline = time.monotonic() + grace_s
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        worker.kill()
    workers.clear()
    os.close(memory)
