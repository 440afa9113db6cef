"""Steps an environment and says in plain words what is wrong with it: the work of `dreamworld envs check`."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import psutil

from dreamworld import words
from dreamworld.envs.base import Env, Step
from dreamworld.envs.building import survivable, where
from dreamworld.envs.finite import NotFinite
from dreamworld.envs.report import Report, check_row, check_spaces, describe_spaces
from dreamworld.envs.reproduce import check_seeds
from dreamworld.envs.spy import Pictures, attach
from dreamworld.errors import UserError

PICTURES = 5  # looked at
EDGES = 4  # the first steps take the extreme actions
END_S = 10.0  # time given to an episode to end after the steps
END_STEPS = 30_000


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
    report.spy = attach(env)
    try:
        walk = Walk(env, report, np.random.default_rng(seed))
        walk.go(steps, seed)
        report.facts += walk.facts(build_s)
        walk.judge_episodes()
    except BaseException as raised:
        error = survivable(raised)
        if not (isinstance(error, UserError) and report.spy and report.spy.saw):  # else it is said already
            report.problem(where(error))
        return report
    finally:
        if report.spy:
            report.notes += report.spy.notes.lines()
        env.close()
    try:
        check_seeds(make, report, seed)
    except BaseException as raised:
        error = survivable(raised)
        report.problem(f"while looking at seeds: {where(error)}")
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
        self._pictures = Pictures(report.found)
        self._shown, self._unseen = False, ""  # whether there were pictures, and why there are none any more
        self._process = psutil.Process()
        self._memory: list[int] = []  # resident bytes, after the first reset and at the end

    def go(self, steps: int, seed: int) -> None:
        """Resets with `seed`, takes `steps` steps, and begins new episodes as they end."""
        self._begin(seed)
        self._memory.append(self._process.memory_info().rss)
        for index in range(steps):
            action = self._action(index)
            start = time.perf_counter()
            try:
                step = self._env.step(action)
            except NotFinite as error:  # where a picture can't be made of it
                self._refused(error)
                continue
            self._step_s.append(time.perf_counter() - start)
            self._length += 1
            self._look(step, first=False)
            if index % (1 + steps // PICTURES) == 0:
                self._render()
            if step.is_last:
                self._ends.append((self._length, step.is_terminal))
                self._begin(None)
        self._judge_pictures()
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

    def _refused(self, error: NotFinite) -> None:
        spy = self._report.spy
        if not (spy and any(spy.knows("nan", key) for key in self._env.obs_space)):
            self._report.found.add(str(error), "refused")
        self._begin(None)

    def _render(self) -> None:
        """Looks at a picture for people."""
        if self._unseen:
            return
        try:
            frame = self._env.render()
        except BaseException as raised:
            error = survivable(raised)
            self._unseen = f"render() raised {type(error).__name__}: {error}"
            self._report.found.add(" ".join(self._unseen.split()))
            return
        self._shown |= frame is not None
        if not self._report.spy:
            self._pictures.look(frame)

    def _judge_pictures(self) -> None:
        if not (self._shown or self._unseen):
            self._report.notes.append("it has no render(): evaluation videos need an image observation")

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
                f"{words.count(max(lengths), 'step')}; "
                f"{terminal} terminated and {len(lengths) - terminal} truncated"
            )
        step_s = float(np.mean(self._step_s[EDGES:] or self._step_s))  # the first ones compile and warm up
        lines.append(
            f"speed: {1 / step_s:.0f} steps/s in one process; a reset takes {np.mean(self._reset_s):.3g} s, "
            f"building it {build_s:.2g} s"
        )
        first, last = self._memory[0], self._memory[-1]
        sign = "-" if last < first else "+"
        grown = f"{sign}{words.size(abs(last - first))}"
        lines.append(f"memory: {words.size(last)} in this process, {grown} while stepping")
        row = sum(space.zeros().nbytes for space in self._env.obs_space.values())
        lines.append(f"one million rows in replay: {words.size(row * 1e6)} of observations")
        return lines

    def judge_episodes(self) -> None:
        """Episodes that never end, and ends that look mislabelled."""
        notes = self._report.notes
        if not self._ends:
            notes.append(
                f"no episode ended within {words.count(self._length, 'step')}; if none ever does, set env.time_limit"
            )
        lengths = {length for length, _ in self._ends}
        if len(self._ends) >= 3 and len(lengths) == 1 and all(terminal for _, terminal in self._ends):
            notes.append(
                f"every episode was terminated after exactly {words.count(lengths.pop(), 'step')}; a time "
                f"limit must be "
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
