"""Snapshots of environments on the host, kept in memory: going on from the same state more than once.

The Python objects and arrays of an environment are copied. Its emulator (ale-py) or physics (MuJoCo) is left where it
is, and its state is copied by its own means, random numbers and all. Environments that save themselves (`Env.save`) do.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from dreamworld import words
from dreamworld.envs.base import Env, Step
from dreamworld.envs.building import survivable
from dreamworld.envs.wrappers import Wrapper
from dreamworld.errors import UserError

NEEDS = "needs an environment whose state can be restored"
MODEL_ELEMENTS = (
    4096  # of an array of a MuJoCo model that episodes may change; larger ones are meshes and textures
)
DRAWING = ("pygame", "glfw", "OpenGL", "gymnasium.envs.mujoco.mujoco_rendering")  # windows hold no state
CHECKED = 10  # rows before the snapshot and after it


class NoSnapshotError(UserError):
    """The state of an environment can't be copied; one line says why."""


class Part(NamedTuple):
    """Something that is not copied, and how its state is brought back; None where it has none."""

    owner: object
    bring_back: Callable[[], None] | None


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The state of one environment; it belongs to the object that it was taken of."""

    saved: dict[str, np.ndarray] | None  # what `Env.save` returned
    fields: list[dict[str, Any]]  # else copies of what the environment, and each that it wraps, hold
    parts: tuple[Part, ...] = ()


def snapshot(env: Env) -> Snapshot:
    """The state of an environment; NoSnapshotError where it can't be copied."""
    try:
        _refuse_sticky(env)
        saved = env.save()
        if saved is not None:
            return Snapshot({key: np.array(value) for key, value in saved.items()}, [])
        parts = tuple(_parts(env))
        fields = [vars(holder) for holder in _holders(env)]
        return Snapshot(None, copy.deepcopy(fields, _kept(env, parts)), parts)
    except NoSnapshotError:
        raise
    except Exception as error:
        raise NoSnapshotError(f"its state can't be copied: {words.exception(survivable(error))}") from error


def restore(env: Env, taken: Snapshot) -> None:
    """Brings an environment back to a snapshot of it, which may be used again."""
    if taken.saved is not None:
        env.restore({key: value.copy() for key, value in taken.saved.items()})
        return
    fields = copy.deepcopy(taken.fields, _kept(env, taken.parts))
    for holder, own in zip(_holders(env), fields):
        vars(holder).clear()
        vars(holder).update(own)
    for part in taken.parts:
        if part.bring_back is not None:
            part.bring_back()


def why_not(env: Env, seed: int = 0) -> str:
    """Why an environment can't be restored, in one line; empty where equal actions lead to equal rows.

    Plays it: what it was doing is lost.
    """
    try:
        return _why_not(env, seed)
    except NoSnapshotError as error:
        return str(error)
    except BaseException as error:
        return f"under random actions it raised {words.exception(survivable(error))}"


def _why_not(env: Env, seed: int) -> str:
    random = np.random.default_rng(seed)
    act = lambda: {key: space.sample(random) for key, space in env.act_space.items()}
    env.reset(seed)
    _walk(env, [act() for _ in range(CHECKED)])
    actions = [act() for _ in range(CHECKED)]
    taken, rows = snapshot(env), []
    for _ in range(3):  # the second time after going on, the third one to see that the snapshot lasts
        rows.append(_walk(env, actions))
        restore(env, taken)
    if not all(equal_rows(rows[0], again) for again in rows[1:]):
        return "after its state was restored, the same actions led to other rows"
    return ""


def _walk(env: Env, actions: list[dict[str, np.ndarray]]) -> list[Step]:
    """The rows that actions lead to, up to the end of the episode."""
    rows: list[Step] = []
    for action in actions:
        rows.append(env.step(action))
        if rows[-1].is_last:
            break
    return rows


def equal_rows(one: list[Step], other: list[Step]) -> bool:
    """Whether observations, rewards and ends are equal to the last bit; a NaN equals itself."""
    flags = lambda step: (step.is_first, step.is_last, step.is_terminal)
    return len(one) == len(other) and all(
        flags(a) == flags(b)
        and np.float64(a.reward).tobytes() == np.float64(b.reward).tobytes()
        and a.obs.keys() == b.obs.keys()
        and all(_bits(a.obs[key]) == _bits(b.obs[key]) for key in a.obs)
        for a, b in zip(one, other)
    )


def _bits(value: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    array = np.ascontiguousarray(value)
    return array.dtype.str, array.shape, array.tobytes()


# --- what is not copied ----------------------------------------------------------------------------------------


def _kept(env: Env, parts: tuple[Part, ...]) -> dict[int, Any]:
    """What copying leaves as it is, as `copy.deepcopy` takes it: what has fields here is copied field by field."""
    owners = [part.owner for part in parts] + list(_holders(env))
    return {id(owner): owner for owner in owners}


def _holders(env: Env) -> Iterator[object]:
    """The environment, what it wraps, and what that wraps, from the outside in."""
    inner: Any = env
    while isinstance(inner, Wrapper):
        yield inner
        inner = inner.env
    yield inner
    inner = getattr(inner, "_env", None)
    while inner is not None and hasattr(inner, "__dict__"):
        yield inner
        inner = vars(inner).get("env")


def _parts(env: Env) -> Iterator[Part]:
    """The emulators, physics, windows and spaces that the environment and its wrappers hold."""
    for holder in _holders(env):
        fields = vars(holder)
        for name, value in fields.items():
            module, kind = type(value).__module__, type(value).__name__
            if module.startswith("ale_py") and kind == "ALEInterface":
                yield _emulator(value)
            elif module == "mujoco._structs" and kind == "MjData":
                yield from _physics(fields["model"], value)
            elif hasattr(value, "data") and _is_physics(value):
                yield Part(value, None)
                yield from _physics(value.model.ptr, value.data.ptr)
            elif module.startswith(DRAWING) or name in ("_obs", "_act", "_vectors", "obs_space"):
                yield Part(value, None)


def _refuse_sticky(env: Env) -> None:
    """NoSnapshotError where actions stick: ale-py's state does not hold the action that may be repeated next."""
    for holder in _holders(env):
        for value in vars(holder).values():
            if type(value).__name__ == "ALEInterface" and value.getFloat("repeat_action_probability") > 0:
                raise NoSnapshotError(
                    "the state that ale-py copies lacks the action that sticks (repeat_action_probability above 0)"
                )


def _is_physics(value: Any) -> bool:
    """Whether it is a `Physics` of dm_control."""
    bases = {f"{base.__module__}.{base.__name__}" for base in type(value).__mro__}
    return "dm_control.mujoco.engine.Physics" in bases


def _emulator(ale: Any) -> Part:
    state = ale.cloneState(include_rng=True)
    return Part(ale, lambda: ale.restoreState(state))


def _physics(model: Any, data: Any) -> Iterator[Part]:
    """The whole state of MuJoCo, what it has computed of it, and the arrays of the model that tasks change."""
    import mujoco

    copy_data: Any = vars(mujoco)["mj_copyData"]  # its stubs lack it
    taken = copy.copy(data)
    arrays = {name: array.copy() for name, array in _model_arrays(model).items()}

    def bring_back() -> None:
        for name, array in _model_arrays(model).items():
            if array.tobytes() != arrays[name].tobytes():
                array[...] = arrays[name]
        copy_data(data, model, taken)

    yield Part(model, None)
    yield Part(data, bring_back)


def _model_arrays(model: Any) -> dict[str, np.ndarray]:
    """The smaller arrays of numbers of a MuJoCo model, by name."""
    named = ((name, getattr(model, name)) for name in dir(model) if not name.startswith("_"))
    return {
        name: value
        for name, value in named
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.size <= MODEL_ELEMENTS
    }
