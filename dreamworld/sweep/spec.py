"""What a sweep is: options from a YAML file, the command line, or both, checked before anything starts."""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from dreamworld import plainyaml, presets, schema, text
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.limits import SCALE, Range
from dreamworld.lists import parse_seeds, split_items, split_list, split_names, split_pairs
from dreamworld.text import expand_path
from dreamworld.values import Syntax, options_text
from dreamworld.words import nearest

OWN_KEYS = {"task": "tasks", "seed": "seeds"}  # options of a run that a sweep sets itself


HELP = """Train many runs: dreamworld sweep FILE.yaml, or --tasks … --seeds 0:5 --grid KEY=V1,V2

The same command again skips finished runs and continues the others. Options of the runs (as of
`dreamworld train`, such as --run.steps 1e5) may follow; docs/sweeps.md says more."""


@dataclasses.dataclass(frozen=True)
class Flags:
    """Options of a sweep: each is a key of the YAML file and a flag of the command."""

    name: str = "sweep"
    """Name of the sweep; {name} in logdir."""
    configs: tuple[str, ...] = ()
    """Presets of every run, layered left to right."""
    tasks: tuple[str, ...] = ()
    """Tasks to train on."""
    seeds: str = "0"
    """Seeds: 0:8 (0 to 7), or 0,3,5."""
    grid: tuple[str, ...] = ()
    """Options with several values, KEY=V1,V2: every combination is a method of its own."""
    logdir: str = "~/dreamworld/{name}"
    """Folder of the sweep; runs lie in METHOD/TASK/seedN below it."""
    launcher: Literal["local", "ray", "slurm"] = "local"
    """local: a pool of processes here. ray: a Ray cluster. slurm: job arrays."""
    workers: Annotated[int, Range(0, 65_536)] = 0
    """Runs at a time; 0 takes one per GPU, or as many as the cores allow (slurm, ray: no limit)."""
    cores: Annotated[int, Range(0, 65_536)] = 0
    """CPU cores of each run, which the local launcher binds it to; 0: 2, or an even share beside GPUs."""
    gpus: Annotated[float, Range(-1, 1024)] = -1.0
    """GPUs of each run; a fraction shares one; -1 takes 1 where this machine has GPUs and 0 elsewhere."""
    retries: Annotated[int, SCALE] = 2
    """Times that a failed run is started again without getting further before it is given up."""
    grace_s: Annotated[float, SCALE] = 60.0
    """Time to save after a stop before a run is killed."""
    fps: Annotated[float, Range(0, 1e12)] = 0.0
    """Expected environment frames per second of a run, for the cost estimate; measured runs go first."""
    baseline: Literal["none", "published"] = "none"
    """Draw the published curves in the final report."""
    ray_address: str = ""
    """Address of a Ray cluster, host:port or auto; empty starts Ray in this process."""
    slurm: tuple[str, ...] = ()
    """Parameters of submitit's SLURM executor, KEY=VALUE: partition=gpu time=1-00:00:00 mem=32GB."""
    wait: bool = True
    """slurm: stay until the jobs have ended, retry, and report; otherwise submit and leave."""
    dry_run: bool = False
    """Print the plan (slurm: also the scripts), start nothing."""


@dataclasses.dataclass(frozen=True)
class Spec(Flags):
    """One sweep, checked."""

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Dotted options of every run."""
    axes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """The grid, parsed: option to values."""

    @property
    def folder(self) -> Path:
        """The sweep's directory."""
        return expand_path(self.logdir.replace("{name}", self.name)).absolute()

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds as numbers."""
        return parse_seeds(self.seeds)


FLAGS = schema.options(Flags)
# How words of the command line make a list, where commas do not split as usual.
LISTS = {"configs": split_names, "slurm": split_pairs, "grid": list}


def parse_grid(items: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`a.b=1,2` items -> {option: values}; a comma that split a value off belongs to the option before it."""
    axes: dict[str, list[str]] = {}
    key = ""
    for item in items:
        head, equals, values = item.partition("=")
        if equals:
            key = head.strip().removeprefix("--")
            if key in axes:
                raise UserError(f"--grid {key}: is given twice")
            axes[key] = split_items(values)
        elif not key:
            raise UserError(f"--grid {item}: expects KEY=V1,V2, such as run.train_ratio=64,256")
        else:
            axes[key] += split_items(item)
    return {key: tuple(value for value in values if value) for key, values in axes.items()}


def load(path: str | Path) -> dict[str, Any]:
    """A sweep file as {key: value}, checked: every scalar is text, so that `seeds: 1:5` is not 65 minutes."""
    file = _find(path)
    # Scalars stay text: YAML 1.1 would read 1:5 as a base-60 number.
    tree = (
        plainyaml.read_yaml(file) if isinstance(file, Path) else plainyaml.parse_yaml(file.read_text(), path)
    )
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expects keys such as `tasks:` and `seeds:`")
    known = [*FLAGS, "options"]
    for key in tree:
        if key not in known:
            best = nearest(str(key), known)
            raise UserError(
                f"{path}: no such key {key!r}; did you mean {best}? There are: {', '.join(known)}"
            )
    return {"name": file.name.removesuffix(".yaml"), **tree}


def sweep_names() -> list[str]:
    """Sweep files that come with the package."""
    folder = importlib.resources.files("dreamworld") / "configs" / "sweeps"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def _find(path: str | Path) -> Any:
    """A file by path, or one of the package's by name."""
    if expand_path(path).is_file():
        return expand_path(path)
    name = Path(path).name.removesuffix(".yaml")
    if name in sweep_names() and (str(path) == name or "configs" in Path(path).parts):
        return importlib.resources.files("dreamworld") / "configs" / "sweeps" / f"{name}.yaml"
    raise UserError(f"{path}: no such sweep file; with the package come: {', '.join(sweep_names())}")


def make_spec(tree: Mapping[str, Any], source: str = "sweep") -> Spec:
    """A checked spec from {key: text, list or mapping}; UserError names the key and what would be right."""
    values: dict[str, Any] = {}
    grid, slurm = tree.get("grid", ()), tree.get("slurm", ())
    for key, hint in FLAGS.items():
        if key not in tree or key in ("grid", "slurm"):
            continue
        value = tree[key]
        if key == "seeds" and isinstance(value, list | tuple):
            value = ",".join(str(item) for item in value)
        values[key] = schema.coerce(f"{source}: {key}", value, hint)
        schema.check_range(Flags, key, values[key], f"{source}: {key}")
    axes = parse_grid(grid) if not isinstance(grid, Mapping) else _axes(grid, source)
    pairs = (
        tuple(f"{key}={value}" for key, value in slurm.items())
        if isinstance(slurm, Mapping)
        else tuple(slurm)
    )
    spec = Spec(**values, slurm=pairs, options=_flatten(tree.get("options", {}), source), axes=axes)
    _check(spec, source)
    return spec


def _axes(grid: Mapping[str, Any], source: str) -> dict[str, tuple[str, ...]]:
    """A grid written as a mapping; a list as a value (`env.size: [[64, 64], [96, 96]]`) keeps its commas."""
    axes = {}
    for key, values in _flatten(grid, source).items():
        listed = (
            values
            if isinstance(values, list)
            else [values]
            if isinstance(values, Mapping)
            else split_items(str(values))
        )
        axes[key] = tuple(_text(v) for v in listed)
    return axes


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return options_text(value)
    return ",".join(value) if isinstance(value, list) else str(value).strip()


def _flatten(tree: Any, source: str, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        raise UserError(f"{source}: got {tree!r}, expects options such as `run.steps: 1e5`")
    flat: dict[str, Any] = {}
    texts = {key for key, hint in schema.options(Config).items() if isinstance(hint, Syntax)}
    for key, value in tree.items():
        is_group = isinstance(value, Mapping) and prefix + key not in texts
        flat |= _flatten(value, source, f"{prefix}{key}.") if is_group else {prefix + key: value}
    return flat


def known_options(spec: Spec) -> dict[str, Any]:
    """The options of its runs, `{key: type}`: those of every agent that some of them train."""
    names = spec.axes.get("agent.name") or (spec.options.get("agent.name"),)
    known: dict[str, Any] = {}
    for name in names:
        known |= schema.options(presets.apply(Config(), spec.configs, name))
    return known


def _check(spec: Spec, source: str) -> None:
    text.check_path(f"{source}: logdir", spec.logdir)
    if not spec.name.strip():
        raise UserError(f"{source}: name: is empty; expects the name of the sweep")
    if wrong := [part for part in ("{task}", "{seed}") if part in str(spec.folder)]:
        raise UserError(
            f"{source}: logdir {spec.folder}: {wrong[0]} is filled in for single runs; give the folder of the sweep, "
            "below which each run lies in METHOD/TASK/seedN"
        )
    for key, value in {**spec.options, **spec.axes, "slurm": spec.slurm, "logdir": str(spec.folder)}.items():
        text.check(f"{source}: {key}", key)
        text.check(f"{source}: {key}", value)
    known = known_options(spec)
    for key in [*spec.options, *spec.axes]:
        if key in OWN_KEYS or key in ("seeds", "logdir"):
            raise UserError(f"{source}: {key} belongs to the sweep; use {OWN_KEYS.get(key, key)}")
        if key not in known:
            value = spec.options.get(key, spec.axes.get(key))
            raise UserError(f"{source}: {presets.unknown(key, value, {**FLAGS, **known})}")
    for key, values in spec.axes.items():
        if not values:
            raise UserError(f"{source}: grid {key}: has no values")
        coerced = [schema.coerce(f"{source}: grid {key}", value, known[key]) for value in values]
        if twice := [str(value) for value in coerced if coerced.count(value) > 1]:
            raise UserError(f"{source}: grid {key}: {twice[0]} is given twice")
        if key in spec.options:
            raise UserError(f"{source}: {key} is both an option and in the grid")
    if not spec.tasks:
        raise UserError(
            f"{source}: tasks: none given; name some, such as --tasks dmc_walker_walk crafter_reward"
        )
    if twice := [task for task in spec.tasks if spec.tasks.count(task) > 1]:
        raise UserError(f"{source}: task {twice[0]} is given twice")
    parse_seeds(spec.seeds, f"{source}: seeds")
    if spec.gpus != -1 and (spec.gpus < 0 or (spec.gpus > 1 and spec.gpus != int(spec.gpus))):
        raise UserError(f"{source}: gpus: got {spec.gpus}, expects -1, a fraction up to 1, or a whole number")
    for pair in spec.slurm:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"{source}: slurm: got {pair!r}, expects KEY=VALUE, such as partition=gpu")
        text.check_filled(f"{source}: slurm: {key}", value, "a value, such as partition=gpu")


def parse(argv: Sequence[str]) -> Spec:
    """The spec of a command line: an optional sweep file, then flags of a sweep and options of its runs."""
    file = argv[0] if argv and not argv[0].startswith("-") else None
    text.check_filled("sweep FILE.yaml", "-" if file is None else file, "the path of a sweep file")
    words = _words(argv[1:] if file else argv)
    if {"help", "h"} & set(words):
        from dreamworld import cli

        cli.parse_flags(["--help"], Flags(), prog="dreamworld sweep [FILE.yaml]", description=HELP)
    never_empty = schema.never_empty(Config) | schema.never_empty(Flags)
    for key in never_empty.keys() & words.keys():
        schema.require_words(key, words[key], never_empty[key])
    tree = load(file) if file else {}
    options = dict(_flatten(tree.get("options", {}), file or "sweep"))
    for key, values in words.items():
        hint = FLAGS.get(key, str)
        if not values and key in FLAGS and hint is not bool:
            raise UserError(f"--{key}: needs a value, {schema.expected(hint)}")
        if key not in FLAGS:
            key = "agent.name" if key == "agent" else key
            options[key] = split_list(values) if len(values) > 1 else values[0] if values else True
        elif key == "seeds":
            tree[key] = ",".join(split_list(values))
        elif hint in (bool, int, float, str) or key == "launcher":
            tree[key] = values[0] if len(values) == 1 else values or True
        else:
            tree[key] = LISTS.get(key, split_list)(values)
    return make_spec({**tree, "options": options}, file or "sweep")


def _words(argv: Sequence[str]) -> dict[str, list[str]]:
    """{key: values} of `--key value…` and `--key=value`; a key given twice adds its values."""
    words: dict[str, list[str]] = {}
    key = ""
    for word in argv:
        if word.startswith("-") and word.strip("-") and not word.lstrip("-")[0].isdecimal():
            key, equals, value = word.lstrip("-").partition("=")
            key = key.replace("-", "_")
            words.setdefault(key, []).extend([value] if equals else [])
        elif key:
            words[key].append(word)
        else:
            raise UserError(f"{word}: not an option; a sweep file comes first, options start with --")
    return words
