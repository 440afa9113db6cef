"""An environment that ends the process (`sys.exit()` where its window was closed) has failed, and training goes on."""

import asyncio
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamworld.config import EnvConfig
from dreamworld.envs.check import check_env
from dreamworld.envs.factory import make_env
from dreamworld.envs.vector import EnvFailure, make_vector_env
from dreamworld.errors import UserError
from dreamworld.training.film import Film


class Leaver(gymnasium.Env):
    """Calls `sys.exit(code)` in the functions named, in `step` the third time."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)
    leaves: tuple[str, ...] = ()
    code: object = 0

    def __init__(self, render_mode=None):
        self.render_mode, self.count = render_mode, 0

    def _leave(self, name):
        if name in self.leaves and isinstance(self.code, BaseException):
            raise self.code
        if name in self.leaves:
            sys.exit(self.code)  # pyright: ignore[reportArgumentType]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._leave("reset")
        self.count = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.count += 1
        if self.count == 3:
            self._leave("step")
        return np.full(2, self.count / 10, np.float32), 1.0, self.count == 5, False, {}

    def render(self):
        self._leave("render")
        return np.zeros((8, 8, 3), np.uint8)

    def close(self):
        self._leave("close")


def leaver(*leaves, code=0):
    return type("Leaving", (Leaver,), {"leaves": leaves, "code": code})


def vector(*leaves, code: Any = 0, **options) -> Any:
    return make_vector_env(
        leaver(*leaves, code=code), EnvConfig(engine="inprocess", **options), seed=0, num=2
    )


def step(env):
    return env.step({"action": np.zeros(2, np.int32)})


class PanicException(BaseException):
    """As that of environments written in Rust."""


class Speechless(Exception):
    """Its text can't be had."""

    def __str__(self):
        raise ValueError


ENDED = "Exited: it ended the process with exit status"
LEAVES = [
    (0, f"{ENDED} 0"),
    (None, f"{ENDED} 0"),
    (3, f"{ENDED} 3"),
    ("bye", f"{ENDED} bye"),
    (PanicException("index out of bounds"), "Exited: PanicException: index out of bounds"),
    (asyncio.CancelledError(), "Exited: CancelledError:"),
    (Speechless(), "Speechless: (its text can't be had)"),
]


@pytest.mark.parametrize(("code", "said"), LEAVES)
def test_a_step_that_ends_the_process_closes_the_episode(code, said):
    env = vector("step", "close", code=code)
    env.reset(0)
    rows = [step(env) for _ in range(4)]
    assert rows[2].is_last.all() and not rows[2].is_terminal.any() and rows[3].is_first.all()
    (one, _) = rows[2].events
    assert f"environment 0: {said}; episode closed" in one
    assert env.failures == 2
    env.close()


def test_a_reset_that_ends_the_process_is_tried_again_and_then_an_environment_failure():
    env = vector("reset", max_failures=2)
    with pytest.raises(EnvFailure, match=r"failed 3 times in a row .*: Exited: it ended the process"):
        env.reset(0)


def test_a_picture_that_ends_the_process_is_a_film_that_was_not_made():
    env = vector("render")
    film = Film(env)
    film.see(env.reset(0))
    assert "it ended the process with exit status 0" in film.problem


@pytest.mark.parametrize("name", ["reset", "step", "render"])
def test_the_engine_is_chosen_and_the_check_reports_it(name):
    config = EnvConfig(engine="auto", max_failures=3)
    if name != "reset":
        make_vector_env(leaver(name), config, seed=0, num=2).close()
    report = check_env(lambda: make_env(leaver(name), config), steps=12)
    assert "it ended the process with exit status 0" in "\n".join(map(str, report.problems))


def test_a_module_that_ends_the_process_when_it_is_imported_is_one_line(tmp_path, monkeypatch):
    """As one that parses the command line without asking whether it is the main module."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "parses_at_import.py").write_text("import sys\n\nsys.exit(2)\n")
    with pytest.raises(
        UserError, match=r"can't be imported: Exited: it ended the process with exit status 2 .*:3\)"
    ):
        make_env("parses_at_import:Env", EnvConfig())


def test_a_ctrl_c_and_a_signal_in_a_step_are_none_of_its_failures():
    class Signal(SystemExit):
        """As that by which a command is stopped in its first seconds."""

    for code in (KeyboardInterrupt(), Signal(75)):
        env = vector("step", code=code)
        env.reset(0)
        with pytest.raises(type(code)):
            for _ in range(3):
                step(env)
