"""Finding the runs below a directory: which folders are runs of ours, and which hold the files of another program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

from dreamworld.errors import UserError
from dreamworld.reading import BadFile
from dreamworld.stats.files import read_config, read_status
from dreamworld.text import expand_path

Kind = Literal["run", "unreadable", "other", ""]
CONFIG, STATUS = "config.yaml", "status.json"
MARKS = ("spaces.json", "config.sig")  # a run writes them beside its config, and no other program does
NOT_DESCENDED = {"wandb"}  # it keeps a config.yaml per run, with our task and seed in it
MAX_FOLDERS = 50  # in each other, below the one that is asked about


class Found(NamedTuple):
    """Folders at or below a directory, sorted."""

    runs: list[Path]
    others: list[Path]  # they have a config.yaml that is not ours


def kind_of(path: Path) -> Kind:
    """`run` for the folder of a run; `unreadable` where a file by which one knows it can't be read."""
    config, status = os.path.lexists(path / CONFIG), os.path.lexists(path / STATUS)
    if (config and status) or ((config or status) and any((path / name).exists() for name in MARKS)):
        return "run"
    try:
        if config:
            return "run" if {"task", "seed"} <= set(read_config(path)) else "other"
        return "run" if status and "state" in read_status(path) else ""
    except BadFile:
        return "unreadable"


def find_folders(root: str | Path) -> Found:
    """Runs at or below `root`, and folders of others. Looks into every folder that is no run.

    UserError where `root` is no directory.
    """
    root = expand_path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a directory; give the directory of a run or one that holds runs")
    kinds: dict[Path, Kind] = {}
    for name, children, _ in os.walk(root):
        folder = Path(name)
        kinds[folder] = kind_of(folder)
        if kinds[folder] == "run" or len(folder.parts) - len(root.parts) > MAX_FOLDERS:
            children.clear()
        children[:] = sorted(child for child in children if child not in NOT_DESCENDED and child[0] != ".")
    runs = [folder for folder, kind in kinds.items() if kind == "run"]
    above = {parent for run in runs for parent in run.parents}
    runs += [folder for folder, kind in kinds.items() if kind == "unreadable" and folder not in above]
    return Found(sorted(runs), sorted(folder for folder, kind in kinds.items() if kind == "other"))


def find_runs(root: str | Path) -> list[Path]:
    """Run directories at or below `root`, sorted. UserError where `root` is no directory."""
    return find_folders(root).runs
