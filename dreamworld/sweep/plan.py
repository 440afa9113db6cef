"""Expands a sweep into runs: a job per method, task and seed, with command line and resolved config."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreamworld import presets, schema
from dreamworld.config import Config
from dreamworld.envs.resolve import resolve_apart
from dreamworld.errors import UserError
from dreamworld.sweep.spec import Spec, known_options


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    name: str  # its folder below the sweep's, METHOD/TASK/seedN or TASK/seedN
    task: str
    seed: int
    variant: str  # its grid point, `lr=0.0001`, empty without a grid
    logdir: Path
    args: tuple[str, ...]  # of `dreamworld train`
    config: Config  # resolved

    def row(self) -> dict[str, Any]:
        """What the sweep's directory records of it."""
        return {
            "name": self.name,
            "task": self.task,
            "seed": self.seed,
            "variant": self.variant,
            "args": list(self.args),
        }


def expand(spec: Spec) -> list[Job]:
    """Every run of the sweep: seeds outermost, so that each task and method has a first run early.

    UserError where presets or options do not fit, or two grid points would share a folder.
    """
    jobs = []
    points = list(itertools.product(*spec.axes.values()))
    for seed, task, point in itertools.product(spec.seed_list, spec.tasks, points):
        chosen = dict(zip(spec.axes, point, strict=True))
        jobs.append(_job(spec, task, seed, chosen))
    names = [job.name for job in jobs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f"{spec.name}: two runs would share the folder {twice[0]}; write the values differently"
        )
    return jobs


def _job(spec: Spec, task: str, seed: int, chosen: dict[str, str]) -> Job:
    variant = label(chosen, known_options(spec))
    folder = Path(*(slug(part) for part in (variant, task, f"seed{seed}") if part))
    logdir = spec.folder / folder
    values = {**spec.options, **chosen}
    base = presets.apply(Config(), spec.configs, values.get("agent.name"))
    config = presets.override(base, {**values, "task": task, "seed": seed, "logdir": str(logdir)}, spec.name)
    args = ["--configs", *spec.configs] if spec.configs else []
    args += ["--task", task, "--seed", str(seed), "--logdir", str(logdir)]
    flat = presets.flat(config)
    args += [f"--{key}={_text(flat[key])}" for key in values]
    if "run.progress" not in values:
        args.append("--run.progress=False")
    return Job(folder.as_posix(), task, seed, variant, logdir, tuple(args), config)


def check_tasks(jobs: Sequence[Job]) -> None:
    """UserError for a task that no run could be trained on: its name, its package, or its options."""
    asked = {(job.task, job.config.env): None for job in jobs}
    problems = resolve_apart(list(asked)) if asked else []
    if problems:
        others = sorted({task for task, _ in problems} - {problems[0][0]})
        more = f" (nor can these be trained on: {', '.join(others)})" if others else ""
        raise UserError(f"tasks: {problems[0][1]}{more}")


def label(chosen: dict[str, str], known: dict[str, Any]) -> str:
    """A grid point in words: `lr=0.0001, units=64`; whole keys where two options end alike."""
    leaves = [key.rpartition(".")[2] for key in chosen]
    parts = []
    for (key, value), leaf in zip(chosen.items(), leaves, strict=True):
        name = leaf if leaves.count(leaf) == 1 else key
        parts.append(f"{name}={_text(schema.coerce(key, value, known[key]))}")
    return ", ".join(parts)


def slug(text: str) -> str:
    """Text as one folder name."""
    return re.sub(r"[^\w.=+-]+", "_", text)


def _text(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(_text(item) for item in value)
    if not isinstance(value, float):
        return str(value)
    short = f"{value:.12g}"
    return short if float(short) == value else repr(value)
