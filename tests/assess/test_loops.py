"""Loops of actions and their inverses: a walker without inertia comes back, one that slips in a dream does not."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import known
import numpy as np
import pytest

from dreamworld.assess import branches, files, loops
from dreamworld.contract import Simulator
from dreamworld.envs.jax import JAX_ENVS, make_jax_env
from dreamworld.envs.jax.tworoom import TwoRoom, TwoRoomState
from dreamworld.errors import UserError
from dreamworld.types import Space

SLIP = 0.02  # of the square, to the right with each step


@dataclasses.dataclass(frozen=True)
class ShownRoom(TwoRoom):
    """Two rooms that show their picture and the numbers that it is made of."""

    size: int = 16

    @property
    def obs_space(self):
        return {"image": Space((self.size, self.size, 3), "uint8"), "vector": Space((5,), "float32")}

    def observe(self, state):
        vector = jnp.concatenate([state.agent, state.goal, state.door[None]])
        return {"image": self._draw(state, self.size), "vector": vector}


def make_walker(env, fault="") -> Simulator:
    """The environment as a simulator; its states are the five numbers."""
    read = lambda x: TwoRoomState(x[:2], x[2:4], x[4], jnp.int32(0))

    def imagine(params, state, action, key, temperature=1.0):
        after, _ = jax.vmap(lambda x, a: env.step(read(x), a, key))(state, action)
        moved = jnp.concatenate([after.agent, state[:, 2:]], 1)
        if fault == "copy_last":
            moved = state
        return moved.at[:, 0].add(SLIP if fault == "slipping" else 0.0)

    def decode(params, feature):
        picture = lambda x: env._draw(read(x), env.size).astype(jnp.float32) / 255
        flat = jax.vmap(picture)(feature.reshape(-1, 5))
        return {"vector": feature, "image": flat.reshape(*feature.shape[:-1], *flat.shape[1:])}

    return Simulator(
        initial=lambda params, batch: jnp.zeros((batch, 5)),
        observe=lambda params, state, prev_action, obs, is_first, key: obs["vector"],
        imagine=imagine,
        feature=lambda params, state: state,
        decode=decode,
    )


@pytest.fixture(scope="module")
def rooms():
    env = ShownRoom()
    return env, known.make_segments(env, count=32, horizon=8, steps=600)[0]


def loop_page(rooms, fault):
    env, made = rooms
    dreaming, params, page = known.start(make_walker(env, fault), (made, None), samples=1)
    loops.add_loops(page, dreaming, params, made, known.KEY)
    return page


def test_the_true_world_comes_back_where_reality_does(rooms):
    page = loop_page(rooms, "")
    for key in ("image", "vector"):
        assert (page.value(f"coherence/{key}/loop_dreamt") or 0) < 0.02  # walls that are slid along
        # some starts are stopped by a wall on the way there: these are no loops, of the dream neither
        real, dreamt = (page.metrics[f"coherence/{key}/loop_{kind}"] for kind in ("real", "dreamt"))
        assert 8 < dreamt.n < real.n and (real.value or 0) > 0.05


def test_a_dream_that_slips_does_not(rooms):
    page, perfect = loop_page(rooms, "slipping"), loop_page(rooms, "")
    for key in ("image", "vector"):
        assert (page.metrics[f"coherence/{key}/loop_dreamt"].low or 0) > 0.5
        assert page.metrics[f"coherence/{key}/loop_real"] == perfect.metrics[f"coherence/{key}/loop_real"]


def test_a_dream_that_stands_still_has_no_loop(rooms):
    assert loop_page(rooms, "copy_last").value("coherence/vector/loop_dreamt") is None


def test_where_reality_does_not_come_back_dreams_are_not_asked(rooms):
    env, made = rooms
    stuck = {f"loop/obs/{key}": made.branches[f"loop/obs/{key}"][:, [0, 0]] for key in made.obs_space}
    page = loop_page((env, dataclasses.replace(made, branches=made.branches | stuck)), "")
    assert page.left_out["coherence/vector/loop_dreamt"].endswith(
        f"0 of {len(made.branches['loop/segment'])} loops closed"
    )
    assert page.value("coherence/vector/loop_real") == 1
    assert not any(name.endswith("loop_dreamt") for name in page.metrics)


def test_inverses_of_actions():
    box = Space((2,), "float32", low=-1.0, high=1.0)
    steps = np.array([[0.5, -1.0]], np.float32)
    assert np.asarray(branches.inverse(box, steps, ())).tolist() == [[-0.5, 1.0]]
    assert branches.inverse(dataclasses.replace(box, low=0.0), steps, ()) is None
    five = Space((), "int32", classes=3)
    assert branches.inverse(five, np.array([0, 1, 2]), ()) is None
    assert branches.inverse(five, np.array([0, 1, 2]), (0, 2)) is None
    assert np.asarray(branches.inverse(five, np.array([0, 1, 2]), (0, 2, 1))).tolist() == [0, 2, 1]


KINDS = {type(make_jax_env(name)): name for name in reversed(list(JAX_ENVS))}  # one of each


@pytest.mark.parametrize("name", [name for kind, name in KINDS.items() if hasattr(kind, "inverse_actions")])
def test_what_an_environment_declares_leads_back(name):
    env: Any = make_jax_env(name)
    key = jax.random.PRNGKey(0)
    start, seen = jax.jit(env.reset)(key)
    step = jax.jit(env.step)
    for action, back in enumerate(env.inverse_actions):
        there, _ = step(start, {"action": jnp.int32(action)}, key)
        _, again = step(there, {"action": jnp.int32(back)}, key)
        np.testing.assert_array_equal(again.obs["image"], seen["image"])


def test_loops_come_back_from_a_file_and_crafted_ones_are_one_line(rooms, tmp_path):
    made = rooms[1]
    again, _ = files.load(files.save(made, tmp_path / "assess", {}))
    assert again.hash == made.hash
    for name, change in {
        "loop/obs/image": lambda x: x[:, :1],
        "loop/alive": lambda x: x[:, :, :-1],
        "loop/action/action": lambda x: x[..., :1],
        "loop/segment": lambda x: x + 99,
    }.items():
        crafted = dataclasses.replace(made, branches=made.branches | {name: change(made.branches[name])})
        with pytest.raises(UserError, match="holds 'branch/loop/"):
            files.load(files.save(crafted, tmp_path / "crafted", {}))
