"""One browser's game: commands go in, events come out. It knows no web and no threads.

Both lanes take the same actions. Everything that is drawn at random follows from the seed, the episode and the time,
so that going back and doing the same again gives the same to the bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.play import readouts
from dreamworld.play.dreamer import Keys
from dreamworld.play.protocol import BadMessage, Command
from dreamworld.play.readouts import Step
from dreamworld.play.reality import Action, LostPast, Past, Reality, Recorded, Row
from dreamworld.play.segments import CONTEXT
from dreamworld.play.timeline import Moment, Timeline
from dreamworld.play.world import World
from dreamworld.player import PlayerState

Event = dict[str, Any] | Step
SPEED = 20.0  # steps per second at the beginning


class Session:
    """A game in a world. Call `handle` with commands and, while `playing`, `tick` at each step's time."""

    def __init__(self, world: World, seed: int, reality: Reality | None):
        self.world, self.seed = world, seed
        self.playing, self.speed, self.temperature = False, SPEED, 1.0
        self.player = world.players[0]
        self.timeline = Timeline()
        self._env = reality  # the environment; what happens may be a recorded segment instead
        self._reality: Reality | None = reality
        self._synced = True  # reality is where the timeline is
        self._held: dict[str, float] = {}  # controls
        self._mark = 0  # of the newest action message
        self.episode, self.segment = -1, -1
        self._keys: Keys | None = None
        self._spread = readouts.Spread()
        self._number = 0  # of the last step event
        self._times: deque[float] = deque(maxlen=30)

    def handle(self, command: Command) -> Iterator[Event]:
        """The events of a command; BadMessage for what no page of ours would ask for."""
        do: Callable[..., Iterator[Event]] | None = getattr(self, f"_do_{command.do}", None)
        if do is None:
            raise BadMessage(f"{command.do} is not to be had here")
        return do(command)

    def tick(self) -> Iterator[Event]:
        """The next step of a game that is played."""
        if self.playing:
            yield from self._step()

    def close(self) -> None:
        """Releases the environment."""
        if self._env:
            self._env.close()

    # --- commands ---------------------------------------------------------------------------------------------------

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
        self.playing = True
        yield self.state()

    def _do_pause(self, command: Command) -> Iterator[Event]:
        self.playing = False
        yield self.state()

    def _do_step(self, command: Command) -> Iterator[Event]:
        if self.playing:
            self.playing = False
            yield self.state()
        yield from self._step()

    def _do_speed(self, command: Command) -> Iterator[Event]:
        self.speed = command.value
        yield self.state()

    def _do_temperature(self, command: Command) -> Iterator[Event]:
        self.temperature = command.value
        yield self.state()

    def _do_player(self, command: Command) -> Iterator[Event]:
        if command.value not in self._players():
            raise BadMessage(f"there is no player {command.value!r} here")
        self.player = command.value
        yield self.state()

    def _do_reset(self, command: Command) -> Iterator[Event]:
        self.playing = False
        yield from self._begin(-1 if command.value is None else command.value)

    def _do_rewind(self, command: Command) -> Iterator[Event]:
        if self.world.rewind:
            yield notice(f"there is no way back: {self.world.rewind}", "warning")
            return
        if self.timeline.at(command.value) is None:
            yield notice(f"step {command.value} is not kept any more", "warning")
            return
        self.playing = False
        self.timeline.go(command.value)
        self._synced = False
        yield self.state()
        yield self._show()

    def _do_branch(self, command: Command) -> Iterator[Event]:
        if self.world.rewind or not self.timeline.switch(command.value):
            yield notice(f"branch {command.value} is not kept any more", "warning")
            return
        self.playing, self._synced = False, False
        yield self.state()
        yield self._show()

    def _do_anchor(self, command: Command) -> Iterator[Event]:
        if not self._anchor():
            yield notice("nothing is known of reality here, so the dream can't look at it", "warning")
            return
        yield self.state()
        yield self._show()

    def _do_edit(self, command: Command) -> Iterator[Event]:
        edit = next((edit for edit in self.world.edits if edit.name == command.name), None)
        if edit is None:
            raise BadMessage(f"there is no edit {command.name!r}")
        now, dreamer = self.timeline.now(), self.world.dreamer
        assert dreamer is not None and now.shown is not None and self._keys is not None
        wanted = edit.change(now.shown.obs, min(edit.high, max(edit.low, command.value)))
        dream = dreamer.edit(now.dream, wanted, self._keys.imagine)
        self.timeline.replace(now._replace(dream=dream, shown=dreamer.show(dream)))
        yield self.state()
        yield self._show()

    # --- playing ----------------------------------------------------------------------------------------------------

    def _begin(self, segment: int = -1) -> Iterator[Event]:
        """A new episode, of the environment or of a segment."""
        if self.world.make_reality is None and segment < 0:
            segment = (self.segment + 1) % max(1, len(self.world.segments()))
        if segment >= 0 and segment >= len(self.world.segments()):
            yield notice(f"there is no segment {segment}", "warning")
            return
        self.episode, self.segment = self.episode + 1, segment
        self._reality = self.world.segments()[segment].reality() if segment >= 0 else self._env
        assert self._reality is not None
        if self.player not in self._players():
            self.player = self.world.players[0]
        dreamer = self.world.dreamer
        self._keys = dreamer.keys(self.seed, self.episode) if dreamer else None
        self._synced = True
        self.timeline.begin(self._first(self._reality.reset(self._env_seed())))
        if isinstance(self._reality, Recorded):
            for _ in range(min(CONTEXT, len(self._reality.rows)) - 1):
                self._advance(self._reality.recorded_action() or {}, "recording", None)
                self._anchor()
        yield self.state()
        yield self._show()

    def _anchor(self) -> bool:
        """Lets the dream begin anew from what the model makes of reality; False where nothing is known of that."""
        now, dreamer = self.timeline.now(), self.world.dreamer
        if dreamer is None or now.seen is None:
            return dreamer is None
        self.timeline.replace(now._replace(dream=now.seen, shown=dreamer.show(now.seen), k=0))
        return True

    def _first(self, row: Row) -> Moment:
        """The first moment of an episode: the dream has seen its row."""
        dream = shown = surprise = None
        if self.world.dreamer and self._keys:
            dreamer = self.world.dreamer
            still = {key: space.zeros() for key, space in self.world.act_space.items()}
            dream, surprise = dreamer.observe(dreamer.initial(), still, row.obs, 0, self._keys)
            shown = dreamer.show(dream)
        self._spread.add(row)
        snapshot = self._reality.snapshot() if self._reality else None
        return Moment(
            0, None, "", row, snapshot, dream, dream, shown, 0, surprise, self.temperature, (0.0, 0.0), None
        )

    def _step(self) -> Iterator[Event]:
        """One step of both lanes, or a new episode after the last one has ended."""
        now = self.timeline.now()
        if now.row is not None and now.row.is_last:
            yield from self._begin(self.segment)
            return
        try:
            self._sync()
        except LostPast:
            yield notice("the environment did not repeat its episode; a new one begins", "error")
            yield from self._begin(self.segment)
            return
        if self.player == "recording" and self._recorded() is None:
            self.playing = False
            yield self.state()
            yield notice("the recorded actions end here", "info")
            return
        began = time.perf_counter()
        action, mind = self._choose(now)
        branch = self.timeline.branch
        moment = self._advance(action, self.player, mind)
        self._times.append(time.perf_counter())
        if self.timeline.branch != branch:
            yield self.state()
        yield self._show(1000 * (time.perf_counter() - began))
        yield from self._notices(moment)

    def _advance(self, action: Action, who: str, mind: PlayerState | None) -> Moment:
        """Both lanes by one action."""
        now, dreamer = self.timeline.now(), self.world.dreamer
        row = self._reality.step(action) if self._reality and now.row is not None else None
        dream = seen = shown = surprise = None
        if dreamer and self._keys:
            dream, shown = dreamer.imagine(now.dream, action, now.k + 1, self._keys, self.temperature)
            if row is not None and now.seen is not None and not row.is_first:
                seen, surprise = dreamer.observe(now.seen, action, row.obs, now.t + 1, self._keys)
        if row is not None:
            self._spread.add(row)
        snapshot = self._reality.snapshot() if self._reality and row is not None else None
        returns = (
            now.returns[0] + (row.reward if row else 0.0),
            now.returns[1] + (shown.reward if shown and shown.reward is not None else 0.0),
        )
        heat, k = self.temperature, now.k + 1
        moment = Moment(
            now.t + 1, action, who, row, snapshot, dream, seen, shown, k, surprise, heat, returns, mind
        )
        self.timeline.add(moment)
        return moment

    def _choose(self, now: Moment) -> tuple[Action, PlayerState | None]:
        """The action of the player, and what an agent remembers then."""
        if self.player == "human":
            return self.world.controls.action(self._held), None
        if self.player == "recording" and (action := self._recorded()) is not None:
            return action, None
        if self.player in ("agent", "planner"):
            player = self.world.player
            assert player is not None
            obs = now.row.obs if now.row is not None else now.shown.obs if now.shown else {}
            mind = now.mind or player.initial()
            mind, action = player.act(mind, dict(obs), normalised=True)
            return action, mind
        random = np.random.default_rng([self.seed, self.episode, now.t])
        return {key: space.sample(random) for key, space in sorted(self.world.act_space.items())}, None

    def _recorded(self) -> Action | None:
        return self._reality.recorded_action() if isinstance(self._reality, Recorded) else None

    def _sync(self) -> None:
        """Brings reality to where the timeline is."""
        if self._synced:
            return
        now = self.timeline.now()
        if now.row is not None and self._reality is not None:
            moments = self.timeline.path()
            actions = [moment.action for moment in moments[1:] if moment and moment.action]
            if len(actions) < now.t and now.snapshot is None:
                raise LostPast("the actions before it are not kept any more")
            self._reality.restore(Past(self._env_seed(), actions, now.snapshot, now.row))
        self._synced = True

    def _notices(self, moment: Moment) -> Iterator[Event]:
        useful = self.world.useful_horizon
        if useful is not None and self.world.dreamer and moment.k == useful + 1:
            steps = words.count(useful, "step")
            yield notice(f"the dream is past its useful horizon of {steps} (from assess)", "info")
        if moment.row is not None:
            for event in moment.row.events:
                yield notice(event, "warning")
            if moment.row.is_last:
                self.playing = False
                yield self.state()
                how = "ended" if moment.row.is_terminal else "was cut by its time limit"
                steps = words.count(moment.t, "step")
                text = f"the episode {how} after {steps} with return {moment.returns[0]:.4g}"
                yield notice(f"{text}; the next step begins a new one", "info")

    # --- what a page is told -------------------------------------------------------------------------------------

    def state(self) -> Event:
        """What commands change."""
        return {
            "on": "state",
            "playing": self.playing,
            "speed": self.speed,
            "player": self.player,
            "players": self._players(),
            "temperature": self.temperature,
            "episode": self.episode,
            "segment": self.segment,
            "branch": self.timeline.branch,
            "t": self.timeline.t,
            "branches": self.timeline.describe(),
            "recording": False,
            "recordings": [],
        }

    def _show(self, step_ms: float = 0.0) -> Step:
        """The event of the current moment, with its pictures."""
        self._number += 1
        found = readouts.describe(self.world, self.timeline.now(), self._spread)
        times = self._times
        fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0
        found.numbers.update(
            n=self._number, episode=self.episode, branch=self.timeline.branch, action_id=self._mark
        )
        found.numbers.update(step_ms=round(step_ms, 2), fps=round(fps, 1), pictures=len(found.pictures))
        return found

    def _players(self) -> list[str]:
        more = ["recording"] if isinstance(self._reality, Recorded) else []
        return [*self.world.players, *more]

    def _env_seed(self) -> int:
        return int(np.random.SeedSequence([self.seed, self.episode]).generate_state(1)[0] >> 1)


def notice(text: str, kind: str) -> Event:
    """A line for the person who plays: info, warning or error."""
    return {"on": "notice", "text": text, "kind": kind}
