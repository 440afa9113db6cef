"""What a run says at its start: devices, spaces, encoders, parameters, replay memory, gradient steps per step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax

from dreamworld import words
from dreamworld.contract import modules
from dreamworld.envs.pictures import Reading, notes_on
from dreamworld.precision import precision_name
from dreamworld.sessions.learning import planned_updates
from dreamworld.spaces import describe_space
from dreamworld.text import marked
from dreamworld.types import Params, VectorEnv

if TYPE_CHECKING:
    from rich.table import Table

    from dreamworld.sessions.build import Session
    from dreamworld.training.run import Run


def announce(session: Session) -> None:
    """Prints the summary above the progress line."""
    rows = describe(session)
    session.progress.print(lay_out(rows), "\n".join(f"{name}: {text}" for name, text in rows))


def lay_out(rows: list[tuple[str, str]]) -> Table:
    """Names and texts below each other; what is wider than the terminal goes on in the next line."""
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, marked(text))
    return table


def describe(session: Session) -> list[tuple[str, str]]:
    """The rows of the summary; of several seeds, in the words of the first."""
    config, devices, first = session.job.config, session.devices, session.loops[0]
    agent, env = first.learner.agent, first.env
    kinds = sorted({f"{device.platform} ({device.device_kind})" for device in devices})
    rows = [
        ("task", f"{config.task}, seed {config.seed}"),
        ("run", str(first.rundir)),
        (
            "devices",
            f"{len(devices)} x {', '.join(kinds)}, computing in {precision_name(config.agent.precision)}",
        ),
        ("data", f"{config.data}; nothing is collected")
        if config.data
        else ("environments", f"{env.num_envs} x {config.task}, engine {env.engine}{engine_reason(env)}"),
    ]
    for key, space in sorted(env.obs_space.items()):
        rows.append(
            (
                "observation",
                f"{key}: {describe_space(space)} -> {agent.assignment.get(key, 'not used')} encoder",
            )
        )
    rows += [("note", text) for text in notes_on(env.obs_space, Reading.of(config.env))]
    for key, space in sorted(env.act_space.items()):
        rows.append(("action", f"{key}: {describe_space(space)}"))
    counts = count_parameters(jax.eval_shape(agent.init, jax.random.PRNGKey(0)).params)
    listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    rows.append(("parameters", f"{sum(counts.values()):,} ({listed})"))
    rows.append(("replay", session.memory))
    rows.append(("training", describe_ratio(first)))
    return rows


def count_parameters(params: Params) -> dict[str, int]:
    """Trained parameters by module."""
    return {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in modules(params).items()}


def describe_ratio(loop: Run) -> str:
    """What train_ratio means, in gradient steps, and how many of them are to come."""
    run, counters = loop.config.run, loop.counters
    left = max(0.0, run.steps - counters.step)
    if loop.config.data:
        more = f" more, after {counters.step:,}" if counters.step else ""
        return f"{words.count(left, 'gradient step')}{more}, each a step of the run"
    per_step = run.train_ratio / (run.batch_size * run.batch_length)
    ratio = (
        f"{words.count(per_step, 'gradient step')} per environment step: train_ratio {run.train_ratio:g} / "
        f"(batch {run.batch_size} x length {run.batch_length})"
    )
    plan = planned_updates(loop)
    if plan is None:
        return ratio
    begin = f" from step {plan.first:,} on, when replay is filled" if plan.first and plan.updates else ""
    about = "" if plan.exact else "about "
    if not counters.step:
        return f"{ratio}{begin}; {about}{plan.updates:,} in {words.count(left, 'step')}"
    return (
        f"{ratio}{begin}; {about}{plan.updates:,} more in the {words.count(left, 'step')} that are left, after "
        f"{words.count(counters.updates, 'update')} in {counters.step:,}"
    )


def engine_reason(env: VectorEnv) -> str:
    """Why this engine, where it says so."""
    reason = getattr(env, "engine_reason", "")
    return f" ({reason})" if reason else ""
