"""A run directory is signed by a secret of its user, and recognised as long as what it names is unchanged."""

import os
import shutil
import stat
import subprocess
import sys

import pytest

from dreamworld import trust


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("task: my_module:MyEnv\n")
    (folder / "spaces.json").write_text("{}\n")
    return folder


def test_what_was_signed_here_is_own_and_what_was_not_is_foreign(run):
    assert not trust.is_own(run)
    assert trust.sign(run)
    assert trust.is_own(run)


def test_a_moved_or_copied_run_stays_own(run, tmp_path):
    trust.sign(run)
    shutil.copytree(run, tmp_path / "copy")
    run.rename(tmp_path / "moved")
    assert trust.is_own(tmp_path / "copy") and trust.is_own(tmp_path / "moved")


@pytest.mark.parametrize("name", ["config.yaml", "spaces.json"])
@pytest.mark.parametrize("change", ["append", "replace", "remove", "swap", "link"])
def test_any_change_of_what_it_names_makes_it_foreign(run, name, change, tmp_path):
    trust.sign(run)
    file = run / name
    if change == "append":
        file.write_bytes(file.read_bytes() + b"\n")
    elif change == "replace":
        file.write_text("task: os:system\n")
    elif change == "remove":
        file.unlink()
    elif change == "swap":
        one, other = run / "config.yaml", run / "spaces.json"
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
    else:
        file.unlink()
        os.mkfifo(file)
    assert not trust.is_own(run)


def test_bytes_that_move_from_one_file_to_the_other_change_the_signature(run):
    (run / "config.yaml").write_text("ab")
    (run / "spaces.json").write_text("c")
    trust.sign(run)
    (run / "config.yaml").write_text("a")
    (run / "spaces.json").write_text("bc")
    assert not trust.is_own(run)


def test_a_run_without_spaces_is_signed_too_and_gaining_some_makes_it_foreign(run):
    (run / "spaces.json").unlink()
    assert trust.sign(run) and trust.is_own(run)
    (run / "spaces.json").write_text("")
    assert not trust.is_own(run)


@pytest.mark.parametrize("text", ["", "00", "not hex", "\x00", "é" * 40, "0" * 10_000_000])
def test_a_signature_of_any_other_content_is_none(run, text):
    trust.sign(run)
    (run / trust.SIGNATURE).write_text(text)
    assert not trust.is_own(run)


def test_the_signature_of_another_user_or_machine_does_not_hold(run, tmp_path, monkeypatch):
    trust.sign(run)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert not trust.is_own(run)
    trust.sign(run)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert not trust.is_own(run)


def test_the_secret_is_made_once_is_private_and_only_when_something_is_signed(run, home):
    assert not trust.is_own(run) and not home.exists()
    trust.sign(run)
    secret = home / "dreamworld" / "secret"
    content = secret.read_bytes()
    assert len(content) == 32 and stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    trust.sign(run)
    assert secret.read_bytes() == content
    assert [path.name for path in secret.parent.iterdir()] == ["secret"]


def test_the_secret_lies_in_the_home_when_nothing_else_is_said(run, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert trust.sign(run) and (tmp_path / ".config" / "dreamworld" / "secret").is_file()


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33, b"y" * 100_000])
def test_a_secret_of_another_length_signs_nothing(run, home, content):
    (home / "dreamworld").mkdir(parents=True)
    (home / "dreamworld" / "secret").write_bytes(content)
    (home / "dreamworld" / "secret").chmod(0o600)
    assert not trust.sign(run) and not trust.is_own(run)
    assert (home / "dreamworld" / "secret").read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_that_others_can_read_is_none(run, home, mode):
    trust.sign(run)
    (home / "dreamworld" / "secret").chmod(mode)
    assert not trust.is_own(run) and not trust.sign(run)


@pytest.mark.parametrize("kind", ["file", "missing", "fifo", "loop"])
def test_a_home_that_can_not_be_written_leaves_runs_unsigned_without_an_error(
    run, kind, tmp_path, monkeypatch
):
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("")
    elif kind == "missing":
        place = trust.Path("/proc/nowhere")
    elif kind == "fifo":
        (place / "dreamworld").mkdir(parents=True)
        os.mkfifo(place / "dreamworld" / "secret")
    else:
        place.symlink_to(place)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place))
    assert not trust.sign(run)
    assert not trust.is_own(run)
    assert not (run / trust.SIGNATURE).exists()


def test_a_user_without_a_home_leaves_runs_unsigned(run, monkeypatch):
    monkeypatch.setattr(
        trust.Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("no home")))
    )
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert not trust.sign(run) and not trust.is_own(run)


def test_a_run_that_can_not_be_signed_any_more_is_not_left_with_an_old_signature(run, home):
    trust.sign(run)
    (run / "config.yaml").write_text("task: other\n")
    (home / "dreamworld" / "secret").unlink()
    (home / "dreamworld").rmdir()
    home.rmdir()
    home.write_text("")
    assert not trust.sign(run) and not (run / trust.SIGNATURE).exists()


def test_two_processes_that_begin_at_once_share_one_secret(run, home):
    code = "import sys; from dreamworld import trust; print(trust.make_secret().hex())"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    secrets = {process.communicate()[0].strip() for process in started}
    assert secrets == {(home / "dreamworld" / "secret").read_bytes().hex()}
