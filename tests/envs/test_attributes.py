"""Objects of users that answer for attributes they have not, by errors or junk: they work, or it is one line."""

import gymnasium
import numpy as np
import pytest
import toys

import dreamworld
from dreamworld import cli
from dreamworld.config import EnvConfig
from dreamworld.envs import attributes, make_env, make_vector_env
from dreamworld.envs.adapters.kinds import recognise
from dreamworld.envs.check import check_env
from dreamworld.envs.jax import make_jax_env
from dreamworld.errors import UserError


def raises(error):
    def answer(self, name):
        raise error

    return answer


def endless(self, name):
    return getattr(self, name + "_")


def a_new_type(self, name):
    return type("Mock", (), {"__call__": lambda self: None})()  # as MagicMock, whose answers have a type each


ANSWERS = {
    "RuntimeError": raises(RuntimeError("two\nlines")),
    "KeyError": raises(KeyError("key")),
    "SystemExit": raises(SystemExit(3)),
    "recursion": endless,
    "text": lambda self, name: "text",
    "None": lambda self, name: None,
    "a function": lambda self, name: lambda *args, **options: None,
    "itself": lambda self, name: self,
    "a mock": a_new_type,
}


class Catch:
    """A JAX environment that is none of ours."""

    def __init__(self):
        env = make_jax_env("jax_catch")
        self.obs_space, self.act_space, self.reset, self.step = (
            env.obs_space,
            env.act_space,
            env.reset,
            env.step,
        )


@pytest.fixture(params=ANSWERS)
def answer(request):
    return ANSWERS[request.param]


def odd(base, answer):
    """A class of environments that answers so for every attribute that it has not."""
    return type("Odd", (base,), {"__getattr__": answer, "__module__": __name__})


@pytest.mark.parametrize(
    ("base", "kind"),
    [(toys.Counter, "gymnasium"), (toys.DmCounter, "dm_env"), (toys.Own, "own"), (Catch, "jax")],
    ids=["gymnasium", "dm_env", "own", "jax"],
)
def test_an_environment_is_what_its_own_attributes_say(base, kind, answer):
    cls = odd(base, answer)
    assert recognise(cls()) == kind
    for source in (cls(), cls):
        env = make_env(source)
        env.reset(0)
        step = env.step({key: space.sample(np.random.default_rng(0)) for key, space in env.act_space.items()})
        assert not step.is_first
        env.render()
        env.close()


def test_one_object_is_stepped_in_this_process(answer):
    env = make_vector_env(odd(toys.Counter, answer)(), EnvConfig(), seed=0, num=1)
    assert env.engine == "inprocess" and env.reset(0).obs["vector"].shape == (1, 2)
    env.close()


def test_the_check_finds_what_it_finds_without_such_answers(answer):
    plain, found = (
        check_env(lambda cls=cls: make_env(cls), steps=10)
        for cls in (toys.Counter, odd(toys.Counter, answer))
    )
    assert found.found.lines() == plain.found.lines() and found.spaces == plain.spaces


def config_for(logdir, *words):
    quiet = ["--eval.every=0", "--run.report_every=0", "--run.progress=False", "--logger.tensorboard=False"]
    return cli.parse(["--configs", "debug", *quiet, "--run.steps=8", "--logdir", str(logdir), *words])


@pytest.mark.parametrize(
    "words", [["--env.num=1"], ["--env.num=2", "--run.mode=fused"]], ids=["gymnasium", "fused"]
)
def test_it_is_trained_on_and_goes_on(tmp_path, answer, words):
    env = odd(Catch if len(words) > 1 else toys.Counter, answer)()
    assert dreamworld.train(config_for(tmp_path / "run", *words), env=env) == 0
    assert dreamworld.train(config_for(tmp_path / "run", *words, "--run.steps=16"), env=env) == 0


def test_a_factory_that_answers_so_makes_environments(answer):
    made = type(
        "Made", (), {"__getattr__": answer, "__call__": lambda self: toys.Counter(), "__module__": __name__}
    )
    assert make_env(made()).reset(0).is_first


class NotConnected(toys.Counter):
    @property
    def observation_space(self):  # type: ignore[override]
        raise ConnectionError("no\nserver")


class Never(toys.Counter):
    def __getattribute__(self, name):
        raise RuntimeError(f"never {name}")


class Stub:
    """As of a remote procedure call: everything is a function, nothing is an environment's own."""

    def __getattr__(self, name):
        return lambda *args, **options: None


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (NotConnected, "can't be built: it raised ConnectionError: no server ("),
        (Never, "can't be built: it raised RuntimeError: never step ("),
        (Stub, "a Stub; expected a gymnasium.Env"),
    ],
)
def test_what_can_not_be_asked_is_one_line(tmp_path, cls, says):
    made = cls()
    for call in (
        lambda: make_env(cls),
        lambda: make_env(made),
        lambda: make_vector_env(made, EnvConfig(), seed=0, num=1),
        lambda: check_env(lambda: make_env(cls)),
        lambda: dreamworld.train(config_for(tmp_path / "run", "--env.num=1"), env=made),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert says in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


class Passing:
    """A wrapper that knows what the environment in it has, and answers None or an error for the rest."""

    def __init__(self, strict):
        self._strict, self._env = strict, toys.Counter()

    def __getattr__(self, name):
        if self.__dict__["_strict"] and not hasattr(self.__dict__["_env"], name):
            raise LookupError(name)
        return getattr(self.__dict__["_env"], name, None)


@pytest.mark.parametrize("strict", [True, False])
def test_what_a_wrapper_passes_on_counts(strict):
    assert recognise(Passing(strict)) == "gymnasium"
    assert attributes.attribute(Passing(strict), "render_mode", "none") in (None, "none")
    assert make_env(Passing(strict)).reset(0).is_first


def test_plain_attributes_are_given_as_they_are():
    env = gymnasium.make("CartPole-v1")
    for name in ("spec", "metadata", "observation_space", "nothing_of_the_kind"):
        assert attributes.attribute(env, name, 3) is getattr(env, name, 3)
    assert attributes.has(env, "step", "reset") and not attributes.has(env, "step", "fly")
