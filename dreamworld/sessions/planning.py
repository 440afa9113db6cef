"""A trained agent whose actions a planner chooses, in the dream of the agent's own world."""

from __future__ import annotations

import jax
import numpy as np

from dreamworld import spaces, words
from dreamworld.behaviours.cem import CEM
from dreamworld.behaviours.mppi import MPPI
from dreamworld.behaviours.planner import planned
from dreamworld.behaviours.plans import Nearness, Objective, Returns, Vectors
from dreamworld.contract import Agent, State
from dreamworld.datasets.formats.npz import read_arrays
from dreamworld.errors import UserError
from dreamworld.plan_options import PlanConfig, Planning, check
from dreamworld.player import read_array
from dreamworld.replay.memory import USABLE, available_memory
from dreamworld.text import expand_path
from dreamworld.types import Carry, Params, Space, Spaces

KINDS = {"cem": CEM, "mppi": MPPI}
DRAWN = 1 << 32  # random numbers that have indices of their own


def with_planner(agent: Agent, name: str, kind: Planning, options: PlanConfig) -> Agent:
    """The agent, acting by a planner; as it is for the kind "none". `name` is what it is called.

    UserError for what its world can't do, and for a goal that is no observation of it.
    """
    if kind == "none":
        return agent
    check(options)
    simulator = agent.simulator
    if simulator is None:
        raise UserError(f"--planner {kind}: the agent {name} has no simulator to plan in")
    if options.actor and agent.choose is None:
        raise UserError(f"--plan.actor {options.actor}: the agent {name} has no actor; leave it at 0")
    objective: Objective
    if options.goal:
        objective = make_goal(agent, name, options)
    elif simulator.predict is None:
        raise UserError(f"--planner {kind}: the world of {name} predicts no rewards; give a --plan.goal")
    else:
        discount = options.discount or agent.discount
        value = agent.value if options.value else None
        objective = Returns(simulator, discount, value, options.ends)
    planner = KINDS[kind](simulator, Vectors(agent.act_space), objective, options, agent.choose)
    planning = planned(agent, planner)

    def initial(params: Params, batch: int) -> Carry:
        carry = planning.initial(params, batch)
        require_room(carry[0], options, planner.vectors.size)
        return carry

    return planning._replace(initial=initial)


def require_room(state: State, options: PlanConfig, entries: int) -> None:
    """UserError where the plans of one step, of actions with so many entries, or their dreams don't fit into memory."""
    leaves = jax.tree.leaves(state)
    dreams, largest = options.candidates * options.dreams, max(leaf.size for leaf in leaves)
    need = dreams * sum(leaf.nbytes for leaf in leaves)
    need += leaves[0].shape[0] * options.candidates * options.horizon * entries * 4
    free, source = available_memory()
    if need > USABLE * free:
        raise UserError(
            f"--plan.candidates {options.candidates}: with {words.count(options.dreams, 'dream')} of "
            f"{words.count(options.horizon, 'step')} each they take {words.size(need)} at least, and there are "
            f"{words.size(free)} ({source}); give smaller numbers"
        )
    most = max(dreams * largest, options.candidates * options.horizon * entries)
    if most >= DRAWN:
        raise UserError(
            f"--plan.candidates {options.candidates}: with {words.count(options.dreams, 'dream')} each they need "
            f"{words.count(most, 'random number')} at once, and {DRAWN - 1:,} can be drawn; give smaller numbers"
        )


def make_goal(agent: Agent, name: str, options: PlanConfig) -> Nearness:
    """Nearness to the observation in the file of `options.goal`; UserError where that does not fit the agent."""
    simulator, goal = agent.simulator, read_goal(options.goal, agent.obs_space)
    assert simulator is not None
    if options.goal_by == "feature":
        blank = [key for key, value in goal.items() if np.isnan(value).any()]
        for key in [*sorted(set(agent.assignment) - set(goal)), *blank]:
            raise UserError(
                f"--plan.goal {options.goal}: {key!r} is not all there; a goal by feature needs every observation that "
                f"the agent reads: {', '.join(sorted(agent.assignment))}"
            )
    elif simulator.decode is None:
        raise UserError(f"--plan.goal_by decoded: the world of {name} does not decode; take feature")
    return Nearness(simulator, goal, agent.obs_space, agent.act_space, options.goal_by)


def read_goal(path: str, known: Spaces) -> dict[str, np.ndarray]:
    """One observation of these spaces from an .npz file, keys left out and nan where something does not count."""
    goal = {}
    for key, value in read_arrays(expand_path(path)).items():
        if key not in known:
            raise UserError(
                f"--plan.goal {path}: {key!r} is not an observation of this agent; expected "
                f"{spaces.describe_spaces(known)}"
            )
        if value.shape != known[key].shape:
            raise UserError(
                f"--plan.goal {path}: {key!r} has the shape {value.shape}; expected {known[key].shape}, one "
                "observation without a batch axis"
            )
        try:
            goal[key] = read_entries(key, value, known[key])
        except UserError as error:
            raise UserError(f"--plan.goal {path}: {error}") from None
    if all(np.isnan(value).all() for value in goal.values()):
        raise UserError(f"--plan.goal {path}: holds nothing to plan towards")
    return goal


def read_entries(key: str, value: np.ndarray, space: Space) -> np.ndarray:
    """One observation; where some entries are nan, as floats, also where the space holds whole numbers."""
    blank = np.isnan(value)
    filled = np.where(blank, np.zeros_like(value), value)
    if (
        blank.any()
        and space.dtype != "float32"
        and np.isfinite(filled).all()
        and (filled == np.trunc(filled)).all()
    ):
        filled = filled.astype(np.int64)
    rows = read_array(key, filled, space)
    return np.where(blank, np.nan, rows).astype(np.float32) if blank.any() else rows
