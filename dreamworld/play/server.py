"""The web side: one page, its files, and a websocket for each session. Needs the extra `play`; imported by nobody else.

Nothing that a browser sends is a path: pages, files and recordings are looked up in dictionaries. A page of another
site can't connect, as its Origin is not this server's; and on a loopback address only names of this machine are served.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import secrets
import socket
import weakref
from collections.abc import AsyncIterator
from importlib import resources
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from dreamworld import words
from dreamworld.play import protocol
from dreamworld.play.encode import frame
from dreamworld.play.engine import Engine
from dreamworld.play.outbox import Outbox
from dreamworld.play.protocol import BadMessage
from dreamworld.play.readouts import Step
from dreamworld.play.recording import Shelf
from dreamworld.play.world import World

HARD_BYTES = 64 << 10  # of a message, beyond which a connection is cut before it is read
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def is_loopback(host: str | None) -> bool:
    """Whether a host, by name or address, is this machine alone. Other names that begin like an address are not."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _part(url: str, name: str) -> str | None:
    """The host name or the `netloc` of an address; None for what is no address."""
    try:
        found: str | None = getattr(urlsplit(url), name)
        return found
    except ValueError:
        return None


class Server:
    """Serves a world to at most `most` sessions. `token` is asked for where it is not empty."""

    def __init__(self, world: World, *, most: int = 4, token: str = "", local: bool = True):
        self.world, self.most, self.token, self._local = world, most, token, local
        self.files = read_page()
        self.engines: set[Engine] = set()  # of sessions that a browser holds
        self.started: weakref.WeakSet[Engine] = weakref.WeakSet()  # those, and others whose thread still runs
        self.shelves: dict[str, Shelf] = {}  # of sessions, by what only their pages know
        self._count = 0
        routes = [
            Route("/", self._index),
            Route("/static/{name}", self._static),
            Route("/recordings/{secret}/{name}", self._recording),
            WebSocketRoute("/ws", self._socket),
        ]
        self.app = Starlette(routes=routes, lifespan=self._lifespan)

    async def run(self, listener: socket.socket, ready: asyncio.Event | None = None) -> None:
        """Serves on a listening socket until `stop`."""
        config = uvicorn.Config(
            self.app,
            log_level="warning",
            access_log=False,
            ws="websockets-sansio",
            ws_max_size=HARD_BYTES,
            ws_ping_interval=20,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=2,
        )
        self._uvicorn = uvicorn.Server(config)
        self._uvicorn.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]  # they are the command's
        await self._uvicorn.serve([listener])

    def stop(self) -> None:
        """Lets `run` return; every session ends."""
        for engine in self.engines:
            engine.stop()
        self._uvicorn.should_exit = True

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        for engine in list(
            self.started
        ):  # one whose browser has just gone may be in a step, which no exit may cut
            engine.stop(5.0)

    # --- pages ------------------------------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        if why := self._refused(request):
            return PlainTextResponse(why, 403, HEADERS)
        return self._file("index.html")

    async def _static(self, request: Request) -> Response:
        if not self._known_host(request):
            return PlainTextResponse("unknown host", 403, HEADERS)
        return self._file(request.path_params["name"])

    async def _recording(self, request: Request) -> Response:
        shelf = self.shelves.get(request.path_params["secret"])
        path = shelf.file(request.path_params["name"]) if shelf and self._known_host(request) else None
        if path is None:
            return PlainTextResponse("not found", 404, HEADERS)
        return FileResponse(path, 200, HEADERS, filename=path.name)

    def _file(self, name: str) -> Response:
        found = self.files.get(name)
        if found is None:
            return PlainTextResponse("not found", 404, HEADERS)
        return Response(found, 200, HEADERS, TYPES.get(name.rpartition(".")[2], "application/octet-stream"))

    def _refused(self, request: HTTPConnection) -> str:
        """Why a connection is not accepted; empty where it is."""
        if not self._known_host(request):
            return "this server answers to the names of this machine only"
        if self.token and not hmac.compare_digest(
            request.query_params.get("token", "").encode(), self.token.encode()
        ):
            return "this page needs the token that the command printed: ?token=…"
        origin = request.headers.get("origin")
        if origin is not None and _part(origin, "netloc") != request.headers.get("host"):
            return "a page of another site may not connect"
        return ""

    def _known_host(self, request: HTTPConnection) -> bool:
        """A name of another machine that leads here (DNS rebinding) is not answered on a loopback address."""
        return not self._local or is_loopback(_part(f"//{request.headers.get('host', '')}", "hostname"))

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept()
        if why := self._refused(socket):
            await _bye(socket, why, 1008)
            return
        if len(self.engines) >= self.most:
            verb = "is" if self.most == 1 else "are"
            count = words.count(self.most, "session")
            await _bye(socket, f"{count} {verb} being played already (--sessions)", 1013)
            return
        await _Connection(self, socket).run()

    def next_seed(self) -> int:
        """Of a session: each one plays other episodes."""
        self._count += 1
        return self.world.seed * 1000 + self._count


class _Connection:
    """One websocket and its session."""

    def __init__(self, server: Server, socket: WebSocket):
        self._server, self._socket = server, socket
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        self._ended: tuple[str, int] | None = None
        self._outbox = Outbox(self._wake)
        self._rate = protocol.Rate()
        self._shelf, self._secret = Shelf(), secrets.token_urlsafe(16)
        url = lambda name: f"/recordings/{self._secret}/{name}"
        self._engine = Engine(server.world, server.next_seed(), self._outbox, self._end, self._shelf, url)

    async def run(self) -> None:
        """Until either side ends it."""
        self._server.engines.add(self._engine)
        self._server.shelves[self._secret] = self._shelf
        self._server.started.add(self._engine)
        self._engine.start()
        tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._send())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._engine.stop()
            self._server.engines.discard(self._engine)
            del self._server.shelves[self._secret]
        if self._ended:
            await _bye(self._socket, *self._ended)

    async def _receive(self) -> None:
        try:
            while True:
                command = protocol.read(_payload(await self._socket.receive()))
                self._rate.count()
                if command.do == "ack":
                    self._outbox.acknowledge(command.value)
                else:
                    self._engine.give(command)
        except BadMessage as error:
            self._ended = (str(error), error.code)
        except WebSocketDisconnect:
            return

    async def _send(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the browser has gone
            while self._ended is None:
                await self._news.wait()
                self._news.clear()
                texts, step = self._outbox.take()
                for text in texts:
                    await self._socket.send_text(json.dumps(text, allow_nan=False))
                if step is not None:
                    await self._send_step(step)

    async def _send_step(self, step: Step) -> None:
        numbers = step.numbers
        await self._socket.send_text(json.dumps(numbers, allow_nan=False))
        for picture in step.pictures:
            await self._socket.send_bytes(frame(numbers["n"], picture.lane, picture.index, picture.image))

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for news
            self._loop.call_soon_threadsafe(self._news.set)

    def _end(self, reason: str, code: int) -> None:
        self._ended = (reason, code)
        self._wake()


def _payload(message: Message) -> str | bytes:
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text = message.get("text")
    return message.get("bytes") or b"" if text is None else text


async def _bye(socket: WebSocket, reason: str, code: int) -> None:
    """Says why, and closes."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(json.dumps({"on": "bye", "reason": reason}))
        await socket.close(code, reason.encode()[:120].decode(errors="ignore"))


def read_page() -> dict[str, bytes]:
    """The files of the page by their names."""
    folder = resources.files("dreamworld.play") / "page"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.partition(".")[2] in TYPES}


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; OSError where there can't be one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, as asyncio sends small messages at once (TCP_NODELAY) only where it reads TCP here: 40 ms a picture else.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(64)
    except BaseException:
        found.close()
        raise
    return found


def new_token() -> str:
    """For the URL of a server on another address than loopback."""
    return secrets.token_urlsafe(18)
