"""`dreamworld debug DIR`: repeats the update that was not finite and shows where its NaN is made."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from dreamworld import cli, text
from dreamworld.contract import Agent, Phase
from dreamworld.errors import UserError
from dreamworld.limits import Range
from dreamworld.reading import require_inside
from dreamworld.sessions import folders
from dreamworld.types import Batch, Carry, Params, TrainState

NUMBER = re.compile(r"[0-9]{1,15}")
DESCRIPTION = "Look for the cause when updates of a run are not finite: dreamworld debug DIR"


@dataclasses.dataclass(frozen=True)
class Flags:
    logdir: str = ""
    """Folder of the run, where it is not the first word."""
    update: Annotated[int, Range(-1, 1e15)] = -1
    """The failure of this update; -1 for the newest."""
    trust: bool = False
    """Import the code that the config of somebody else's run names."""


def main(argv: Sequence[str]) -> int:
    """Explains the newest failure of a run, or the one of `--update`."""
    flags = read(argv)
    directory = folders.require_run(flags.logdir).path
    for line in explain(directory, flags.update if flags.update >= 0 else None, trust=flags.trust):
        print(text.printable_lines(line), flush=True)
    return 0


def read(argv: Sequence[str]) -> Flags:
    """The options of a command line; a wrong --update is answered with the failures that are there."""
    folder, options = folders.split(argv, "debug")
    try:
        flags = cli.parse_flags(options, Flags(), prog="dreamworld debug DIR", description=DESCRIPTION)
    except UserError as error:
        if folder and str(error).startswith("--update"):
            found = saved_failures(folders.require_run(folder).path / "failures")
            raise UserError(f"{error}; failures were saved at {', '.join(map(str, found))}") from None
        raise
    return dataclasses.replace(flags, logdir=folders.agreed(folder, flags.logdir, "debug"))


def explain(directory: Path, update: int | None = None, *, trust: bool = False) -> list[str]:
    """What went wrong at `update` (None: the newest failure) of the run in `directory`, line by line."""
    folder = choose_failure(directory / "failures", update)

    from dreamworld.sessions import pieces, stored
    from dreamworld.training import failures

    bad = failures.load_bad_batch(folder)
    run = stored.open_run(directory, trusted=trust)
    pieces.setup_jax(run.config)
    agent = stored.build_agent(run)
    state, source = load_state(run.rundir.checkpoints, agent, bad)
    check_batch(agent, bad.batch, folder)
    carry = load_carry(agent, state, bad)
    lines = [f"{folder}: {bad.summary['text']}", source, describe_size(state.params)]
    return lines + debug_batch(agent, state, carry, bad.batch, phase_of(agent, bad))


def phase_of(agent: Agent, bad: Any) -> Phase:
    """The phase whose update failed; that of an agent with one where the failure does not tell."""
    named = [phase for phase in agent.phases if phase.name == bad.summary.get("phase")]
    return named[0] if named else agent.phase


def check_batch(agent: Agent, batch: Batch, folder: Path) -> None:
    """Raises UserError where the arrays are not rows of this agent's environment."""
    import numpy as np

    leading = batch.reward.shape
    spaces = {f"obs/{key}": space for key, space in (agent.obs_space or {}).items()}
    spaces |= {f"action/{key}": space for key, space in (agent.act_space or {}).items()}
    arrays = {f"obs/{key}": array for key, array in batch.obs.items()}
    arrays |= {f"action/{key}": array for key, array in batch.action.items()}
    for key, space in spaces.items():
        array, shape = arrays.get(key), (*leading, *space.shape)
        if array is None or array.shape != shape or array.dtype.kind != np.dtype(space.dtype).kind:
            found = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise UserError(
                f"{folder} is no batch of this agent: {key} is {found}, not {space.dtype} {shape}"
            )


def choose_failure(folder: Path, update: int | None) -> Path:
    """The folder of a saved batch; UserError when the run has none."""
    found = saved_failures(folder)
    if update is not None and update not in found:
        raise UserError(
            f"--update {update}: no failure was saved there; there are {', '.join(map(str, found))}"
        )
    return folder / str(max(found) if update is None else update)


def saved_failures(folder: Path) -> list[int]:
    """The updates whose batches were kept; UserError when there are none."""
    require_inside(folder.parent, folder)
    found = sorted(int(path.name) for path in folder.glob("*") if NUMBER.fullmatch(path.name))
    if not found:
        raise UserError(
            f"{folder.parent} has no saved batch: the numerical guard has caught nothing in this run"
        )
    return found


def load_state(checkpoints: Path, agent: Agent, bad: Any) -> tuple[TrainState, str]:
    """The train state of the failure from the checkpoint nearest to it, and a line that says how near."""
    import jax
    import numpy as np

    from dreamworld.training.checkpoint import Checkpointer

    checkpointer = Checkpointer(checkpoints)
    wanted = bad.summary["checkpoint"]
    step = wanted if wanted in checkpointer.steps() else None
    template = jax.eval_shape(agent.init, jax.ShapeDtypeStruct((2,), np.uint32))
    restored = checkpointer.restore(step, {"train": template}, subset=True)
    state: TrainState = restored.agent["train"]
    updates = int(state.step)
    exact = updates == bad.step
    near = "exactly those of the failure" if exact else f"of update {updates}, the failure was at {bad.step}"
    line = f"parameters of checkpoint {restored.meta['step']}, {near}"
    return state._replace(step=jax.numpy.int32(bad.step), key=jax.numpy.asarray(bad.key)), line


def describe_size(params: Params) -> str:
    """A line on the size of the parameters: what an exploding training shows first."""
    import jax
    import numpy as np

    named = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.abs(np.asarray(leaf, np.float32))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if leaf.size
    }
    bad = [name for name, values in named.items() if not np.isfinite(values).all()]
    if bad:
        return f"parameters that are not finite: {len(bad)} of {len(named)}: {', '.join(bad[:5])}"
    largest = max(named, key=lambda name: named[name].max())
    return f"parameters are finite; the largest value is {named[largest].max():.4g}, in {largest}"


def load_carry(agent: Agent, state: TrainState, bad: Any) -> Carry:
    """The carry of the failure; the initial one where none was kept."""
    import jax

    initial = phase_of(agent, bad).initial(state.params, bad.batch.reward.shape[0])
    wanted, structure = jax.tree.flatten(initial)
    if len(bad.carry) != len(wanted):
        return initial
    for one, other in zip(bad.carry, wanted):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            found = f"{one.dtype} {one.shape}, not {other.dtype} {other.shape}"
            raise UserError(f"the failure has no carry of this agent: one of its arrays is {found}")
    return jax.tree.unflatten(structure, bad.carry)


def debug_batch(
    agent: Agent, train_state: TrainState, carry: Carry, batch: Batch, phase: Phase | None = None
) -> list[str]:
    """Repeats one update operation by operation; takes minutes for a large agent.

    Returns lines: losses and gradients that are not finite, then what made them so, earliest first.
    """
    from dreamworld.training import culprit

    arguments = {"state": train_state, "carry": carry, "batch": batch}
    (_, _, output), findings = culprit.find((phase or agent.phase).update, arguments)
    bad = {name for name, finite in output.health.items() if not bool(finite)}
    if not bad:
        return ["repeated here, this update is finite: the failure needs other parameters or another device"]
    losses = sorted(name for name in bad if name.startswith("loss/"))
    tensors = sorted(bad.difference(losses))
    total = sum(not name.startswith("loss/") for name in output.health)
    lines = [f"losses that are not finite: {', '.join(losses) or 'none'}"]
    names = f": {', '.join(tensors[:5])}" if tensors else ""
    lines.append(f"gradients that are not finite: {len(tensors)} of {total}{names}")
    return [*lines, "where it begins:", *(f"  {i}. {finding.text}" for i, finding in enumerate(findings, 1))]
