"""Dream score against real score over temperature (World Models, Ha & Schmidhuber, 2018, arXiv:1803.10122, Table 2).

A world that dreams with little noise can be exploited: policies earn in it what they do not earn in reality. Policies
that are trained already act in the dream at each temperature; the one that earns most there is *selected*, and the
table says what that one earns for real. No policy is trained anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import nets
from dreamworld.assess import intervals, ranking
from dreamworld.assess.dreams import Dreaming
from dreamworld.assess.ground import Ground
from dreamworld.assess.host import HostGround
from dreamworld.assess.intervals import Estimate
from dreamworld.assess.ranking import Policy
from dreamworld.assess.returns import LEAST, needs
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import make_sheet
from dreamworld.assess.studies.study import Line, Picture, Study, Value, estimates
from dreamworld.contract import Agent
from dreamworld.errors import UserError
from dreamworld.types import Array, Key, Params

RANDOM = "random"
METHOD = (
    "From the same real states, each policy acts over the horizon: in the dream of the judged checkpoint at each "
    "temperature, and in the environment. Returns are sums of rewards, in the dream of expected ones. Selected is the "
    "policy that earns most in the dream at that temperature, of the checkpoints and of uniformly random actions. "
    "Policies are not trained anew at a temperature."
)
COLUMNS = {
    "temperature": "temperature",
    "dreamt": "in the dream",
    "real": "for real",
    "bias": "dream − real",
    "selected": "selected",
    "selected_dreamt": "in the dream",
    "selected_real": "for real",
}


def random_policy(agent: Agent, params: Params) -> Policy:
    """Uniformly random actions as a policy."""

    def act(params: Params, carry: Any, obs: dict[str, Array], key: Key, *, mode: str = "sample") -> Any:
        count = len(jax.tree.leaves(obs)[0])
        action = {}
        for number, (name, space) in enumerate(sorted(agent.act_space.items())):
            own, shape = jax.random.fold_in(key, number), (count, *space.shape)
            classes = nets.class_count(space)
            if classes:
                action[name] = jax.random.randint(own, shape, 0, classes)
            else:
                action[name] = jax.random.uniform(own, shape, jnp.float32, -1.0, 1.0)
        return carry, action, {}

    return Policy(RANDOM, agent._replace(act=act, initial=lambda params, batch: ()), params)


def study(
    name: str,
    policies: Sequence[Policy],
    params: Params,
    dreaming: Dreaming,
    segments: Segments,
    ground: Ground | HostGround | None,
    temperatures: Sequence[float],
    about: dict[str, Any],
    seed: int = 0,
) -> Study:
    """The study of a world; the first policy is its own, `params` what acting in it needs.

    UserError where the world or the segments lack what it needs.
    """
    reason = needs(policies[0].agent, dreaming, params, ground)
    if reason or ground is None:
        raise UserError(f"{name}: --study temperature {reason}")
    every = [*policies, random_policy(policies[0].agent, params)]
    key = jax.random.PRNGKey(seed)
    real, dreamt, index = ranking.play_all(
        every, params["world"], dreaming, segments, ground, key, temperatures
    )
    if len(index) < LEAST:
        raise UserError(
            f"{name}: --study temperature needs {LEAST} states to begin in; {len(index):,} were reached in time"
        )
    return tabulate(
        name, [one.name for one in every], real, dreamt, index, temperatures, about, segments, seed
    )


def tabulate(
    name: str,
    names: Sequence[str],
    real: np.ndarray,
    dreamt: np.ndarray,
    index: np.ndarray,
    temperatures: Sequence[float],
    about: dict[str, Any],
    segments: Segments,
    seed: int = 0,
) -> Study:
    """The study of real returns [P, M] and dreamt ones [T, P, M] of these segments [M]; the first policy is its own."""
    sheet = make_sheet(segments.episode, seed=seed)
    weights, all_ = sheet.weights[:, index], np.ones(len(index), bool)

    def mean(values: np.ndarray) -> Estimate:
        return intervals.estimate(
            intervals.total_mean(weights, values, all_), len(np.unique(segments.episode[index])), len(index)
        )

    rows: list[dict[str, Value]] = []
    for tau, found in zip(temperatures, dreamt):
        best = int(found.mean(1).argmax())
        row: dict[str, Value] = {"temperature": float(tau), "dreamt": mean(found[0]), "real": mean(real[0])}
        row |= {"bias": mean(found[0] - real[0]), "selected": names[best]}
        rows.append(row | {"selected_dreamt": mean(found[best]), "selected_real": mean(real[best])})

    def line(label: str, column: str, dashed: bool = False) -> Line:
        found = [row[column] for row in rows]
        return Line(label, temperatures, estimates([x for x in found if isinstance(x, Estimate)]), dashed)

    pictures = [
        Picture(
            "What the policy earns in the dream, and for real.",
            "temperature",
            "return",
            [line("in the dream", "dreamt"), line("for real", "real", True)],
        ),
        Picture(
            "The policy that earns most in the dream: there, and for real.",
            "temperature",
            "return",
            [line("in the dream", "selected_dreamt"), line("for real", "selected_real", True)],
        ),
    ]
    return Study(name, "temperature", about, COLUMNS, rows, pictures, METHOD)
