"""The browsers of `dreamworld benchmark play`, without a screen: they read every message and acknowledge every step."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

WARM = 20  # steps before anything is measured


class Browser:
    """One websocket."""

    def __init__(self, socket: Any):
        self._socket = socket

    async def say(self, **message: Any) -> None:
        """Sends a command."""
        await self._socket.send(json.dumps(message))

    async def step(self) -> dict[str, Any]:
        """The next step, once all of its pictures are there; acknowledged."""
        while True:
            message = await self._socket.recv()
            if isinstance(message, bytes):
                continue
            event = json.loads(message)
            if event["on"] == "bye":
                raise SystemExit(event["reason"])
            if event["on"] == "step":
                for _ in range(event["pictures"]):
                    while not isinstance(await self._socket.recv(), bytes):
                        pass
                await self.say(do="ack", frame=event["n"])
                return event


def connect(port: int) -> Any:
    """A connection to the server of the benchmark."""
    import websockets

    return websockets.connect(f"ws://127.0.0.1:{port}/ws", proxy=None)


async def keys(port: int, task: dict[str, Any]) -> dict[str, Any]:
    """From a key to both pictures: of single steps, and while 60 steps a second are asked for."""
    async with connect(port) as socket:
        browser, times, parts, waits = Browser(socket), [], [], []
        await browser.say(do="hello")
        await browser.step()
        for press in range(WARM + task["presses"]):
            began = time.perf_counter()
            await browser.say(do="action", value={"action": press % 5}, id=press)
            await browser.say(do="step")
            event = await browser.step()
            times.append(1000 * (time.perf_counter() - began))
            parts.append(event["step_ms"])
            await asyncio.sleep(0.016 + 0.001 * (press % 7))  # fewer messages than the server's limit
        await browser.say(do="speed", value=60)
        await browser.say(do="play")
        for press in range(1000, 1000 + task["presses"] // 3):
            began = time.perf_counter()
            await browser.say(do="action", value={"action": press % 5}, id=press)
            while (await browser.step())["action_id"] != press:
                pass
            waits.append(1000 * (time.perf_counter() - began))
    return {
        "key_to_pictures_ms": quantiles(times[WARM:]),
        "of_it_step_ms": quantiles(parts[WARM:]),
        "key_to_pictures_playing_ms": quantiles(waits),
    }


async def fast(port: int, task: dict[str, Any]) -> dict[str, Any]:
    """Steps per second of one session that asks for the greatest speed, each with both pictures."""
    async with connect(port) as socket:
        browser = Browser(socket)
        await browser.say(do="hello")
        await browser.step()
        await browser.say(do="speed", value=60)
        await browser.say(do="player", value="random")
        await browser.say(do="play")
        for _ in range(WARM):
            await browser.step()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < task["seconds"]:
            await browser.step()
            count += 1
        return {"steps_per_s_of_60": round(count / (time.perf_counter() - began), 1)}


async def many(port: int, task: dict[str, Any]) -> dict[str, Any]:
    """Steps per second that each of many sessions gets, with the agent as the player."""

    async def one() -> tuple[float, int]:
        async with connect(port) as socket:
            browser = Browser(socket)
            await browser.say(do="hello")
            await browser.step()
            await browser.say(do="player", value="agent")
            await browser.say(do="speed", value=task["speed"])
            await browser.say(do="play")
            began, count, event = time.perf_counter(), 0, {"t": 0, "dropped": 0}
            while time.perf_counter() - began < task["seconds"]:
                event = await browser.step()
                count += 1
            return count / (time.perf_counter() - began), event["dropped"]

    found = await asyncio.gather(*(one() for _ in range(task["sessions"])))
    rates, dropped = [rate for rate, _ in found], [count for _, count in found]
    row = {"least": round(min(rates), 1), "mean": round(statistics.mean(rates), 1), "dropped": sum(dropped)}
    return {"sessions": task["sessions"], "steps_per_s_each": row}


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 95% and largest."""
    ordered = sorted(values)
    at = lambda share: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
    return {"p50": at(0.5), "p95": at(0.95), "max": round(ordered[-1], 2)}


def main(port: str, task: str) -> None:
    """Runs what is asked for and prints one JSON line."""
    asked = json.loads(task)
    kind = {"keys": keys, "fast": fast, "many": many}[asked["kind"]]
    print(json.dumps(asyncio.run(kind(int(port), asked))))


if __name__ == "__main__":
    main(*sys.argv[1:])
