"""The real server and real websockets: what is served to whom, and what becomes of those who misbehave."""

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import psutil
import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from dreamworld.play import server as web
from dreamworld.play.serving import listening

HELLO = {"do": "hello"}


@contextlib.contextmanager
def serving(world, **options):
    """A server in a thread of its own; gives it with its port."""
    started = threading.Event()
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = web.Server(world, **options)

        def run():
            async def main():
                task = asyncio.create_task(server.run(listener))
                while not getattr(server, "_uvicorn", None) or not server._uvicorn.started:
                    await asyncio.sleep(0.01)
                started.set()
                await task

            asyncio.run(main())

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(20)
        try:
            yield server, port
        finally:
            server.stop()
            thread.join(20)
            assert not thread.is_alive()


class Client:
    """A browser: says things, reads events and frames, and acknowledges what it has painted."""

    def __init__(self, socket, acknowledges=True):
        self.socket, self.acknowledges = socket, acknowledges
        self.events, self.frames, self.times = [], [], []

    async def say(self, *messages):
        for message in messages:
            await self.socket.send(message if isinstance(message, str) else json.dumps(message))

    async def until(self, wanted, timeout=20):
        """Reads until an event fulfils `wanted`, and returns it."""
        async with asyncio.timeout(timeout):
            while True:
                message = await self.socket.recv()
                if isinstance(message, bytes):
                    self.frames.append(message)
                    continue
                event = json.loads(message)
                self.events.append(event)
                if event["on"] == "step" and self.acknowledges:
                    await self.say({"do": "ack", "frame": event["n"]})
                if wanted(event):
                    return event

    async def ask(self, message):
        """Says something and gives the step that answers it: without waiting for it, steps could be dropped."""
        await self.say(message)
        return (await self.steps(1))[0]

    async def steps(self, count):
        return [await self.until(lambda event: event["on"] == "step") for _ in range(count)]


def connect(port, path="/ws", **options):
    return websockets.connect(f"ws://127.0.0.1:{port}{path}", proxy=None, **options)


async def closed(socket):
    """The code and the reason with which the server closed."""
    reasons = []
    try:
        async with asyncio.timeout(20):
            while True:
                message = await socket.recv()
                if isinstance(message, str) and json.loads(message)["on"] == "bye":
                    reasons.append(json.loads(message)["reason"])
    except ConnectionClosed as error:
        assert error.rcvd is not None
        return error.rcvd.code, (reasons or [error.rcvd.reason])[0]


def fetch(port, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def test_a_game_is_played_over_the_wire(world):
    async def play(port):
        async with connect(port) as socket:
            client = Client(socket)
            await client.say(HELLO)
            ready = await client.until(lambda event: event["on"] == "ready")
            assert ready["lanes"] == ["real", "dream"] and ready["images"] == ["image"] and ready["value"]
            await client.steps(1)
            await client.say({"do": "action", "value": {"action": 3}, "id": 41}, {"do": "step"})
            (step,) = await client.steps(1)
            assert step["action"] == {"action": 3} and step["action_id"] == 41 and step["t"] == step["k"] == 1
            await client.say({"do": "player", "value": "agent"}, {"do": "play"})
            await client.steps(12)
            await client.say({"do": "pause"})
            await client.until(lambda event: event["on"] == "state" and not event["playing"])
            assert (await client.ask({"do": "rewind", "to": 2}))["t"] == 2
            step = await client.ask({"do": "step"})
            assert step["t"] == 3 and step["branch"] == 1
            assert (await client.ask({"do": "anchor"}))["k"] == 0
            await client.say({"do": "record", "on": True})
            assert [(await client.ask({"do": "step"}))["k"] for _ in range(2)] == [1, 2]
            await client.say({"do": "record", "on": False})
            state = await client.until(lambda event: event["on"] == "state" and event["recordings"])
            files = {file["label"]: file["url"] for file in state["recordings"][0]["files"]}
            pictures = {frame[4]: frame for frame in client.frames}
            assert set(pictures) == {0, 1} and all(frame[7:11] == b"\x89PNG" for frame in pictures.values())
            return {label: await asyncio.to_thread(fetch, port, url) for label, url in files.items()}, files

    with serving(world) as (server, port):
        found, files = asyncio.run(play(port))
        assert found["GIF"][1][:4] == b"GIF8" and b'"action"' in found["actions"][1]
        for _ in range(100):  # the session has ended, and its files with it
            if not server.engines:
                break
            time.sleep(0.05)
        assert fetch(port, files["GIF"])[0] == 404


def test_pictures_are_sent_at_once_and_do_not_wait_for_others():
    with listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # what asyncio asks before it sets TCP_NODELAY


def test_two_sessions_do_not_know_each_other(world):
    async def play(port):
        async with connect(port) as one, connect(port) as other:
            first, second = Client(one), Client(other)
            assert [(await first.ask(m))["t"] for m in (HELLO, {"do": "step"}, {"do": "step"})] == [0, 1, 2]
            assert [(await second.ask(m))["t"] for m in (HELLO, {"do": "step"})] == [0, 1]
            assert first.frames[0][7:] != second.frames[0][7:]  # another episode

    with serving(world) as (_, port):
        asyncio.run(play(port))


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        (["{"], 1007, "no JSON"),
        ([json.dumps({"do": "player", "value": "x" * 5000})], 1009, "more than 4096 bytes"),
        ([json.dumps(HELLO)] * 2 + [json.dumps({"do": "pause"})] * 300, 1008, "more than 200 messages"),
        ([json.dumps(HELLO), '{"do": "player", "value": "nobody"}'], 1008, "no player 'nobody'"),
        ([json.dumps(HELLO), '{"do": "action", "value": {"action": 9}}'], 1008, "whole numbers from 0 to 4"),
        (['{"do": "step"}'], 1008, "step before hello"),
    ],
)
def test_who_misbehaves_is_told_why_and_closed_and_nobody_else(world, messages, code, reason):
    async def play(port):
        async with connect(port) as good, connect(port) as bad:
            client = Client(good)
            await client.say(HELLO)
            await client.steps(1)
            with contextlib.suppress(ConnectionClosed):
                await Client(bad).say(*messages)
            found, why = await closed(bad)
            assert found == code and reason in why
            await client.say({"do": "step"})
            assert (await client.steps(1))[0]["t"] == 1

    with serving(world) as (server, port):
        asyncio.run(play(port))
        assert not server.engines or time.sleep(0.5) or not server.engines


def test_a_huge_message_is_cut_off(world):
    async def play(port):
        async with connect(port) as socket:
            with contextlib.suppress(ConnectionClosed):
                await socket.send("x" * (web.HARD_BYTES + 1))
            return (await closed(socket))[0]

    with serving(world) as (_, port):
        assert asyncio.run(play(port)) == 1009


def test_pages_of_other_sites_and_other_names_are_refused(world):
    async def refused(port, **headers):
        async with connect(port, additional_headers=headers) as socket:
            return await closed(socket)

    with serving(world) as (server, port):
        code, why = asyncio.run(refused(port, Origin="http://evil.example"))
        assert code == 1008 and "another site" in why
        assert asyncio.run(refused(port, Origin=f"http://127.0.0.1:{port + 1}"))[0] == 1008
        assert asyncio.run(refused(port, Origin="null"))[0] == 1008
        assert asyncio.run(refused(port, Origin="http://["))[0] == 1008  # no address at all
        assert fetch(port, "/", Host="[::1")[0] == 403
        assert fetch(port, "/", Host="evil.example")[0] == 403
        assert fetch(port, "/static/style.css", Host="evil.example")[0] == 403
        assert not server.engines
        status, page, headers = fetch(port, "/")
        assert (
            status == 200
            and b"<html" in page.lower()
            and "default-src 'self'" in headers["Content-Security-Policy"]
        )
        for path in (
            "/static/..%2f__init__.py",
            "/static/%2e%2e/server.py",
            "/static/x",
            "/recordings/a/b",
            "/ws",
        ):
            assert fetch(port, path)[0] == 404


def test_names_of_this_machine_are_told_from_names_that_look_like_them():
    assert all(web.is_loopback(host) for host in ("localhost", "127.0.0.1", "127.0.0.2", "::1"))
    assert not any(web.is_loopback(host) for host in ("127.evil.example", "0.0.0.0", "10.0.0.1", "", None))


def test_a_token_is_asked_for_where_there_is_one(world):
    async def play(port, path, *said):
        async with connect(port, path) as socket:
            for message in said:
                await Client(socket).say(message)
            return json.loads(await socket.recv())

    with serving(world, token="abc", local=False) as (_, port):
        assert fetch(port, "/")[0] == 403 and fetch(port, "/?token=abd")[0] == 403
        assert fetch(port, "/?token=abc", Host="a-name.example")[0] == 200
        assert asyncio.run(play(port, "/ws?token=abc", HELLO))["on"] == "ready"
        bye = asyncio.run(play(port, "/ws?token="))
        assert bye["on"] == "bye" and "token" in bye["reason"]


def test_no_more_sessions_than_allowed_play_at_a_time(world):
    async def play(port):
        async with connect(port) as one:
            client = Client(one)
            await client.say(HELLO)
            await client.steps(1)
            async with connect(port) as other:
                code, why = await closed(other)
                assert code == 1013 and why == "1 session is being played already (--sessions)"
        for _ in range(100):
            async with connect(port) as again:
                await Client(again).say(HELLO)
                if json.loads(await again.recv())["on"] == "ready":
                    return True
            await asyncio.sleep(0.05)

    with serving(world, most=1) as (_, port):
        assert asyncio.run(play(port))


def test_frames_are_dropped_for_a_browser_that_never_acknowledges_and_memory_stays_flat(alone):
    async def play(port):
        async with connect(port) as socket:
            client = Client(socket, acknowledges=False)
            await client.say(HELLO, {"do": "player", "value": "random"}, {"do": "speed", "value": 60})
            await client.until(lambda event: event["on"] == "state" and event["speed"] == 60)
            sizes = []
            for _ in range(10):
                for _ in range(20):
                    await client.say({"do": "step"})
                    await asyncio.sleep(0.012)
                await client.say({"do": "speed", "value": 60})
                await client.until(lambda event: event["on"] == "state" and event["speed"] == 60)
                gc.collect()
                sizes.append(psutil.Process().memory_info().rss)
            steps = [event for event in client.events if event["on"] == "step"]
            assert len(steps) == 2 and len(client.frames) == 2
            await client.say({"do": "ack", "frame": steps[-1]["n"]})
            newest = await client.until(lambda event: event["on"] == "step")
            assert newest["n"] > 200 and newest["dropped"] > 150
            return sizes

    with serving(alone) as (_, port):
        sizes = asyncio.run(play(port))
    assert max(sizes[5:]) - sizes[4] < 8 << 20, np.diff(sizes)


def test_an_environment_that_fails_ends_its_session_with_one_line(alone):
    import dataclasses

    class Broken:
        rewind = ""

        def reset(self, seed):
            raise RuntimeError("the simulator has gone")

        def close(self):
            pass

    async def play(port):
        async with connect(port) as socket:
            await Client(socket).say(HELLO)
            return await closed(socket)

    with serving(dataclasses.replace(alone, make_reality=Broken)) as (_, port):
        code, why = asyncio.run(play(port))
    assert code == 1011 and why == "the session failed: RuntimeError: the simulator has gone"
