"""When each instruction of a compiled program ran on a CPU, and how its time is shared by parts that ran at once."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

Count = Counter[str]


class Interval(NamedTuple):
    """One run of an instruction."""

    name: str
    begin_ns: float
    end_ns: float


class Shares(NamedTuple):
    """Seconds of one call of a program."""

    seconds: dict[str, float]  # of each part: an instant in which n instructions run gives 1/n to each
    active_s: dict[str, float]  # in which any of the part's instructions ran
    idle_s: float  # in which none ran: `seconds` and this add up to `whole_s`
    whole_s: float  # from the first instruction's begin to the last one's end


def record(call: Callable[[], Any], module: str, count: int) -> list[list[Interval]]:
    """The instructions of each of `count` calls of a compiled program, an HLO module, in the order of the calls.

    One more call comes before them: the first in a trace takes up to twice as long.
    """
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(count + 1):
                jax.block_until_ready(call())
        return read(next(Path(folder).rglob("*.xplane.pb")), module)[1:]


def read(file: Path, module: str) -> list[list[Interval]]:
    """The instructions of each call of a program on a CPU, in a profile that JAX wrote."""
    import jax

    calls: dict[Any, list[tuple[str, float, float, Any]]] = defaultdict(list)
    ends: dict[
        Any, float
    ] = {}  # of what goes on after its event, in other threads, by what connects both events
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            for event in line.events:
                facts = dict(event.stats)
                if facts.get("hlo_module") == module:
                    entry = (str(facts["hlo_op"]), event.start_ns, event.end_ns, facts.get("_p"))
                    calls[facts.get("run_id")].append(entry)
                elif event.name.startswith("end: "):
                    ends[facts.get("_c")] = event.start_ns
    found = [
        [Interval(name, begin, max(end, ends.get(key, 0))) for name, begin, end, key in events]
        for events in calls.values()
    ]
    return sorted(found, key=lambda intervals: min(interval.begin_ns for interval in intervals))


def share(intervals: Iterable[Interval], part: Callable[[str], str]) -> Shares:
    """The seconds of each part; `part` names that of an instruction."""
    moments: list[tuple[float, int, str]] = []
    for name, begin, end in intervals:
        moments += [(begin, 1, part(name)), (end, -1, part(name))]
    moments.sort()
    seconds: dict[str, float] = defaultdict(float)
    active: dict[str, float] = defaultdict(float)
    idle, running, last = 0.0, Count(), moments[0][0]
    for moment, change, name in moments:
        passed, total = (moment - last) / 1e9, sum(running.values())
        for other, number in running.items() if passed else ():
            seconds[other] += passed * number / total
            active[other] += passed
        idle += 0 if total else passed
        running[name] += change
        if not running[name]:
            del running[name]
        last = moment
    return Shares(dict(seconds), dict(active), idle, (last - moments[0][0]) / 1e9)
