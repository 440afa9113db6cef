"""Saving the host loop and going on from a snapshot: agent, counts, environments, replay and batches on their way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamworld.contract import Phase
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.logging.obstacles import obstacle
from dreamworld.text import printable
from dreamworld.training import saved, tensors, trees
from dreamworld.training.checkpoint import Restored
from dreamworld.training.counters import describe_waiting
from dreamworld.training.snapshot import COMMIT

if TYPE_CHECKING:
    from dreamworld.training.loop import Loop


def save(loop: Loop, block: bool) -> None:
    """Snapshots everything at this point of the logical clock; what goes wrong is as in `Run.save`."""
    loop.pipeline.drain()
    loop.keep_files()
    manifest, problem = _save_replay(loop)
    if loop.team.any(manifest is None):
        loop.save_failed(problem or "the replay of another process was not saved", block)
        return
    host = {
        "act": loop.learner.acting_state(),
        "env": _save_env(loop),
        "pending": loop.pipeline.pending(),
    }
    loop.commit(loop.learner.snapshot(), host, {"replay": manifest}, block)


def replay_folder(loop: Loop) -> Path:
    """Where the replay of this process lies."""
    return loop.replay.directory or loop.rundir.replay


def _save_env(loop: Loop) -> dict[str, Any]:
    """The state of the environments; nothing where they have none, or their own code fails, which is said."""
    try:
        return trees.copy_tree(loop.env.save() or {})
    except Exception as error:  # of a worker that was killed, or of somebody's environment
        cause = f"{type(error).__name__}: {printable(error):.200}"
        loop.progress.message(
            f"the environments can't save their state ({cause}); from this checkpoint they begin new episodes"
        )
        return {}


def _save_replay(loop: Loop) -> tuple[dict[str, Any] | None, str]:
    """The manifest; or None and what went wrong."""
    folder = replay_folder(loop)
    if away := loop.rundir.away():
        return None, away
    if why := obstacle(folder, folder=True):
        return None, f"{folder} {why}"
    try:
        return loop.replay.save(folder), ""
    except OSError as error:
        return None, loop.rundir.away() or str(error)


def restore(loop: Loop, step: int | None) -> list[str]:
    """Goes on from the newest intact checkpoint, or that of `step`; returns what replay had to leave out.

    With another number of processes than before, process 0 goes on as ever and the others collect anew.
    """
    agent, host, meta, loop.score = loop.checkpointer.restore(
        step,
        lambda stored: tensors.as_stored(loop.learner.snapshot(), stored, "carry"),
        check=lambda restored: check(loop, restored),
    )
    loop.learner.load(tensors.fresh_where_other(agent, loop.learner.snapshot()))
    notes = loop.restore_counts(host, meta)
    resized = meta.get("processes", 1) != loop.team.count
    if resized:
        loop.counters.wait_again()
        if not loop.team.leads:
            loop.learner.reset_acting()
            return []
    problems = loop.replay.load(replay_folder(loop), meta["replay"], loop.saved_in(meta) / COMMIT)
    loop.episodes.restore(host["episodes"])
    if not loop.replay.ready:  # damage took its rows, or options ask for more: collect before the next update
        loop.counters.wait_again()
        if loop.counters.updates:
            least = loop.replay.config.min_starts
            problems.append(describe_waiting(loop.replay.starts, loop.replay.length, least))
    if not resized:
        loop.pipeline.restore_pending(_pending_of(loop, host["pending"]))
    return notes + problems + restore_env(loop, host)


def check(loop: Loop, restored: Restored) -> None:
    """Raises BadFile where a snapshot's host part is not one that this run can go on from; changes nothing."""
    folder = loop.saved_in(restored.meta)
    meta = Fields(restored.meta, folder / COMMIT, "meta")
    resized = meta.integer("processes", 1, default=1) != loop.team.count
    host_file = folder / f"host_{0 if resized else loop.team.index}" / "tree.json"
    host = loop.check_counts(restored, host_file)
    if not resized or loop.team.leads:
        # First what is no damage: the rows of other options.
        loop.replay.check(replay_folder(loop), meta.get("replay"), folder / COMMIT)
        saved.check_session(host, loop.learner.acting_state(), loop.replay.layout.spaces)


def restore_env(loop: Loop, host: dict[str, Any]) -> list[str]:
    """Environments go on where they were; new episodes begin where their state was not saved or is none."""
    notes = []
    if host["env"]:
        try:
            loop.timestep = loop.env.restore(host["env"])
            loop.learner.load_acting(host["act"])
            return []
        except UserError:
            raise
        except Exception as error:  # an environment's own code, on a state that anybody may have written
            loop.timestep = None
            cause = f"{type(error).__name__}: {printable(error):.200}"
            notes = [f"the environments can't take their saved state ({cause}); new episodes begin"]
    loop.learner.reset_acting()
    return notes


def _pending_of(loop: Loop, stored: Any) -> dict[str, list[dict[str, np.ndarray]]]:
    """Batches that were drawn before a restart, those that this session's phases can take. 0.1 had a list."""
    phases = {phase.name: phase for phase in loop.learner.agent.phases}
    stored = stored if isinstance(stored, dict) else {loop.learner.agent.phase.name: stored}
    keys = {"row", "weight", *loop.replay.layout.spaces}
    known = lambda rows: {
        key: rows[key] for key in rows if key in keys
    }  # without what earlier versions had in it
    return {
        name: [known(rows) for rows in batches if _fits(loop, phases[name], rows)]
        for name, batches in stored.items()
        if name in phases
    }


def _fits(loop: Loop, phase: Phase, rows: dict[str, np.ndarray]) -> bool:
    """Whether a batch that was drawn before a restart has the shape of this session's batches."""
    window = phase.window
    if window is None or ("weight" in rows) != loop.replay.weighs(window):
        return False
    return rows["row"].shape == (loop.team.share(window.batch), window.context + window.length)
