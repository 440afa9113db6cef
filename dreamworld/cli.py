"""Command lines of the commands: `--configs NAME…` layered left to right, dotted overrides on top.

Keys and values are checked here, so that a mistake is one line with the nearest valid key; tyro writes `--help` from
the dataclasses. Loads no JAX.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, NoReturn, TypeVar, cast

from dreamworld import agents, presets, schema, streams, words
from dreamworld.config import Config
from dreamworld.errors import CodeFailure, UserError
from dreamworld.exits import Exit
from dreamworld.limits import ACTING, shorten_words
from dreamworld.lists import split_list, split_names
from dreamworld.presets import diff, load_yaml, override, save_yaml
from dreamworld.text import check, check_path, expand_path, printable, printable_lines

__all__ = ["diff", "load_yaml", "override", "parse", "parse_flags", "parse_with", "run", "save_yaml"]

F = TypeVar("F")
LISTS = ("seeds", "data")
AGENT = ("agent", "agent.name")  # two spellings of the option that is read before all others

DISK = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO")} - {None}


@dataclasses.dataclass(frozen=True)
class _NoFlags:
    """A command without options of its own."""


def parse(
    argv: Sequence[str], *, prog: str = "dreamworld train", description: str = "", base: Config | None = None
) -> Config:
    """The config of a command line: `base` (defaults), then presets, then dotted overrides.

    Raises UserError for a mistake; prints help and raises SystemExit(0) for `--help`.
    """
    return parse_with(argv, _NoFlags(), prog=prog, description=description, base=base)[0]


def parse_with(
    argv: Sequence[str],
    flags: F,
    *,
    prog: str,
    description: str = "",
    base: Config | Callable[..., Config] | None = None,
) -> tuple[Config, F]:
    """As `parse`, for a command with options of its own: the fields of the dataclass instance `flags`.

    `base` may be a function `(*, trusted) -> Config`, which is not called for `--help`.
    """
    lines = _group(argv)
    _require_filled(lines)
    names = tuple(name for key, values in lines if key == "configs" for name in split_names(values) or [""])
    if "" in names:
        raise UserError(
            f"--configs: needs a name or a .yaml file; there are: {', '.join(presets.preset_names())}"
        )
    trusted = any(
        schema.coerce("--trust", _joined("trust", values, bool), bool)
        for key, values in lines
        if key == "trust"
    )
    asked = any(key == "help" for key, _ in lines)
    if callable(base):
        base = None if asked else base(trusted=trusted)
    agent = [_joined("agent", values, str) for key, values in lines if key in AGENT]
    config = presets.apply(base or Config(), names, agent[-1] if agent else None, trusted=trusted)
    if not trusted:
        _refuse_strangers(names, config, {key for key, _ in lines})
    left = [line for line in lines if line[0] not in ("configs", "trust", *AGENT)]
    own, others = _check(left, (config, flags))
    config, flags = presets.replace(config, own), presets.replace(flags, others)
    if asked:
        _help({"config": config, "flags": flags}, prog, description, list_presets=True)
    return config, flags


def _refuse_strangers(names: Sequence[str], config: Config, given: set[str]) -> None:
    """UserError where the config of somebody else's run says, and nobody here, what to run or where to write."""
    known = presets.flat(Config())
    for name in names:
        if not presets.is_strangers(name):
            continue
        stranger = presets.load_yaml(expand_path(name))
        values = presets.flat(stranger)
        acting = [key for key in schema.marked(stranger, ACTING) if values[key] not in ("", known.get(key))]
        if re.search(r"[:./\\]", values["task"]):
            acting.append("task")
        if left := [key for key in acting if key not in given and presets.flat(config)[key] == values[key]]:
            told = ", ".join(f"{key} {values[key]!r}" for key in left)
            raise UserError(
                f"--configs {name}: the config of a run that is not signed as yours sets {told}; give a value of "
                f"your own (--{left[0]} …), or --trust if you trust it"
            )


def parse_flags(argv: Sequence[str], flags: F, *, prog: str, description: str = "") -> F:
    """The options of a command that takes no config: a copy of the dataclass instance `flags`."""
    lines = _group(argv)
    flags = presets.replace(flags, _check(lines, (flags,))[0])
    if any(key == "help" for key, _ in lines):
        _help({"flags": flags}, prog, description, list_presets=False)
    return flags


def leading_words(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line before its first option, and the rest."""
    first = next((index for index, word in enumerate(argv) if word.startswith("-")), len(argv))
    return list(argv[:first]), list(argv[first:])


def require_folders(command: str, folders: Sequence[str], which: str) -> None:
    """UserError unless words are folders, at least one; `which` asks for them."""
    for folder in folders:
        check_path(f"{command} DIR", folder)
    check("DIR", list(folders))
    if not folders:
        raise UserError(f"{command}: {which}")


def refuse_unused(command: str, given: Collection[str], used: Sequence[str], flags: object) -> None:
    """UserError for an option of training, among those `given`, that has no effect in a command.

    `used` are options, or groups of them, that have one; `flags` a dataclass of the command's own options.
    """
    known = (*used, *(field.name for field in dataclasses.fields(cast(Any, flags))))
    for key in sorted(given):
        if not any(f"{key}.".startswith(f"{name}.") for name in known):
            hint = f"; did you mean --{key.partition('.')[2]}?" if key.partition(".")[2] in known else ""
            raise UserError(f"{command}: --{key} is an option of training and has no effect here{hint}")


def run(main: Callable[[list[str]], int], argv: Sequence[str]) -> int:
    """Calls a command; returns its exit status. A UserError is printed on stderr and 2, Ctrl-C is 130.

    A file that the system refuses, which no command has an answer to, is one line and 1.
    """
    streams.guard_process("stderr")
    streams.guard_closed("stdout")
    streams.escape("stdout")
    try:
        status = main(list(argv))
        sys.stdout.flush()  # what was printed may fail only now
        return status
    except (UserError, CodeFailure) as error:
        print(f"error: {shorten_words(printable_lines(error, quoted=argv))}", file=sys.stderr)
        return Exit.USAGE if isinstance(error, UserError) else Exit.FAILURE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader left, as in `dreamworld train --help | head`
        streams.silence(sys.stdout)
        return 141
    except OSError as error:
        if error.filename is None and streams.is_broken(sys.stdout):
            streams.silence(sys.stdout)
            print(f"error: the output can't be written ({error.strerror or error})", file=sys.stderr)
        elif error.filename is not None and error.strerror:  # the system refuses a file
            print(f"error: {printable(error.filename)}: {error.strerror}", file=sys.stderr)
        elif error.errno in DISK:
            done = "read or written" if error.errno == errno.EIO else "written"
            print(f"error: a file can't be {done}: {error.strerror}", file=sys.stderr)
        else:
            raise
        return 1


def _group(argv: Sequence[str]) -> list[tuple[str, list[str]]]:
    """[(key, values)] of `--key value…` and `--key=value`; hyphens in keys read as underscores."""
    _require_words(argv)
    lines: list[tuple[str, list[str]]] = []
    for token in argv:
        if token in ("-h", "--help"):
            lines.append(("help", []))
        elif token.startswith("--") and len(token) > 2:
            key, equals, value = token[2:].partition("=")
            lines.append((key.replace("-", "_"), [value] if equals else []))
        elif lines and lines[-1][0] != "help":
            lines[-1][1].append(token)
        else:
            raise UserError(f"{token}: not an option; options start with --, such as --task {token}")
    return lines


def _require_words(argv: object) -> None:
    """UserError for what is no list of texts: in Python, a command line may be anything."""
    if not isinstance(argv, Sequence) or isinstance(argv, str | bytes):
        example = argv.split() if isinstance(argv, str) else ["--configs", "debug"]
        raise UserError(
            f"the command line is of type {type(argv).__name__}: give a list of words: {example!r}"
        )
    for number, word in enumerate(argv, 1):
        if not isinstance(word, str):
            shown, kind = printable(" ".join(str(word).split()))[:60], type(word).__name__
            raise UserError(
                f"word {number} is {shown}, which is {words.with_article(kind)} and no text: write {shown!r}"
            )


def _require_filled(lines: list[tuple[str, list[str]]]) -> None:
    """UserError where one of the options that are read before all others is given an empty word."""
    for key, values in lines:
        if key == "configs" or key in AGENT:
            schema.require_words(key, values, str)


def _check(lines: list[tuple[str, list[str]]], specs: Sequence[Any]) -> list[dict[str, Any]]:
    """The values given to the options of each config, by dotted key; UserError for a mistake."""
    given: list[dict[str, Any]] = [{} for _ in specs]
    known = {
        key: (index, hint) for index, spec in enumerate(specs) for key, hint in schema.options(spec).items()
    }
    for key, values in lines:
        if key == "help":
            continue
        if key not in known:
            own = [
                name for name in schema.options(specs[-1]) if key in name.split("_")
            ]  # as `steps` for check_steps
            raise UserError(presets.unknown(key, " ".join(values), own or known, "--", specs[0]))
        index, hint = known[key]
        if key in schema.never_empty(specs[index]):
            schema.require_words(key, values, hint)
        if key == "data" and isinstance(specs[index], Config):  # given several times, it means all of them
            values = [value for other, found in lines if other == key for value in found]
        value = schema.coerce(f"--{key}", _joined(key, values, hint), hint)
        schema.check_range(specs[index], key, value, f"--{key}")
        given[index][key] = value
    return given


def _joined(key: str, values: list[str], hint: Any) -> Any:
    """One text per option, a list for tuples; an option without a value switches a bool on."""
    if values and hasattr(hint, "__origin__") and hint.__origin__ is tuple:
        return split_list(values) if len(values) > 1 else "".join(values)
    if not values:
        if hint is bool:
            return True
        raise UserError(f"--{key}: needs a value, {schema.expected(hint)}")
    if len(values) > 1 and key in LISTS:  # a list written as text
        return ",".join(split_list(values))
    if len(values) > 1:
        hint = "; a folder goes first, before the options" if os.path.isdir(values[-1]) else ""
        raise UserError(f"--{key} {' '.join(values)}: takes one value, got {len(values)}{hint}")
    return values[0]


def _help(parts: Mapping[str, Any], prog: str, description: str, *, list_presets: bool) -> NoReturn:
    """Prints the options of the instances `parts` and their values, and exits."""
    import tyro

    fields: list[Any] = [
        (name, Annotated[type(value), tyro.conf.arg(name="")], dataclasses.field(default=value))
        for name, value in ((name, _as_it_is(part, parts["flags"])) for name, part in parts.items())
    ]
    if list_presets:
        text = (
            f"Presets, layered left to right, or paths of .yaml files: {', '.join(presets.preset_names())}."
        )
        fields.insert(0, ("configs", Annotated[tuple[str, ...], tyro.conf.arg(help=text)], ()))
        text = f"The agent, whose options are shown below: {', '.join(agents.names())}, or module:SPEC."
        fields.insert(1, ("agent", Annotated[str, tyro.conf.arg(help=text)], parts["config"].agent.name))
    command = dataclasses.make_dataclass("Command", fields, frozen=True)
    tyro.cli(
        command,
        prog=prog,
        description=description or None,
        args=["--help"],
        default=command(),
        use_underscores=True,
        config=(tyro.conf.FlagConversionOff,),
    )
    raise SystemExit(0)


def _as_it_is(value: object, flags: Any) -> Any:
    """A config as one of a class whose agent is annotated with the class that it is of, without what flags replace."""
    if not isinstance(value, Config):
        return value
    import tyro

    own: list[Any] = [("agent", type(value.agent), dataclasses.field(default=value.agent))]
    for name in {field.name for field in dataclasses.fields(flags)} & set(vars(value)):
        hidden = Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress]
        own.append((name, hidden, dataclasses.field(default=getattr(value, name))))
    cls = dataclasses.make_dataclass("Config", own, bases=(Config,), frozen=True)
    return cls(**{field.name: getattr(value, field.name) for field in dataclasses.fields(Config)})
