"""What sessions share: an environment, the agent that dreams of it, and what a page has to know of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from dreamworld.play.controls import Controls
from dreamworld.play.dreamer import Dreamer
from dreamworld.play.edits import Edit
from dreamworld.play.reality import Reality
from dreamworld.play.segments import Segment
from dreamworld.player import Player
from dreamworld.types import Spaces

RENDER = "render"  # the image key of a picture that the environment renders
WHO = (
    "human",
    "agent",
    "random",
    "planner",
    "recording",
)  # who may act; their places are stored in `extra/player`

Draw = Callable[[dict[str, Any]], Any]  # observations -> uint8 [H, W, 3]


@dataclasses.dataclass(frozen=True)
class World:
    """Everything about what is played that does not change."""

    title: str
    task: str
    obs_space: Spaces
    act_space: Spaces
    controls: Controls
    make_reality: Callable[[], Reality] | None  # None: recorded segments are all that happens
    rendered: bool  # observations show nothing to people, so the environment is rendered
    draw: Draw | None = None  # draws the dream as the environment is rendered
    rewind: str = ""  # why one can't go back in the environment
    seed: int = 0
    agent: str = ""  # its name; "" for an environment alone
    step: int = 0  # of the checkpoint
    dreamer: Dreamer | None = None
    player: Player | None = None
    plans: bool = False  # the agent plans its actions
    planner: Player | None = None  # plans in the agent's world
    segments: Callable[[], list[Segment]] = list  # made when they are first asked for
    edits: tuple[Edit, ...] = ()
    useful_horizon: int | None = None
    save: str = ""  # why episodes can't be saved
    folder: str = ""  # where they are saved

    @property
    def about(self) -> dict[str, Any]:
        """What a recording says of it."""
        return {"task": self.task, "agent": self.agent, "checkpoint": self.step}

    @property
    def images(self) -> list[str]:
        """The keys of pictures."""
        if self.rendered:
            return [RENDER]
        return [key for key, space in sorted(self.obs_space.items()) if space.is_image]

    @property
    def vectors(self) -> list[str]:
        """The keys of observations that are plotted."""
        shown = [key for key, space in sorted(self.obs_space.items()) if not space.is_image]
        return [key for key in shown if 0 < self.obs_space[key].size <= 64]

    @property
    def players(self) -> list[str]:
        """Who may act."""
        found = [] if self.controls.problem else ["human"]
        return [*found, *self.minds, "random"]

    @property
    def minds(self) -> dict[str, Player]:
        """Who of them chooses actions by a model; a planner that was asked for takes the place of the agent's own."""
        own = {"planner" if self.plans else "agent": self.player} if self.player else {}
        return own | ({"planner": self.planner} if self.planner else {})

    def ready(self) -> dict[str, Any]:
        """The first event of a session."""
        dreamer = self.dreamer
        lanes = ["real", *(["dream"] if dreamer else [])]
        return {
            "on": "ready",
            "title": self.title,
            "task": self.task,
            "agent": self.agent,
            "step": self.step,
            "lanes": lanes,
            "images": self.images,
            "vectors": {key: self._vector(key) for key in self.vectors},
            "controls": [control.plain() for control in self.controls.items],
            "manual": self.controls.problem or True,
            "players": self.players,
            "edits": [edit.plain() for edit in self.edits],
            "rewind": self.rewind or True,
            "record": True,
            "dataset": self.save or True,
            "useful_horizon": self.useful_horizon,
            "max_speed": 60,
            "probed": bool(dreamer and dreamer.simulator.probed),
            "decoded": dreamer.decoded if dreamer else [],
            "value": bool(dreamer and dreamer.agent.value),
            "reward": bool(dreamer and dreamer.simulator.predict),
            "surprise": bool(dreamer and dreamer.simulator.surprise),
        }

    def _vector(self, key: str) -> dict[str, Any]:
        import math

        space = self.obs_space[key]
        bound = lambda value: float(value) if math.isfinite(value) else None
        low, high = (0, space.classes - 1) if space.classes else (bound(space.low), bound(space.high))
        return {"size": space.size, "low": low, "high": high}
