"""The console command: dispatch, exit statuses, and quick help of every command."""

import errno
import os
import subprocess
import sys

import pytest

from dreamworld import __main__ as console
from dreamworld import cli
from dreamworld.envs.vector import EnvFailure
from dreamworld.errors import CodeFailure, UserError


def call(*argv, **options):
    command = [sys.executable, "-m", "dreamworld", *argv]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_help_lists_every_command(capsys):
    assert console.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in console.COMMANDS)


def test_no_command_shows_the_usage_and_fails(capsys):
    assert console.main([]) == 2
    assert "usage: dreamworld" in capsys.readouterr().out


def test_version_is_that_of_the_package(capsys):
    from importlib.metadata import version

    assert console.main(["--version"]) == 0
    assert capsys.readouterr().out == f"dreamworld {version('dreamworld')}\n"


def test_an_unknown_command_suggests_the_nearest(capsys):
    assert console.main(["trian"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: trian: no such command; did you mean train?") and error.count("\n") == 1


def test_bad_input_is_one_line_and_status_2_without_a_traceback(tmp_path):
    result = call("train", "--run.stepz", "5", cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "error: --run.stepz: no such option (value '5'); did you mean --run.steps?\n"


def raises(error):
    def main(argv):
        raise error

    return main


def test_a_user_error_is_printed_without_a_traceback(capsys):
    assert cli.run(raises(UserError("what was wrong")), []) == 2
    assert capsys.readouterr().err == "error: what was wrong\n"


def test_an_interrupt_is_130(capsys):
    assert cli.run(raises(KeyboardInterrupt()), []) == 130


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(raises(ZeroDivisionError()), [])


HOMELESS = "~nobody-here/x"  # a slash was forgotten: ~/nobody-here/x was meant


@pytest.mark.parametrize(
    "line",
    [
        *(
            f"{command} {HOMELESS}"
            for command in ("report", "status", "eval", "assess", "train", "sweep", "debug")
        ),
        *(f"data {command} {HOMELESS}" for command in ("info", "check")),
        f"data import {HOMELESS} new",
        f"data export {HOMELESS} new --format npz",
        f"report L={HOMELESS}",
        f"report . --out {HOMELESS}",
        f"train --configs {HOMELESS}",
        f"train --configs debug --task jax_catch --logdir {HOMELESS}",
        f"train --configs debug --task jax_catch --data {HOMELESS} --logdir new",
        f"collect --task jax_catch --data {HOMELESS} --steps 5",
        f"collect --task jax_catch --policy {HOMELESS} --data new --steps 5",
        f"sweep --tasks jax_catch --logdir {HOMELESS} --dry_run",
    ],
)
def test_the_home_of_a_user_who_is_not_there_is_one_line(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert console.main(line.split()) == 2
    said = f"error: {HOMELESS}: there is no user 'nobody-here' here; ~/nobody-here/x is in your home folder\n"
    assert capsys.readouterr().err == said and not os.listdir(tmp_path)


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m dreamworld train --help | head -1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    assert result.returncode in (0, 141)


@pytest.mark.parametrize("name", ["--help", *console.COMMANDS])
def test_help_of_every_command_is_quick_and_light(name):
    code = f"""
import sys
from dreamworld.__main__ import main
try:
    main({[name, "--help"] if name != "--help" else [name]})
except SystemExit as stopped:
    assert not stopped.code
print([m for m in ("jax", "matplotlib", "tensorboardX", "flax", "orbax") if m in sys.modules])
"""
    for _ in range(5):  # of its own work, because other processes may be busy: one quick answer is proof
        before = os.times()
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        after = os.times()
        duration_s = (after.children_user + after.children_system) - (
            before.children_user + before.children_system
        )
        if duration_s < 1:
            break
    assert "usage: dreamworld" in result.stdout, result.stderr
    assert result.stdout.endswith("[]\n"), result.stdout[-200:]
    assert duration_s < 1


def test_a_failure_of_the_users_code_is_told_with_its_own_traceback_alone(capsys):
    def fail(argv):
        raise CodeFailure("environment 0 failed 11 times: RuntimeError: x\x1b\n\nTraceback\n  File mine.py")

    assert cli.run(fail, []) == 1
    told = r"error: environment 0 failed 11 times: RuntimeError: x\x1b"
    assert capsys.readouterr().err.splitlines() == [told, "", "Traceback", "  File mine.py"]
    assert issubclass(EnvFailure, CodeFailure)


@pytest.mark.parametrize(
    "words", [["a\nb"], ["agents", "a\nb"], ["benchmark", "a\nb"], ["envs", "check", "a\nb\x1b"]]
)
def test_a_word_with_control_characters_is_told_in_one_line(words, capsys):
    assert console.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and r"a\nb" in err


def test_a_disk_that_fails_is_not_said_to_refuse_writing(capsys):
    def read(argv):
        raise OSError(errno.EIO, "Input/output error")

    assert cli.run(read, []) == 1
    assert capsys.readouterr().err == "error: a file can't be read or written: Input/output error\n"
