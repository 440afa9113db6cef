"""Steps an environment and says in plain words what is wrong with it: the work of `dreamworld envs check`."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable

import numpy as np
import psutil

from dreamworld.envs.base import Env, Step
from dreamworld.envs.pictures import notes_on
from dreamworld.envs.spy import Spy, attach
from dreamworld.errors import UserError
from dreamworld.types import Space, Spaces

EPISODE_STEPS = 50  # rows compared when looking whether seeds reproduce
ENCODER_STRIDE = 16
SLACK = 1e-6  # bounds were rounded to float32, too
EDGES = 4  # the first steps take the extreme actions
END_S = 10.0  # time given to an episode to end after the steps
END_STEPS = 30_000


@dataclasses.dataclass
class Report:
    """What was found. `problems` are wrong and will hurt; `notes` deserve a look."""

    spaces: list[str] = dataclasses.field(default_factory=list)
    facts: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def problem(self, text: str) -> None:
        """Adds a problem once."""
        if text not in self.problems:
            self.problems.append(text)

    def text(self) -> str:
        """The report as lines."""
        lines = [*self.spaces, *self.facts]
        lines += [f"note: {text}" for text in self.notes]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        lines.append(f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)} found")
        return "\n".join(lines)


def check_env(make: Callable[[], Env], *, steps: int = 300, seed: int = 0) -> Report:
    """Builds the environment (more than once) and steps it with random actions.

    An environment that raises is reported, not passed on; a UserError while building it is passed on.
    """
    report = Report()
    start = time.perf_counter()
    env = make()
    build_s = time.perf_counter() - start
    report.spaces = describe_spaces(env.obs_space, env.act_space)
    check_spaces(env.obs_space, report)
    spy = attach(env)
    try:
        walk = Walk(env, report, np.random.default_rng(seed))
        walk.go(steps, seed)
        report.facts += walk.facts(build_s)
        walk.judge_episodes()
        check_render(env, report)
    except Exception as error:
        report.problem(_where(error))
        return _with_spy(report, spy)
    finally:
        env.close()
    _with_spy(report, spy)
    try:
        check_seeds(make, report, seed)
    except Exception as error:
        report.problem(f"while looking at seeds: {_where(error)}")
    return report


class Walk:
    """Random steps through an environment, looking at every row."""

    def __init__(self, env: Env, report: Report, random: np.random.Generator):
        self._env, self._report, self._random = env, report, random
        self._seen = {key: [np.inf, -np.inf] for key in env.obs_space}
        self._rewards: list[float] = []
        self._ends: list[tuple[int, bool]] = []  # (length, terminal) of every episode
        self._returned: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._step_s: list[float] = []
        self._reset_s: list[float] = []
        self._length = 0
        self._process = psutil.Process()
        self._memory: list[int] = []  # resident bytes, after the first reset and at the end

    def go(self, steps: int, seed: int) -> None:
        """Resets with `seed`, takes `steps` steps, and begins new episodes as they end."""
        self._begin(seed)
        self._memory.append(self._process.memory_info().rss)
        for index in range(steps):
            action = self._action(index)
            start = time.perf_counter()
            step = self._env.step(action)
            self._step_s.append(time.perf_counter() - start)
            self._length += 1
            self._look(step, first=False)
            if step.is_last:
                self._ends.append((self._length, step.is_terminal))
                self._begin(None)
        self._memory.append(self._process.memory_info().rss)
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        """Where no episode has ended: goes on for a while, without looking at the rows."""
        until = time.perf_counter() + END_S
        while not self._ends and self._length < END_STEPS and time.perf_counter() < until:
            step = self._env.step(self._action(EDGES))
            self._length += 1
            if step.is_last:
                self._ends.append((self._length, step.is_terminal))

    def facts(self, build_s: float) -> list[str]:
        """Ranges, episodes and speed."""
        lines = []
        for key, (low, high) in self._seen.items():
            lines.append(f"observed {key}: {low:g} to {high:g}")
        low, high = min(self._rewards), max(self._rewards)
        lines.append(f"rewards: {low:g} to {high:g}, sum {sum(self._rewards):g}")
        lengths = [length for length, _ in self._ends]
        terminal = sum(terminal for _, terminal in self._ends)
        if lengths:
            lines.append(
                f"episodes: {len(lengths)} ended, the shortest after {min(lengths)}, the longest after "
                f"{max(lengths)} steps; "
                f"{terminal} terminated and {len(lengths) - terminal} truncated"
            )
        step_s = float(np.mean(self._step_s[EDGES:] or self._step_s))  # the first ones compile and warm up
        lines.append(
            f"speed: {1 / step_s:.0f} steps/s in one process; a reset takes {np.mean(self._reset_s):.3g} s, "
            f"building it {build_s:.2g} s"
        )
        first, last = self._memory[0] / 2**20, self._memory[-1] / 2**20
        lines.append(f"memory: {last:.0f} MiB in this process, {last - first:+.0f} MiB while stepping")
        row = sum(space.zeros().nbytes for space in self._env.obs_space.values())
        lines.append(f"one million rows in replay: {row * 1e6 / 2**30:.2f} GiB of observations")
        return lines

    def judge_episodes(self) -> None:
        """Episodes that never end, and ends that look mislabelled."""
        notes = self._report.notes
        if not self._ends:
            notes.append(
                f"no episode ended within {self._length} steps; if none ever does, set env.time_limit"
            )
        lengths = {length for length, _ in self._ends}
        if len(self._ends) >= 3 and len(lengths) == 1 and all(terminal for _, terminal in self._ends):
            notes.append(
                f"every episode was terminated after exactly {lengths.pop()} steps; a time limit must be "
                "truncated instead (terminated means that nothing of value can follow)"
            )
        if len(set(self._rewards)) == 1:
            notes.append(f"every reward was {self._rewards[0]:g}")

    def _begin(self, seed: int | None) -> None:
        start = time.perf_counter()
        step = self._env.reset(seed)
        self._reset_s.append(time.perf_counter() - start)
        self._length = 0
        self._look(step, first=True)

    def _action(self, index: int) -> dict[str, np.ndarray]:
        """The extremes first, also beyond [-1, 1] (policies sample unclipped), then random ones."""
        edge = {0: -1.0, 1: 1.0, 2: -3.0, 3: 3.0}.get(index)
        if edge is None:
            return {key: space.sample(self._random) for key, space in self._env.act_space.items()}
        action = {}
        for key, space in self._env.act_space.items():
            value = edge if space.classes is None else (0 if edge < 0 else space.classes - 1)
            action[key] = np.full(space.shape, value, space.dtype)
        return action

    def _look(self, step: Step, first: bool) -> None:
        report = self._report
        check_row(step, self._env.obs_space, first, report)
        for key, (array, copy) in self._returned.items():
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
                report.problem(
                    f"observation {key!r}: an array that was returned before has changed; return copies"
                )
        self._returned = {key: (value, np.copy(value)) for key, value in step.obs.items()}
        for key, value in step.obs.items():
            if key in self._seen and np.size(value):
                low, high = self._seen[key]
                self._seen[key] = [min(low, float(np.min(value))), max(high, float(np.max(value)))]
        self._rewards.append(float(step.reward))


def check_row(step: Step, spaces: Spaces, first: bool, report: Report) -> None:
    """One row against its spaces and the meaning of its flags."""
    if set(step.obs) != set(spaces):
        report.problem(f"observations {sorted(step.obs)} were returned, the spaces say {sorted(spaces)}")
    for key, space in spaces.items():
        if key in step.obs:
            _check_value(key, np.asarray(step.obs[key]), space, report)
    if not np.isfinite(step.reward):
        report.problem(f"a reward was {step.reward}")
    if first and step.reward != 0:
        report.problem(f"the first row of an episode has reward {step.reward:g}; it must be 0")
    if bool(step.is_first) != first:
        report.problem(f"is_first was {bool(step.is_first)} after {'reset' if first else 'step'}()")
    if step.is_terminal and not step.is_last:
        report.problem("is_terminal without is_last: an episode that is over has to end")
    for key, value in step.log.items():
        if np.ndim(value) or not key.startswith("log/"):
            report.problem(f"log entry {key!r}: wants a name log/... and a scalar")


def _check_value(key: str, value: np.ndarray, space: Space, report: Report) -> None:
    name = f"observation {key!r}"
    if value.shape != space.shape:
        report.problem(f"{name} has the shape {value.shape}, its space says {space.shape}")
        return
    if value.dtype != space.dtype:
        report.problem(f"{name} has the dtype {value.dtype}, its space says {space.dtype}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        report.problem(f"{name} holds NaN or infinity")
    elif space.classes is not None and ((value < 0) | (value >= space.classes)).any():
        report.problem(f"{name} is {value}, outside its {space.classes} classes")
    elif not _within(value, space):
        values, bounds = f"{np.min(value):g} to {np.max(value):g}", f"[{space.low:g}, {space.high:g}]"
        report.problem(f"{name} has values from {values}, outside its space {bounds}")


def _within(value: np.ndarray, space: Space) -> bool:
    low, high = space.low - SLACK * abs(space.low), space.high + SLACK * abs(space.high)
    return bool(((value >= low) & (value <= high)).all())


def describe_spaces(obs_space: Spaces, act_space: Spaces) -> list[str]:
    """One line per key."""
    lines = []
    for kind, spaces in (("observation", obs_space), ("action", act_space)):
        for key, space in spaces.items():
            shape = "x".join(map(str, space.shape)) or "scalar"
            what = f"{space.classes} classes" if space.discrete else f"{space.low:g} to {space.high:g}"
            image = ", image" if space.is_image else ""
            lines.append(f"{kind} {key}: {shape} {space.dtype}, {what}{image}")
    return lines


def check_spaces(obs_space: Spaces, report: Report) -> None:
    """Images that the encoder can't take, and vectors that were meant as images."""
    report.notes += notes_on(obs_space)
    for key, space in obs_space.items():
        if space.is_image and any(side % ENCODER_STRIDE for side in space.shape[:2]):
            height, width = space.shape[:2]
            report.problem(
                f"image {key!r} is {height}x{width}: the encoder takes multiples of {ENCODER_STRIDE}; "
                "resize it with --env.resize True --env.size 64 64, or, if it is no picture but a table, say "
                f"--env.vector_keys {key}"
            )


def check_render(env: Env, report: Report) -> None:
    """Pictures for people: uint8 RGB, or none."""
    frame = env.render()
    if frame is None:
        report.notes.append("it has no render(): evaluation videos need an image observation")
    elif frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        report.problem(f"render() returned {frame.dtype} {frame.shape}; it must be uint8 [height, width, 3]")


def check_seeds(make: Callable[[], Env], report: Report, seed: int) -> None:
    """The same seed must give the same rows in two fresh environments and in a used one."""
    env, other = make(), make()
    try:
        first, fresh = _episode(env, seed), _episode(other, seed)
        again, different = _episode(env, seed), _episode(other, seed + 1)
    finally:
        env.close()
        other.close()
    if not _same(first, fresh):
        report.problem(
            f"seed {seed} gave different rows in two fresh environments: reset(seed) does not fix everything"
        )
    elif not _same(first, again):
        report.problem(f"seed {seed} gave different rows when the same environment was reset with it again")
    elif _same(first, different):
        report.notes.append(
            f"seeds {seed} and {seed + 1} gave the same rows: it is deterministic, or it ignores its seed"
        )


def _episode(env: Env, seed: int) -> list[Step]:
    """Rows of one reset with `seed` and a fixed sequence of actions, through ends of episodes."""
    random = np.random.default_rng(0)
    rows = [env.reset(seed)]
    for _ in range(EPISODE_STEPS):
        if rows[-1].is_last:
            rows.append(env.reset(None))
        else:
            rows.append(env.step({key: space.sample(random) for key, space in env.act_space.items()}))
    return rows


def _same(left: list[Step], right: list[Step]) -> bool:
    for a, b in zip(left, right):
        if a[1:5] != b[1:5] or a.obs.keys() != b.obs.keys():
            return False
        if any(not np.array_equal(a.obs[key], b.obs[key]) for key in a.obs):
            return False
    return True


def _with_spy(report: Report, spy: Spy | None) -> Report:
    if spy is not None:
        report.notes += list(spy.notes)
        for text in spy.problems:
            report.problem(text)
    return report


def _where(error: Exception) -> str:
    """An exception and the line that raised it, in words."""
    if isinstance(error, UserError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return f"it raised {type(error).__name__}: {text} ({frame.filename}:{frame.lineno}, in {frame.name})"
