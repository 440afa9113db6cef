"""The run directory: where everything of a run lies, whose it is, and who may write to it.

config.yaml        resolved config            spaces.json        environment and its spaces
config.sig         signature of its user      episodes.jsonl     one line per training episode
metrics.jsonl      one line per log step      eval.jsonl         one line per evaluation
status.json        heartbeat                  learning_curve.png
checkpoints/<step> snapshots                  replay/            chunk files
tensorboard/       event files                report/<step>/     open-loop pictures
eval/<step>.mp4    video of an evaluation episode   assess/    how good its world model is
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreamworld import presets, schema, text, trust, writing
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.limits import FIXED, SILENT
from dreamworld.logging.locks import Hold
from dreamworld.logging.obstacles import obstacle
from dreamworld.logging.rows import write_json
from dreamworld.reading import BadFile, read_json, require_inside
from dreamworld.runenv import RunEnv, read_run_env, same_name, write_run_env
from dreamworld.spaces import DATA_SET

PARTS = (
    *("config.yaml", "spaces.json", "status.json", "metrics.jsonl", "episodes.jsonl", "eval.jsonl", ".lock"),
    *("checkpoints", "replay", "tensorboard", "report", "eval", "failures", "learning_curve.png", "log.txt"),
    *("wandb_id", "wandb", "set_aside", "assess"),
)
"""What a run reads, writes and deletes in its directory."""


class RunDir:
    """Paths and files of one run directory. Creating the object touches nothing; UserError for an empty path."""

    def __init__(self, path: str | os.PathLike[str]):
        text.check_path("--logdir", path)
        self.path = text.expand_path(path).absolute()
        self.config = self.path / "config.yaml"
        self.spaces = self.path / "spaces.json"
        self.metrics = self.path / "metrics.jsonl"
        self.episodes = self.path / "episodes.jsonl"
        self.evals = self.path / "eval.jsonl"
        self.status = self.path / "status.json"
        self.checkpoints = self.path / "checkpoints"
        self.replay = self.path / "replay"
        self.tensorboard = self.path / "tensorboard"
        self.report = self.path / "report"
        self.eval = self.path / "eval"
        self.assess = self.path / "assess"
        self.learning_curve = self.path / "learning_curve.png"
        self._started = time.time()
        self._hold: Hold | None = None  # while the lock is held

    @classmethod
    def of(cls, config: Config) -> RunDir:
        """The directory of a config: `logdir` with {task} and {seed} filled in."""
        if "://" in config.logdir:
            raise UserError(
                f"--logdir {config.logdir}: a run directory is a local folder (replay is read and locked in place); "
                "mount the store (gcsfuse, mountpoint-s3) and give that path"
            )
        task = config.task.replace("/", "_").replace(":", "_")
        rundir = cls(config.logdir.replace("{task}", task).replace("{seed}", str(config.seed)))
        for key, value in {**presets.flat(config), "logdir": str(rundir.path)}.items():
            text.check(f"--{key}", value)
        return rundir

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config.is_file()

    def require(self, *, trusted: bool = False) -> Config:
        """The config of the run found here; UserError when there is none."""
        self.require_files()
        return self.load_config(trusted=trusted)

    def require_files(self) -> None:
        """UserError when there is no run here; reads nothing of it."""
        if not self.exists():
            why = obstacle(self.config)
            why = f"config.yaml {why}" if why else "there is no config.yaml"
            raise UserError(f"--logdir {self.path}: no run here ({why}); give the folder of a run")
        self.check_links()

    def create(self) -> None:
        """Makes the directory and checks that it can be written to; UserError otherwise."""
        probe = self.path / f".probe-{os.getpid()}"
        with self._told(), writing.making(self.path):
            writing.clear(probe).write_bytes(b"")
            probe.unlink()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            line = f"--logdir {self.path}: can't be written to ({error.strerror or error}); choose another folder"
            raise UserError(line) from None

    @contextlib.contextmanager
    def claim(self, config: Config) -> Iterator[None]:
        """Creates the directory and holds it: call it once everything about a training is accepted.

        UserError, changing nothing, where `begin` would, and where another training has it. It goes if no run began.
        """
        self.admit(config)
        with contextlib.ExitStack() as held:
            with self._told():
                held.enter_context(writing.making(self.path))
            self.create()
            held.enter_context(self.lock())
            yield

    def begin(self, config: Config) -> list[str]:
        """Creates the directory, or checks that the run found there is this one; saves the config.

        Returns notes for people: which options a continued run changes. Raises UserError, changing nothing,
        when the directory holds another run, or when `config.resume` does not allow what is found.
        """
        notes = self.admit(config)
        if obstacle(self.metrics) == "" and self.metrics.exists() and not self._has_snapshots():
            notes.append(f"no checkpoint in {self.checkpoints}: the run starts anew at step 0")
        self.create()
        self.save_config(config)
        return notes

    def admit(self, config: Config) -> list[str]:
        """What `begin` would say of what is found here; changes nothing."""
        self._check_shape()
        self.check_links()
        found = self.exists()
        if not found:
            self.check_apart()
        if found and config.resume == "never":
            raise UserError(
                f"--logdir {self.path}: holds a run already, and --resume never asks for a new one"
            )
        if not found and config.resume == "must":
            raise UserError(f"--logdir {self.path}: no run to continue here, and --resume must asks for one")
        return self.check(config) if found else []

    def _check_shape(self) -> None:
        """Raises UserError where something else is in the place of what a run can't do without."""
        found = [(self.config, obstacle(self.config))]
        found += [(path, obstacle(path, folder=True)) for path in (self.path, self.checkpoints, self.replay)]
        for path, why in found:
            if why:
                raise UserError(f"--logdir {self.path}: {path} {why}; remove it, or choose another folder")
        if not self.exists() and self._has_snapshots():
            raise UserError(
                f"--logdir {self.path}: holds checkpoints but no config.yaml; put it back (each "
                "checkpoints/*/snapshot.json holds a copy), or choose another folder"
            )

    def check_apart(self) -> None:
        """Raises UserError where a new run would lie within another or in a data set, or hide others.

        Of runs within each other only the outer one is listed; a data set has files of the same names.
        """
        what = f"--logdir {self.path}: a new run"
        for outer in map(RunDir, self.path.parents):
            if outer.exists() and any(
                path.exists() for path in (outer.spaces, outer.status, outer.checkpoints)
            ):
                raise UserError(
                    f"{what} can't lie in the folder of another one, {outer}; choose another folder"
                )
        for folder in (self.path, *self.path.parents):
            if (folder / DATA_SET).is_file():
                raise UserError(
                    f"{what} can't lie in the folder of a data set, {folder}; choose another folder"
                )
        inner = [self.path / "sweep.json", *self.path.glob("seed[0-9]*/config.yaml")]
        if found := [path for path in inner if path.is_file()]:
            raise UserError(f"{what} would hide those that are there ({found[0]}); choose another folder")

    def check_links(self) -> None:
        """Raises BadFile where a part of the run is a link that leaves the directory; one to nothing leads nowhere."""
        for path in (*(self.path / name for name in PARTS), *self.path.glob("replay_*")):
            if os.path.exists(path):
                require_inside(self.path, path)

    def _has_snapshots(self) -> bool:
        return any(self.checkpoints.glob("[0-9]*/snapshot.json"))

    def check(self, config: Config) -> list[str]:
        """Compares with the run found here: UserError for what can't change, notes for what does change."""
        changes = presets.diff(self.load_config(), config)
        fixed = {key: change for key, change in changes.items() if key in schema.marked(config, FIXED)}
        if fixed:
            raise UserError(
                f"--logdir {self.path}: holds a run with other settings: {presets.describe_diff(fixed)}; "
                "use those of the run (left), or another folder; to continue it as it is: "
                f"dreamworld train {shlex.quote(str(self.path))}"
            )
        told = {key: change for key, change in changes.items() if key not in schema.marked(config, SILENT)}
        return [
            f"continued with a change: {presets.describe_diff({key: change})}" for key, change in told.items()
        ]

    def check_env(self, env: RunEnv) -> list[str]:
        """Compares with what the run found here was trained on; UserError, with the difference, for another one."""
        try:
            found = read_run_env(self.spaces)
        except BadFile as error:
            return [f"{error}; it is written anew"]
        if found is None:
            return []
        what = f"--logdir {self.path}: holds a run of {found.name}"
        if not same_name(found.name, env.name):
            raise UserError(f"{what}, not of {env.name}; use its environment, or another folder")
        if difference := found.difference(env.obs_space, env.act_space):
            raise UserError(f"{what} with other spaces: {difference}; use its environment, or another folder")
        return found.changed(env)

    def remember(self, env: RunEnv) -> None:
        """Keeps what the run is trained on, and signs the run as this user's; call it after `begin`."""
        write_run_env(self.spaces, env)
        trust.sign(self.path)

    def save_config(self, config: Config) -> None:
        """Replaces config.yaml atomically."""
        presets.save_yaml(config, self.config)

    def keep_config(self, config: Config) -> None:
        """Writes config.yaml again where somebody removed it; OSError where that can't be."""
        if not self.config.is_file():
            self.save_config(config)

    def load_config(self, *, trusted: bool = False) -> Config:
        """The config of the run; `trusted` lets one of somebody else name an agent whose code has to be imported."""
        return presets.load_yaml(self.config, trusted=trusted)

    def away(self) -> str:
        """What became of a directory that is held: empty while it is in its place, else a clause for people."""
        return self._hold.place.away() if self._hold else ""

    def now(self) -> Path | None:
        """Where a directory that is held has gone, or is; None where it was removed."""
        return self._hold.place.now() if self._hold and self.away() else self.path

    def write_status(self, state: str, **fields: Any) -> None:
        """Replaces status.json atomically; `updated`, `started`, `host` and `pid` are filled in.

        `state`: starting, running, finished, preempted, failed. Other fields keep what this process wrote before.
        """
        previous = self.read_status()
        kept = previous if previous.get("pid") == os.getpid() else {}
        here = {"host": socket.gethostname(), "pid": os.getpid(), "updated": time.time()}
        started = kept.get("started", self._started)
        write_json(self.status, {**kept, "state": state, **fields, **here, "started": started})

    def read_status(self) -> dict[str, Any]:
        """The last status, {} when there is none that can be read."""
        try:
            status = read_json(self.status)
        except (OSError, BadFile):
            return {}
        return status if isinstance(status, dict) else {}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the directory against a second training; UserError when another one has it.

        Within a `with` of the same object a second one does nothing.
        """
        if self._hold:
            yield
            return
        with contextlib.ExitStack() as stack:
            self._hold = Hold(self.path, stack)
            try:
                yield
            finally:
                self._hold = None

    def keep_lock(self) -> None:
        """Locks again where somebody removed the lock; OSError where that can't be, UserError where another has it."""
        if self._hold and not self._hold.place.away():
            self._hold.renew()
