"""The console command `dreamworld`: finds the command and calls `dreamworld.scripts.<command>.main(argv)`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from dreamworld import early  # and what takes time only once a signal is answered

COMMANDS = {
    "train": "train an agent, or continue a stopped run",
    "eval": "evaluate the agent of a run",
    "assess": "judge the world models of runs: what they dream against what happens",
    "play": "play in the world of a run, beside the real one, in a browser",
    "collect": "record episodes as a data set",
    "data": "import, export, describe and check data sets",
    "agents": "list agents, and what each can do",
    "envs": "list environments, and check one",
    "doctor": "check the installation: devices, rendering, packages, memory",
    "debug": "look for the cause when a run misbehaves",
    "sweep": "train many runs: tasks, seeds, settings",
    "status": "show the state of runs",
    "report": "compare runs: curves, scores, statistics",
    "benchmark": "measure updates, environments and replay on this machine",
}
COMPUTE = ("train", "eval", "assess", "play", "collect", "benchmark")
TRAIN = ("train", "sweep")  # what these do must not end because nobody reads what they print


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status. Called by a console (without `argv`), commands that compute get huge pages."""
    if argv is None:
        return early.run("".join(sys.argv[1:2]), _run_console)
    from dreamworld import cli

    return cli.run(_dispatch, argv)


def _run_console() -> int:
    from dreamworld import cli, launch, streams

    if sys.argv[1:2] and sys.argv[1] in COMPUTE:
        launch.use_huge_pages()
    if sys.argv[1:2] and sys.argv[1] in TRAIN:
        streams.guard_process("stdout")
    return cli.run(_dispatch, sys.argv[1:])


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    name, *rest = argv
    if name in ("-V", "--version"):
        print(f"dreamworld {version()}")
        return 0
    if name not in COMMANDS:
        from dreamworld import text, words
        from dreamworld.errors import UserError

        text.check_filled("dreamworld COMMAND", name, f"one of {', '.join(COMMANDS)}")
        best = words.nearest(name, COMMANDS)
        raise UserError(f"{name}: no such command; did you mean {best}? There are: {', '.join(COMMANDS)}")
    return importlib.import_module(f"dreamworld.scripts.{name}").main(rest)


def usage() -> str:
    """The text of `dreamworld --help`."""
    lines = ["usage: dreamworld COMMAND [OPTIONS]", "", "Train agents inside learned world models.", ""]
    lines += [f"  {name:<10} {meaning}" for name, meaning in COMMANDS.items()]
    lines += [
        "",
        "dreamworld COMMAND --help lists the options of a command; dreamworld --version the version.",
    ]
    return "\n".join(lines)


def version() -> str:
    """The installed version."""
    from importlib import metadata

    try:
        return metadata.version("dreamworld")
    except metadata.PackageNotFoundError:
        return "(not installed: run from a checkout)"


if __name__ == "__main__":
    sys.exit(main())
