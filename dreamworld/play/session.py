"""One browser's session: commands go in, events come out. It knows no web and no threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from dreamworld.errors import UserError
from dreamworld.play import readouts, saving
from dreamworld.play.game import Game
from dreamworld.play.protocol import MAX_SPEED, BadMessage, Command
from dreamworld.play.readouts import Step, notice
from dreamworld.play.reality import LostPast, Reality
from dreamworld.play.recording import Film, Shelf
from dreamworld.play.segments import which
from dreamworld.play.timeline import Moment
from dreamworld.play.world import World

Event = dict[str, Any] | Step
SPEED = 20.0  # steps per second at the beginning


class Session:
    """A game in a world. Call `handle` with commands and, while `playing`, `tick` at each step's time.

    Files that it makes are on `shelf`, and reached by what `url` makes of their names.
    """

    def __init__(
        self,
        world: World,
        seed: int,
        env: Reality | None,
        shelf: Shelf | None = None,
        url: Callable[[str], str] = str,
    ):
        self.world, self.game = world, Game(world, seed, env)
        self.playing, self.speed = False, SPEED
        self.player = world.players[0]
        self._seed, self._episodes, self._env = seed, 0, env
        self._shelf, self._url = shelf or Shelf(), url
        self._film: Film | None = None
        self._left: deque[dict[str, Any]] = deque()  # lines of a recording that is played
        self._held: dict[str, float] = {}  # controls
        self._mark = 0  # of the newest action message
        self._number, self._rate = 0, readouts.Rate()  # of step events

    def handle(self, command: Command) -> Iterator[Event]:
        """The events of a command; BadMessage for what no page of ours would ask for."""
        if command.do != "hello" and self.game.episode < 0:
            raise BadMessage(f"{command.do} before hello")
        do: Callable[[Command], Iterator[Event]] = getattr(self, f"_do_{command.do}")
        return do(command)

    def tick(self) -> Iterator[Event]:
        """The next step of a game that is played."""
        if self.playing:
            yield from self._step()

    def close(self) -> None:
        """Releases the environment and the files."""
        self._shelf.close()
        if self._env:
            self._env.close()

    def _do_hello(self, command: Command) -> Iterator[Event]:
        yield self.world.ready()
        yield from self._begin()

    def _do_action(self, command: Command) -> Iterator[Event]:
        try:
            self._held, self._mark = self.world.controls.read(command.value), command.id
        except ValueError as error:
            raise BadMessage(str(error)) from None
        yield from ()

    def _do_play(self, command: Command) -> Iterator[Event]:
        self.playing = command.do == "play"
        yield self.state()

    _do_pause = _do_play

    def _do_step(self, command: Command) -> Iterator[Event]:
        if self.playing:
            self.playing = False
            yield self.state()
        yield from self._step()

    def _do_speed(self, command: Command) -> Iterator[Event]:
        self.speed = min(MAX_SPEED, command.value)
        yield self.state()

    def _do_temperature(self, command: Command) -> Iterator[Event]:
        self.game.temperature = command.value
        yield self.state()

    def _do_player(self, command: Command) -> Iterator[Event]:
        if command.value not in self._players():
            raise BadMessage(f"there is no player {command.value!r} here")
        self.player = command.value
        if self.player != "recording":
            self._left.clear()
        yield self.state()

    def _do_reset(self, command: Command) -> Iterator[Event]:
        self.playing = False
        yield from self._begin(-1 if command.value is None else command.value)

    def _do_segments(self, command: Command) -> Iterator[Event]:
        items = [one.plain(i, self.world.draw) for i, one in enumerate(self.world.segments())]
        yield {"on": "segments", "items": items}
        if not items:
            yield notice(which(self.world.segments()), "info")

    def _do_rewind(self, command: Command) -> Iterator[Event]:
        if self.game.rewind:
            yield notice(f"there is no way back: {self.game.rewind}", "warning")
        elif not self.game.go(command.value):
            yield notice(f"step {command.value} is not kept any more", "warning")
        else:
            yield from self._moved()

    def _do_branch(self, command: Command) -> Iterator[Event]:
        if self.game.rewind or not self.game.switch(command.value):
            yield notice(f"branch {command.value} is not kept any more", "warning")
        else:
            yield from self._moved()

    def _do_anchor(self, command: Command) -> Iterator[Event]:
        if not self.game.anchor():
            yield notice("nothing is known of reality here, so the dream can't look at it", "warning")
            return
        yield from self._moved(self.playing)

    def _do_edit(self, command: Command) -> Iterator[Event]:
        edit = next((edit for edit in self.world.edits if edit.name == command.name), None)
        if edit is None:
            raise BadMessage(f"there is no edit {command.name!r}")
        try:
            value = edit.read(command.value)
        except ValueError as error:
            raise BadMessage(str(error)) from None
        if edit.change is None and not 0 <= value < len(self.world.segments()):
            yield notice(f"there is no segment {value:g}: {which(self.world.segments())}", "warning")
            return
        self.game.edit(edit, value)
        yield from self._moved(self.playing)

    def _do_record(self, command: Command) -> Iterator[Event]:
        if command.value and self._film is None:
            self._film = Film(len(self.game.journal.lines))
            self._film.add(readouts.describe(self.world, self.game.now, self.game.spread))
            yield self.state()
        elif not command.value and self._film is not None:
            yield from self._keep()

    def _do_replay(self, command: Command) -> Iterator[Event]:
        items = self._shelf.items
        if command.value >= len(items):
            yield notice(f"there is no recording {command.value}", "warning")
            return
        chosen = items[command.value]
        if self._film is not None:
            yield from self._keep()
        self.game.begin(**chosen.start)
        for line in chosen.lines[: chosen.first]:
            self.game.redo(line)
        self._left = deque(chosen.lines[chosen.first :])
        self._episodes += 1
        self.player, self.playing = "recording", True
        yield self.state()
        yield self._show()

    def _do_save(self, command: Command) -> Iterator[Event]:
        if command.value != "dataset":
            raise BadMessage(f"{command.value!r} can't be saved")
        if self.world.save:
            yield notice(f"episodes can't be saved: {self.world.save}", "warning")
            return
        try:
            found = saving.save(self.game.timeline.path(), self.world)
        except UserError as error:
            yield notice(f"nothing was saved: {error}", "warning")
            return
        yield {"on": "saved", "what": "dataset", "text": found.text, "path": str(found.folder)}
        yield notice(f"{found.text}; dreamworld data info {found.folder}", "info")

    def _begin(self, segment: int = -1) -> Iterator[Event]:
        """A new episode."""
        if self.world.make_reality is None and segment < 0:
            segment = (self.game.segment + 1) % max(1, len(self.world.segments()))
        if segment >= 0 and segment >= len(self.world.segments()):
            yield notice(f"there is no segment {segment}: {which(self.world.segments())}", "warning")
            return
        if self._film is not None:
            yield from self._keep()
        self._left.clear()
        self.game.begin(self._seed, self._episodes, segment)
        self._episodes += 1
        if self.player not in self._players():
            self.player = self.world.players[0]
        yield self.state()
        yield self._show()

    def _step(self) -> Iterator[Event]:
        """One step of both lanes, or a new episode after the last one has ended."""
        now = self.game.now
        if now.row is not None and now.row.is_last and not self._left:
            yield from self._begin(self.game.segment)
            return
        began, branch = time.perf_counter(), self.game.timeline.branch
        try:
            moment = self._advance()
        except LostPast:
            yield notice("the environment did not repeat its episode; a new one begins", "error")
            yield from self._begin(self.game.segment)
            return
        except UserError as error:  # an agent that needs what the dream does not show
            yield from self._halt(str(error), "error")
            return
        if moment is None:
            yield from self._halt("the recorded actions end here", "info")
            return
        self._rate.count()
        if self.game.timeline.branch != branch:
            yield self.state()
        yield self._show(1000 * (time.perf_counter() - began))
        if moment.row is not None and moment.row.is_last:
            self.playing = False
            yield self.state()
        for kind, text in readouts.notices(self.world, moment):
            yield notice(text, kind)

    def _halt(self, text: str, kind: str) -> Iterator[Event]:
        self.playing = False
        self.player = self.player if self.player in self._players() else self.world.players[0]
        yield self.state()
        yield notice(text, kind)

    def _advance(self) -> Moment | None:
        """By the next step of a recording, or by the action of the player; None where recorded actions have ended."""
        while self._left:
            line = self._left.popleft()
            self.game.redo(line)
            if "action" in line:
                return self.game.now
        action, mind = self.game.choose(self.player, self._held)
        return None if action is None else self.game.step(action, self.player, mind)

    def _keep(self) -> Iterator[Event]:
        """Ends a recording and puts it on the shelf."""
        film, self._film = self._film, None
        assert film is not None
        problem = self._shelf.keep(film, self.game.journal, self.world.about, self.speed)
        yield self.state()
        if problem:
            yield notice(problem, "warning")

    def state(self) -> Event:
        """What commands change."""
        game = self.game
        return {
            "on": "state",
            "playing": self.playing,
            "speed": self.speed,
            "player": self.player,
            "players": self._players(),
            "temperature": game.temperature,
            "episode": self._episodes - 1,
            "segment": game.segment,
            "branch": game.timeline.branch,
            "t": game.timeline.t,
            "branches": game.timeline.describe(),
            "recording": self._film is not None,
            "recordings": [item.plain(self._url) for item in self._shelf.items],
        }

    def _moved(self, playing: bool = False) -> Iterator[Event]:
        """After the game is somewhere else."""
        self.playing = playing
        self._left.clear()
        yield self.state()
        yield self._show()

    def _show(self, step_ms: float = 0.0) -> Step:
        """The event of the current moment, with its pictures."""
        self._number += 1
        found = readouts.describe(self.world, self.game.now, self.game.spread)
        found.numbers.update(n=self._number, episode=self._episodes - 1, branch=self.game.timeline.branch)
        found.numbers.update(action_id=self._mark, pictures=len(found.pictures))
        found.numbers.update(step_ms=round(step_ms, 2), fps=round(self._rate.per_second, 1))
        if self._film is not None:
            self._film.add(found)
        return found

    def _players(self) -> list[str]:
        more = ["recording"] if self.game.recorded or self._left else []
        return [*self.world.players, *more]
