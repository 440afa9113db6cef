"""Layers of options: YAML presets and files over the dataclass defaults, checked key by key.

Loads no JAX. A layer is a nested mapping as in `configs/*.yaml`; every key and value in it is checked against
`dreamworld.config.Config`, and a mistake is one line that names the key, the value and what would be right.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import os
import shlex
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from dreamworld import agents, plainyaml, trust, words, writing
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.limits import show
from dreamworld.options import AgentConfig
from dreamworld.schema import check_given, coerce, options, ranges
from dreamworld.text import expand_path

T = TypeVar("T")


def replace(config: T, values: Mapping[str, Any]) -> T:
    """A copy with dotted keys replaced by values of the right types; use `override` for unchecked input."""
    own: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        head, dot, rest = key.partition(".")
        if dot:
            groups.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    own |= {head: replace(getattr(config, head), rest) for head, rest in groups.items()}
    return dataclasses.replace(typing.cast(Any, config), **own)


def override(config: T, values: Mapping[str, Any], source: str = "", *, trusted: bool = True) -> T:
    """A copy of `config` with dotted keys replaced, each checked and converted: `{"run.steps": "2e4"}`.

    Another `agent.name` brings that agent's options, at their defaults; one that is `module:SPEC` is imported only if
    `trusted`. Raises UserError for an unknown key (with the nearest valid one) or a value of the wrong type.
    """
    prefix = f"{source}: " if source else ""
    check_given(config, values)
    if name := values.get("agent.name"):
        config = with_agent(config, name, source, trusted)
    known, limits = options(config), ranges(config)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            reason = unknown_in(values, config, source) or unknown(key, value, known, config=config)
            raise UserError(f"{prefix}{reason}")
        checked[key] = coerce(prefix + key, value, known[key])
        if key in limits:
            limits[key].check(checked[key], prefix + key)
    return replace(config, checked)


def with_agent(config: T, name: object, source: str = "", trusted: bool = False) -> T:
    """`config` with the options of the agent `name` at their defaults, unchanged where it has that agent already.

    Unless `trusted`, nothing is imported for an agent `module:SPEC`: that is a UserError.
    """
    own: AgentConfig | None = getattr(config, "agent", None)
    if own is None or own.name == name:
        return config
    try:
        chosen = agents.find(str(name), trusted=trusted).config
    except UserError as error:
        raise UserError(f"{source or '--agent'}: {error}") from None
    return dataclasses.replace(typing.cast(Any, config), agent=chosen)


def unknown(key: str, value: object, known: Iterable[str], dashes: str = "", config: Any = None) -> str:
    """The line for an unknown key: names it, its value, and the nearest valid key."""
    members = [name for name in known if name.startswith(f"{key}.")]
    if members:
        return f"{dashes}{key}: got {show(value)}, but it is a group; options: {dashes}{members[0]}, …"
    best, whose = words.nearest(key, known), ""
    if key.startswith("agent.") and hasattr(config, "agent"):
        owners = [name for name in agents.built_in() if _has(_options_of(name), key)]
        whose = f" of the agent {config.agent.name}" + (
            f", but one of {' and '.join(owners)}" if owners else ""
        )
    return f"{dashes}{key}: no such option{whose} (value {show(value)}); did you mean {dashes}{best}?"


def unknown_in(layer: Mapping[str, object], config: Any, source: str) -> str:
    """The line for a layer with options that another agent has and that of `config` does not have; empty for others."""
    known = options(config)
    strange = [key for key in layer if key.startswith("agent.") and not _has(known, key)]
    owners = [name for name in agents.built_in() if all(_has(_options_of(name), key) for key in strange)]
    if not hasattr(config, "agent") or not strange or not owners:
        return ""
    also = f", and so are {', '.join(strange[1:])}" if strange[1:] else ""
    own = [name for name in preset_names() if _find_layer(name).agent == config.agent.name]
    instead = f"; presets for {config.agent.name}: {', '.join(own)}" if own else ""
    return (
        f"{strange[0]}: no such option of the agent {config.agent.name}; it is one of {' and '.join(owners)}{also}. "
        f"Leave {source or 'them'} out, or choose --agent {owners[0]}{instead}"
    )


def _has(names: Iterable[str], key: str) -> bool:
    """Whether a key is one of the options, or a group of them."""
    return any(name == key or name.startswith(f"{key}.") for name in names)


def _options_of(agent: str) -> list[str]:
    return [f"agent.{name}" for name in options(agents.find(agent).config)]


def _flatten(layer: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in layer.items():
        key = f"{prefix}{name}"
        is_group = any(option.startswith(f"{key}.") for option in known)
        if isinstance(value, Mapping) and key not in known and (is_group or not value):
            flat |= _flatten(value, known, f"{key}.")
        else:
            flat[key] = value
    return flat


class Layer(NamedTuple):
    """What lies over a config."""

    source: str  # as messages call it
    values: dict[str, Any]  # nested, as in the file
    trusted: bool = True  # whether code that it names may be imported

    @property
    def agent(self) -> str:
        """The agent that it names; empty for none."""
        group = self.values.get("agent")
        name = group.get("name") if isinstance(group, Mapping) else None
        name = self.values.get("agent.name") if name is None else name
        return str(name) if isinstance(name, str) else ""


def layer_yaml(config: T, path: str | os.PathLike[str], *, trusted: bool = False) -> T:
    """`config` with a YAML file laid over it.

    Unless `trusted`, the config of somebody else's run can't name an agent whose code has to be imported.
    """
    return _lay(config, _read_layer(path), trusted)


def _read_layer(path: str | os.PathLike[str]) -> Layer:
    return _make_layer(str(path), plainyaml.read_yaml(path), not is_strangers(path))


def _make_layer(source: str, values: object, trusted: bool = True) -> Layer:
    # Values stay text until `coerce`: YAML 1.1 would read 1e6 as text, 1:5 as 65, no as False.
    if values is not None and not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "text"
        raise UserError(f"{source}: holds {kind}, expects options such as `run: {{steps: 1e6}}`")
    return Layer(source, values or {}, trusted)


def _lay(config: T, layer: Layer, trusted: bool) -> T:
    trusted = trusted or layer.trusted
    if layer.agent:
        config = with_agent(config, layer.agent, layer.source, trusted)
    return override(config, _flatten(layer.values, options(config)), layer.source, trusted=trusted)


def is_strangers(path: str | os.PathLike[str]) -> bool:
    """Whether a file is the config of a run that is not signed as this user's."""
    path = expand_path(path)
    return path.name == "config.yaml" and trust.is_run(path.parent) and not trust.is_own(path.parent)


def _preset_folder() -> Any:
    return importlib.resources.files("dreamworld").joinpath("configs")


def preset_names() -> list[str]:
    """Names that `--configs` takes: the stems of `configs/*.yaml`, sizes in order of size."""
    stems = [item.name[:-5] for item in _preset_folder().iterdir() if item.name.endswith(".yaml")]

    def order(name: str) -> tuple[bool, int, str]:
        number = name.removeprefix("size").removesuffix("m")
        is_size = name.startswith("size") and number.isdecimal()
        return is_size, int(number) if is_size else 0, name

    return sorted(stems, key=order)


def apply(
    config: Config, presets: Iterable[str], agent: str | None = None, *, trusted: bool = False
) -> Config:
    """Presets, by name or by path of a YAML file, laid over `config` from left to right.

    The agent is that of `agent`, or of the last preset that names one; then all of them are laid over its defaults.
    Unless `trusted`, the config of somebody else's run can't name code.
    """
    layers = [_find_layer(name) for name in presets]
    named = [layer for layer in layers if layer.agent]
    chosen = agent if agent is not None else named[-1].agent if named else None
    by = "--agent" if agent is not None else named[-1].source if named else ""
    for layer in named:
        if layer.agent != chosen:
            raise UserError(f"{layer.source} is for the agent {layer.agent}, {chosen} is chosen by {by}")
    if chosen is not None:
        config = with_agent(config, chosen, by, agent is not None or trusted or named[-1].trusted)
    for layer in layers:
        config = _lay(config, layer, trusted)
    return config


def _find_layer(name: str) -> Layer:
    """The layer that a name or a path means."""
    path, names = expand_path(name), preset_names()
    stem = path.stem if path.suffix in (".yaml", ".yml") else ""
    if stem and not path.exists() and stem in names:
        raise UserError(f"--configs {name}: there is no such file; the preset is --configs {stem}")
    if (name.endswith((".yaml", ".yml")) or os.sep in name) and not path.is_dir():
        return _read_layer(os.path.expanduser(name))
    if name not in names and (hint := _meant_file(name, path)):
        raise UserError(f"--configs {name}: {hint}")
    if name not in names:
        raise UserError(
            f"--configs {name}: no such preset; did you mean {words.nearest(name, names)}? "
            f"There are: {', '.join(names)} (or give the path of a .yaml file)"
        )
    source, file = f"preset {name}", _preset_folder().joinpath(f"{name}.yaml")  # which may lie in an archive
    return _make_layer(source, plainyaml.parse_yaml(file.read_text("utf-8"), source))


def _meant_file(name: str, path: Path) -> str:
    """What to say where a path was given that leads to no .yaml file; empty where it leads nowhere."""
    if (path / "config.yaml").is_file():
        return (
            f"is a folder with a run; for its options: --configs {os.path.join(name, 'config.yaml')}; "
            f"to continue it: dreamworld train {shlex.quote(name)}"
        )
    if path.is_dir():
        return "is a folder; give a preset or the path of a .yaml file"
    if path.is_file():
        return "is a file whose name does not end with .yaml; rename it to use it"
    if path.with_name(f"{path.name}.yaml").is_file():
        return f"no such preset; did you mean the file --configs {name}.yaml?"
    return ""


def flat(config: object) -> dict[str, Any]:
    """{dotted key: value} of every option."""
    return {key: functools.reduce(getattr, key.split("."), config) for key in options(config)}


def nested(config: object) -> dict[str, Any]:
    """Plain nested dictionaries, tuples as lists: what the YAML holds."""
    tree: dict[str, Any] = {}
    for key, value in flat(config).items():
        *groups, leaf = key.split(".")
        node = functools.reduce(lambda node, group: node.setdefault(group, {}), groups, tree)
        node[leaf] = list(value) if isinstance(value, tuple) else value
    return tree


def dump_yaml(config: object) -> str:
    """The whole config as YAML text that `load_yaml` reads back to an equal one."""
    return yaml.safe_dump(nested(config), sort_keys=False, default_flow_style=None, allow_unicode=True)


def save_yaml(config: object, path: str | os.PathLike[str]) -> None:
    """Writes the whole config; replaces the file atomically."""
    writing.replace(Path(path), dump_yaml(config))


def load_yaml(path: str | os.PathLike[str], *, trusted: bool = False) -> Config:
    """Reads a config; options that the file lacks keep their defaults, unknown ones raise UserError.

    See `layer_yaml` for `trusted`.
    """
    return layer_yaml(Config(), path, trusted=trusted)


def diff(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """{dotted key: (old value, new value)} of the options that differ; of another agent only its name."""
    before, after = flat(old), flat(new)
    if old.agent.name != new.agent.name:
        return {"agent.name": (old.agent.name, new.agent.name)}
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def describe_diff(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """`run.batch_size 16 -> 8, seed 0 -> 1`."""
    return ", ".join(f"{key} {show(old)} -> {show(new)}" for key, (old, new) in changes.items())
