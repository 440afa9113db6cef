"""`--init_from`: parameters of another run in place of random ones."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from dreamworld.contract import Agent, modules
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.types import TrainState


def parse_init_from(text: str, known: Sequence[str]) -> tuple[RunDir, list[str]]:
    """The run and the modules of `DIR` or `DIR:module,module`; UserError where one of them is not there."""
    head, _, tail = text.rpartition(":")
    path, names = (head, tail.split(",")) if head and "/" not in tail else (text, list(known))
    if unknown := sorted(set(names) - set(known)):
        raise UserError(f"--init_from {text}: no module {', '.join(unknown)}; there are {', '.join(known)}")
    source = RunDir(path)
    source.require_files()
    return source, names


def initialise_from(text: str, agent: Agent, state: TrainState) -> TrainState:
    """The train state with parameters of another run: all of them (`DIR`), or some modules (`DIR:encoder,dynamics`)."""
    source, names = parse_init_from(text, list(modules(state.params)))
    pick = lambda tree: {
        part: {name: own[name] for name in names if name in own} for part, own in tree.items()
    }
    merge = lambda tree, found: {part: {**own, **found.get(part, {})} for part, own in tree.items()}
    like: TrainState = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    like = like._replace(
        params=pick(like.params), slow=pick(like.slow), opt_state=None, stats=None, step=None, key=None
    )
    with Checkpointer(source.checkpoints) as checkpointer:
        found = checkpointer.restore(None, {"train": like}, subset=True).agent["train"]
    return state._replace(params=merge(state.params, found.params), slow=merge(state.slow, found.slow))
