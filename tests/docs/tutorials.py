"""Runs a tutorial from its text: writes files, executes Python in one namespace, runs commands, compares shown output.

Commands of dreamworld run in this process: a process for each, as in a notebook, would spend most of a test's time on
imports.
"""

import contextlib
import importlib.util
import io
import itertools
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
import zipfile

import documents

from dreamworld.__main__ import main

PAGES = documents.TUTORIALS
FILE = re.compile(r"# (\w[\w./-]*\.(?:py|yaml|toml))\n")  # a block that opens so is a file
CHECKOUT = "~/dreamworld"  # what the pages call the checkout


def load_extension(name):
    """A module of docs/extensions."""
    path = documents.ROOT / "docs" / "extensions" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment():
    """For commands in processes of their own: this checkout and this Python come first."""
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    before = [place for place in [os.environ.get("PYTHONPATH")] if place]
    python = os.pathsep.join([str(documents.ROOT), str(pathlib.Path("site").resolve()), *before])
    return {**os.environ, "PATH": path, "PYTHONPATH": python}


def shortened(line, extra):
    """A command of a page with the options that make it end soon; `extra` holds them by the command's name."""
    words = line.split()
    for name, options in extra.items():
        if {("dreamworld", name), ("-m", name)} & {*itertools.pairwise(words)}:
            return f"{line} {options}"
    return line


def run_page(page, extra):
    """Runs the blocks of a page in the current folder; returns how many outputs were compared."""
    space, printed, compared = {"__name__": "__main__"}, "", 0
    for block in documents.blocks("python", "bash", "sh", "yaml", "toml", "text", pages=[page]):
        file = FILE.match(block.text)
        if block.language == "text":
            compare(block, printed)
            compared += 1
        elif file:
            path = pathlib.Path(file[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text[file.end() :])
        elif block.language == "python":
            with reading() as found:
                exec(compile(block.text, block.place, "exec"), space)
            printed = found.getvalue()
        elif block.language == "bash":
            lines = [line for line in documents.joined(block.text) if shlex.split(line, comments=True)]
            printed = "\n".join(run_line(shortened(line, extra), block.place) for line in lines)
        elif block.language == "sh":
            serve(block)
        else:
            raise AssertionError(f"{block.place}: a {block.language} block without the name of a file")
    return compared


def compare_cells(page, book):
    """Compares what a page shows with what the cells of its executed notebook printed; returns how many outputs."""
    cells = iter([cell for cell in book.cells if cell.cell_type == "code"])
    printed, compared = "", 0
    for block in documents.blocks("python", "bash", "yaml", "toml", "text", pages=[page]):
        if block.language == "text":
            compare(block, printed)
            compared += 1
        else:
            outputs = sorted(next(cells).outputs, key=lambda output: output.get("name") == "stdout")
            printed = "".join(output.get("text", "") for output in outputs)  # streams arrive in any order
    assert next(cells, None) is None
    return compared


@contextlib.contextmanager
def reading():
    """What is printed meanwhile, on both streams, in its order."""
    found = io.StringIO()
    with contextlib.redirect_stdout(found), contextlib.redirect_stderr(found):
        yield found


def run_line(line, place):
    """Runs a line of a shell block and returns what it prints."""
    words = shlex.split(line, comments=True)
    if words[0] == "dreamworld":
        with reading() as found:
            code = main(words[1:])
        assert not code, f"{place}: {line}\n{found.getvalue()}"
        return found.getvalue()
    if words[:2] == ["pip", "install"]:
        return install(words)
    done = subprocess.run(
        ["bash", "-euc", line.replace(CHECKOUT, str(documents.ROOT))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(),
    )  # fmt: skip
    assert not done.returncode, f"{place}: {line}\n{done.stdout}"
    return done.stdout


def install(words):
    """`pip install -e .` into the folder `site`, so that this Python's packages stay as they are."""
    assert words[2:] == ["-e", "."]
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", "dist", "."]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert not done.returncode, done.stdout
    (wheel,) = pathlib.Path("dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall("site")
    return done.stdout


def serve(block):
    """Starts a command that serves a page until it is stopped, reads the page, and stops it."""
    (line,) = documents.joined(block.text)
    words = [word for word in shlex.split(line, comments=True) if word != "--open"]
    process = subprocess.Popen(
        [*words, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout
        said = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", said)):
            said += (line := process.stdout.readline())
            assert line, f"{block.place}: {said}"
        with urllib.request.urlopen(found[0], timeout=60) as page:
            assert page.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, f"{block.place}: {process.stdout.read()}"
    finally:
        process.kill()


def compare(block, printed):
    """Every line that a page shows was printed, in this order; numbers may differ, and `…` leaves lines out."""
    rest = masked(printed)
    for line in block.text.splitlines():
        if (wanted := masked(line)) in ("", "…"):
            continue
        assert wanted in rest, f"{block.place} shows {line.strip()!r}, but this was printed:\n{printed}"
        rest = rest[rest.index(wanted) + len(wanted) :]


def masked(text):
    """Text without line breaks, durations and numbers, which differ with the machine; those of `4 x cpu` stay."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)  # colours: notebooks ask for them
    text = " ".join(text.split()).replace("[ ", "[").replace(" ]", "]")
    text = re.sub(r"\b(\d+h )?(\d+m )?\d+s\b", "#", text)
    return re.sub(r"[-−]?\d[\d,.:]*+(?:e[+-]?\d+)?+(?:k\b)?+(?! x )", "#", text)
