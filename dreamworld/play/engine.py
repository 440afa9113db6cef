"""The thread of a session: it makes the environment, answers commands, and steps at the speed that is asked for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.play.outbox import Full, Outbox
from dreamworld.play.protocol import BadMessage, Command
from dreamworld.play.recording import Shelf
from dreamworld.play.session import Session
from dreamworld.play.world import World

MOST_COMMANDS = 256  # that wait


class Engine:
    """Runs a session. `end` is called once, from its thread, with a reason and a close code, when it ends itself."""

    def __init__(
        self,
        world: World,
        seed: int,
        outbox: Outbox,
        end: Callable[[str, int], None],
        shelf: Shelf,
        url: Callable[[str], str] = str,
    ):
        self._world, self._seed, self._outbox, self._end = world, seed, outbox, end
        self._shelf, self._url = shelf, url
        self._commands: deque[Command] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="play", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def give(self, command: Command) -> None:
        """A command for the session; of controls only the newest state counts. BadMessage where too many wait."""
        with self._changed:
            if command.do == "action" and self._commands and self._commands[-1].do == "action":
                self._commands.pop()
            if len(self._commands) >= MOST_COMMANDS:
                raise BadMessage("more commands than can be carried out")
            self._commands.append(command)
            self._changed.notify()

    def stop(self, wait_s: float = 0.0) -> None:
        """Ends the thread after what it is doing now; waits for that at most so long."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if wait_s and self._thread.is_alive():
            self._thread.join(wait_s)

    def _run(self) -> None:
        session = None
        try:
            reality = self._world.make_reality() if self._world.make_reality else None
            session = Session(self._world, self._seed, reality, self._shelf, self._url)
            self._loop(session)
        except BadMessage as error:
            self._end(str(error), error.code)
        except (UserError, Full) as error:
            self._end(str(error), 1011)
        except BaseException as error:  # of somebody's environment, say: the other sessions go on
            self._end(f"the session failed: {words.exception(error)}", 1011)
        finally:
            if session:
                session.close()

    def _loop(self, session: Session) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                wait = max(0.0, due - time.monotonic()) if session.playing else None
                if not self._commands and not self._stopped and wait != 0.0:
                    self._changed.wait(wait)
                if self._stopped:
                    return
                command = self._commands.popleft() if self._commands else None
            if command is not None:
                was = session.playing
                for event in session.handle(command):
                    self._outbox.put(event)
                if session.playing and not was:
                    due = time.monotonic()
                continue
            if session.playing and time.monotonic() >= due:
                due = max(due + 1 / session.speed, time.monotonic() - 1 / session.speed)
                for event in session.tick():
                    self._outbox.put(event)
