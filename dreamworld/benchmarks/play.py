"""`dreamworld benchmark play`: how fast the page to play in answers, through a real server and real websockets.

The agent has learnt nothing, which costs the same time. Browsers are `benchmarks.play_client`, in a process of their
own, which reads every picture and paints none.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Any

from dreamworld import cli, presets
from dreamworld.benchmarks.machine import load_average, resident_mb
from dreamworld.benchmarks.printing import print_row
from dreamworld.config import Config
from dreamworld.limits import Range
from dreamworld.play import needs

TASK, OPTIONS = "jax_balls", "n=2,size=64,time_limit=1000000"


@dataclasses.dataclass(frozen=True)
class Flags:
    presses: Annotated[int, Range(10, 100_000)] = 300
    """Keys pressed one after the other."""
    seconds: Annotated[float, Range(1, 3600)] = 20.0
    """Of playing as fast as it goes in one session, and of playing in many."""
    sessions: Annotated[int, Range(1, 64)] = 8
    """Sessions that play at a time."""
    speed: Annotated[int, Range(1, 60)] = 20
    """Steps per second that each of them asks for."""
    json: bool = False
    """One JSON line instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    load = load_average()
    config, flags = cli.parse_with(
        argv,
        Flags(),
        prog="dreamworld benchmark play",
        description="Time the page to play in, with an agent that has learnt nothing: --configs size1m",
    )
    needs.require_extra()
    print_row(measure(config, flags), load, as_json=flags.json)
    return 0


def measure(config: Config, flags: Flags) -> dict[str, Any]:
    """Milliseconds from a key to its pictures, steps per second, and what many sessions get and cost."""
    from dreamworld.play import server, serving

    world = make_world(presets.replace(config, {"task": TASK, "env.options": OPTIONS}))
    row: dict[str, Any] = {"task": f"{TASK} {OPTIONS}", "agent": config.agent.name}
    with serving.listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        found = server.Server(world, most=max(2, flags.sessions))
        thread = threading.Thread(target=lambda: asyncio.run(found.run(listener)), daemon=True)
        thread.start()
        time.sleep(0.5)  # until it accepts
        row |= _run({"kind": "keys", "presses": flags.presses}, port)
        row |= _run({"kind": "fast", "seconds": flags.seconds}, port)
        row |= _run(
            {"kind": "many", "sessions": flags.sessions, "seconds": flags.seconds, "speed": flags.speed}, port
        )
        found.stop()
        thread.join(10)
    return row


def make_world(config: Config) -> Any:
    """The environment beside the dream of an untrained agent."""
    import jax

    from dreamworld.play import opening
    from dreamworld.sessions import load, pieces

    pieces.setup_jax(config)
    make = lambda: pieces.make_eval_env(config, None, episodes=1)
    env = make()
    agent = pieces.build_agent(config, env.obs_space, env.act_space)
    params = agent.acting(jax.jit(agent.init)(jax.random.PRNGKey(config.seed)))
    player = load.make_player(config, agent, params, mode="sample", seed=config.seed)
    world = opening.of_env(config.task, config, env, make)
    return opening.with_agent(world, player, config.agent.name, None)


def _run(task: dict[str, Any], port: int) -> dict[str, Any]:
    """What the browsers of a process measured; the memory of this one meanwhile where many play."""
    command = [sys.executable, "-m", "dreamworld.benchmarks.play_client", str(port), json.dumps(task)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    memory: list[float] = []
    while process.poll() is None:
        time.sleep(0.2)
        memory.append(resident_mb())
    assert process.stdout is not None
    row = json.loads(process.stdout.read())
    if task["kind"] == "many":
        tail = memory[len(memory) // 3 :]  # once all sessions play
        row["memory_mb"] = {"begin": round(tail[0]), "end": round(tail[-1]), "most": round(max(tail))}
    return row


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("benchmark", main))
