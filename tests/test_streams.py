"""Guarded streams, tried on real ones: a full disk, a reader that left or sleeps, closed descriptors, ASCII."""

import contextlib
import errno
import io
import os
import pty
import resource
import subprocess
import sys
import time

import pytest

from dreamworld import cli, streams
from dreamworld.streams import Guarded


@contextlib.contextmanager
def pipe():
    """(read end, guarded write end); both may be closed meanwhile."""
    reader, writer = os.pipe()
    file = os.fdopen(writer, "w")
    yield reader, Guarded(file)
    for close in (lambda: os.close(reader), file.close):
        with contextlib.suppress(OSError):
            close()


def test_what_a_full_disk_does_not_take_is_there_once_it_does(tmp_path):
    path = tmp_path / "log.txt"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open(path, "w") as file:
        stream = Guarded(file)
        print("first", file=stream)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (9, hard))
            print("second", file=stream)
            print("third", file=stream)
            assert path.read_text() == "first\nsec"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        print("fourth", file=stream)
        assert path.read_text() == "first\nsecond\nthird\nfourth\n"


def test_the_newest_is_kept_within_bounds_and_the_loss_is_told(tmp_path):
    path = tmp_path / "log.txt"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open(path, "w") as file:
        stream = Guarded(file)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
            for number in range(10_000):
                stream.write(f"message {number} " + "x" * 100 + "\n")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        stream.flush()
    lines = path.read_text().splitlines()
    assert "earlier pieces of output" in lines[0]
    assert lines[-1].startswith("message 9999 ") and len(path.read_bytes()) < streams.LIMIT_BYTES + 200


def test_a_reader_that_left_raises_nothing():
    with pipe() as (reader, stream):
        os.close(reader)
        print("nobody hears this", file=stream)
        stream.flush()


def test_a_reader_that_sleeps_stops_nobody_and_hears_all_of_it_later():
    with pipe() as (reader, stream):
        began = time.monotonic()
        sent = [f"line {number:06d}\n" for number in range(10_000)]  # a pipe holds half of that
        stream.writelines(sent)
        assert time.monotonic() - began < streams.PATIENCE_S + 2
        heard = b""
        while len(heard) < 12 * len(sent):
            heard += os.read(reader, 1 << 20)
            stream.flush()
        assert heard.decode() == "".join(sent)


def test_a_terminal_that_is_gone_raises_nothing():
    leader, follower = pty.openpty()
    with open(follower, "w") as file:
        stream = Guarded(file)
        assert stream.isatty()
        os.close(leader)
        print("nobody sees this", file=stream)
    print("closed", file=stream)
    assert not stream.isatty()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_an_encoding_cannot_say_is_escaped(encoding):
    raw = io.BytesIO()
    stream = Guarded(io.TextIOWrapper(raw, encoding=encoding))
    print("a→b \udcff", file=stream)
    assert raw.getvalue() == b"a\\u2192b \\udcff\n"


class Moody(io.StringIO):
    """A stream of a user that fails as it likes."""

    error: Exception | None = RuntimeError("not now")

    def write(self, text):
        if self.error:
            raise self.error
        return super().write(text)


def test_any_exception_of_a_foreign_stream_is_survived():
    moody = Moody()
    stream = Guarded(moody)
    print("one", file=stream)
    moody.error = None
    print("two", file=stream)
    assert moody.getvalue() == "one\ntwo\n"
    moody.close()
    print("three", file=stream)


def test_a_part_of_a_line_waits_for_the_rest_or_a_flush():
    with pipe() as (reader, stream):
        os.set_blocking(reader, False)
        stream.write("50%")
        with pytest.raises(BlockingIOError):
            os.read(reader, 10)
        stream.flush()
        assert os.read(reader, 10) == b"50%"


def test_streams_are_guarded_for_a_while_and_never_twice():
    before = sys.stdout
    with streams.guarded("stdout"):
        ours = sys.stdout
        assert isinstance(ours, Guarded)
        with streams.guarded("stdout", "stderr"):
            assert sys.stdout is ours
        assert sys.stdout is ours
    assert sys.stdout is before


SPEAKS = """
import logging, sys, warnings
from dreamworld import cli, streams

def main(argv):
    streams.guard_process("stdout", "stderr")
    for _ in range(3):
        print("printed \u2192")
        logging.getLogger("dreamworld").warning("logged \u2192")
        warnings.warn("warned \u2192", UserWarning, stacklevel=1)
        sys.stderr.write("written \u2192\\n")
    with open(argv[0], "w") as file:  # must not get the number of a standard stream
        file.write(str(file.fileno()))
    if argv[1] == "raise":
        raise RuntimeError("the reason \u2192")
    return int(argv[1])

sys.exit(cli.run(main, sys.argv[1:]))
"""

BROKEN = {
    "nothing": "",
    "a full disk": ">/dev/full 2>/dev/full",
    "closed": ">&- 2>&-",
    "all closed": "<&- >&- 2>&-",
    "stderr closed": "2>&-",
    "a reader that leaves": "2>&1 | head -c 1 >/dev/null",
    "a reader that sleeps": "2>&1 | sleep 1",
    "read only": ">/dev/null </dev/null 2</dev/null",
}


@pytest.mark.parametrize("code", ["0", "75", "raise"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_process_ends_with_the_code_it_would_have_had(how, code, tmp_path):
    script = tmp_path / "speaks.py"
    script.write_text(SPEAKS, "utf-8")
    line = f'"$0" "$1" "$2" "$3" {BROKEN[how]}; exit ${{PIPESTATUS[0]}}'
    result = subprocess.run(
        ["bash", "-c", line, sys.executable, str(script), str(tmp_path / "file"), code],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == (1 if code == "raise" else int(code)), result.stderr
    assert int((tmp_path / "file").read_text()) > 2
    if how == "nothing":
        assert result.stdout.count("printed \\u2192\n") == 3
        assert result.stderr.count("logged \\u2192") == result.stderr.count("written \\u2192") == 3
        assert ("RuntimeError: the reason \\u2192" in result.stderr) == (code == "raise")
    else:
        assert "Exception ignored" not in result.stderr


@pytest.mark.parametrize(("how", "code"), [(">/dev/full", 1), (">&-", 0), (">&- 2>&-", 0)])
@pytest.mark.parametrize("command", ["status .", "--help"])
def test_a_command_whose_output_can_not_be_written_says_so_in_one_line(command, how, code, tmp_path):
    (tmp_path / "config.yaml").write_text("task: x\n")
    (tmp_path / "status.json").write_text('{"state": "finished", "updated": 1.0}')
    line = f"{sys.executable} -m dreamworld {command} {how}"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    full = "error: the output can't be written (No space left on device)\n"
    assert result.stderr == (full if code else "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.EROFS, "Read-only file system", "/x/a\nb"),
            "error: /x/a\\nb: Read-only file system\n",
        ),
        (FileExistsError(errno.EEXIST, "File exists", "/x"), "error: /x: File exists\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "error: a file can't be written: No space left on device\n",
        ),
    ],
)
def test_a_file_that_the_system_refuses_is_one_line(error, line, capsys):
    def main(argv):
        raise error

    assert cli.run(main, []) == 1
    assert capsys.readouterr().err == line


def test_an_error_that_names_no_file_and_no_disk_keeps_its_traceback():
    def main(argv):
        raise OSError("a program's own")

    with pytest.raises(OSError, match="own"):
        cli.run(main, [])
