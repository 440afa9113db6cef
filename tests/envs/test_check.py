import functools
import re

import gymnasium
import numpy as np
import pytest
import toys
from gymnasium import spaces

from dreamworld.config import DMCConfig, EnvConfig
from dreamworld.envs import make_env, make_vector_env
from dreamworld.envs.base import Step
from dreamworld.envs.check import check_env
from dreamworld.errors import UserError


def check(target, steps=60, **options):
    return check_env(lambda: make_env(target, **options), steps=steps)


@pytest.mark.parametrize(
    "name",
    ["gym_CartPole-v1", "gym_Pendulum-v1", "gym_Blackjack-v1", "atari_pong", "dmc_cup_catch", "bsuite_catch"],
)
def test_published_environments_have_no_problems(name):
    assert check(name).problems == []


def test_crafter_and_pixels_have_no_problems(monkeypatch):
    monkeypatch.setattr("dreamworld.envs.check.END_S", 0.5)
    assert check("crafter_reward").problems == []
    vision = EnvConfig(dmc=DMCConfig(obs="vision"))
    assert check_env(lambda: make_env("dmc_cartpole_balance", vision), steps=20).problems == []


def test_the_report_names_spaces_ranges_episodes_speed_and_memory():
    text = check("gym_Pendulum-v1", steps=250).text()
    for part in (
        "observation vector: 3 float32, -8 to 8",
        "action action: 1 float32, -1 to 1",
        "observed vector: ",
        "rewards: ",
        "episodes: 1 ended, the shortest after 200, the longest after 200 steps; 0 terminated and 1 trunc",
        "steps/s in one process",
        "B in this process, ",
        "one million rows in replay: 12 MB of observations",
        "0 problems found",
    ):
        assert part in text, text


class Broken(toys.Own):
    """One fault at a time."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def reset(self, seed=None, options=None):
        row = super().reset(seed, options)
        if self.fault == "first reward":
            return row._replace(reward=1.0)
        if self.fault == "reset not first":
            return row._replace(is_first=False)
        return row

    def step(self, action):
        row, obs = super().step(action), self._obs()
        match self.fault:
            case "key":
                del obs["gear"]
            case "shape":
                obs["speed"] = np.zeros(1, np.float32)
            case "dtype":
                obs["speed"] = np.float64(1)
            case "nan":
                obs["speed"] = np.float32(np.nan)
            case "class":
                obs["gear"] = np.int32(5)
            case "reward":
                return row._replace(reward=float("nan"))
            case "terminal":
                return row._replace(is_terminal=True, is_last=False)
            case "log":
                return row._replace(log={"speed": 1.0})
            case "raise" if self.count == 2:
                raise RuntimeError("the simulator exploded")
        return row._replace(obs=obs)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("key", r"observations \['camera/front', 'speed'\] were returned, the spaces say"),
        ("shape", r"'speed' has the shape \(1,\), its space says \(\)"),
        ("dtype", "'speed' has the dtype float64, its space says float32"),
        ("nan", "'speed' holds NaN or infinity"),
        ("class", "'gear' is 5, outside its 5 classes"),
        ("reward", "a reward was nan"),
        ("first reward", "the first row of an episode has reward 1"),
        ("reset not first", r"is_first was False after reset\(\)"),
        ("terminal", "is_terminal without is_last"),
        ("log", "log entry 'speed': wants a name log/"),
        ("raise", r"it raised RuntimeError: the simulator exploded \(.*test_check.py:\d+, in step\)"),
    ],
)
def test_every_fault_is_reported_in_plain_words(fault, text):
    report = check(Broken, fault=fault)
    assert [problem for problem in report.problems if re.search(text, problem)], report.problems


class Buffered(toys.Own):
    """Returns the same array again and again."""

    def __init__(self):
        super().__init__(length=50)
        self.buffer = np.zeros((32, 48, 3), np.uint8)

    def _obs(self):
        self.buffer[:] = self.count
        return {**super()._obs(), "camera/front": self.buffer}


def test_overwritten_observations_are_noticed():
    assert "'camera/front': an array that was returned before has changed" in " ".join(
        check(Buffered).problems
    )


class GymBuffered(toys.Counter):
    buffer = np.zeros(2, np.float32)

    def _obs(self):
        self.buffer[:] = self.episode, self.count
        return self.buffer


def test_overwritten_gymnasium_observations_are_copied_and_noted():
    report = check(GymBuffered)
    assert "writes into observations" in " ".join(report.notes)
    assert not [problem for problem in report.problems if "has changed" in problem]


class GymBroken(toys.Counter):
    def __init__(self, fault):
        super().__init__(length=5)
        self.fault = fault

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        match self.fault:
            case "range":
                obs = obs + np.float32(2e6)
            case "dtype":
                obs = obs.astype(complex)
            case "nan":
                obs = obs * np.float32(np.nan)
            case "old":
                return obs, reward, terminated, info
            case "limit":
                info["TimeLimit.truncated"] = True
            case "reward":
                reward = "much"
        return obs, reward, terminated, truncated, info


@pytest.mark.filterwarnings("ignore:Casting complex")
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            "range",
            "values from 2e+06 to 2.00001e+06, the space says [-1e+06, 1e+06] (the worst of 60 rows)",
        ),
        ("dtype", "its dtype is complex128, the space says float32"),
        ("nan", "it holds NaN or infinity"),
        ("old", "step() returned a tuple of 4; gymnasium wants (obs, reward, terminated, truncated, info)"),
        ("limit", "a time limit was reported as terminated"),
        ("reward", "reward is a str, not a number"),
    ],
)
def test_faults_of_gymnasium_environments_are_seen_before_conversion(fault, text):
    assert text in " ".join(check(GymBroken, fault=fault).problems)


class WrongSpec(toys.DmCounter):
    def _obs(self):
        return {**super()._obs(), "count": 1000.0}


def test_faults_of_dm_environments_are_seen_before_conversion():
    assert "observation 'count' does not fit its spec" in " ".join(check(WrongSpec).problems)


class Noisy(toys.Own):
    """Ignores its seed."""

    def _obs(self):
        return {**super()._obs(), "speed": np.float32(np.random.default_rng().normal())}


class SeededOnce(toys.Own):
    """Takes the seed of its first reset only."""

    random = None

    def reset(self, seed=None, options=None):
        self.random = self.random or np.random.default_rng(seed)
        return super().reset(seed, options)

    def _obs(self):
        assert self.random is not None
        return {**super()._obs(), "speed": np.float32(self.random.normal())}


def test_seeds_that_do_not_reproduce_are_noticed():
    assert "different rows in two fresh environments" in " ".join(check(Noisy).problems)
    assert "the same environment was reset with it again" in " ".join(check(SeededOnce).problems)
    assert "seeds 0 and 1 gave the same rows" in " ".join(check(toys.Own).notes)


def test_episodes_that_never_end_or_end_like_a_time_limit_are_noted(monkeypatch):
    monkeypatch.setattr("dreamworld.envs.check.END_STEPS", 500)
    assert "no episode ended within 500 steps" in " ".join(check(toys.Own, length=10_000).notes)
    assert "every episode was terminated after exactly 5 steps" in " ".join(check(toys.Own, length=5).notes)
    late = check(toys.Own, length=200)
    assert "1 ended, the shortest after 200" in late.text() and "no episode" not in late.text()


def test_images_that_the_encoder_can_not_take_come_with_the_option():
    make = functools.partial(toys.Own, image=(84, 90, 3))
    assert "is 84x90: the encoder takes multiples of 16; resize it with --env.resize" in check(make).text()
    assert check_env(lambda: make_env(make, EnvConfig(resize=True)), steps=20).problems == []


class Flat(toys.Own):
    def step(self, action):
        return super().step(action)._replace(reward=0.0)


def test_a_constant_reward_is_noted():
    assert "every reward was 0" in check(Flat).notes


def test_what_can_not_be_built_is_an_error_not_a_report():
    with pytest.raises(UserError, match="unknown environment"):
        check("nothing_like_this")


def test_a_step_is_a_tuple_in_the_documented_order():
    assert Step._fields == ("obs", "reward", "is_first", "is_last", "is_terminal", "log")


class Outside(toys.Counter):
    """Its first value leaves the bounds a little more with every step, its second one by a constant."""

    observation_space = spaces.Dict(a=spaces.Box(0, 1, (2,)), b=spaces.Dict(c=spaces.Box(-1, 1, (1,))))

    def __init__(self):
        super().__init__(length=40)

    def _obs(self):
        return {
            "a": np.array([1 + 0.001 * self.count, 0.5], np.float32),
            "b": {"c": np.array([-1.001], np.float32)},
        }


def test_each_key_and_kind_of_problem_is_said_once_with_the_worst_and_the_number():
    problems = check(Outside, steps=120).problems
    assert len(problems) == 2, problems
    a, b = sorted(problems)
    assert "observation 'a' is outside its space: values from 0.5 to 1.04, the space says [0, 1]" in a
    assert a.endswith("(the worst of 120 rows)")  # all but the first rows of episodes
    assert "observation 'b/c' is outside its space: values from -1.001 to -1.001" in b and "(124 rows)" in b


class Count(toys.Counter):
    """A Counter that begins alike in every episode."""

    def _obs(self):
        return np.array([0, self.count], np.float32)


class OwnOutside(toys.Own):
    def _obs(self):
        obs = super()._obs()
        return {**obs, "gear": np.int32(5 + self.count), "speed": np.float32(np.nan if self.count else 0)}


def test_the_same_holds_for_environments_of_our_own_contract():
    problems = check(OwnOutside, steps=60).problems
    assert sorted(text.split(" (")[0] for text in problems) == [
        "observation 'gear' is 10, outside its 5 classes",
        "observation 'speed' holds NaN or infinity",
    ]


@pytest.mark.parametrize("where", ["reward", "observation"])
@pytest.mark.parametrize("base", [toys.Own, Count])
def test_an_environment_with_nans_is_not_called_irreproducible_too(base, where):
    class Nans(base):
        def step(self, action):
            row = super().step(action)
            if where == "reward":
                return row._replace(reward=np.nan) if base is toys.Own else (row[0], np.nan, *row[2:])
            return row

        def _obs(self):
            obs = super()._obs()
            if where == "reward":
                return obs
            return {**obs, "speed": np.float32(np.nan)} if base is toys.Own else obs * np.float32(np.nan)

    (problem,) = check(Nans).problems
    assert ("a reward was nan" if where == "reward" else "holds NaN or infinity") in problem


class OldReset(toys.Counter):
    def reset(self):  # type: ignore[override]
        return super().reset()


class NoOptions(toys.Counter):
    def reset(self, seed=None):  # type: ignore[override]
        return super().reset(seed=seed)


@pytest.mark.parametrize(("old", "missing"), [(OldReset, "seed and options"), (NoOptions, "options")])
@pytest.mark.parametrize("wrapper", [None, gymnasium.wrappers.TimeLimit])
def test_a_reset_without_seed_or_options_is_told_the_signature(old, missing, wrapper):
    make = old if wrapper is None else lambda: wrapper(old(), 5)
    signature = r"def reset\(self, \*, seed=None, options=None\)"
    text = rf"{old.__name__}.reset\(\) takes no {missing}; gymnasium wants {signature}"
    for build in (check, lambda target: make_vector_env(target, EnvConfig(num=2), seed=0)):
        with pytest.raises(UserError, match=text):
            build(make)


def test_a_reset_with_any_keywords_takes_a_seed():
    class Keywords(Count):
        def reset(self, **keywords):  # type: ignore[override]
            return super().reset(**keywords)

    assert check(Keywords).problems == []


class Pictures(toys.Counter):
    def __init__(self, kind):
        super().__init__(length=20, render_mode="rgb_array")
        self.kind = kind

    def render(self):
        match self.kind:
            case "size":
                return np.zeros((20 + self.count // 5, 30, 3), np.uint8)
            case "float":
                return np.zeros((20, 30, 3), np.float32)
            case "gray":
                return np.zeros((20, 30), np.uint8)
            case "list":
                return [np.zeros((20, 30, 3), np.uint8)]
            case "raise":
                raise RuntimeError("no window")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("size", "render() changes its size: 20x30, 2"),
        ("float", "render() returned float32 (20, 30, 3); it must be uint8 [height, width, 3]"),
        ("gray", "render() returned uint8 (20, 30); it must be uint8 [height, width, 3]"),
        ("list", "render() returned a list of 1; it must be uint8 [height, width, 3]"),
        ("raise", "render() raised RuntimeError: no window"),
    ],
)
def test_pictures_for_people_that_make_no_video_are_noticed_once(kind, text):
    found = [problem for problem in check(Pictures, kind=kind).problems if "render" in problem]
    assert len(found) == 1 and text in found[0], found


class OwnPictures(toys.Own):
    def render(self):
        return np.zeros((20 + self.count, 30, 3), np.uint8)


def test_pictures_of_our_own_contract_are_looked_at_too():
    assert "render() changes its size: 2" in " ".join(check(OwnPictures).problems)
