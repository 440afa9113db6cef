"""`dreamworld play DIR|TASK`: a page to play in, the real environment beside what an agent dreams of it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

from dreamworld import text
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.limits import STEPS, Range
from dreamworld.plan_options import DEFAULT, PlanConfig, Planning, check_used

if TYPE_CHECKING:
    from dreamworld.sessions.stored import Stored
    from dreamworld.types import EnvSource

DESCRIPTION = """Play in the world of a run: dreamworld play DIR

Or in an environment alone: dreamworld play TASK. It serves a page on this machine until Ctrl-C."""
USED = ("configs", "trust", "help", "task", "seed", "env", "run.platform", "run.compile_cache")
"""Options (or groups) of a training that matter here, too."""


@dataclasses.dataclass(frozen=True)
class Flags:
    host: str = "127.0.0.1"
    """Address to serve on; on another one than loopback the page needs a token, which is printed."""
    port: Annotated[int, Range(0, 65535)] = 8765
    """Port to serve on; 0 for any free one."""
    open: bool = False
    """Open the page in a browser."""
    sessions: Annotated[int, Range(1, 64)] = 4
    """Browsers that may play at a time."""
    checkpoint: Annotated[int, Range(-1, STEPS.high)] = -1
    """Checkpoint to load; -1 for the newest."""
    planner: Planning = "none"
    """A player beside you and the agent: one that plans in the dream of the agent."""
    plan: PlanConfig = DEFAULT
    data: str = ""
    """Folder of the data set that episodes are saved in; by default `play` in the run, or runs/play-TASK."""


class Asked(NamedTuple):
    """What a command line asks for."""

    config: Config  # of the environment
    flags: Flags
    run: Stored | None  # None for an environment alone
    source: EnvSource  # an environment from Python; None for `config.task`


def main(argv: Sequence[str]) -> int:
    """Serves until a signal; the exit status is that of the signal."""
    from dreamworld.play import needs

    asked = read(argv)
    needs.require_extra()
    from dreamworld.play import opening, serving

    flags = asked.flags
    with serving.listening(flags.host, flags.port) as listener:
        if asked.run:
            world = opening.open_run(
                asked.run,
                asked.config,
                asked.source,
                flags.checkpoint,
                flags.data,
                flags.planner,
                flags.plan,
            )
        else:
            world = opening.open_task(asked.config, flags.data)
        return serving.serve(world, listener, host=flags.host, sessions=flags.sessions, show=flags.open)


def read(argv: Sequence[str]) -> Asked:
    """The words of a command line: a folder or an environment, then options."""
    from dreamworld import cli, presets
    from dreamworld.sessions import folders, stored

    words, options = cli.leading_words(argv)
    if len(words) > 1:
        raise UserError(f"play {' '.join(words)}: give one folder of a run, or one environment")
    folder, task = _split("".join(words))
    runs: list[Stored] = []

    def base(*, trusted: bool) -> Config:
        if not folder:
            return Config()
        folders.require_run(folder)
        runs.append(stored.open_run(folder, trusted=trusted))
        return runs[0].config

    config, flags = cli.parse_with(
        options, Flags(), prog="dreamworld play DIR|TASK", description=DESCRIPTION, base=base
    )
    given = {word[2:].partition("=")[0].replace("-", "_") for word in options if word.startswith("--")}
    cli.refuse_unused("play", given, USED, Flags())
    if task and "task" in given:
        raise UserError(f"play {task}: --task {config.task} names an environment, too; give one")
    task = task or (config.task if "task" in given else "")
    if not folder and not task:
        raise UserError(
            "play: what? Give the folder of a run or the name of an environment: dreamworld play DIR|TASK"
        )
    check_used(flags.planner, flags.plan)
    if not runs and flags.planner != "none":
        raise UserError(
            f"play {task}: --planner {flags.planner} plans in the dream of a run; give its folder"
        )
    if not runs:
        return Asked(presets.replace(config, {"task": task}), flags, None, None)
    played = stored.choose_env(runs[0], task)
    options = config.env.options if played.same or "env.options" in given else ""
    config = presets.replace(config, {"task": played.config.task, "env.options": options})
    return Asked(config, flags, runs[0], played.source)


def _split(word: str) -> tuple[str, str]:
    """A word as the folder of a run, or as the name of an environment."""
    from dreamworld.envs.families import find_family
    from dreamworld.text import expand_path

    if word:
        text.check_path("play DIR|TASK", word)
    if word and not expand_path(word).exists() and (find_family(word) or (":" in word and "/" not in word)):
        return "", word
    return word, ""


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("play", main))
