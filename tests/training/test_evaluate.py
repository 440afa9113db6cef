"""Episodes of an evaluation: as many as asked for, none without an end, and none in the way of a stop."""

import io
import os
import signal
from typing import ClassVar

import gymnasium
import jax
import numpy as np
import pytest

import dreamworld.player
from dreamworld import cli
from dreamworld.exits import Exit
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.scripts.train import train
from dreamworld.sessions.build import opened
from dreamworld.sessions.job import Job
from dreamworld.training import snapshot
from dreamworld.training.evaluate import evaluate, random_act
from dreamworld.types import Space, TimeStep


class Counting:
    """Environments whose episodes have these lengths, in turn (0: no end); a reward of 1 for each action."""

    def __init__(self, *lengths):
        self.lengths, self.num_envs, self.resets = lengths, len(lengths), 0
        self.obs_space, self.act_space = (
            {"x": Space((1,), "float32")},
            {"action": Space((), "int32", classes=2)},
        )

    def reset(self, seed):
        self.resets += 1
        self.seed, self.episode = seed, np.zeros(self.num_envs, int)
        self.at = np.zeros(self.num_envs, int)
        return self._rows()

    def step(self, action):
        over = self._over()
        self.episode += over
        self.at = np.where(over, 0, self.at + 1)
        return self._rows()

    def _over(self):
        lengths = np.array([each[e % len(each)] for each, e in zip(self.lengths, self.episode)])
        return (lengths > 0) & (self.at >= lengths)

    def _rows(self):
        over = self._over()
        reward = (self.at > 0).astype(np.float32)
        obs = {"x": np.zeros((self.num_envs, 1), np.float32)}
        return TimeStep(obs, reward, self.at == 0, over, over)


def play(env, episodes, **options):
    return evaluate(random_act(env.act_space, env.num_envs), None, env, episodes, seed=0, **options)


def test_every_environment_plays_its_share():
    found = play(Counting((3,), (5, 2)), 3)
    assert (found.returns, found.lengths, found.cut) == ([3.0, 5.0, 3.0], [3, 5, 3], 0)


@pytest.mark.parametrize("length", [0, 1000])
def test_an_episode_without_an_end_is_cut_and_counted(length):
    env = Counting((length,))
    found = play(env, 1, max_steps=40)
    assert (found.returns, found.lengths, found.cut) == ([40.0], [40], 1)


def test_an_episode_of_just_the_limit_is_whole():
    found = play(Counting((40,)), 2, max_steps=40)
    assert (found.lengths, found.cut) == ([40, 40], 0)


def test_the_other_environments_go_on_and_what_was_cut_begins_anew():
    env = Counting((0,), (30, 5), (2, 2))
    found = play(env, 6, max_steps=10)
    assert sorted(found.lengths) == [2, 2, 10, 10, 10, 10] and found.cut == 4
    assert env.resets > 1 and found.returns == [float(length) for length in found.lengths]


def test_an_episode_that_ends_after_the_limit_makes_room_for_the_next():
    env = Counting((12, 3), (9, 9))
    found = play(env, 4, max_steps=10)
    assert sorted(found.lengths) == [3, 9, 9, 10] and found.cut == 1 and env.resets == 1


def test_a_stop_ends_it_within_a_step():
    asked = iter([False] * 7 + [True])
    found = play(Counting((0,)), 1, stop=lambda: next(asked))
    assert found.stopped and not found.returns


class Endless(gymnasium.Env):
    """Has no end. Its third instance, which is that of evaluation, sends this process a SIGTERM."""

    instances: ClassVar[int] = 0
    kill_at: ClassVar[int] = 0

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self.number, self.steps = Endless.instances, 0
        Endless.instances += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.number == 2 and self.steps == Endless.kill_at:
            os.kill(os.getpid(), signal.SIGTERM)
        obs = np.full(2, self.steps % 10 / 10, np.float32)
        return obs, float(self.steps % 3), False, False, {}


def config_of(logdir, *words):
    options = [
        "--configs",
        "debug",
        "--logdir",
        str(logdir),
        "--env.engine",
        "inprocess",
        "--run.steps",
        "80",
    ]
    options += [
        "--run.report_every",
        "0",
        "--run.save_every",
        "0",
        "--run.log_every",
        "40",
        "--eval.every",
        "40",
    ]
    options += ["--eval.video", "False", "--logger.tensorboard", "False", "--run.progress", "False"]
    return cli.parse([*options, *words])


def test_a_stop_during_an_evaluation_saves_and_the_evaluation_comes_later(tmp_path, monkeypatch, capsys):
    rundir = RunDir(tmp_path / "run")
    monkeypatch.setattr(Endless, "kill_at", 25)
    monkeypatch.setattr(Endless, "instances", 0)
    assert train(config_of(rundir, "--run.grace_s", "60"), Endless) == Exit.PREEMPTED
    assert snapshot.snapshot_steps(rundir.checkpoints) == [40] and read_jsonl(rundir.evals) == []
    assert "evaluation at step 40 was stopped" in capsys.readouterr().err
    monkeypatch.setattr(Endless, "kill_at", 0)
    assert train(config_of(rundir, "--eval.max_steps", "60"), Endless) == Exit.OK
    rows = read_jsonl(rundir.evals)
    assert [(row["step"], row["lengths"], row["cut"]) for row in rows] == [(40, [60], 1), (80, [60], 1)]
    assert "1 of them cut at 60 steps (eval.max_steps)" in capsys.readouterr().err


def test_a_player_is_traced_once_a_run(tmp_path, monkeypatch):
    traces = []
    act = dreamworld.player._act
    monkeypatch.setattr(
        dreamworld.player, "_act", lambda *args, **options: (traces.append(1), act(*args, **options))[1]
    )
    config = config_of(
        tmp_path / "run", "--task", "jax_catch", "--env.engine", "jax", "--eval.max_steps", "20"
    )
    rundir, progress = RunDir.of(config), Progress(config.run.steps, show=False, file=io.StringIO())
    with opened(Job.of(config), progress) as session:
        (loop,) = session.loops
        assert loop.evaluate is not None
        loop.evaluate(10)
        state = loop.learner.state
        loop.learner.state = state._replace(params=jax.tree.map(lambda x: 1.5 * x, state.params))
        loop.evaluate(20)
        loop.evaluate(20)  # as after a kill: the same row is not written twice
    rows = read_jsonl(rundir.evals)
    assert len(traces) == 1 and [row["step"] for row in rows] == [10, 20]
