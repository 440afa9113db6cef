"""Which runs are compared with which: a group is one method, its runs differ in task and seed alone."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from pathlib import Path
from typing import Any

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.reading import BadFile
from dreamworld.runenv import read_run_env, same_name
from dreamworld.stats.files import read_plan
from dreamworld.stats.finding import find_folders
from dreamworld.stats.scores import NOT_OURS, Run, differences, flatten, read_run, setting, settings
from dreamworld.text import check_path, expand_path, printable


@dataclasses.dataclass(frozen=True)
class Group:
    """The runs of one method."""

    label: str
    runs: tuple[Run, ...]
    planned: tuple[tuple[str, int], ...] = ()  # (task, seed) that the sweep planned, empty without a sweep
    bad: tuple[str, ...] = ()  # files that can't be read, a line each: their runs are left out

    def of_task(self, task: str) -> list[Run]:
        """Its runs of a task, by seed."""
        return sorted((run for run in self.runs if run.task == task), key=lambda run: run.seed)

    @property
    def tasks(self) -> list[str]:
        """Its tasks, those planned included, sorted."""
        return sorted({run.task for run in self.runs} | {task for task, _ in self.planned})


def collect(sources: list[str], group_by: tuple[str, ...] = (), source: str = "train") -> list[Group]:
    """Groups from `DIR` or `LABEL=DIR` arguments; split by grid points or `group_by` keys.

    UserError: no runs, runs without an episode, one seed twice, or runs of different settings in one group.
    """
    groups: list[Group] = []
    for argument in sources:
        label, path = split_label(argument)
        runs, bad, others = _read_runs(path, source)
        if not runs and bad:
            which = (
                f"none of its {words.count(len(bad), 'run')} can" if len(bad) > 1 else "its only run can't"
            )
            raise UserError(f"{path}: {which} be read: {bad[0]}")
        if not runs:
            why = "; ".join(others) or "a run is a folder with config.yaml and episodes.jsonl"
            raise UserError(f"{path} holds no runs: {why}")
        if not any(len(run.frames) for run in runs):
            what = "evaluation" if source == "eval" else "finished episode"
            which = (
                f"none of its {words.count(len(runs), 'run')} has a"
                if len(runs) > 1
                else "its only run has no"
            )
            raise UserError(f"{path}: {which} {what} yet")
        plan, wrong = _read_plan(path)
        divided = _divide(label, path, runs, plan, group_by, alone=len(sources) == 1)
        groups += [dataclasses.replace(divided[0], bad=(*bad, *others, *wrong)), *divided[1:]]
    labels = [group.label for group in groups]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UserError(f"two directories are called {twice[0]!r}; name them: LABEL=DIR")
    for group in groups:
        _check(group)
    return groups


def _read_runs(path: Path, source: str) -> tuple[list[Run], list[str], list[str]]:
    """The runs below `path`, a line for each one that can't be read, and one for the configs of other programs."""
    found = find_folders(path)
    runs, bad, others = [], [], []
    for folder in found.runs:
        try:
            runs.append(read_run(folder, source))
        except BadFile as error:
            bad.append(str(error))
    if found.others:
        more = f" (nor do {len(found.others) - 1} more)" if len(found.others) > 1 else ""
        others = [f"{printable(found.others[0] / 'config.yaml')}: {NOT_OURS}{more}"]
    return runs, bad, others


def _read_plan(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        return read_plan(path), []
    except BadFile as error:
        return [], [f"{error}; what the sweep planned is not known"]


def split_label(argument: str) -> tuple[str, Path]:
    """The label and the folder of `LABEL=DIR` or `DIR`; a folder whose name holds an equals sign is a folder."""
    label, equals, path = argument.partition("=")
    if equals and not Path(argument).exists():
        check_path(f"report {label}=DIR", path)
        return label, expand_path(path)
    folder = expand_path(argument)
    return folder.resolve().name or str(folder.resolve()), folder  # the root has no name


def _divide(
    label: str, path: Path, runs: list[Run], planned: list[dict[str, Any]], keys: tuple[str, ...], alone: bool
) -> list[Group]:
    """Splits a directory's runs by the variants of its sweep, or by the values of dotted keys."""
    variant_of = {row["name"]: row["variant"] for row in planned}
    parts: dict[str, list[Run]] = {}
    for run in runs:
        flat = flatten(run.config)
        if unknown := [key for key in keys if key not in flat]:
            raise UserError(f"--group-by {unknown[0]}: {run.path / 'config.yaml'} has no such key")
        chosen = ", ".join(f"{key}={flat[key]}" for key in keys)
        variant = chosen or variant_of.get(run.path.relative_to(path).as_posix(), "")
        parts.setdefault(variant, []).append(run)
    by_variant: dict[str, list[tuple[str, int]]] = {}
    for row in planned if not keys else []:
        by_variant.setdefault(row["variant"], []).append((row["task"], row["seed"]))
    groups = []
    for variant in sorted({*parts, *by_variant}):
        name = variant if alone and variant else f"{label} {variant}".strip()
        members = tuple(dataclasses.replace(run, label=name) for run in parts.get(variant, []))
        groups.append(Group(name, members, tuple(by_variant.get(variant, ()))))
    return groups


def _check(group: Group) -> None:
    """Refuses to average what differs in more than the seed."""
    for task in group.tasks:
        runs = group.of_task(task)
        for first, second in itertools.pairwise(runs):
            if first.seed == second.seed:
                raise UserError(
                    f"{group.label}: {first.path} and {second.path} are both {first.name}; "
                    "name the directories to compare: LABEL=DIR"
                )
            if different := environments_differ(first, second):
                raise UserError(
                    f"{group.label} mixes environments under the name {task}: {different}; name the directories to "
                    "compare: LABEL=DIR"
                )
            one, other = settings(first), settings(second)
            if differing := differences(one, other):
                key = differing[0]
                raise UserError(
                    f"{group.label} mixes settings: {key} is {setting(one, key)} in {first.path} and "
                    f"{setting(other, key)} in {second.path} (they differ in {words.count(len(differing), 'key')}); "
                    f"split them: --group-by {key} or LABEL=DIR"
                )


def environments_differ(first: Run, second: Run) -> str:
    """How the environments of two runs differ, by name or by spaces; empty where they don't, or it is not known."""
    found = []
    for run in (first, second):
        with contextlib.suppress(BadFile):
            found.append(read_run_env(run.path / "spaces.json"))
    if len(found) < 2 or None in found:
        return ""
    one, other = found
    if not same_name(one.name, other.name):
        return f"{one.name} in {first.path} and {other.name} in {second.path}"
    difference = one.difference(other.obs_space, other.act_space)
    return difference and f"{difference}, in {second.path} and {first.path}"
