"""An empty word, as of a shell variable that is not set, is a mistake: it is not an option that was left out."""

import importlib
import pkgutil
import typing

import pytest

import dreamworld.benchmarks
import dreamworld.scripts
from dreamworld import cli, schema
from dreamworld.__main__ import main
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.sweep.spec import Flags as SweepFlags
from dreamworld.sweep.spec import parse

MAY_BE_EMPTY = {"run.compile_cache", "parallel.coordinator", "logger.wandb"}


def dataclasses_of_commands():
    """Every dataclass of options that a command parses, by the module it stands in."""
    found = {}
    for package in (dreamworld.scripts, dreamworld.benchmarks):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            for name in ("Flags", "Info", "Import", "Export"):
                if hasattr(module, name):
                    found[f"{info.name.removeprefix('dreamworld.')}.{name}"] = getattr(module, name)
    return found


FLAGS = dataclasses_of_commands()


def takes_text(hint):
    return hint is str or typing.get_origin(hint) is tuple


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("key", [key for key, hint in schema.options(Config).items() if takes_text(hint)])
def test_a_text_or_list_option_of_a_training_takes_an_empty_word_only_where_it_says_so(key, empty):
    if key in MAY_BE_EMPTY:
        assert cli.parse([f"--{key}", empty]) == cli.parse([f"--{key}={empty}"])
        return
    with pytest.raises(UserError, match=rf"^--{key}: is empty.*leave the option out$"):
        cli.parse([f"--{key}", empty])


@pytest.mark.parametrize("name", FLAGS)
def test_a_text_or_list_option_of_a_command_takes_no_empty_word(name):
    flags = FLAGS[name]()
    for key, hint in schema.options(flags).items():
        if takes_text(hint):
            with pytest.raises(UserError, match=rf"^--{key}: .*is empty, like a shell variable"):
                cli.parse_flags([f"--{key}="], flags, prog="x")


def test_the_options_of_commands_were_found():
    assert {"scripts.report.Flags", "scripts.data.Import", "benchmarks.replay.Flags"} <= FLAGS.keys()


@pytest.mark.parametrize("key", [key for key, hint in schema.options(SweepFlags).items() if takes_text(hint)])
def test_a_text_or_list_option_of_a_sweep_takes_no_empty_word(key):
    with pytest.raises(UserError, match=f"^--{key}: .*is empty, like a shell variable"):
        parse(["--tasks", "jax_catch", f"--{key}", ""])


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["train", "--configs", "debug", ""], "--configs: one of the values is empty"),
        (["train", "--data", "a", ""], "--data: one of the values is empty"),
        (["train", "--agent", ""], "--agent: is empty"),
        (["collect", "--task", "x", "--data", "x", "--policy", "random", ""], "--policy: one of the values"),
        (["report", "x", "--group_by"], "--group_by: needs a value"),
        (["report", "mine="], "report mine=DIR: is empty"),
        (["sweep", "--tasks", "jax_catch", "--data", ""], "--data: is empty"),
        (["sweep", "--tasks", "jax_catch", ""], "--tasks: one of the values is empty"),
        (["sweep", "--tasks", "jax_catch", "--slurm", "partition="], "slurm: partition: is empty"),
        (["sweep", ""], "sweep FILE.yaml: is empty"),
        ([""], "dreamworld COMMAND: is empty"),
        (["data", ""], "data COMMAND: is empty"),
        (["benchmark", ""], "benchmark NAME: is empty"),
        (["envs", "check", ""], "envs check NAME: is empty"),
        (["envs", "list", ""], "envs list FAMILY: is empty"),
        (["train", ""], "train DIR: is empty"),
        (["data", "import", "x", ""], "data import: DIR: is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_empty_word_is_one_line_that_names_it(argv, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    out, error = capsys.readouterr()
    assert told in error and error.count("\n") == 1 and not out
    assert not list(tmp_path.iterdir())
