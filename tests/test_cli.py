"""Command lines: what they make of good input, and the one line for bad input."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import dreamworld
from dreamworld import __main__ as console
from dreamworld import cli, presets, schema
from dreamworld.config import Config
from dreamworld.errors import UserError


def line_of(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_arguments_give_the_defaults():
    assert cli.parse([]) == Config()


def test_later_presets_win_and_overrides_are_on_top():
    config = cli.parse(["--configs", "size1m", "size12m", "--agent.rssm.hidden", "7"])
    assert (config.agent.rssm.deter, config.agent.rssm.hidden) == (2048, 7)
    config = cli.parse(["--agent.rssm.hidden", "7", "--configs", "size12m", "size1m"])
    assert (config.agent.rssm.deter, config.agent.rssm.hidden) == (512, 7)


def test_presets_leave_what_they_do_not_name():
    config = cli.parse(["--configs", "size1m", "crafter"])
    assert config.agent.rssm.deter == 512 and config.run.train_ratio == 512


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["--run.steps", "20000"], "run.steps", 20000.0),
        (["--run.steps=2e4"], "run.steps", 20000.0),
        (["--replay.chunk", "1e3"], "replay.chunk", 1000),
        (["--replay.chunk", "1_000"], "replay.chunk", 1000),
        (["--env.dmc.camera", "-1"], "env.dmc.camera", -1),
        (["--env.size", "32", "48"], "env.size", (32, 48)),
        (["--env.size=32,48"], "env.size", (32, 48)),
        (["--env.size", "(32, 48)"], "env.size", (32, 48)),
        (["--env.size", "32,", "48"], "env.size", (32, 48)),
        (["--env.size", "32 48"], "env.size", (32, 48)),
        (["--seeds", "0,", "2"], "seeds", "0,2"),
        (["--configs", "debug,size1m"], "agent.rssm.deter", 512),
        (["--configs", "debug,", "size1m"], "agent.rssm.deter", 512),
        (["--agent.encoder.mults", "[1, 2]"], "agent.encoder.mults", (1, 2)),
        (["--agent.encoder.mults", "3"], "agent.encoder.mults", (3,)),
        (["--run.progress", "False"], "run.progress", False),
        (["--env.resize"], "env.resize", True),
        (["--env.resize", "--seed", "3"], "env.resize", True),
        (["--agent.encoder.vector_keys="], "agent.encoder.vector_keys", ""),
        (["--agent.encoder.vector-keys=a|b"], "agent.encoder.vector_keys", "a|b"),
        (["--logger.wandb=--odd"], "logger.wandb", "--odd"),
        (["--env.engine", "process"], "env.engine", "process"),
        (["--seed", "1", "--seed", "2"], "seed", 2),
    ],
)
def test_values_are_read_in_every_spelling(argv, key, value):
    found = presets.flat(cli.parse(argv))[key]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--run.stepz", "5"], ["--run.stepz", "'5'", "did you mean --run.steps?"]),
        (["--lr", "5"], ["--lr", "'5'", "did you mean --agent.optim.lr?"]),
        (["--agent.rssm.deterr=8"], ["--agent.rssm.deterr", "'8'", "--agent.rssm.deter?"]),
        (["--run", "5"], ["--run:", "'5'", "group", "--run.steps"]),
        (["--run.batch_size", "0"], ["--run.batch_size", "got 0", "at least 1"]),
        (["--agent.behaviour.lam=1.5"], ["--agent.behaviour.lam", "got 1.5", "between 0 and 1"]),
        (["--env.size", "64", "-1"], ["--env.size", "got -1", "at least 1"]),
        (["--run.steps", "many"], ["--run.steps", "'many'", "a number"]),
        (["--run.steps", "nan"], ["--run.steps", "'nan'", "a number"]),
        (["--env.num", "1.5"], ["--env.num", "'1.5'", "a whole number"]),
        (["--env.num", "inf"], ["--env.num", "'inf'", "a whole number"]),
        (["--env.num", "1", "2"], ["--env.num 1 2", "takes one value, got 2"]),
        (["--env.num"], ["--env.num", "needs a value, a whole number"]),
        (["--env.size", "64"], ["--env.size", "'64'", "2 values"]),
        (["--run.progress", "maybe"], ["--run.progress", "'maybe'", "True or False"]),
        (["--env.engine", "fast"], ["--env.engine", "'fast'", "auto, inprocess, process, atari, jax"]),
        (["walker_walk"], ["walker_walk", "--task walker_walk"]),
        (["--configs", "size2m"], ["size2m", "did you mean size", "dmc_proprio"]),
        (["--configs"], ["--configs", "size1m"]),
        (["--configs", "/no/such.yaml"], ["/no/such.yaml", "No such file"]),
    ],
)
def test_a_mistake_is_one_line_with_key_value_and_what_would_be_right(argv, words):
    line = line_of(lambda: cli.parse(argv))
    for word in words:
        assert word in line


@dataclasses.dataclass(frozen=True)
class Flags:
    supervise: bool = False
    """Restart it when it dies."""
    max_restarts: int = 10
    """Before it gives up."""


def test_commands_have_options_of_their_own():
    config, flags = cli.parse_with(["--supervise", "--seed", "4", "--max_restarts=3"], Flags(), prog="x")
    assert (config.seed, flags) == (4, Flags(True, 3))
    assert "--supervise?" in line_of(lambda: cli.parse_with(["--supervize"], Flags(), prog="x"))
    assert cli.parse_flags(["--max-restarts", "2"], Flags(), prog="x") == Flags(False, 2)
    assert "--max_restarts?" in line_of(lambda: cli.parse_flags(["--restarts", "2"], Flags(), prog="x"))


def test_a_base_config_lies_below_the_presets():
    base = cli.parse(["--seed", "5", "--agent.rssm.deter=8"])
    config, _ = cli.parse_with(["--configs", "size1m"], Flags(), prog="x", base=base)
    assert (config.seed, config.agent.rssm.deter) == (5, 512)


def test_every_option_has_a_meaning_and_a_default_in_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.parse(["--configs", "size1m", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    entries = {}
    for line in text.splitlines():
        words = line.strip(" │|").split()
        if words and words[0].startswith("--") and not words[0].startswith("---"):
            entries[words[0]] = entry = re.split(r"\s{2,}", line.strip(" │|"))[1:]
        elif words and entries:
            entry.append(" ".join(words))
    for key in schema.options(Config):
        meaning, default, _ = " ".join(entries[f"--{key}"]).partition("(default:")
        assert meaning.strip(), f"--{key} has no meaning"
        assert default, f"--{key} has no default"
    assert "512" in " ".join(entries["--agent.rssm.deter"]), "defaults are those of the presets given"


def test_help_is_quick_and_loads_nothing_heavy(repo):
    code = """
import sys
from dreamworld import cli
try:
    cli.parse(["--help"])
except SystemExit:
    pass
print([name for name in ("jax", "matplotlib", "tensorboardX", "flax", "orbax") if name in sys.modules])
"""
    for _ in range(5):  # other processes may be busy: seconds of the processor, and one quick answer is proof
        before = os.times()
        result = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True)
        after = os.times()
        duration_s = (
            after.children_user + after.children_system - before.children_user - before.children_system
        )
        if duration_s < 1:
            break
    assert "--run.steps" in result.stdout and result.stdout.endswith("[]\n")
    assert duration_s < 1


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--run.steps", 20], "word 2 is 20, which is an int and no text: write '20'"),
        ([20], "word 1 is 20"),
        (["--logdir", pathlib.Path("x")], "which is a PosixPath and no text: write 'x'"),
        (["--task", np.zeros((9, 9))], "which is a ndarray and no text"),
        (["--task", b"x"], "which is a bytes and no text"),
        (["--task", None], "which is a NoneType and no text"),
        (["--configs", ["debug"]], "which is a list and no text"),
        ("--configs debug", "give a list of words: ['--configs', 'debug']"),
        (b"--configs debug", "give a list of words"),
        (None, "give a list of words"),
        (5, "give a list of words"),
        ({"task": "x"}, "give a list of words"),
    ],
    ids=str,
)
def test_a_command_line_that_is_no_list_of_texts_is_one_line(argv, told):
    with pytest.raises(UserError) as caught:
        cli.parse(argv)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("run.batch_size", 0, "run.batch_size: got 0, expects at least 1"),
        ("run.steps", "many", "run.steps: got 'many', expects a number"),
        ("env.size", (64,), r"env.size: got \[64\], expects 2 values"),
        ("env.engine", "fast", "env.engine: got 'fast', expects one of auto"),
    ],
)
def test_a_config_made_in_python_is_checked_as_a_command_line_is(key, value, told, tmp_path):
    config = presets.replace(
        cli.parse(["--configs", "debug", "--logdir", str(tmp_path / "run")]), {key: value}
    )
    with pytest.raises(UserError, match=told):
        dreamworld.train(config)
    assert not (tmp_path / "run").exists()


def test_the_package_names_what_a_program_needs():
    assert dreamworld.__version__ == console.version()
    assert {"Player", "UserError", "override", "rollout", "__version__"} <= set(dir(dreamworld))
    assert all(getattr(dreamworld, name) for name in dreamworld.__all__)
    with pytest.raises(AttributeError, match="it has Config, Player"):
        _ = dreamworld.nothing


def test_a_config_is_written_as_what_differs_from_the_defaults():
    config = cli.parse(
        ["--agent", "planet", "--task", "jax_catch", "--logdir", "runs/a", "--run.train_ratio", "64"]
    )
    assert repr(config).startswith(
        "Config(task='jax_catch', agent.name='planet', logdir='runs/a', run.train_ratio=64"
    )
    long = repr(cli.parse(["--configs", "debug"]))
    assert (
        "env.num=2" in long
        and len(long) < 500
        and re.search(r", and \d\d more that differ from the defaults\)$", long)
    )
    assert "agent=3" in repr(dataclasses.replace(config, agent=3))  # type: ignore[arg-type]
