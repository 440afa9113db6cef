"""Names that are nearly right are answered with the right form, in one line."""

import pytest

from dreamworld.envs import make_env
from dreamworld.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder that the user starts in, with my_reach.py and worlds/deep.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "worlds").mkdir()
    for name in ("my_reach.py", "worlds/deep.py"):
        (tmp_path / name).write_text("from gymnasium.envs.classic_control import CartPoleEnv as Reach\n")
    return tmp_path


def line(name):
    with pytest.raises(UserError) as error:
        make_env(name)
    assert "\n" not in str(error.value) and repr(name)[1:-1] in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("./my_reach.py:Reach", "write it as my_reach:Reach"),
        ("my_reach.py:Reach", "write it as my_reach:Reach"),
        (".my_reach:Reach", "write it as my_reach:Reach"),
        ("my_reach :Reach", "write it as my_reach:Reach"),
        ("worlds/deep.py:Reach", "write it as worlds.deep:Reach"),
        ("worlds/deep:Reach", "write it as worlds.deep:Reach"),
        (".\\worlds\\deep.py:Reach", "write it as worlds.deep:Reach"),
        ("../other/deep.py:Reach", "write it as deep:Reach, and start in the folder ../other"),
        ("../../x:y", "write it as x:y, and start in the folder ../.."),
        ("/data/deep.py:Reach", "write it as deep:Reach, and start in the folder /data"),
        ("~/deep.py:Reach", "write it as deep:Reach, and start in the folder ~"),
        ("my-worlds/deep.py:Reach", "write it as deep:Reach, and start in the folder my-worlds"),
        ("my_reach:", "write it as my_reach:Name"), (":Reach", "write it as module:Name"), (":", "as module:Name"),
        ("my_reach.py", "did you mean my_reach:Name?"),
        ("my_reach.Reach", "did you mean my_reach:Reach?"), ("worlds.deep.Reach", "did you mean worlds.deep:Reach?"),
        ("My_reach:Reach", "did you mean my_reach?"), ("my_reech:Reach", "did you mean my_reach?"),
        ("my_reach:reach", "my_reach has no 'reach'; did you mean Reach?"),
        ("gym_./my_reach.py:Reach-v0", "write it as gym_my_reach:Reach-v0"),
        ("gym_my_reach:", "write it as gym_my_reach:Id-v0"), ("gym_:Reach-v0", "write it as gym_module:Id-v0"),
    ],
)  # fmt: skip
def test_modules_are_named_by_their_right_form(name, form):
    assert form in line(name)


@pytest.mark.parametrize("name", ["my_reach:Reach", "worlds.deep:Reach"])
def test_the_right_forms_work(name):
    assert make_env(name).obs_space["vector"].shape == (4,)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("gym_ALE/Pong-v5", "did you mean gym_ale_py:ALE/Pong-v5?"),
        ("ALE/Pong-v5", "did you mean gym_ale_py:ALE/Pong-v5?"),
        ("gym_ale_py:ALE/pong-v5", "did you mean gym_ale_py:ALE/Pong-v5?"),
        ("gym_Foo/Bar-v0", "nothing has registered the namespace Foo: name the package, as in gym_package:Foo/Bar-v0"),
        ("gym_FooBar-v0", "if a package registers it, name the package, as in gym_package:FooBar-v0"),
        ("gym_cartpole-v1", "did you mean gym_CartPole-v1?"), ("gym_CartPole", "did you mean gym_CartPole-v1?"),
        ("gym_cartpole", "did you mean gym_CartPole-v1?"), ("gym_CartPole-v7", "did you mean gym_CartPole-v1?"),
        ("gym_CartPole-v1 ", "did you mean gym_CartPole-v1?"), ("gym_CartPol-v1", "did you mean gym_CartPole-v1?"),
        ("gym_halfcheetah-v4", "did you mean gym_HalfCheetah-v4?"),
        ("CartPole-v1", "did you mean gym_CartPole-v1?"), ("pendulum-v1", "did you mean gym_Pendulum-v1?"),
        ("GYM_Pendulum-v1", "did you mean gym_Pendulum-v1?"), ("Atari_pong", "did you mean atari_pong?"),
        ("gym_", "give its id, as in gym_CartPole-v1"),
    ],
)  # fmt: skip
def test_gymnasium_ids_are_named_by_their_right_form(name, form, monkeypatch):
    import gymnasium
    from gymnasium.envs import registration

    kept = {key: spec for key, spec in gymnasium.registry.items() if spec.namespace != "ALE"}
    monkeypatch.setattr(registration, "registry", kept if "ale_py" not in name else gymnasium.registry)
    monkeypatch.setattr(gymnasium, "registry", registration.registry)
    assert form in line(name)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import no_such_package\n", "imports 'no_such_package', which is not installed"),
        ("\nfrom no_such_package.deep import x\n", "imports 'no_such_package', which is not installed"),
        ("from gymnasium import NoSuchName\n", "can't be imported: ImportError: cannot import name 'NoSuchName'"),
        ("def broken(:\n", "can't be imported: SyntaxError"), ("1 / 0\n", "can't be imported: ZeroDivisionError: "),
        ("raise SystemError('two\\nlines')\n", "can't be imported: SystemError: two lines"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "gym_"])
def test_a_module_that_can_not_be_imported_names_what_is_at_fault(folder, code, text, prefix, monkeypatch):
    name = f"faulty_{abs(hash((code, prefix)))}"
    (folder / f"{name}.py").write_text(code)
    found = line(f"{prefix}{name}:Reach-v0")
    assert (
        text in found
        and f"{name}.py:{1 + code.startswith(chr(10))}" in found
        and "no module named" not in found
    )


@pytest.mark.parametrize("name", ["gym_CartPol-v1", "gym_CartPole-v1;gym_Acrobot-v1"])
def test_a_folder_without_code_is_no_package(folder, name, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    for run in ("cart", "cartpol", "cart_pol"):
        (folder / run).mkdir()
    assert "gym_cart" not in line(name)
