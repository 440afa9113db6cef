"""Which values are environments, and what a name or a value is called."""

import functools

import gymnasium
import pytest
import toys
from strange import Maker, cached, make_counter
from toys import Counter

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env
from dreamworld.envs.jax.catch import Catch
from dreamworld.envs.sources import name_of, names_code
from dreamworld.envs.vector import make_vector_env
from dreamworld.errors import UserError


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("os:system", "command=touch {marker}"),
        ("posix:system", "command=touch {marker}"),
        ("subprocess:Popen", "args=touch {marker}"),
        ("subprocess:run", "args=touch {marker}"),
        ("subprocess:check_output", "args=touch {marker}"),
        ("builtins:open", "file={marker},mode=w"),
        ("io:open", "file={marker},mode=w"),
        ("os:mkdir", "path={marker}"),
        ("pathlib:Path", ""),
        ("tempfile:mkdtemp", "dir={folder}"),
        ("tempfile:TemporaryDirectory", "dir={folder}"),
        ("sqlite3:connect", "database={marker}"),
        ("logging:FileHandler", "filename={marker}"),
        ("runpy:run_path", "path_name={script}"),
        ("pathlib:Path.touch", "self={marker}"),
        ("shelve:open", "filename={marker}"),
        ("builtins:dict.fromkeys", "iterable=a"),
        ("strange:os.mkdir", "path={marker}"),
        ("strange:SNEAKY", ""),
        ("strange:CALLER", "path={marker}"),
        ("strange:ADD", ""),
    ],
)
@pytest.mark.parametrize("engine", ["inprocess", "jax"])
def test_a_callable_that_makes_no_environment_is_never_called(name, options, engine, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    text = options.format(marker=tmp_path / "marker", folder=tmp_path, script=script)
    with pytest.raises(UserError, match=r"makes no environment.* is not called|has no 'touch'") as found:
        make_vector_env(name, EnvConfig(num=1, engine=engine, options=text), seed=0)
    assert "\n" not in str(found.value)
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_a_worker_process_does_not_call_it_either(tmp_path):
    config = EnvConfig(num=1, engine="process", options=f"command=touch {tmp_path / 'marker'}")
    with pytest.raises(UserError, match=r"makes no environment.* is not called"):
        make_vector_env("os:system", config, seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value",
    [
        make_counter,
        lambda: Counter(),
        functools.partial(make_counter, 4),
        functools.partial(functools.partial(Counter), length=4),
        Maker(),
        Maker().make,
        Maker.build,
        cached,
        Counter,
        toys.DmCounter,
        Catch,
    ],
)
def test_what_a_user_wrote_is_called(value):
    make_env(value).close()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("gym_CartPole-v1", "gym_CartPole-v1"),
        (Counter, "toys:Counter"),
        (make_counter, "strange:make_counter"),
        (Maker.build, "strange:Maker.build"),
        (lambda: Counter(), "custom:lambda"),
        (functools.partial(make_counter, 4), "custom:make_counter"),
        (Counter(), "custom:Counter"),
        (Maker(), "custom:Maker"),
        (Maker().make, "custom:Maker.make"),
        (gymnasium.make("CartPole-v1"), "custom:CartPole-v1"),
    ],
)
def test_a_value_is_named_so_that_it_can_be_imported_or_else_is_custom(value, name):
    assert name_of(value) == name


def test_local_classes_and_those_of_the_main_script_are_custom():
    class Local(Counter):
        pass

    class Main(Counter):
        pass

    Main.__module__, Main.__qualname__ = "__main__", "Main"
    assert name_of(Local) == "custom:Local"
    assert name_of(Main) == "custom:Main"


def test_a_name_that_something_else_has_taken_is_custom(monkeypatch):
    monkeypatch.setattr(toys, "Counter", toys.DmCounter)
    assert name_of(Counter) == "custom:Counter"


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("gym_CartPole-v1", "", False),
        ("gym_CartPole-v1", "sutton_barto_reward=True", True),
        ("dmc_walker_walk", "", False),
        ("jax_catch", "", False),
        ("jax_catch", "size=8", False),
        ("module:Name", "", True),
        ("gym_module:Id-v0", "", True),
        ("jax_module:Name", "", True),
        ("./file.py:Name", "", True),
        ("some_suite_task", "", False),
        ("package.module.Name", "", True),
        ("../x", "", True),
    ],
)
def test_names_that_import_or_configure_code_are_told_from_those_of_a_family(name, options, code):
    assert names_code(name, options) is code


def test_one_object_is_one_environment():
    env = Counter()
    vector = make_vector_env(env, EnvConfig(num=1), seed=0)
    rows = vector.reset(0)
    assert rows.is_first.all() and vector.num_envs == 1
    vector.close()
    make_vector_env(env, EnvConfig(num=1), seed=0).close()
    with pytest.raises(UserError, match=r"a Counter is one environment.*env\.num 1"):
        make_vector_env(env, EnvConfig(num=2), seed=0)
    with pytest.raises(UserError, match=r"worker process.*env\.engine inprocess"):
        make_vector_env(env, EnvConfig(num=1, engine="process"), seed=0)


def test_an_object_is_not_closed_by_who_borrowed_it():
    closed = []

    class Closing(Counter):
        def close(self):
            closed.append(1)

    env = Closing()
    make_vector_env(env, EnvConfig(num=1), seed=0).close()
    assert not closed
    make_vector_env(Closing, EnvConfig(num=1), seed=0).close()
    assert closed
