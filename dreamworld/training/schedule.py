"""Which phases of which stage learn now: turns stages into numbers of updates, from counts alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dreamworld.contract import Phase, Stage
from dreamworld.errors import UserError
from dreamworld.text import printable
from dreamworld.training.counters import Counters


class Schedule:
    """The stages of a run beside its counters, which hold all that changes.

    `sweep` tells how many updates take every row of replay once, for a phase that sweeps. `offline`, with replay filled
    from data sets, nothing is collected in any stage: a step is an update of the phase that has the most of them.
    """

    def __init__(
        self,
        stages: tuple[Stage, ...],
        counters: Counters,
        sweep: Callable[[Phase], int],
        *,
        offline: bool = False,
    ):
        self.stages, self.counters, self.sweep, self.offline = stages, counters, sweep, offline
        self._lengths: dict[tuple[int, str], int] = {}  # of sweeps, by stage and phase

    @property
    def stage(self) -> Stage:
        """The stage that the run is in; after the last one, that."""
        return self.stages[min(self.counters.stage, len(self.stages) - 1)]

    @property
    def collects(self) -> bool:
        """Whether environments are stepped now."""
        return self.stage.collect != "none" and not self.offline

    @property
    def finished(self) -> bool:
        """Whether no stage is left."""
        return self.counters.stage >= len(self.stages)

    def owed(self, ready: Callable[[], bool]) -> list[tuple[Phase, int]]:
        """Updates due now of each phase of the stage, in order; `ready` tells whether replay has enough rows."""
        due = [(phase, self._owed(phase, ready)) for phase in self.stage.phases]
        return [(phase, count) for phase, count in due if count]

    def _owed(self, phase: Phase, ready: Callable[[], bool]) -> int:
        counters, account = self.counters, self.counters.account(phase.name)
        if self.stage.collect == "none":
            return self._in_turn(phase)
        left = self.left(phase)
        if self.offline:
            return int(min(self._share(phase, self.stage.phases), left))
        if phase.ratio == 0 or left <= 0:
            return 0
        if account.waiting:
            if counters.step - counters.stage_step < phase.begins or not ready():
                return 0
            account.open(counters.step, phase.ratio, phase.rows)
        return int(min(account.owed(counters.step), left))

    def _in_turn(self, phase: Phase) -> int:
        """Updates of a phase at this step of a stage that collects nothing."""
        first = self.current()
        if first is None or math.isfinite(self.left(first)):
            return int(phase is first)
        endless = [each for each in self.stage.phases if math.isinf(self.left(each))]
        if len(endless) == 1 or not any(map(_pace, endless)):
            return int(phase is first)
        return self._share(phase, endless) if phase in endless else 0

    def _share(self, phase: Phase, phases: Sequence[Phase]) -> int:
        """Updates of one of these phases at this step, of which the fastest does one at every step."""
        time, fastest = self.counters.step - self.counters.stage_step, max(map(_pace, phases))
        if fastest == 0 or time < phase.begins:
            return 0
        pace = _pace(phase) / fastest
        return math.floor((time + 1) * pace + 1e-9) - math.floor(time * pace + 1e-9)

    def left(self, phase: Phase) -> float:
        """Updates that the phase may still do."""
        most = phase.at_most
        if phase.window and phase.window.order == "sweep":
            most = min(self._length(phase), most or math.inf)
        return math.inf if most is None else most - self.counters.account(phase.name).updates

    def _length(self, phase: Phase) -> int:
        """Updates of a sweep; where nothing is collected meanwhile, they are counted once."""
        key = (self.counters.stage, phase.name)
        if self.collects or key not in self._lengths:
            self._lengths[key] = self.sweep(phase)
        return self._lengths[key]

    def current(self) -> Phase | None:
        """The first phase of the stage that is not done."""
        return next((phase for phase in self.stage.phases if self.left(phase) > 0), None)

    def advance(self) -> bool:
        """Goes on to the next stage where this one is over; whether it did."""
        counters, stage = self.counters, self.stage
        if self.finished:
            return False
        if self.offline and not stage.phases:
            over = True  # there is nothing to collect
        elif stage.collect != "none":
            over = stage.steps is not None and counters.step - counters.stage_step >= stage.steps
        else:
            over = self.current() is None
        if over:
            for phase in stage.phases:
                counters.account(phase.name).first_update = -1  # nothing is owed once a stage is over
            counters.stage += 1
            counters.stage_step = counters.step
        return over


def find_stage(index: int, saved: Sequence[str], names: Sequence[str]) -> int:
    """The index, among the stages `names` of this session, of the stage that a run was in: `index` of `saved`.

    Options decide which stages an agent has. UserError where the stage is none of them.
    """
    if list(saved) == list(names):
        return index
    if index >= len(saved):
        return len(names)
    if saved[index] not in names:
        raise UserError(
            f"the run is in the stage {printable(saved[index])!r}, and with these options the agent has "
            f"{', '.join(map(repr, names))}; use the options that it had"
        )
    return names.index(saved[index])


def _pace(phase: Phase) -> float:
    """Updates per agent step."""
    return phase.ratio / phase.rows
