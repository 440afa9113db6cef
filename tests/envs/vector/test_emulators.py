"""Environments of which a process holds one only: the way out is named, and it works."""

import pytest
import vector_toys as toys

from dreamworld import cli
from dreamworld.config import EnvConfig
from dreamworld.envs import make_env
from dreamworld.envs.check import check_env
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.scripts.train import train

HINT = (
    r"vector_toys:Emulator: one environment was built, another one in the same process raised RuntimeError: "
    r"Cannot create multiple emulator instances per process; give each a process of its own: "
    r"--env.engine process --env.workers 3"
)


@pytest.fixture(autouse=True)
def none_alive():
    toys.Emulator.alive = 0


@pytest.mark.parametrize("options", [{}, {"engine": "inprocess"}, {"engine": "process", "workers": 2}])
@pytest.mark.parametrize("target", [toys.Emulator, "vector_toys:Emulator"], ids=["class", "name"])
def test_a_second_one_in_a_process_is_one_line_with_the_way_out(options, target):
    with pytest.raises(UserError, match=HINT) as error:
        toys.make_vector_env(target, EnvConfig(num=3, **options), seed=0)
    assert "\n" not in str(error.value) and toys.Emulator.alive == 0


def test_a_process_of_its_own_for_each_is_what_the_hint_gives():
    env = toys.make_vector_env(toys.Emulator, EnvConfig(num=3, engine="process", workers=3), seed=0)
    try:
        assert len(set(env.pids)) == 3
        assert toys.roll(env, 6)[-1].is_first.all()
    finally:
        env.close()


class OnceOnly(toys.Emulator):
    """Does not give back what it took when it is closed."""

    def close(self):
        pass


def test_one_that_was_closed_after_measuring_counts_as_the_first():
    with pytest.raises(UserError, match=r"another one in the same process raised .* --env.workers 2"):
        toys.make_vector_env(OnceOnly, EnvConfig(num=2), seed=0)


def test_what_can_not_be_built_at_all_is_not_taken_for_one():
    with pytest.raises(OSError, match="built wrong"):
        toys.make_vector_env(toys.Unbuildable, EnvConfig(num=2, engine="inprocess"), seed=0)


WORDS = ["--configs", "debug", "--task", "vector_toys:Emulator", "--run.steps", "64", "--eval.every", "32"]
WORDS += ["--eval.episodes", "2", "--eval.video", "False", "--run.report_every", "0", "--run.save_every", "0"]
WORDS += ["--run.progress", "False", "--logger.tensorboard", "False", "--env.num"]


@pytest.mark.parametrize("words", [["2", "--env.engine", "process", "--env.workers", "2"], ["1"]])
def test_training_evaluates_in_processes_of_their_own(tmp_path, capfd, words):
    assert train(cli.parse([*WORDS, *words, "--logdir", str(tmp_path)])) == 0
    assert [row["step"] for row in read_jsonl(RunDir(tmp_path).evals)] == [32, 64]
    said = capfd.readouterr().err
    assert ("the environments of evaluation run in processes of their own" in said) == (words == ["1"])


def test_evaluation_that_may_not_have_a_process_says_how(tmp_path):
    words = [*WORDS, "1", "--env.engine", "inprocess", "--logdir", str(tmp_path)]
    with pytest.raises(UserError, match=r"raised RuntimeError: .*--env.engine process --env.workers 1"):
        train(cli.parse(words))


def test_the_check_says_that_a_process_holds_one_only():
    report = check_env(lambda: make_env(toys.Emulator), steps=20)
    assert report.problems == []
    assert "only one of it can be open in a process" in " ".join(report.notes)
    assert "--env.engine process --env.workers N" in " ".join(report.notes)
