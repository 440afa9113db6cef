"""Serves a world on a socket until a signal ends it: what `dreamworld play` does once it knows what to play."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import webbrowser
from collections.abc import Iterator

from dreamworld import exits
from dreamworld.errors import UserError
from dreamworld.play import server as web
from dreamworld.play.world import World

NEXT = 100  # ports that are tried after a busy one


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket on an address, closed at the end; UserError, with the next free port, where there can't be one."""
    try:
        listener = web.listen(host, port)
    except OSError as error:
        free = _next_free(host, port)
        more = f"; {free} is free: --port {free}" if free else ""
        raise UserError(
            f"--host {host} --port {port}: can't be served there ({error.strerror or error}){more}"
        ) from None
    try:
        yield listener
    finally:
        listener.close()


def _next_free(host: str, port: int) -> int:
    for other in range(port + 1, min(port + NEXT, 65536)):
        with contextlib.suppress(OSError), web.listen(host, other):
            return other
    return 0


def serve(world: World, listener: socket.socket, *, host: str, sessions: int, show: bool) -> int:
    """Serves a world until SIGINT, SIGTERM or SIGHUP; returns the exit code of that."""
    local = web.is_loopback(host)
    token = "" if local else web.new_token()
    found = web.Server(world, most=sessions, token=token, local=local)
    url = _url(host, listener.getsockname()[1], token)
    print(f"{world.title}: {url}  (Ctrl-C ends it)", flush=True)
    if show:
        webbrowser.open(url)
    return asyncio.run(_run(found, listener))


def _leave(number: int, frame: object) -> None:
    """Ends the process; an exception would be lost where Python collects garbage, and printed."""
    os._exit(exits.of_signal(signal.Signals(number).name))


async def _run(server: web.Server, listener: socket.socket) -> int:
    loop, came, numbers = asyncio.get_running_loop(), [], exits.stopping()

    def stop(number: signal.Signals) -> None:
        came.append(number)
        for other in numbers:
            loop.remove_signal_handler(other)
            signal.signal(other, _leave)  # the second one ends the process at once
        server.stop()

    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    await server.run(listener)
    return exits.of_signal(came[0].name) if came else exits.Exit.OK


def _url(host: str, port: int, token: str) -> str:
    """What a person opens; a server on all addresses is reached by this machine's name."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
