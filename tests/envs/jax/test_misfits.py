"""JAX environments that return what is not of their spaces: one line, or the end of an episode."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.envs.adapters.jax_host import JaxHostEnv
from dreamworld.envs.jax.batched import batched
from dreamworld.envs.vector.inprocess import InProcess
from dreamworld.envs.vector.jax_engine import JaxVector, TimeLimit
from dreamworld.errors import UserError
from dreamworld.training import refusals
from dreamworld.types import JaxStep, Space


def steps(env, count):
    """So many steps of three environments."""
    functions = batched(env)
    state, _ = functions.reset(jax.random.split(jax.random.PRNGKey(0), 3))
    for _ in range(count):
        state, _ = jax.jit(functions.step)(state, {"action": jnp.zeros(3, int)})


class Odd:
    """Counts to six; `part` of what it returns is replaced by `value` of the count."""

    obs_space = {  # noqa: RUF012
        "x": Space((2,), "float32"),
        "kind": Space((), "int32", classes=4),
        "picture": Space((2, 2, 1), "uint8"),
    }
    act_space = {"action": Space((), "int32", classes=2)}  # noqa: RUF012

    def __init__(self, part: str, value: Any):
        self.part, self.value = part, value

    def reset(self, key):
        return jnp.int32(0), self._obs(jnp.int32(0))

    def _obs(self, count):
        obs = {
            "x": jnp.stack([count, count * 1.0]),
            "kind": count % 4,
            "picture": jnp.zeros((2, 2, 1), jnp.uint8),
        }
        if self.part == "obs":
            return self.value(count, obs)
        return {**obs, self.part: self.value(count)} if self.part in obs else obs

    def step(self, state, action, key) -> Any:
        count = state + 1
        step = JaxStep(self._obs(count), jnp.float32(1), count == 6, count == 6)
        if self.part in JaxStep._fields and self.part != "obs":
            step = step._replace(**{self.part: self.value(count)})
        if self.part == "step":
            return self.value(count, step)
        return (self.value(count) if self.part == "state" else count), step


MISFITS = [
    ("x", lambda _: jnp.zeros(3), "observation 'x' has the shape (3,), its space (2,)"),
    ("x", lambda _: "text", "observation 'x' of the JAX environment is a str"),
    ("picture", lambda _: jnp.zeros((2, 2, 1)), "observation 'picture' is float32, its space uint8"),
    (
        "obs",
        lambda _, obs: obs["x"],
        "observation of the JAX environment is an array, its obs_space has the keys",
    ),
    ("obs", lambda _, obs: {"x": obs["x"]}, "is ['x'], its obs_space has the keys ['kind', 'picture', 'x']"),
    ("reward", lambda _: None, "reward of the JAX environment is None, not one number"),
    (
        "step",
        lambda count, step: (count, *step),
        "step of the JAX environment returned a tuple of 5, not (state, ",
    ),
    (
        "step",
        lambda count, step: (count, tuple(step)),
        "returned (state, a tuple), not (state, JaxStep(obs, reward",
    ),
    ("state", lambda count: count * 1.0, "the state is int32[] after reset and float32[] after step; shapes"),
    ("state", lambda count: {"count": count}, "nothing after "),
]


@pytest.mark.parametrize("limit", [0, 9], ids=["", "limited"])
@pytest.mark.parametrize(("part", "value", "message"), MISFITS)
def test_what_is_not_of_its_spaces_is_one_line(part, value, message, limit):
    env = Odd(part, value)
    with pytest.raises(
        UserError, match=re.escape(message.replace("the state", ".env") if limit else message)
    ) as error:
        steps(TimeLimit(env, limit) if limit else env, 1)
    assert "\n" not in str(error.value)


def test_rows_have_the_dtypes_of_their_spaces_and_states_may_hold_typed_keys():
    env = Odd("x", lambda count: [count, 1])
    reset = env.reset
    env.reset = lambda key: ((reset(key)[0], jax.random.key(0)), reset(key)[1])
    step = env.step
    env.step = lambda state, action, key: (lambda new, row: ((new, state[1]), row))(
        *step(state[0], action, key)
    )
    rows = batched(env).reset(jax.random.split(jax.random.PRNGKey(0), 3))[1]
    assert {key: str(value.dtype) for key, value in rows.obs.items()} == {
        key: space.dtype for key, space in Odd.obs_space.items()
    }
    steps(env, 2)


UNUSABLE = [
    (
        "is_last",
        lambda count: jnp.where(count == 3, jnp.nan, 0),
        "is_last or is_terminal is nan, not True or False",
    ),
    (
        "is_terminal",
        lambda count: jnp.where(count == 3, jnp.nan, 0),
        "is_last or is_terminal is nan, not True or False",
    ),
    (
        "kind",
        lambda count: jnp.where(count == 3, 9, 0),
        "observation 'kind' holds the class 9, counted from 0",
    ),
    (
        "kind",
        lambda count: jnp.where(count == 3, -1, 0),
        "observation 'kind' holds the class -1, counted from 0",
    ),
]


@pytest.mark.parametrize(("part", "value", "message"), UNUSABLE)
@pytest.mark.parametrize("limit", [0, 3, 9], ids=["", "at the limit", "limited"])
@pytest.mark.parametrize("engine", [JaxVector, InProcess])
def test_a_flag_that_is_nan_and_a_class_that_is_none_close_the_episode(part, value, message, limit, engine):
    env = Odd(part, value)
    if engine is JaxVector:
        vector = JaxVector(env, 2, time_limit=limit)
    else:
        vector = InProcess(lambda: JaxHostEnv(TimeLimit(env, limit) if limit else env), 2)
    vector.reset(0)
    rows = [vector.step({"action": np.zeros(2, np.int32)}) for _ in range(5)]
    assert [step.is_last.tolist() for step in rows] == [[n == 2] * 2 for n in range(5)]
    assert not any(step.is_terminal.any() for step in rows) and vector.failures == 2
    assert rows[2].obs["x"].tolist() == rows[1].obs["x"].tolist() and rows[2].reward.tolist() == [0, 0]
    assert rows[3].is_first.all() and rows[2].events[0].startswith(f"environment 0: {message}")


@pytest.mark.parametrize(("part", "value", "message"), UNUSABLE)
def test_the_same_rows_are_refused_on_the_device(part, value, message):
    env = batched(Odd(part, value))
    state, rows, _ = refusals.refuse(
        *env.reset(jax.random.split(jax.random.PRNGKey(0), 2)), None, Odd.obs_space
    )
    kept = []
    for _ in range(5):
        state, rows, codes = refusals.refuse(
            *env.step(state, {"action": jnp.zeros(2, int)}), rows.obs, Odd.obs_space
        )
        kept.append((rows, codes.tolist()))
    assert [rows.is_last.tolist() for rows, _ in kept] == [[n == 2] * 2 for n in range(5)]
    assert [bool(codes[0]) for _, codes in kept] == [n == 2 for n in range(5)]
    said = refusals.reasons(Odd.obs_space)[kept[2][1][0] - 1]
    assert said.split(" holds ")[0] == message.split(" holds ")[0]
    assert not any(rows.is_terminal.any() for rows, _ in kept) and kept[3][0].is_first.all()
