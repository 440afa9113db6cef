"""Command lines, presets and YAML: what they make of good input, and the one line for bad input."""

import dataclasses
import shlex
import subprocess
import sys
import time

import pytest
import yaml

from dreamworld import cli, presets
from dreamworld.config import Config
from dreamworld.errors import UserError

# The published sizes: deter, hidden, classes, convolution depth, units.
SIZES = {
    "size1m": (512, 64, 4, 4, 64),
    "size12m": (2048, 256, 16, 16, 256),
    "size25m": (3072, 384, 24, 24, 384),
    "size50m": (4096, 512, 32, 32, 512),
    "size100m": (6144, 768, 48, 48, 768),
    "size200m": (8192, 1024, 64, 64, 1024),
    "size400m": (12288, 1536, 96, 96, 1536),
}


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


@pytest.mark.parametrize("name", presets.preset_names())
def test_preset_opens_with_a_command_that_parses(name, repo):
    text = (repo / "configs" / f"{name}.yaml").read_text()
    comment = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    assert text.startswith("#") and any(line.startswith("Cost:") for line in comment)
    assert any(line.startswith("Score:") for line in comment)
    command = next(line for line in comment if line.startswith("dreamworld train"))
    config = cli.parse(shlex.split(command)[2:])
    assert name in command and config != Config()


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_published_ones(name):
    agent = cli.parse(["--configs", name]).agent
    deter, hidden, classes, depth, units = SIZES[name]
    assert (agent.rssm.deter, agent.rssm.hidden, agent.rssm.classes) == (deter, hidden, classes)
    assert (agent.encoder.depth, agent.encoder.units, agent.behaviour.units) == (depth, units, units)


def test_suites_are_the_published_ones():
    atari, proprio = (cli.parse(["--configs", name]) for name in ("atari", "dmc_proprio"))
    assert (atari.run.steps, atari.env.num, atari.run.train_ratio, atari.env.size) == (
        5.1e7,
        16,
        32,
        (96, 96),
    )
    assert (atari.env.atari.gray, atari.env.atari.sticky, atari.env.atari.actions) == (True, 0.25, "all")
    assert (proprio.run.train_ratio, proprio.env.num, proprio.env.repeat) == (1024, 16, 1)
    assert proprio.agent.rssm.deter == 512
    few = cli.parse(["--configs", "atari100k"])
    assert (few.run.steps, few.env.num, few.run.train_ratio, few.env.size) == (1.1e5, 1, 256, (64, 64))
    assert (few.env.atari.gray, few.env.atari.sticky, few.env.atari.actions) == (False, 0.0, "needed")
    for name, ratio, num in (("crafter", 512, 1), ("dmc_vision", 256, 16), ("bsuite", 1024, 1)):
        config = cli.parse(["--configs", name])
        assert (config.run.train_ratio, config.env.num) == (ratio, num)


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: {stepz: 5}", ["run.stepz", "5", "did you mean run.steps?"]),
        ("run: {steps: many}", ["run.steps", "'many'", "a number"]),
        ("env: {num: true}", ["env.num", "True", "a whole number"]),
        ("env: {size: [1, 2, 3]}", ["env.size", "[1, 2, 3]", "2 values"]),
        ("task: 5", ["task", "5", "text"]),
        ("run: 5", ["run", "5", "group"]),
        ("rum: {steps: 5}", ["rum", "did you mean"]),
        ("- 5", ["list"]),
        ("run: {steps", ["not valid YAML"]),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(text, words, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    line = line_of(lambda: cli.parse(["--configs", str(file)]))
    for word in [str(file), *words]:
        assert word in line


def test_a_yaml_file_is_a_layer(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("# nothing\nrun: {steps: 1e3, progress: false}\nenv: {size: [8, 8]}\n")
    config = cli.parse(["--configs", "size1m", str(file)])
    assert (config.run.steps, config.run.progress, config.env.size) == (1000.0, False, (8, 8))
    assert config.agent.rssm.deter == 512


def test_an_empty_yaml_file_changes_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# only a comment\n")
    assert cli.parse(["--configs", str(tmp_path / "empty.yaml")]) == Config()


def test_yaml_goes_round(tmp_path):
    config = cli.parse(["--configs", "atari", "size1m", "--logger.wandb", "yes", "--agent.encoder.mults=1,2"])
    cli.save_yaml(config, tmp_path / "config.yaml")
    assert cli.load_yaml(tmp_path / "config.yaml") == config
    plain = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert plain["env"]["size"] == [96, 96] and plain["agent"]["optim"]["eps"] == 1e-20
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


def test_diff_names_what_differs():
    changes = cli.diff(Config(), cli.parse(["--seed", "3", "--env.size=8,8"]))
    assert changes == {"seed": (0, 3), "env.size": ((64, 64), (8, 8))}
    assert presets.describe_diff(changes) == "seed 0 -> 3, env.size [64, 64] -> [8, 8]"


def test_override_checks_and_converts():
    assert cli.override(Config(), {"run.steps": "1e3", "seed": 4}).run.steps == 1000.0
    assert "did you mean run.steps" in line_of(lambda: cli.override(Config(), {"run.step": 3}))


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
            entries[words[0]] = entry = []
        elif words and entries:
            entry.append(" ".join(words))
    for key in presets.options(Config):
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
    for _ in range(5):  # other processes may be busy: one quick answer is proof
        start = time.perf_counter()
        result = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True)
        duration_s = time.perf_counter() - start
        if duration_s < 1:
            break
    assert "--run.steps" in result.stdout and result.stdout.endswith("[]\n")
    assert duration_s < 1
