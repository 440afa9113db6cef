"""What a run needs is compared with the memory there is before anything of it is built."""

import functools
import pathlib
import re
import shlex

import pytest

from dreamworld import cli, presets
from dreamworld.errors import UserError
from dreamworld.scripts import train
from dreamworld.sessions import budget, pieces
from dreamworld.types import Space

ROOT = pathlib.Path(__file__).resolve().parents[2]
ACT = {"action": Space((18,), "float32")}
OBS = {  # by the family of a task
    "atari": {"image": Space((96, 96, 1), "uint8")},
    "atari100k": {"image": Space((64, 64, 3), "uint8")},
    "crafter": {"image": Space((64, 64, 3), "uint8")},
    "dmc": {"vector": Space((68,), "float32")},
    "gym": {"vector": Space((4,), "float32")},
    "jax": {"image": Space((32, 32, 3), "uint8")},
    "bsuite": {"board": Space((10, 5), "float32")},
}


def commands(text):
    """The `dreamworld train` commands in a file, as words."""
    lines = re.findall(r"dreamworld train ([^`\n#]*--configs[^`\n]*)", text)
    return [shlex.split(line.split(" #")[0]) for line in lines]


README = commands((ROOT / "README.md").read_text())
PRESETS = [
    words
    for file in sorted((ROOT / "configs").glob("*.yaml"))
    if file.stem not in ("size1m", "size25m", "size50m", "size100m")  # between the others
    for words in commands(file.read_text())
]


@functools.cache
def parts(*words):
    """Config and agent of a command, without its simulator."""
    config = cli.parse([word for word in words if word not in ("…", "...")])
    family = config.task.partition("_")[0]
    obs = OBS["crafter"] if family == "dmc" and config.env.dmc.obs == "vision" else OBS[family]
    return config, pieces.build_agent(config, obs, ACT)


def machine(monkeypatch, gigabytes):
    """As if so much memory were free."""
    monkeypatch.setattr(budget, "rooms", lambda: (budget.Room(gigabytes * 1e9, "free memory"), None))


def test_the_commands_were_found():
    assert len(README) >= 3 and len(PRESETS) >= 10


@pytest.mark.parametrize("words", README, ids=" ".join)
def test_every_command_of_the_readme_fits_a_small_machine(words, monkeypatch):
    for gigabytes in (16, 24):
        machine(monkeypatch, 0.9 * gigabytes)
        config, agent = parts(*words)
        need = budget.check(config, agent)
        assert need.ram_bytes < 0.81e9 * gigabytes
        assert budget.with_storage(config, need).replay.storage in ("raw", "lz4", "disk")


@pytest.mark.parametrize("words", PRESETS, ids=" ".join)
def test_every_command_of_a_preset_fits_or_is_told_what_to_add(words, monkeypatch):
    config, agent = parts(*words)
    for gigabytes in (16, 24):
        machine(monkeypatch, 0.9 * gigabytes)
        try:
            budget.check(config, agent)
        except UserError as error:
            lines = re.findall(r"^  (--replay\S.*?)    ", str(error), re.MULTILINE)
            assert lines, str(error)
            for line in lines:
                budget.check(cli.parse([*words, *line.split()]), agent)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"agent.behaviour.units": 65_536, "agent.behaviour.actor_layers": 3},
            ["parameters of the", "Reduce --agent.behaviour.units 65536"],
        ),
        (
            {"agent.rssm.deter": 1_048_576, "agent.rssm.blocks": 1},
            ["parameters of the", "--agent.rssm.deter"],
        ),
        ({"agent.rssm.hidden": 65_536, "agent.rssm.deter": 65_536}, ["of the dynamics", "agent.rssm.hidden"]),
        ({"agent.encoder.units": 65_536, "agent.encoder.layers": 3}, ["--agent.encoder.units 65536"]),
        ({"run.batch_size": 65_536, "run.batch_length": 4096}, ["imagined states", "--run.batch_size 65536"]),
        (
            {"agent.behaviour.imag_length": 1000, "run.batch_size": 4096},
            ["imagined states", "imag_length 1000"],
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_largest_part_and_its_option_are_named_in_one_line(options, words, monkeypatch):
    machine(monkeypatch, 24)
    config = presets.override(cli.parse(["--configs", "debug", "size12m"]), options)
    agent = pieces.build_agent(config, OBS["gym"], ACT)
    with pytest.raises(UserError) as caught:
        budget.check(config, agent)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400 and all(word in line for word in words)


def test_many_seeds_count(monkeypatch):
    machine(monkeypatch, 24)
    config, agent = parts("--configs", "debug", "size200m")
    budget.check(config, agent)
    with pytest.raises(UserError, match="this run would need"):
        budget.check(config, agent, seeds=20)


@pytest.mark.parametrize("engine", ["process", "auto"])
def test_worker_processes_count(engine, tmp_path, monkeypatch):
    machine(monkeypatch, 24)
    monkeypatch.setattr(pieces, "make_train_env", None)  # none is started
    words = ["--env.engine", engine, "--env.num", "4096", "--env.workers", "4096"]
    config = cli.parse(["--configs", "debug", "--logdir", str(tmp_path / "new"), *words])
    with pytest.raises(UserError, match=r"4,096 worker processes: .*Reduce --env\.workers 4096") as caught:
        train.train(config)
    assert "\n" not in str(caught.value) and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "seeds", "number"),
    [
        ([], 1, 0),
        (["--env.engine", "inprocess", "--env.workers", "99"], 1, 0),
        (["--env.engine", "process", "--env.workers", "99", "--env.num", "8"], 1, 8),
        (["--env.engine", "process", "--env.workers", "3", "--env.num", "8"], 2, 6),
    ],
)
def test_as_many_worker_processes_count_as_there_will_be(words, seeds, number):
    assert budget.worker_processes(cli.parse(["--configs", "debug", *words]).env, seeds) == number


def test_devices_with_memory_of_their_own_are_compared_with_what_learns(monkeypatch):
    config, agent = parts("--configs", "crafter", "size200m")
    rooms = budget.Room(1e12, "free memory"), budget.Room(2e9, "memory of 1 device")
    monkeypatch.setattr(budget, "rooms", lambda: rooms)
    with pytest.raises(UserError, match="memory of 1 device"):
        budget.check(config, agent)


@pytest.mark.parametrize("mode", [[], ["--seeds", "0:2"]], ids=["one seed", "seeds"])
@pytest.mark.parametrize(
    "argv",
    [
        ["--env.num", "65536", "--env.engine", "inprocess"],
        ["--agent.behaviour.units", "65536", "--agent.behaviour.actor_layers", "3"],
        [
            "--task",
            "jax_catch",
            "--run.mode",
            "fused",
            "--run.batch_size",
            "65536",
            "--run.batch_length",
            "4096",
        ],
        ["--task", "jax_catch", "--run.mode", "fused", "--env.num", "65536", "--run.batch_length", "65536"],
    ],
    ids=" ".join,
)
def test_what_can_not_fit_is_refused_before_it_is_built(mode, argv, tmp_path, monkeypatch):
    many = "--env.num" in argv and "fused" not in argv
    machine(monkeypatch, 0.001 if many else 24)
    if many:
        monkeypatch.setattr(pieces, "make_train_env", None)  # none is built
    config = cli.parse(["--configs", "debug", "--logdir", str(tmp_path / "new" / "{seed}"), *argv, *mode])
    with pytest.raises(UserError, match="this run would need"):
        train.train(config)
    assert not (tmp_path / "new").exists()
