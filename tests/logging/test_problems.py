"""What goes wrong with output is told once, in one line, and never raised."""

import errno

import pytest

from dreamworld.logging.problems import Problems

FULL = OSError(errno.ENOSPC, "No space left on device")


def fail(problems, error, kind="pictures", what=""):
    with problems.attempt(kind, what):
        if error:
            raise error


def test_a_full_disk_is_told_once_and_again_when_it_is_over():
    problems = Problems()
    for _ in range(3):
        fail(problems, FULL)
    assert problems.take() == ["NOT WRITTEN: pictures: No space left on device. Training goes on."]
    fail(problems, FULL)
    assert problems.take() == [] and problems.goes("pictures")
    fail(problems, None)
    assert problems.take() == ["written again: pictures"]
    fail(problems, FULL)
    assert len(problems.take()) == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ImportError("No module named 'pygame'"), "ImportError: No module named 'pygame'"),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (MemoryError("of 1 TiB"), "MemoryError: of 1 TiB"),
        (OSError("encoder error -2"), "encoder error -2"),  # of PIL: without an errno
        (ValueError("x" * 5000), "ValueError: xxx"),
    ],
)
def test_what_cannot_be_made_is_told_once_and_given_up(error, why):
    problems = Problems()
    fail(problems, error)
    assert not problems.goes("pictures") and problems.goes("videos")
    fail(problems, error)
    (text,) = problems.take()
    assert text.startswith("NO MORE pictures in this run: ") and why in text and "\n" not in text
    assert len(text) < 500


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_a_stop_is_no_problem_of_a_picture(error):
    with pytest.raises(type(error)):
        fail(Problems(), error)


def test_only_what_the_system_refuses_is_told_of_a_file():
    problems = Problems(then="")
    with problems.told("a file"):
        raise FULL
    assert problems.take() == ["NOT WRITTEN: a file: No space left on device."]
    with pytest.raises(ValueError), problems.told("a file"):
        raise ValueError


def test_a_thing_without_a_path_is_told_with_the_path_that_failed_and_once(tmp_path):
    problems = Problems()
    (tmp_path / "eval").symlink_to(tmp_path / "gone")
    for _ in range(2):
        with problems.told("videos"):
            (tmp_path / "eval").mkdir()
    (told,) = problems.take()
    assert told == f"NOT WRITTEN: videos: File exists ({tmp_path / 'eval'}). Training goes on."
    for number in range(2):
        with problems.told("pictures"):
            (tmp_path / "gone" / str(number)).write_text("")
    (told,) = problems.take()
    assert str(tmp_path / "gone" / "0") in told
