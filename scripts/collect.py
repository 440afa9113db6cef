"""`dreamworld collect`: plays an environment with one or more policies and keeps the episodes as a data set."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from dreamworld import exits, text, words
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.limits import STEPS, Range
from dreamworld.logging.progress import Progress, format_duration, format_number

if TYPE_CHECKING:
    from dreamworld.datasets.collect import Collected
    from dreamworld.datasets.store import DataSet
    from dreamworld.sessions.recording import Plan
    from dreamworld.sessions.stored import Stored

DESCRIPTION = (
    "Record episodes as a data set: dreamworld collect --policy random --task TASK --steps N --data DIR"
)
USED = (
    "configs",
    "trust",
    "help",
    "task",
    "seed",
    "env",
    "run.platform",
    "run.compile_cache",
    "run.progress",
)
"""Options (or groups) of a training that matter here, too."""


@dataclasses.dataclass(frozen=True)
class Flags:
    policy: tuple[str, ...] = ("random",)
    """Who acts: random, the folder of a run, module:function, or several of them with equal shares of the steps."""
    data: str = ""
    """Folder of the data set."""
    steps: Annotated[int, STEPS] = 10_000
    """Steps to take, by all policies together; every episode is played to its end, so that there may be more."""
    append: bool = False
    """Go on with a data set that is in the folder already."""
    mode: Literal["sample", "greedy"] = "sample"
    """Sampled or greedy actions of agents."""
    step: Annotated[int, Range(-1, STEPS.high)] = -1
    """Checkpoint of agents to load; -1 for the newest."""
    max_steps: Annotated[int, STEPS] = 30_000
    """Steps after which an episode is ended as by a time limit."""
    truth: bool = True
    """Keep the state of JAX environments, as columns extra/state/…"""


def main(argv: Sequence[str]) -> int:
    """Plays, records, says what there is now; the exit status is that of a signal that ended it early."""
    from dreamworld.sessions.recording import record

    plan = read(argv)
    with _Shown(plan.steps, show=plan.config.run.progress) as shown:
        recorded = record(plan, lambda steps, last: shown.update(steps, 0, last, last))
    _tell(recorded.found)
    if recorded.data is None:
        print("no episode has ended yet, and nothing was written", file=sys.stderr)
    else:
        print(describe(plan.folder, recorded.data, recorded.stopped))
    return exits.of_signal(recorded.stopped) if recorded.stopped else 0


def read(argv: Sequence[str]) -> Plan:
    """What a command line asks for: the options of the environment are those of the first run, then those given."""
    from dreamworld import cli, presets
    from dreamworld.sessions import stored
    from dreamworld.sessions.recording import Plan

    given = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    runs: dict[str, Stored] = {}

    def base(*, trusted: bool) -> Config:
        runs.update(_open_runs(_policies(argv), trusted))
        return next((run.config for run in runs.values()), Config())

    config, flags = cli.parse_with(
        argv, Flags(), prog="dreamworld collect", description=DESCRIPTION, base=base
    )
    cli.refuse_unused("collect", given, USED, flags)
    if not flags.data:
        raise UserError("collect: where to? Give the folder of the data set: --data DIR")
    text.check("--data", flags.data)
    if not runs and "task" not in given:
        raise UserError("collect: in which environment? Give its name: --task NAME")
    source = None
    if runs:
        played = stored.choose_env(next(iter(runs.values())), config.task if "task" in given else "")
        options = config.env.options if played.same or "env.options" in given else ""
        config = presets.replace(config, {"task": played.config.task, "env.options": options})
        source = played.source
    return Plan(
        config,
        flags.policy,
        runs,
        source,
        flags.data,
        flags.steps,
        flags.append,
        flags.mode,
        flags.step,
        flags.max_steps,
        flags.truth,
    )


def _policies(argv: Sequence[str]) -> tuple[str, ...]:
    """The policies of a command line, before all of it is parsed."""
    from dreamworld import cli

    begin = next((i for i, word in enumerate(argv) if word.split("=")[0] == "--policy"), len(argv))
    end = next((i for i in range(begin + 1, len(argv)) if argv[i].startswith("--")), len(argv))
    return cli.parse_flags(argv[begin:end], Flags(), prog="dreamworld collect").policy


def _open_runs(policies: Sequence[str], trusted: bool) -> dict[str, Stored]:
    from dreamworld.sessions import folders, stored
    from dreamworld.sessions import policies as known

    if len(set(policies)) < len(policies) or not policies:
        raise UserError("--policy: give random, folders of runs, or module:function, each once")
    found = {}
    for name in policies:
        text.check("--policy", name)
        if known.is_run(name):
            known.check_name(name)
            folders.require_run(name)
            found[name] = stored.open_run(name, trusted=trusted)
    return found


class _Shown(Progress):
    """The progress line of collecting."""

    def line(self, step: float, updates: int, last_return: float, mean_return: float, width: int = 0) -> str:
        """The numbers as text; with a `width`, fewer of them where they don't fit."""
        total, eta = max(round(step), round(self._total)), f"ETA {format_duration(self.speed.eta_s)}"
        done, last = f"{round(step):,}/{words.count(total, 'step')}", f"return {format_number(last_return)}"
        forms = [f"{done}  {words.rate(self.speed.fps)} steps/s  {last}  {eta}", f"{done}  {last}  {eta}"]
        return next((form for form in forms if not width or len(form) <= width), forms[-1])


def _tell(found: dict[str, Collected]) -> None:
    """What went wrong, on stderr."""
    for name, done in found.items():
        for event in done.events:
            print(event, file=sys.stderr)
        if done.cut:
            print(f"{name}: ended {words.count(done.cut, 'episode')} at --max_steps", file=sys.stderr)
        if done.dropped:
            dropped = words.count(done.dropped, "episode")
            print(
                f"{name}: left out {dropped} without a step, or with a state that is not finite",
                file=sys.stderr,
            )


def describe(folder: str, data: DataSet, stopped: str) -> str:
    """The last line: what is there now, and what to do with it."""
    from dreamworld.datasets.inspect import by_policy

    each = "".join(
        f"\n  {name}: {words.count(row.episodes, 'episode')}, mean return {format_number(row.mean_return)}"
        for name, row in by_policy(data).items()
        if len(data.header.policies) > 1
    )
    mean = sum(data.returns) / len(data.returns)
    return (
        f"{folder}: {words.count(data.steps, 'step')} in {words.count(data.episodes, 'episode')}, mean return "
        f"{format_number(mean)}"
        + (f" (stopped by {stopped}; complete episodes are kept)" if stopped else "")
        + f"{each}\nnext: dreamworld data info {shlex.quote(folder)}, dreamworld train --data {shlex.quote(folder)}"
    )


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("collect", main))
