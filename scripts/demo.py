"""`make demo`: trains a small agent, compares it with a random policy, and leaves pictures and a checkpoint.

Exits with 1 when the trained agent does not reach the threshold that the README states.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.limits import SEED

THRESHOLD = 400.0  # mean return over EPISODES; a random policy gets about 22, the best possible is 500
EPISODES = 10
MARKER = ".demo"  # in the folder of a demo from its beginning on
MARK = "Written by scripts/demo.py, which replaces this folder when it runs again.\n"
# All that a run leaves. Whoever put something else there wants to keep it.
LEFT = {MARKER, ".lock", "config.yaml", "config.sig", "spaces.json", "status.json", "learning_curve.png"}
LEFT |= {"metrics.jsonl", "episodes.jsonl", "eval.jsonl"}
LEFT |= {"checkpoints", "replay", "tensorboard", "report", "eval", "assess"}


@dataclasses.dataclass(frozen=True)
class Flags:
    logdir: str = "runs/demo"
    """Folder of the demo; what an earlier demo left there is replaced, anything else is refused."""
    seed: Annotated[int, SEED] = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one demo reached."""

    seed: int
    random_return: float
    trained_return: float
    seconds: float


def main(argv: Sequence[str]) -> int:
    """Runs the demo and prints what it leaves."""
    from dreamworld import cli, streams, text

    streams.guard_process("stdout", "stderr")
    flags = cli.parse_flags(
        argv, Flags(), prog="scripts/demo.py", description="Train a small agent and show it."
    )
    text.check_path("--logdir", flags.logdir)
    logdir = text.expand_path(flags.logdir)
    outcome = run(logdir, flags.seed)
    strip = sorted(logdir.glob("report/*/*.png"), key=lambda path: int(path.parent.name))
    print(f"\nrandom policy   mean return {outcome.random_return:7.1f}  ({EPISODES} episodes)")
    print(
        f"trained agent   mean return {outcome.trained_return:7.1f}  ({EPISODES} episodes, threshold {THRESHOLD:g})"
    )
    print(f"time            {outcome.seconds:.0f} s\n")
    print(f"learning curve  {logdir / 'learning_curve.png'}")
    if strip:
        print(f"dream and truth {strip[-1]}")
    print(f"checkpoint      {logdir / 'checkpoints'}")
    print(f"again           dreamworld eval --logdir {logdir} --episodes 10")
    if outcome.trained_return < THRESHOLD:
        print(f"error: the trained agent stayed below {THRESHOLD:g}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def place(logdir: Path, config: Config) -> Iterator[Callable[[], None]]:
    """A folder with nothing but the mark of a demo; UserError, with nothing touched, where more than a demo would go.

    What an earlier demo left waits beside it, in `DIR.before`, until the function that is yielded is called: call it
    once the new demo trains. If no run begins, it is put back, and the mark goes. A demo that is killed before that
    leaves it there, and the next one puts it back first.
    """
    from dreamworld import writing

    before, advice = beside(logdir), "remove it yourself, or give another --logdir"
    with contextlib.ExitStack() as stack:
        try:
            if set(listed(logdir)) <= {MARKER, ".lock"}:
                put_back(logdir)
            check(logdir, config, advice)
            stack.callback(put_back, logdir)
            if listed(logdir):
                set_aside(logdir, advice)
            stack.enter_context(writing.making(logdir))
            writing.replace(logdir / MARKER, make_mark())
        except OSError as error:
            raise UserError(f"--logdir {logdir}: {error.strerror or error}; {advice}") from None
        stack.callback(unmark, logdir)
        yield lambda: shutil.rmtree(before, ignore_errors=True)


def beside(logdir: Path) -> Path:
    """Where the results of an earlier demo wait until a new one trains."""
    return logdir.with_name(f"{logdir.name}.before")


def listed(folder: Path) -> list[str]:
    """What is in a folder; nothing where there is none."""
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def unmark(logdir: Path) -> None:
    """Removes the mark where no run began: what comes into this folder later is somebody else's."""
    if not (logdir / "config.yaml").exists():
        (logdir / MARKER).unlink(missing_ok=True)


def set_aside(logdir: Path, advice: str) -> None:
    """Moves what an earlier demo left, in place of what is left of the one before."""
    before = beside(logdir)
    if before.exists():
        if not is_marked(before):
            raise UserError(f"--logdir {logdir}: {before} is in the way; {advice}")
        shutil.rmtree(before)
    os.rename(logdir, before)


def put_back(logdir: Path) -> None:
    """Puts back what was set aside for a demo of which no run began."""
    before = beside(logdir)
    if (logdir / "config.yaml").exists() or logdir.is_symlink() or not is_marked(before):
        return
    for name in listed(logdir):
        if name in (MARKER, ".lock"):
            (logdir / name).unlink()
    with contextlib.suppress(OSError):  # it is no longer empty: both stay
        if logdir.exists():
            logdir.rmdir()
        os.rename(before, logdir)


def is_marked(folder: Path) -> bool:
    """Whether a demo made this folder."""
    from dreamworld import reading

    try:
        return not folder.is_symlink() and reading.read_text(folder / MARKER, 1000).startswith(MARK)
    except reading.BadFile:
        return False


def make_mark() -> str:
    """The mark of the demo in this process: a run of another process is not its own, wherever the mark lies."""
    return f"{MARK}{socket.gethostname()} {os.getpid()}\n"


def check(logdir: Path, config: Config, advice: str) -> None:
    """UserError where a folder is not what an earlier demo left, and where no new run may lie there."""
    from dreamworld.logging.rundir import RunDir

    if logdir.is_symlink() or (logdir.exists() and not logdir.is_dir()):
        kind = "a link" if logdir.is_symlink() else "no folder"
        raise UserError(f"--logdir {logdir} is {kind}; {advice}")
    if found := listed(logdir):
        if why := why_kept(logdir, found, config):
            raise UserError(f"--logdir {logdir} {why}, and is not replaced; {advice}")
        with RunDir(logdir).lock():  # else a demo that is running would lose its files
            pass
    RunDir(logdir).check_apart()


def why_kept(logdir: Path, found: Sequence[str], config: Config) -> str:
    """Why the folder is not just what an earlier demo left; empty if it is."""
    from dreamworld import presets, reading
    from dreamworld.logging.rundir import RunDir

    try:
        mark = reading.read_text(logdir / MARKER, 1000)
        if not mark.startswith(MARK):
            return f"holds a file {MARKER} that no demo wrote"
    except reading.MissingFile:
        return "was not made by a demo (or by that of an older version)"
    except reading.BadFile as error:
        return f"holds a file {MARKER} that {error.reason}"
    if other := sorted({*found} - LEFT):
        return f"holds {reading.printable(other[0])}, which no demo wrote"
    if links := [name for name in found if (logdir / name).is_symlink()]:
        return f"holds {links[0]}, which is a link"
    if "config.yaml" not in found:
        return ""
    try:
        stored = presets.load_yaml(logdir / "config.yaml")
    except UserError:
        return "holds a config.yaml that no demo wrote"
    same = dataclasses.replace(stored, logdir=config.logdir, seed=config.seed) == config
    if not same:
        return "holds a run that goes on from a demo, or that of another version"
    status = RunDir(logdir).read_status()
    own = mark == f"{MARK}{status.get('host')} {status.get('pid')}\n"
    if not own and (status or "checkpoints" in found):  # without both, nothing was trained
        return "holds a run that no demo of this version made, or that goes on from one"
    return ""


def run(logdir: Path, seed: int) -> Outcome:
    """Trains the preset `demo` in `logdir`, then plays with it and with a random policy."""
    from dreamworld import cli
    from dreamworld.sessions import pieces
    from dreamworld.sessions.evaluation import evaluate
    from dreamworld.sessions.train import train
    from dreamworld.training.evaluate import evaluate as play
    from dreamworld.training.evaluate import random_act

    began = time.monotonic()
    config = cli.parse(["--configs", "demo", "--logdir", str(logdir), "--seed", str(seed)])
    with place(logdir, config) as replace:
        code = train(config, on_log=lambda row: replace())
    if code:
        raise SystemExit(code)
    row = evaluate(logdir, episodes=EPISODES)
    env = pieces.make_eval_env(config, episodes=EPISODES)
    found = play(random_act(env.act_space, env.num_envs, seed), None, env, EPISODES, seed=seed)
    env.close()
    random_return = sum(found.returns) / len(found.returns)
    return Outcome(seed, random_return, float(row["mean"]), time.monotonic() - began)  # type: ignore[arg-type]


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("demo", main))
