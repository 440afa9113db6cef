"""Goals in files, and plans that no memory holds: one line each."""

import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.plan_options import PlanConfig
from dreamworld.sessions.planning import read_goal, require_room
from dreamworld.types import Space

SPACES = {"place": Space((2,), "float32"), "picture": Space((4, 4, 3), "uint8")}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("place", np.array([0, np.inf]), "holds nan or inf"),
        ("place", np.array([0, 1e300]), "holds nan or inf"),
        ("picture", np.full((4, 4, 3), 256), "holds 256; expected values from 0 to 255"),
        ("picture", np.full((4, 4, 3), 0.5), "holds float64"),
        ("picture", np.where(np.arange(48) < 9, np.nan, 0.5).reshape((4, 4, 3)), "holds float64"),
        ("picture", np.where(np.arange(48) < 9, np.nan, np.inf).reshape((4, 4, 3)), "picture"),
    ],
)
def test_a_goal_that_can_not_be_is_named_with_its_file(tmp_path, key, value, said):
    path = tmp_path / "goal.npz"
    np.savez(path, **{key: value})
    with pytest.raises(UserError) as caught:
        read_goal(str(path), SPACES)
    assert str(caught.value).startswith(f"--plan.goal {path}: ") and said in str(caught.value)


def test_entries_of_a_picture_may_not_count(tmp_path):
    value = np.full((4, 4, 3), 51.0)
    value[0] = np.nan
    np.savez(tmp_path / "goal.npz", picture=value)
    goal = read_goal(str(tmp_path / "goal.npz"), SPACES)["picture"]
    assert np.isnan(goal[0]).all() and (goal[1:] == 51).all()


@pytest.mark.parametrize(
    "options",
    [{"candidates": 10**6, "dreams": 1000}, {"candidates": 10**6, "horizon": 1000}],
)
def test_plans_that_no_memory_holds_are_refused_before_they_are_drawn(options):
    """They were an assertion of the random numbers, or all memory was taken."""
    state = jnp.zeros((4, 64))
    require_room(state, PlanConfig(candidates=100), 400)
    with pytest.raises(UserError, match=r"^--plan\.candidates 1000000: with .*(there are|can be drawn)"):
        require_room(state, PlanConfig(**options, elites=2), 400)
