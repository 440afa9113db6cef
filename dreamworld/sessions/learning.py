"""Tells how many updates a training will come to, and of one that comes to none which option is the reason."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from dreamworld import presets, words
from dreamworld.config import Config
from dreamworld.contract import Agent, Phase, Stage, longest
from dreamworld.training.rounds import pace

if TYPE_CHECKING:
    from dreamworld.training.run import Run


class Plan(NamedTuple):
    """The updates that a session will do."""

    first: int  # step at which updates begin; 0 where they have begun
    updates: int
    exact: bool


def planned_updates(run: Run) -> Plan | None:
    """What is to come of an agent that has one phase, in its last stage; None where more has to be known."""
    config, agent, counters = run.config, run.learner.agent, run.counters
    learning = [(stage, phase) for stage in agent.stages for phase in _learns(stage)]
    if config.data or len(learning) != 1 or counters.step >= config.run.steps:
        return None
    ((stage, phase),) = learning
    if stage is not agent.stages[-1] or stage.collect == "none" or stage.steps or phase.at_most is not None:
        return None
    account = counters.accounts.get(phase.name)
    waiting = account is None or account.waiting
    if waiting and account is not None and account.updates:
        return None  # replay has lost rows: nobody knows when it has enough again
    per = run.env.num_envs * run.team.count
    ready = run.team.count * _ready(config, agent, run.env.num_envs, config.replay.held_out)
    first = max(ready, math.ceil(_begin_of_learning(agent) / per) * per, counters.step) if waiting else 0
    if first >= config.run.steps:
        return Plan(int(min(first, config.run.steps)), 0, True)
    if config.run.mode == "fused":
        updates = _in_rounds(config, phase, run.env.num_envs, max(int(first), counters.step))
        return Plan(int(first), updates, True)
    # The last iteration begins before the last step, and what it owes comes before its rows.
    last = counters.step + (math.ceil((config.run.steps - counters.step) / per) - 1) * per
    if account is None or account.waiting:
        updates = int((last - first) * phase.ratio // phase.rows) + 1
    else:
        updates = max(0, account.owed(last))
    return Plan(int(first), updates, not (waiting and config.replay.held_out))


def _in_rounds(config: Config, phase: Phase, num_envs: int, begin: int) -> int:
    """Updates of the fused mode from `begin` on, whose chunks are not cut at the last step."""
    steps, updates = pace(phase, num_envs)
    chunk = max(1, int(config.run.log_every) // (steps * num_envs))
    chunks = math.ceil((config.run.steps - begin) / (chunk * steps * num_envs))
    return chunks * chunk * updates


def why_nothing_is_trained(config: Config, agent: Agent, num_envs: int, processes: int = 1) -> str:
    """One line for a training without a single update, which names the option and what would do; empty for others.

    `num_envs` environments of each process fill a replay of its own. A train ratio of 0 is the wish to collect only.
    """
    if not any(phase.ratio for phase in agent.phases):
        return _nothing_asked(config)
    if config.data:
        return ""
    steps = config.run.steps
    begin = _begin_of_learning(agent)
    ready = processes * _ready(config, agent, num_envs, config.replay.held_out)
    if max(begin, ready) < steps:
        return ""
    if begin >= steps:
        return _late_stage(config, agent, begin)
    kept = processes * _ready(config, agent, num_envs, 0.0)
    return (
        _held_out(config, agent, num_envs, processes)
        if kept < steps
        else _few_steps(config, agent, num_envs, kept)
    )


def _nothing_asked(config: Config) -> str:
    """Without an environment there is nothing else to do than to train."""
    if not config.data:
        return ""
    return f"nothing will be trained: run.train_ratio is {config.run.train_ratio:g}; give more than 0"


def _learns(stage: Stage) -> list[Phase]:
    return [phase for phase in stage.phases if phase.ratio or stage.collect == "none"]


def _begin_of_learning(agent: Agent) -> float:
    """The step from which the first phase may have updates, however much replay holds."""
    begin = 0.0
    for stage in agent.stages:
        length = math.inf if stage.steps is None else stage.steps
        if found := [phase.begins for phase in _learns(stage) if phase.begins < length]:
            return begin + min(found)
        begin += 0 if stage.collect == "none" else length
    return math.inf


def _ready(config: Config, agent: Agent, num_envs: int, held_out: float) -> float:
    """The step at which replay may have enough windows to train on; infinite where it never holds so many."""
    window = longest(agent)
    rows = num_envs * (window.context + window.length - 1) + max(1, config.replay.min_starts)
    if held_out and rows > (1 - held_out) * config.replay.capacity_steps:
        return math.inf
    return math.ceil(rows / (1 - held_out) / num_envs - 1e-9) * num_envs


def _late_stage(config: Config, agent: Agent, begin: float) -> str:
    """The stages before the first one that learns take all steps."""
    idle = [stage for stage in agent.stages if stage.steps and not _learns(stage)]
    names = [name for stage in idle if (name := _option(config, stage))]
    listed = ", ".join(f"--{name} {presets.flat(config)[name]:g}" for name in names)
    reason = f" ({listed})" if listed else ""
    less = f", or less of {', '.join(f'--{name}' for name in names)}" if names else ""
    steps = config.run.steps
    if math.isinf(begin):
        return (
            f"nothing will be trained: no stage of the agent {config.agent.name} comes to an update{reason}"
        )
    return (
        f"nothing will be trained: the agent {config.agent.name} learns from step {begin:,.0f} on{reason}, and "
        f"--run.steps is {steps:.12g}; give --run.steps more than {begin:.12g}{less}"
    )


def _option(config: Config, stage: Stage) -> str:
    """The option of the agent that says how long a stage lasts, as far as names and values tell; else empty."""
    found = [
        name
        for name, value in presets.flat(config).items()
        if name.startswith("agent.") and name.endswith("steps") and value == stage.steps
    ]
    return found[0] if len(found) == 1 else ""


def _held_out(config: Config, agent: Agent, num_envs: int, processes: int) -> str:
    """Too few episodes are left to train on."""
    share, least = config.replay.held_out, config.replay.min_starts
    rows = min(config.run.steps / processes, config.replay.capacity_steps)
    left = words.count(round((1 - share) * rows), "row")
    would_do = lambda part: processes * _ready(config, agent, num_envs, part) < config.run.steps
    most = next((part / 100 for part in range(99, 0, -1) if would_do(part / 100)), 0.0)
    return (
        f"nothing will be trained: --replay.held_out {share:.12g} leaves about {left} of {rows:,.0f} to train on, too "
        f"few for --replay.min_starts {least}; give --replay.held_out {most:g} or less"
    )


def _few_steps(config: Config, agent: Agent, num_envs: int, ready: float) -> str:
    """The training ends before replay is full enough."""
    window, steps, least = longest(agent), config.run.steps, config.replay.min_starts
    rows = words.count(window.context + window.length, "row")
    starts = least - (ready - steps) - num_envs  # with which the last step may still train
    less = (
        f"--replay.min_starts {starts:.12g} or less"
        if starts >= 1
        else "a smaller --env.num or --run.batch_length"
    )
    return (
        f"nothing will be trained: the first update comes after {words.count(ready, 'step')} "
        f"({words.count(num_envs, 'environment')}, windows of {rows}, --replay.min_starts {least}), and --run.steps is "
        f"{steps:.12g}; give --run.steps more than {ready:.12g}, or {less}"
    )


def why_nothing_was_trained(loop: Run) -> str:
    """One line at the end of a training that came to no update although its options allow some; else empty."""
    config, agent = loop.config, loop.learner.agent
    if loop.counters.updates or not any(phase.ratio for phase in agent.phases):
        return ""
    if why_nothing_is_trained(config, agent, loop.env.num_envs, loop.team.count):
        return ""  # it was said at the begin
    stats = loop.replay_stats()
    held = stats.get("held_out_starts", 0)
    apart = (
        f", and {words.count(held, 'window')} of episodes that --replay.held_out keeps apart" if held else ""
    )
    return (
        f"nothing was trained: at the end replay held {words.count(stats.get('starts', 0), 'window')} to train on, the "
        f"first update waits for --replay.min_starts {config.replay.min_starts}{apart}"
    )
