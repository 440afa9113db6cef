"""Atomic, versioned snapshots: saved behind the training loop, checked when read, kept by rules."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.reading import BlockedFile
from dreamworld.replay import patience
from dreamworld.text import printable
from dreamworld.training import lost, snapshot, tensors, trees, upgrade
from dreamworld.types import Tree

log = logging.getLogger("dreamworld")

OS_ERROR = re.compile(r"OS error (\d{1,4})\b")


class Restored(NamedTuple):
    """What a snapshot held."""

    agent: Tree  # as the template, arrays with the template's shardings
    host: Any  # nested dict of numpy arrays, of this process
    meta: dict[str, Any]  # as saved by this process, and "step"
    score: float | None = None


class Checkpointer:
    """Saves and restores snapshots in `directory/<step>/`.

    `save` returns once the arrays are copied; a thread writes, checks and commits them. What goes wrong with
    the disk never raises into training: `poll` tells it, `problem` says it until a later save succeeds, and the
    snapshots that exist stay as they are. Old ones are deleted only after a new one is complete. What nobody has
    polled is logged at the end.

    `on_commit(metas)` runs on the caller's thread, in `poll`, `save`, `wait` or `close`, once after each new
    snapshot, with the metas that must stay readable: those of the snapshots kept and of one being saved.
    `also_keep()` are steps to be kept in addition to those of the rules. `away()` says what became of the run
    directory, in a clause, and is empty while that is in its place: nothing is judged, deleted or left elsewhere.

    With several processes each must call `save` at the same steps, on a shared `directory`.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        keep_last: int = 2,
        keep_every: float = 0,
        keep_best: bool = False,
        asynchronous: bool = True,
        on_commit: Callable[[list[dict[str, Any]]], Any] | None = None,
        also_keep: Callable[[], Iterable[int]] = tuple,
        away: Callable[[], str] = str,
    ):
        if keep_last < 1:
            raise UserError(f"run.keep_last is {keep_last}; at least 1 checkpoint must be kept")
        self.directory = epath.Path(directory)
        self.problem: str | None = None
        self._keep = (keep_last, keep_every, keep_best)
        self._asynchronous = asynchronous
        self._on_commit = on_commit
        self._also_keep = also_keep
        self._away = away
        self._messages: list[str] = []
        self._complete: list[int] = []  # steps of snapshots that nobody has taken yet
        self._bad: dict[int, str] = {}
        self._thread: threading.Thread | None = None
        self._collect = False
        self._orbax: Any = None

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- reading -----------------------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """Steps of the complete snapshots, ascending, those found damaged left out."""
        return [step for step in snapshot.snapshot_steps(self.directory) if step not in self._bad]

    def latest(self) -> int | None:
        """Step of the newest complete snapshot."""
        return max(self.steps(), default=None)

    def last_good(self) -> int | None:
        """`latest` for messages: None also where the system does not list the snapshots."""
        with contextlib.suppress(BlockedFile):
            return self.latest()
        return None

    def restore(
        self,
        step: int | None,
        like: Tree,
        *,
        subset: bool = False,
        check: Callable[[Restored], None] | None = None,
    ) -> Restored:
        """Reads the snapshot of `step` (None: the newest); if damaged, warns and reads the one before it.

        Args:
          step: as `steps()` lists them.
          like: pytree of arrays or `jax.ShapeDtypeStruct`; where these have shardings, the arrays are read
            into them, whatever the mesh was that saved them. numpy leaves are restored as numpy. Or a function
            that makes the pytree of the table of what is stored, `{name: [shape, dtype]}`.
          subset: leave tensors alone that `like` does not have.
          check: raises BadFile where the host part or the meta is not what the caller can go on with.

        Raises:
          UserError: no intact snapshot, its tensors are not those of `like` (the text shows which), or the
            system does not give its files, which is no damage: nothing is moved.
        """
        self._join()
        candidates = [found for found in reversed(self.steps()) if step is None or found <= step]
        if not candidates or (step is not None and candidates[0] != step):
            raise UserError(f"no complete checkpoint {'' if step is None else f'{step} '}in {self.directory}")
        for found in candidates:
            try:
                return patience.retried(lambda found=found: self._read_checked(found, like, subset, check))
            except BlockedFile as error:
                raise UserError(f"{error}; {snapshot.NO_DAMAGE}") from None
            except snapshot.CorruptError as error:
                self._bad[found] = str(error)
                log.warning(
                    f"checkpoint {self.directory / str(found)} is damaged: {error}. Trying an older one."
                )
        causes = "; ".join(f"{found}: {self._bad[found]}" for found in candidates)
        raise UserError(f"no checkpoint in {self.directory} is intact ({causes})")

    def _read_checked(
        self, step: int, like: Tree, subset: bool, check: Callable[[Restored], None] | None
    ) -> Restored:
        """The snapshot of `step`; CorruptError when it is damaged, BlockedFile when the system does not give it."""
        folder = self.directory / str(step)
        restored = self._read(step, snapshot.verify(folder), like, subset)
        with snapshot.damage(folder):
            if check is not None:
                check(restored)
        return restored

    def _read(self, step: int, body: dict[str, Any], like: Tree, subset: bool) -> Restored:
        folder = self.directory / str(step)
        names = upgrade.stored_names(body)
        stored = {name: body["tensors"][old] for name, old in names.items()}
        like = like(stored) if callable(like) else like
        if difference := tensors.difference(stored, like, subset=subset):
            raise UserError(f"checkpoint {folder} does not fit this agent: {difference}")
        process = _process()[0]
        if body["processes"] != _process()[1]:
            log.warning(
                f"checkpoint {folder} was written by {words.count(body['processes'], 'process', 'processes')}, "
                f"now there are {_process()[1]}: the agent is restored, replay and counters are those of process 0"
            )
            process = 0
        if str(process) not in body["meta"]:
            raise snapshot.CorruptError(f"{snapshot.COMMIT} has no meta of process {process}")
        host = trees.read_tree(folder / f"host_{process}")
        agent = _read_agent(folder / "agent", names, len(body["tensors"]), like)
        return Restored(agent, host, {**body["meta"][str(process)], "step": step}, body["score"])

    # --- writing -----------------------------------------------------------------------------------------

    def save(
        self,
        step: int,
        agent: Tree,
        host: Any,
        meta: dict[str, Any],
        score: float | None = None,
        block: bool = False,
    ) -> None:
        """Starts a snapshot of `step`; waits first for the one before, and with `block` for this one.

        A step that has a complete snapshot is not written again; a `score` is added to it, and other names of
        replay files, which damaged ones were replaced by. `agent` may be donated and `host` changed as soon as
        this returns.

        Args:
          step: agent steps.
          agent: pytree of jax or numpy arrays, the same on all processes.
          host: nested dicts, lists and tuples of numpy arrays and plain scalars; each process has its own.
          meta: JSON; each process has its own.
          score: higher is better; `keep_best` keeps the highest.
        """
        json.dumps(meta)
        host = trees.copy_tree(host)
        self._save(step, agent, host, meta, score)
        if not self._asynchronous:
            self._join()
        if block:
            self.wait()

    def _save(self, step: int, agent: Tree, host: Any, meta: dict[str, Any], score: float | None) -> None:
        """Writes nothing where the step is there already; else starts the thread."""
        self._join()
        self._run_on_commit(meta)
        self._quarantine()
        try:
            complete = step in self.steps()
        except BlockedFile as error:
            self._fail(self.directory / str(step), error)
            return
        if complete:
            self._amend(step, score, meta)
            return
        header = {
            "step": step,
            "score": score,
            "created": time.time(),
            "processes": _process()[1],
            "versions": {
                name: importlib.metadata.version(name) for name in ("jax", "orbax-checkpoint", "numpy")
            },
            "tensors": tensors.table(agent),
        }
        folder = self.directory / str(step)
        try:
            self._prepare(folder, agent)
            self._orbax = self._orbax or tensors.make_writer()
            tensors.write(self._orbax, folder / "agent", agent)
        except Exception as error:
            self._fail(folder, error)
            return
        self._thread = threading.Thread(
            target=self._finish, args=(folder, host, dict(meta), header), name="checkpoint"
        )
        self._thread.start()

    def take_complete(self) -> list[int]:
        """Steps of the snapshots that became complete since the last call, on process 0; never waits."""
        steps, self._complete = self._complete, []
        return steps

    def add_score(self, step: int, score: float) -> None:
        """Gives the snapshot of `step`, if there is one, the score of an evaluation that came after it."""
        self._join()
        with contextlib.suppress(BlockedFile):
            if step in self.steps():
                self._amend(step, score, None)

    def poll(self) -> str | None:
        """What went wrong since the last call, or None; never waits. Call it in the loop."""
        if self._thread is not None and not self._thread.is_alive():
            self._join()
            self._run_on_commit()
        messages, self._messages = self._messages, []
        return "\n".join(messages) or None

    def wait(self) -> str | None:
        """Waits for the save under way; returns `problem`."""
        self._join()
        self._run_on_commit()
        return self.problem

    def take_problem(self) -> str | None:
        """`problem`, for a caller who tells it: `poll` does not tell it again."""
        self._messages = [text for text in self._messages if text != self.problem]
        return self.problem

    def tidy(self) -> None:
        """Deletes what no rule keeps any more; a later save tries again where that fails."""
        self._join()
        with contextlib.suppress(OSError):
            self._prune()

    def close(self) -> None:
        """Waits for the save under way, releases Orbax's threads, and logs what nobody has polled."""
        self._join()
        self._run_on_commit()
        self._close_orbax()
        messages, self._messages = self._messages, []
        for text in messages:
            log.warning(text)

    def report_problem(self, step: int, error: Exception) -> None:
        """Records that the part of a snapshot that others write (replay) failed, as a failed save does."""
        self._join()
        self._fail(self.directory / str(step), error)

    def _prepare(self, folder: epath.Path, agent: Tree) -> None:
        """Process 0 makes the folder. All processes go on together, or raise together."""
        process, processes = _process()
        problem: Exception | None = None
        if process == 0:
            try:
                lost.require_place(self._away)
                self.directory.mkdir(parents=True, exist_ok=True)
                snapshot.remove(folder)  # left by a save that never finished
                folder.mkdir()
                tensors.require_space(folder, agent)
            except Exception as error:
                problem = error
        if processes > 1:
            from jax.experimental import multihost_utils

            failed = multihost_utils.process_allgather(np.int32(problem is not None))
            if problem is None and failed.any():
                raise OSError("process 0 could not begin it")
        if problem is not None:
            raise problem

    def _finish(self, folder: epath.Path, host: Any, meta: dict[str, Any], header: dict[str, Any]) -> None:
        """Runs on the thread: writes the host part, waits for the agent's, commits, deletes old snapshots."""
        process, processes = _process()
        try:
            part = folder / f"host_{process}"
            trees.write_tree(part, host)
            (part / "meta.json").write_text(json.dumps(meta))
            (part / "done").touch()
            self._orbax.wait_until_finished()
            lost.require_place(self._away)
            if process == 0:
                snapshot.wait_for([folder / f"host_{index}" / "done" for index in range(processes)], folder)
                metas = [
                    json.loads((folder / f"host_{i}" / "meta.json").read_text()) for i in range(processes)
                ]
                header = {**header, "meta": {str(index): value for index, value in enumerate(metas)}}
                snapshot.commit(folder, header)
                self._complete.append(header["step"])
            else:
                snapshot.wait_for([folder / snapshot.COMMIT], folder)
        except Exception as error:
            self._fail(folder, error)
            return
        self.problem = None
        self._collect = True
        if process == 0:
            try:
                self._prune()
            except Exception as error:
                self._say(
                    f"old checkpoints were not deleted: {lost.cause(error, self._away())}; tried again later"
                )

    def _prune(self) -> None:
        """Deletes snapshots that no rule keeps and what unfinished saves left behind."""
        scores: dict[int, float | None] = {}
        try:
            for step in self.steps():
                try:
                    scores[step] = snapshot.read_commit(self.directory / str(step))["score"]
                except snapshot.CorruptError as error:
                    lost.require_place(self._away)
                    self._bad[step] = str(error)
                    self._say(f"checkpoint {self.directory / str(step)} is damaged: {error}")
        except BlockedFile as error:
            self._say(f"no old checkpoint is deleted: {error}")
            return
        lost.require_place(self._away)
        kept = snapshot.retained(scores, *self._keep) | set(self._also_keep())
        for path in self.directory.iterdir():
            step = int(path.name) if snapshot.STEP.fullmatch(path.name) else None
            ours = path.is_dir() and not os.path.islink(path)  # nothing else is left by a save
            if ours and step is not None and step not in kept and step not in self._bad:
                path.rmtree(missing_ok=True)

    def _quarantine(self) -> None:
        """Moves damaged snapshots out of the way, to `<step>.damaged`, for whoever wants to look."""
        if _process()[0] == 0:
            for step in self._bad:
                path = self.directory / str(step)
                with contextlib.suppress(OSError):
                    if path.exists():
                        path.rename(self.directory / f"{step}.damaged-{int(time.time())}")
        self._bad.clear()

    def _amend(self, step: int, score: float | None, meta: dict[str, Any] | None) -> None:
        """Records the score and the replay files (of `meta`, if given) of a complete snapshot anew."""
        folder = self.directory / str(step)
        if _process()[0] != 0:
            return
        try:
            body = snapshot.read_commit(folder)
            changes: dict[str, Any] = {} if score is None else {"score": score}
            stored = body["meta"].get("0", {})
            if meta is not None and body["processes"] == 1 and _replay_files(stored) != _replay_files(meta):
                changes["meta"] = {"0": meta}
            if changes:
                snapshot.write_commit(folder, {**body, **changes})
                self._collect = True
        except (OSError, BlockedFile, snapshot.CorruptError) as error:
            self._say(f"checkpoint {folder} could not be amended: {lost.cause(error, self._away())}")

    def _run_on_commit(self, *saving: dict[str, Any]) -> None:
        if not self._collect or self._on_commit is None or self._away():
            return
        self._collect = False
        process = str(_process()[0])
        try:
            bodies = [body for step in self.steps() if (body := self._commit_of(step)) is not None]
            metas = [body["meta"][process] for body in bodies if process in body["meta"]]
            lost.require_place(self._away)
        except lost.Away:
            self._collect = True
            return
        except snapshot.CorruptError as error:
            self._say(f"nothing is cleaned up while a checkpoint is damaged: {error}")
            return
        except BlockedFile as error:
            self._say(f"nothing is cleaned up while a checkpoint can't be read: {error}")
            return
        self._on_commit([*metas, *saving])

    def _commit_of(self, step: int) -> dict[str, Any] | None:
        """What a snapshot says of itself; None where process 0 has deleted it since it was listed."""
        folder = self.directory / str(step)
        try:
            return snapshot.read_commit(folder)
        except snapshot.CorruptError:
            if _process()[0] != 0 and not (folder / snapshot.COMMIT).exists():
                return None
            raise

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _fail(self, folder: epath.Path, error: Exception) -> None:
        self._close_orbax()
        away = self._away()
        if _process()[0] == 0 and not (folder / snapshot.COMMIT).exists():
            with contextlib.suppress(OSError):
                folder.rmtree(missing_ok=True)
        if away:
            lost.clear_place(self.directory)
        latest = self.last_good()
        left = f"the last good one is {latest}" if latest is not None else "there is no older one"
        what = f"checkpoint {folder.name}" if away else f"checkpoint {folder}"
        left = "" if away else f"{left}; "
        self.problem = f"{what} was not saved ({left}the next save tries again): {lost.cause(error, away)}"
        self._say(self.problem)

    def _close_orbax(self) -> None:
        writer, self._orbax = self._orbax, None
        if writer is not None:
            with contextlib.suppress(Exception):  # it raises the failure again that was told already
                writer.close()

    def _say(self, text: str) -> None:
        self._messages.append(text)


def _read_agent(folder: epath.Path, names: dict[str, str], count: int, like: Tree) -> Tree:
    """The tensors; CorruptError where Orbax can't read what lies there, whatever it says of that."""
    import jax

    try:
        return tensors.read(folder, names, count, like)
    except (UserError, MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        number = error.errno if isinstance(error, OSError) else None
        if found := OS_ERROR.search(cause):  # TensorStore says it in words of its own
            number = int(found[1])
        if number is not None and number not in snapshot.OF_THE_DATA:
            raise BlockedFile(folder, OSError(number, os.strerror(number))) from None
        raise snapshot.CorruptError(f"agent can't be read: {printable(cause):.300}") from error


def _replay_files(meta: dict[str, Any]) -> list[list[str] | None]:
    replay = meta.get("replay") or {}
    return [replay.get(key) for key in ("files", "journals")]


def _process() -> tuple[int, int]:
    import jax

    return jax.process_index(), jax.process_count()
