"""Worker processes: the same rows as in-process, survived deaths, nothing left behind."""

import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import psutil
import pytest
import vector_toys as toys
from etils import epath

from dreamworld.config import EnvConfig
from dreamworld.envs.vector import EnvFailure
from dreamworld.envs.vector.handle import WorkerDied
from dreamworld.errors import UserError
from dreamworld.training import trees


@pytest.fixture
def build():
    made = []

    def make(num=4, workers=2, timeout_s=120.0, max_failures=3, **options):
        config = EnvConfig(engine="process", workers=workers, timeout_s=timeout_s, max_failures=max_failures)
        made.append(toys.make_vector_env(toys.make(**options), config, seed=7, num=num))
        return made[-1]

    yield make
    for env in made:
        env.close()


def gone(pids, within_s=10.0):
    """Whether all processes end in time; zombies count as there."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_more_workers_than_the_system_lets_start_are_one_line(build):
    before, limits = set(psutil.Process().children()), resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir("/proc/self/fd")))
    free = [number for number in range(1024) if number not in taken]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[12], limits[1]))
    try:
        with pytest.raises(UserError, match=r"env\.workers 64: .*Too many open files.*use fewer") as caught:
            build(num=64, workers=64)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "\n" not in str(caught.value) and gone(
        {child.pid for child in psutil.Process().children()} - {child.pid for child in before}
    )


def test_a_start_that_takes_long_is_told(build, monkeypatch, caplog):
    monkeypatch.setattr("dreamworld.envs.vector.process.TOLD_S", 0.0)
    build(num=2, workers=2)
    assert "starting 2 worker processes, which takes about" in caplog.text


def test_rows_are_those_of_the_inprocess_engine_whatever_the_number_of_workers(build):
    reference = toys.make_vector_env(toys.make(length=3), EnvConfig(engine="inprocess"), seed=7, num=5)
    expected = toys.roll(reference, 9)
    for workers in (1, 2):
        for a, b in zip(expected, toys.roll(build(num=5, workers=workers, length=3), 9)):
            for key in a.obs:
                np.testing.assert_array_equal(a.obs[key], b.obs[key])
            for key in ("reward", "is_first", "is_last", "is_terminal"):
                np.testing.assert_array_equal(getattr(a, key), getattr(b, key))
                assert getattr(a, key).dtype == getattr(b, key).dtype
            assert a.log.keys() == b.log.keys()
            for key in a.log:
                np.testing.assert_array_equal(a.log[key], b.log[key])


def test_step_before_reset_starts_episodes_from_the_seed_given_at_construction(build):
    first = build().step({"action": np.zeros((4, 2), np.float32)})
    assert first.is_first.all()
    np.testing.assert_array_equal(first.obs["noise"], build().reset(7).obs["noise"])


def test_returned_arrays_are_never_overwritten(build):
    env = build()
    first = env.reset(0)
    kept = {key: value.copy() for key, value in first.obs.items()}
    for _ in range(3):
        env.step(toys.zeros(env))
    for key, value in kept.items():
        np.testing.assert_array_equal(first.obs[key], value)


def test_a_worker_loads_no_jax_and_not_the_main_module(build):
    env = build(num=2)
    modules = env.reset(0)
    for pid in env.pids:
        command = psutil.Process(pid).cmdline()
        maps = {os.path.basename(mapped.path) for mapped in psutil.Process(pid).memory_maps()}
        assert "-c" in command and not any("jaxlib" in name or "xla" in name.lower() for name in maps)
    assert modules.is_first.all()
    env = toys.make_vector_env(toys.Modules, EnvConfig(engine="process", workers=1), seed=0, num=1)
    try:
        assert env.reset(0).obs["jax_loaded"].tolist() == [0]
    finally:
        env.close()


def test_send_and_recv_are_a_step_in_two_halves(build):
    env, other = build(), build()
    env.reset(3), other.reset(3)
    action = toys.zeros(env)
    env.send(action)
    with pytest.raises(RuntimeError, match="send called twice"):
        env.send(action)
    one, two = env.recv(), other.step(action)
    np.testing.assert_array_equal(one.obs["noise"], two.obs["noise"])
    with pytest.raises(RuntimeError, match="recv called without send"):
        env.recv()


def test_killed_worker_closes_its_episodes_as_truncated_and_is_replaced(build):
    env = build()
    rows = toys.roll(env, 2)
    old = env.pids[0]
    os.kill(old, signal.SIGKILL)
    step = env.step(toys.zeros(env))
    assert step.is_last.tolist() == [True, True, False, False] and not step.is_terminal.any()
    assert step.reward[:2].tolist() == [0, 0]
    np.testing.assert_array_equal(step.obs["noise"][:2], rows[-1].obs["noise"][:2])
    (event,) = step.events
    assert "SIGKILL" in event and str(old) in event
    after = env.step(toys.zeros(env))
    assert after.is_first.tolist() == [True, True, False, False]
    assert after.events == () and env.failures == 1
    # Rebuilt environments go on with seeds of their own, not with the episode they started from.
    assert (after.obs["noise"][:2] != rows[0].obs["noise"][:2]).all()


def test_worker_killed_when_an_episode_is_due_starts_it_in_the_same_row(build):
    env = build(num=2, workers=1, length=2)
    assert toys.roll(env, 2)[-1].is_last.all()
    os.kill(env.pids[0], signal.SIGKILL)
    step = env.step(toys.zeros(env))
    assert step.is_first.all() and len(step.events) == 1
    assert not env.step(toys.zeros(env)).is_first.any()


def test_environment_that_kills_its_process_is_survived(build, tmp_path):
    rows = toys.roll(build(workers=1, fault="kill", flag=str(tmp_path / "struck")), 6)
    assert sum(len(row.events) for row in rows) == 1
    assert rows[-1].obs["image"].any()


def test_hanging_worker_is_killed_after_the_timeout_and_its_stack_is_kept(build, tmp_path):
    env = build(num=2, workers=1, fault="hang", flag=str(tmp_path / "struck"), timeout_s=1.0)
    toys.roll(env, 1)
    old, start = env.pids, time.monotonic()
    step = env.step(toys.zeros(env))
    assert time.monotonic() - start < 5
    (event,) = step.events
    assert "did not answer within 1 s" in event and step.is_last.all()
    assert not set(old) & set(env.pids) and gone(old)
    assert env.step(toys.zeros(env)).is_first.all()


def test_always_hanging_environment_stops_with_the_stack_it_hangs_in(build):
    env = build(num=1, workers=1, fault="hang", at=1, timeout_s=0.3, max_failures=1)
    with pytest.raises(EnvFailure, match="2 times in a row") as error:
        toys.roll(env, 10)
    assert "vector_toys.py" in str(error.value) and "step" in str(error.value)


def test_raising_environment_costs_neither_its_worker_nor_its_neighbours(build, tmp_path):
    env = build(workers=1, fault="raise", flag=str(tmp_path / "struck"))
    pids = env.pids
    rows = toys.roll(env, 4)
    assert [len(row.events) for row in rows] == [0, 0, 1, 0, 0]
    assert "broken at step 2" in rows[2].events[0] and rows[2].is_last.sum() == 1
    assert env.pids == pids and env.failures == 1


def test_too_many_failures_in_a_row_raise_with_the_traceback_of_the_worker(build):
    with pytest.raises(EnvFailure, match="4 times in a row") as error:
        toys.roll(build(fault="raise", at=1), 20)
    assert "vector_toys.py" in str(error.value) and "broken at step 1" in str(error.value)


def test_too_many_deaths_in_a_row_raise(build):
    with pytest.raises(EnvFailure, match="SIGKILL"):
        toys.roll(build(num=1, workers=1, fault="kill", at=1, max_failures=1), 20)


def test_environment_that_can_not_be_built_raises_the_users_error():
    config = EnvConfig(engine="process", workers=2)
    with pytest.raises(UserError, match="unknown environment 'no_such_env'"):
        toys.make_vector_env("no_such_env", config, seed=0, num=2)
    with pytest.raises(EnvFailure, match="built wrong") as error:
        toys.make_vector_env(toys.Unbuildable, config, seed=0, num=2)
    assert "vector_toys.py" in str(error.value)


def test_factory_that_workers_can_not_import_is_refused_in_one_line():
    with pytest.raises(UserError, match="in a module of its own"):
        toys.make_vector_env(lambda: toys.Counter(), EnvConfig(engine="process"), seed=0, num=2)


def test_named_environment_runs_in_workers():
    env = toys.make_vector_env("gym_CartPole-v1", EnvConfig(engine="process", workers=1), seed=0, num=2)
    try:
        rows = toys.roll(env, 60)
        assert any(row.is_terminal.any() for row in rows) and not any(row.events for row in rows)
    finally:
        env.close()


def test_restored_state_continues_as_if_never_interrupted(build, tmp_path):
    """On its way it is saved: arrays that came from a worker were written as what no checkpoint could be read with."""
    env, other = build(length=3), build(length=3, workers=1)
    toys.roll(env, 4)
    trees.write_tree(epath.Path(tmp_path / "host"), trees.copy_tree(env.save()))
    current = other.restore(trees.read_tree(epath.Path(tmp_path / "host")))
    assert current.is_first.all()
    for _ in range(4):
        a, b = env.step(toys.zeros(env)), other.step(toys.zeros(env))
        np.testing.assert_array_equal(a.obs["noise"], b.obs["noise"])
        np.testing.assert_array_equal(a.is_last, b.is_last)


def test_a_worker_that_is_gone_when_it_should_save_is_replaced_at_the_next_step(build):
    env = build(length=3, workers=2)
    toys.roll(env, 2)
    os.kill(env.pids[1], signal.SIGKILL)
    with pytest.raises(WorkerDied, match=r"was killed by SIGKILL"):
        env.save()
    assert len(env.step(toys.zeros(env)).events) == 1 and env.save() is not None


def test_render_reaches_the_right_environment(build):
    env = build(fault="raise", at=2)
    toys.roll(env, 1)
    assert env.render(3).shape == (8, 8, 3) and env.render(3).max() == 1
    with pytest.raises(IndexError):
        env.render(4)


def test_close_ends_the_workers_and_leaves_neither_files_nor_zombies(build):
    before = set(os.listdir("/dev/shm"))
    descriptors = psutil.Process().num_fds()
    env = build()
    env.reset(0)
    pids = env.pids
    assert set(os.listdir("/dev/shm")) == before
    env.close()
    env.close()
    assert gone(pids) and set(os.listdir("/dev/shm")) == before
    assert psutil.Process().num_fds() == descriptors


def test_forgotten_engine_closes_its_workers():
    env = toys.make_vector_env(toys.make(), EnvConfig(engine="process", workers=1), seed=0, num=1)
    pids = env.pids
    del env
    assert gone(pids)


def test_close_does_not_wait_for_a_hanging_environment(build):
    env = build(num=1, workers=1, fault="hang", at=1)
    env.reset(0)
    env.send(toys.zeros(env))
    pids, start = env.pids, time.monotonic()
    env.close()
    assert time.monotonic() - start < 6 and gone(pids)


PARENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts in the background may ignore it
import vector_toys as toys
from dreamworld.config import EnvConfig
from dreamworld.envs.vector import make_vector_env
fault = sys.argv[1]
config = EnvConfig(engine="process", workers=2)
env = make_vector_env(toys.make(fault=fault, at=1), config, seed=0, num=2)
env.reset(0)
print(*env.pids, flush=True)
if fault:
    env.step(toys.zeros(env))
if sys.argv[2] == "crash":
    raise RuntimeError("crash of the parent")
while True:
    env.step(toys.zeros(env))
"""


@pytest.mark.parametrize(
    "fault, end",
    [
        ("", "exit"),
        ("", signal.SIGINT),
        ("", signal.SIGKILL),
        ("hang", signal.SIGKILL),
        ("hang", signal.SIGINT),
    ],
)
def test_no_worker_outlives_its_parent(fault, end):
    """A closed terminal and a scheduler reach the workers, too, and the parent decides: a training saves first."""
    before = set(os.listdir("/dev/shm"))
    path = os.pathsep.join(filter(None, sys.path))
    parent: Any = subprocess.Popen(
        [sys.executable, "-c", PARENT, fault, "crash" if end == "exit" else "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    if end == signal.SIGINT:
        time.sleep(0.2)
        for pid in pids:
            os.kill(pid, signal.SIGHUP)
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
        assert not any(gone([pid], within_s=0.05) for pid in pids)
        os.killpg(parent.pid, signal.SIGINT)  # Ctrl-C reaches the whole group
    elif end == signal.SIGKILL:
        time.sleep(0.2)
        parent.kill()
    _, errors = parent.communicate(timeout=20)
    assert gone(pids)
    assert set(os.listdir("/dev/shm")) == before
    assert errors.count("Traceback") == (0 if end == signal.SIGKILL else 1), errors
