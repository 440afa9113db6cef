"""What is refused leaves nothing behind; what is accepted holds its folder."""

import sys

import pytest

from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.scripts import collect, train

DEBUG = ["--configs", "debug", "--run.progress", "False"]
JAX = ["--task", "jax_catch", "--run.mode", "fused"]


def refused(tmp_path, *argv):
    """What training says; its folder must not exist afterwards."""
    logdir = tmp_path / "new" / "run-{seed}"
    with pytest.raises(UserError) as caught:
        train.train(cli.parse([*DEBUG, "--logdir", str(logdir), *argv]))
    assert not (tmp_path / "new").exists()
    return str(caught.value)


@pytest.mark.parametrize("mode", [[], ["--seeds", "0:2"]], ids=["one seed", "seeds"])
@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--task", "gym_CartPol-v1"], "CartPol"),
        (["--task", "crafter_rewrad"], "crafter_reward"),
        (["--task", "nothing_at_all"], "unknown environment"),
        (["--task", "no_such_module:Env"], "no_such_module"),
        (["--env.options", "gravty=3"], "gravty"),
        (["--env.engine", "jax"], "JAX environment"),
        (["--init_from", "/nowhere"], "no run here"),
        (["--resume", "must"], "no run to continue"),
        (["--replay.capacity_steps", "30"], "too small"),
        (["--parallel.data", "3"], "parallel.data"),
        ([*JAX, "--task", "jax_cath"], "jax_cath"),
        ([*JAX, "--env.options", "size=-3"], "size"),
        ([*JAX, "--env.repeat", "2"], "env.repeat"),
        ([*JAX, "--init_from", "/nowhere"], "no run here"),
        ([*JAX, "--resume", "must"], "no run to continue"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_leaves_no_folder(tmp_path, mode, argv, word):
    assert word in refused(tmp_path, *mode, *argv)


def test_an_unknown_module_of_another_run_is_refused_before_anything_is_written(tmp_path):
    other = RunDir(tmp_path / "other")
    other.begin(cli.parse(DEBUG))
    assert "no module encodr" in refused(tmp_path, "--init_from", f"{other}:encodr")


def test_wandb_without_its_package_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "pip install 'dreamworld[wandb]'" in refused(tmp_path, "--logger.wandb", "mine")


def test_two_starts_at_once_exclude_each_other(tmp_path):
    config = cli.parse([*DEBUG, "--logdir", str(tmp_path / "run")])
    with (
        RunDir.of(config).claim(config),
        pytest.raises(UserError, match="in use by a training"),
        RunDir.of(config).claim(config),
    ):
        pass
    with RunDir.of(config).claim(config):
        pass


def test_a_run_that_is_being_trained_is_refused_before_its_environments_are_built(tmp_path):
    config = cli.parse([*DEBUG, "--logdir", str(tmp_path / "run")])

    def never():
        raise AssertionError("built an environment")

    for argv in ([], ["--seeds", "0"]):
        begun = cli.parse(
            [*DEBUG, "--logdir", str(tmp_path / "run"), "--logdir", str(tmp_path / "run{seed}")]
        )
        with RunDir.of(begun).claim(begun):
            RunDir.of(begun).begin(begun)
            again = cli.parse([*DEBUG, "--logdir", begun.logdir, *argv])
            with pytest.raises(UserError, match="in use by a training"):
                train.train(again, never)
    assert not RunDir.of(config).exists()


def test_holding_a_folder_twice_is_holding_it_once(tmp_path):
    rundir = RunDir(tmp_path)
    with rundir.lock():
        with rundir.lock():
            pass
        with pytest.raises(UserError, match="in use"), RunDir(tmp_path).lock():
            pass


def begun(folder):
    rundir = RunDir(folder)
    rundir.begin(cli.parse([*DEBUG, "--logdir", str(folder)]))
    rundir.write_status("finished", step=600, steps=600)
    return rundir


@pytest.mark.parametrize(
    "words",
    [["--seeds", "0:2"], ["--logdir", "outer/inner"], ["--logdir", "outer/a/b/c"], [*JAX, "--seeds", "0:2"]],
    ids=" ".join,
)
def test_no_run_begins_within_another(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(begun(tmp_path / "outer").path.rglob("*"))
    with pytest.raises(UserError, match=r"can't lie in the folder of another one, .*outer;"):
        train.train(cli.parse([*DEBUG, "--logdir", "outer", *words]))
    assert sorted((tmp_path / "outer").rglob("*")) == before


@pytest.mark.parametrize("inner", ["seed0/config.yaml", "seed12/config.yaml", "sweep.json"])
def test_no_run_begins_around_others(inner, tmp_path):
    (tmp_path / "outer" / inner).parent.mkdir(parents=True)
    (tmp_path / "outer" / inner).write_text("{}")
    with pytest.raises(UserError, match="would hide those that are there"):
        train.train(cli.parse([*DEBUG, "--logdir", str(tmp_path / "outer")]))
    assert not (tmp_path / "outer" / "config.yaml").exists()


@pytest.mark.parametrize("inner", ["", "runs/one"])
def test_no_run_begins_in_a_data_set(inner, tmp_path):
    words = ["--policy", "random", "--task", "jax_catch", "--steps", "20", "--run.progress", "False"]
    assert collect.main([*words, "--data", str(tmp_path)]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    data = ["--data", str(tmp_path), "--eval.every", "0", "--logdir", str(tmp_path / inner)]
    with pytest.raises(UserError, match="can't lie in the folder of a data set"):
        train.train(cli.parse([*DEBUG, *data]))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("words", [["--logdir", ""], ["--logdir= "]], ids=str)
def test_an_empty_folder_is_not_this_one(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^--logdir: is empty"):
        train.train(cli.parse([*DEBUG, *words]))
    assert not any(tmp_path.iterdir())


def test_a_config_of_another_program_above_is_no_run(tmp_path):
    (tmp_path / "config.yaml").write_text("model: resnet\n")
    (tmp_path / "checkpoint.txt").write_text("")
    RunDir(tmp_path / "new").admit(cli.parse(DEBUG))
