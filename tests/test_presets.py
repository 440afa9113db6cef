"""Presets and YAML layers: the published settings, and the one line for a mistake in a file."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from dreamworld import cli, presets, schema
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
    ("text", "words"),
    [
        ("run: {stepz: 5}", ["run.stepz", "5", "did you mean run.steps?"]),
        ("run: {steps: many}", ["run.steps", "'many'", "a number"]),
        ("env: {num: true}", ["env.num", "'true'", "a whole number"]),
        ("env: {size: [1, 2, 3]}", ["env.size", "['1', '2', '3']", "2 values"]),
        ("run: {steps: -5}", ["run.steps", "-5", "at least 1"]),
        ("task: [5]", ["task", "['5']", "text"]),
        ("run:", ["run", "group"]),
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


def test_yaml_reads_values_as_the_command_line_does(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("seeds: 1:5\ntask: 007\nlogger: {wandb: no}\nrun: {grace_s: 1e2}\nenv: {resize: on}\n")
    with pytest.raises(UserError, match=r"env\.resize: got 'on', expects True or False"):
        cli.parse(["--configs", str(file)])
    file.write_text(file.read_text().replace("on}", "yes}"))
    config = cli.parse(["--configs", str(file)])
    assert (config.seeds, config.task, config.logger.wandb) == ("1:5", "007", "no")
    assert config.run.grace_s == 100 and config.env.resize is True
    cli.save_yaml(config, file)
    assert cli.load_yaml(file) == config


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


def test_override_takes_numbers_of_numpy_and_paths():
    given = {
        "seed": np.int64(4),
        "run.steps": np.float32(8),
        "env.size": [np.int32(8), 8],
        "logdir": Path("runs/a"),
    }
    found = cli.override(Config(), given)
    assert (found.seed, found.run.steps, found.env.size, found.logdir) == (4, 8.0, (8, 8), "runs/a")
    assert [type(value) for value in (found.seed, found.run.steps, found.env.size[0])] == [int, float, int]


@pytest.mark.parametrize(
    ("config", "values", "told"),
    [
        (None, {}, "override: the config is a NoneType; give what dreamworld.parse returns"),
        (Config, {}, "override: the config is a type"),
        (Config(), ["seed=3"], 'override: the values are a list; give {"run.steps": 2e4}'),
        (Config(), {3: 4}, "override: the key 3 is an int; give the name of an option"),
        (Config(), {"seed": np.array([1, 2])}, "seed: got array([1, 2]), expects a whole number"),
    ],
)  # fmt: skip
def test_what_override_can_t_take_is_one_line(config, values, told):
    assert line_of(lambda: cli.override(config, values)).startswith(told)


def test_ranges_hold_for_every_preset():
    for name in presets.preset_names():
        for key, value in presets.flat(presets.apply(Config(), [name])).items():
            schema.check_range(Config, key, value, key)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DEBUG", "did you mean debug?"), ("Size1M", "did you mean size1m?"),
        ("DMC-Proprio", "did you mean dmc_proprio?"),
        ("debug.yaml", "the preset is --configs debug"), ("configs/crafter.yml", "the preset is --configs crafter"),
    ],
)  # fmt: skip
def test_a_preset_in_another_spelling_is_named(name, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(hint)):
        cli.parse(["--configs", name])


@pytest.mark.parametrize(("content", "kind"), [("hi", "text"), ("[1, 2]", "a list"), ("3", "text")])
def test_a_file_without_options_is_told_in_the_words_of_users(content, kind, tmp_path):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserError, match=rf"mine\.yaml: holds {kind}, expects options such as `run: "):
        cli.parse(["--configs", str(tmp_path / "mine.yaml")])


OF_DREAMERV3 = [
    name for name in presets.preset_names() if presets._find_layer(name).agent in ("", "dreamerv3")
]


@pytest.mark.parametrize("name", OF_DREAMERV3)
def test_a_preset_for_another_agent_says_whose_its_options_are_and_what_there_is(name):
    own = {key.split(".")[1] for key in presets.flat(Config()) if key.startswith("agent.")}
    words = ["--configs", name, "--agent", "planet"]
    text = presets._find_layer(name).values.get("agent", {})
    if not set(text) & (own - {"name", "precision", "probe"}) or "name" in text:
        assert cli.parse(words).agent.name == "planet"
        return
    line = line_of(lambda: cli.parse(words))
    assert line.startswith(
        f"preset {name}: agent.encoder: no such option of the agent planet; it is one of dreamerv3"
    )
    for group in set(text) - {"precision", "encoder"}:
        assert f"agent.{group}" in line
    assert line.endswith(
        f"Leave preset {name} out, or choose --agent dreamerv3; presets for planet: planet, planet_pendulum, "
        "planet_pixels"
    )


def test_options_of_another_agent_are_said_to_be_its_own(tmp_path):
    words = ["--agent", "planet", "--agent.optim.lr", "1e-3"]
    line = line_of(lambda: cli.parse(words))
    assert (
        "--agent.optim.lr: no such option of the agent planet, but one of dreamerv3 and r2dreamer (value '1e-3')"
        in line
    )
    assert line.endswith("; did you mean --agent.lr?")
    assert ", but one of" not in line_of(lambda: cli.parse(["--agent", "planet", "--agent.nothing", "1"]))
    (tmp_path / "mine.yaml").write_text("agent: {planner: {horizon: 3}, lr: 1}")
    line = line_of(lambda: cli.parse(["--configs", str(tmp_path / "mine.yaml")]))
    assert (
        "agent.planner: no such option of the agent dreamerv3; it is one of planet, and so are agent.lr."
        in line
    )
    assert "or choose --agent planet" in line and "presets for" not in line
