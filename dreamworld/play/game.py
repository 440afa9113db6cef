"""A game: reality and a dream under the same actions, with ways back. It knows no web, no threads and no events.

Everything that is drawn at random follows from the seed, the episode and the time, so that going back and doing the
same again gives the same to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dreamworld.play import edits, recording
from dreamworld.play.dreamer import Keys
from dreamworld.play.readouts import Spread
from dreamworld.play.reality import Action, LostPast, Past, Reality, Recorded, Row
from dreamworld.play.segments import CONTEXT
from dreamworld.play.timeline import Moment, Timeline
from dreamworld.play.world import World
from dreamworld.player import PlayerState


class Game:
    """One game in a world; `env` is its environment, None where only recorded segments happen."""

    def __init__(self, world: World, seed: int, env: Reality | None):
        self.world, self._env = world, env
        self.seed, self.episode, self.segment = seed, -1, -1
        self.temperature = 1.0
        self.timeline, self.spread, self.journal = Timeline(), Spread(), recording.Journal()
        self._reality: Reality | None = env
        self._synced = True  # reality is where the timeline is
        self._keys: Keys | None = None

    @property
    def now(self) -> Moment:
        """Where the game is."""
        return self.timeline.now()

    @property
    def recorded(self) -> bool:
        """Whether what happens is a recorded segment."""
        return isinstance(self._reality, Recorded)

    @property
    def rewind(self) -> str:
        """Why one can't go back; empty where one can."""
        return self._reality.rewind if self._reality else ""

    def begin(self, seed: int, episode: int, segment: int = -1) -> None:
        """A new episode, of the environment or, from 0 on, of a segment, of which the dream sees the first rows."""
        self.seed, self.episode, self.segment = seed, episode, segment
        self._reality = self.world.segments()[segment].reality() if segment >= 0 else self._env
        assert self._reality is not None
        dreamer = self.world.dreamer
        self._keys = dreamer.keys(seed, episode) if dreamer else None
        self._synced = True
        self.timeline.begin(self._first(self._reality.reset(self._env_seed())))
        if isinstance(self._reality, Recorded):
            for _ in range(min(CONTEXT, len(self._reality.rows)) - 1):
                self._advance(self._reality.recorded_action() or {}, "recording", None)
                self._anchor()
        self.journal.begin(seed, episode, segment)

    def step(self, action: Action, who: str, mind: PlayerState | None = None) -> Moment:
        """Both lanes by one action; LostPast where the way back led somewhere else."""
        self._sync()
        moment = self._advance(action, who, mind)
        self.journal.add(action=recording.to_plain(action), who=who, temperature=self.temperature)
        return moment

    def choose(self, player: str, held: dict[str, float]) -> tuple[Action | None, PlayerState | None]:
        """The action of a player and what an agent remembers then; None at the end of recorded actions."""
        now = self.now
        if player == "human":
            return self.world.controls.action(held), None
        if player == "recording":
            self._sync()
            return (self._reality.recorded_action() if isinstance(self._reality, Recorded) else None), None
        if player == "random":
            random = np.random.default_rng([self.seed, self.episode, now.t])
            return {key: space.sample(random) for key, space in sorted(self.world.act_space.items())}, None
        agent = self.world.minds[player]
        mind = now.mind if now.who == player else None  # another one remembers other things
        obs = now.row.obs if now.row is not None else now.shown.obs if now.shown else {}
        mind, action = agent.act(mind or agent.initial(), dict(obs), normalised=True)
        return action, mind

    def go(self, t: int) -> bool:
        """Back, or on, to a moment of this branch; False where it is not kept."""
        if self.timeline.at(t) is None:
            return False
        self.timeline.go(t)
        self._synced = False
        self.journal.add(rewind=t)
        return True

    def switch(self, branch: int) -> bool:
        """To the end of a branch; False where that is not kept."""
        if not self.timeline.switch(branch):
            return False
        self._synced = False
        self.journal.add(branch=branch)
        return True

    def anchor(self) -> bool:
        """Lets the dream begin anew from what the model makes of reality; False where nothing is known of that."""
        if not self._anchor():
            return False
        self.journal.add(anchor=True)
        return True

    def edit(self, edit: edits.Edit, value: Any) -> None:
        """Changes the dream; no time passes."""
        now, dreamer, keys = self.now, self.world.dreamer, self._keys
        assert dreamer is not None and now.shown is not None and keys is not None
        if edit.change is None:
            dream = self._of_segment(int(value), keys)
        else:
            dream = dreamer.edit(now.dream, edit.change(now.shown.obs, value), keys.imagine)
        self.timeline.replace(now._replace(dream=dream, shown=dreamer.show(dream)))
        self.journal.add(edit=edit.name, value=value)

    def redo(self, line: dict[str, Any]) -> None:
        """Does what a line of a journal says."""
        if "action" in line:
            self.temperature = line["temperature"]
            self.step(recording.from_plain(line["action"], self.world.act_space), "recording")
        elif "rewind" in line:
            self.go(line["rewind"])
        elif "branch" in line:
            self.switch(line["branch"])
        elif "edit" in line:
            self.edit(next(edit for edit in self.world.edits if edit.name == line["edit"]), line["value"])
        else:
            self.anchor()

    def _anchor(self) -> bool:
        now, dreamer = self.now, self.world.dreamer
        if dreamer is None or now.seen is None:
            return False
        self.timeline.replace(now._replace(dream=now.seen, shown=dreamer.show(now.seen), k=0))
        return True

    def _of_segment(self, index: int, keys: Keys) -> Any:
        """What the model makes of the first rows of a segment."""
        found, dreamer = self.world.segments()[index], self.world.dreamer
        assert dreamer is not None
        state = dreamer.initial()
        for t in range(min(CONTEXT, len(found.rows))):
            state, _ = dreamer.observe(state, found.actions[t], found.rows[t].obs, t, keys)
        return state

    def _first(self, row: Row) -> Moment:
        """The first moment of an episode: the dream has seen its row."""
        dream = shown = surprise = None
        if self.world.dreamer and self._keys:
            dreamer = self.world.dreamer
            still = {key: space.zeros() for key, space in self.world.act_space.items()}
            dream, surprise = dreamer.observe(dreamer.initial(), still, row.obs, 0, self._keys)
            shown = dreamer.show(dream)
        self.spread.add(row)
        snapshot = self._reality.snapshot() if self._reality else None
        heat = self.temperature
        return Moment(0, None, "", row, snapshot, dream, dream, shown, 0, surprise, heat, (0.0, 0.0), None)

    def _advance(self, action: Action, who: str, mind: PlayerState | None) -> Moment:
        now, dreamer = self.now, self.world.dreamer
        row = self._reality.step(action) if self._reality and now.row is not None else None
        dream = seen = shown = surprise = None
        if dreamer and self._keys:
            dream, shown = dreamer.imagine(now.dream, action, now.k + 1, self._keys, self.temperature)
            if row is not None and now.seen is not None:
                seen, surprise = dreamer.observe(now.seen, action, row.obs, now.t + 1, self._keys)
        if row is not None:
            self.spread.add(row)
        snapshot = self._reality.snapshot() if self._reality and row is not None else None
        returns = (
            now.returns[0] + (row.reward if row else 0.0),
            now.returns[1] + (shown.reward if shown and shown.reward is not None else 0.0),
        )
        t, k, heat = now.t + 1, now.k + 1, self.temperature
        moment = Moment(t, action, who, row, snapshot, dream, seen, shown, k, surprise, heat, returns, mind)
        self.timeline.add(moment)
        return moment

    def _sync(self) -> None:
        """Brings reality to where the timeline is."""
        if self._synced:
            return
        now = self.now
        if now.row is not None and self._reality is not None:
            moments = self.timeline.path()
            actions = [moment.action for moment in moments[1:] if moment and moment.action]
            if len(actions) < now.t and now.snapshot is None:
                raise LostPast("the actions before it are not kept any more")
            self._reality.restore(Past(self._env_seed(), actions, now.snapshot, now.row))
        self._synced = True

    def _env_seed(self) -> int:
        return int(np.random.SeedSequence([self.seed, self.episode]).generate_state(1)[0] >> 1)
