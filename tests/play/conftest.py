"""A run whose world has learnt next to nothing, and the worlds of it that sessions play in."""

import pytest

from dreamworld import presets
from dreamworld.__main__ import main
from dreamworld.config import Config
from dreamworld.play import opening
from dreamworld.sessions import stored

QUICK = ["--run.report_every", "0", "--run.save_every", "0", "--eval.every", "0", "--run.progress", "False"]
QUICK += ["--logger.tensorboard", "False", "--run.train_ratio", "0.5", "--configs", "debug"]


def make_run(folder, *options):
    """Trains for a moment: some rows are in its replay, and its parameters are nearly those of its initialisation."""
    assert main(["train", *QUICK, "--logdir", str(folder), *options]) == 0
    return folder


def open_world(folder, **changes):
    """The world of a run as the command opens it."""
    run = stored.open_run(folder)
    played = stored.choose_env(run)
    return opening.open_run(run, played.config, played.source, **changes)


@pytest.fixture(scope="session")
def balls(tmp_path_factory):
    """A run of one ball from pictures."""
    folder = tmp_path_factory.mktemp("play") / "balls"
    options = ("--task", "jax_balls", "--env.options", "n=2,time_limit=30", "--run.steps", "120")
    return make_run(folder, *options, "--run.batch_length", "12", "--seed", "3")


@pytest.fixture(scope="session")
def opened():
    """`open_world`, for tests that open a world of their own."""
    return open_world


@pytest.fixture(scope="session")
def world(balls):
    return open_world(balls)


@pytest.fixture(scope="session")
def pole(cartpole):
    return open_world(cartpole)


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory):
    """A run of gymnasium's CartPole."""
    folder = tmp_path_factory.mktemp("play") / "cartpole"
    return make_run(folder, "--task", "gym_CartPole-v1", "--run.steps", "60", "--run.batch_length", "8")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A run that was trained on episodes, without their environment."""
    folder = tmp_path_factory.mktemp("play")
    told = ["--task", "jax_catch", "--env.options", "obs=image", "--policy", "random", "--steps", "60"]
    assert main(["collect", *told, "--run.progress", "False", "--data", str(folder / "catch")]) == 0
    return make_run(
        folder / "run", "--data", str(folder / "catch"), "--run.steps", "1", "--run.batch_length", "4"
    )


@pytest.fixture(scope="session")
def planned(tmp_path_factory):
    """A run of an agent that plans."""
    options = ("--task", "gym_Pendulum-v1", "--run.steps", "40", "--logger.tensorboard", "False")
    folder = tmp_path_factory.mktemp("play") / "planet"
    quick = [word for word in QUICK if word not in ("--configs", "debug")]
    assert main(["train", "--configs", "planet_pendulum", *quick, *options, "--logdir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def alone():
    """An environment without a run."""
    config = presets.replace(Config(), {"task": "jax_catch", "env.options": "obs=image"})
    return opening.open_task(config)
