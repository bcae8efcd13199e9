"""Serve a sandbox over HTTP: uvicorn, with connections that the application can break."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gpt_batch_api.sandbox.app import Api
from gpt_batch_api.sandbox.sandbox import Sandbox

_KEEP_ALIVE_S, _LONGEST_GOODBYE_S = 60, 1


class BreakableProtocol(H11Protocol):
    """HTTP/1.1 that tells the application its transport, as `scope["state"]["transport"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "transport": transport}
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # asyncio does so only for sockets that it has made itself; without it every reply takes 40 ms.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)


class _Server(uvicorn.Server):
    """Leaves the signals to its owner, says when it listens, and sleeps until it is told to stop."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told_to_stop = asyncio.Event()

    def stop(self) -> None:
        """Stop soon; callable from any thread and from a signal handler."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._told_to_stop.set)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_listening()

    async def main_loop(self) -> None:
        if not self.should_exit:
            await self._told_to_stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is being answered, but not for long."""
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        answering = list(self.server_state.tasks)
        if answering:
            _, late = await asyncio.wait(answering, timeout=_LONGEST_GOODBYE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


class SandboxServer:
    """A sandbox behind a socket. The socket is bound at once, so `url` is known before `serve`."""

    def __init__(self, sandbox: Sandbox, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._api = Api(sandbox)
        self._socket = socket.create_server((host, port), family=_family(host))
        self._host = host
        config = uvicorn.Config(
            self._api.asgi,
            http=BreakableProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="critical",
            access_log=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._listening = threading.Event()
        self._server = _Server(config, self._listening.set)

    @property
    def url(self) -> str:
        """The base URL for a client."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._socket.getsockname()[1]}/v1"

    def serve(self) -> None:
        """Serve until `stop`."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self._api.close()

    def stop(self) -> None:
        """Let `serve` return soon; callable from any thread and from a signal handler."""
        self._server.stop()

    def wait_until_listening(self, timeout_s: float) -> bool:
        """Wait for the server to accept calls; False if it does not within *timeout_s*."""
        return self._listening.wait(timeout_s)


@contextmanager
def serving(sandbox: Sandbox) -> Iterator[str]:
    """Serve *sandbox* from a thread of this process; yields the base URL."""
    server = SandboxServer(sandbox)
    thread = threading.Thread(target=server.serve, name="sandbox-server", daemon=True)
    thread.start()
    try:
        if not server.wait_until_listening(30):
            raise RuntimeError("The sandbox server did not start within 30 s.")
        yield server.url
    finally:
        server.stop()
        thread.join()


def stop_on_signals(server: SandboxServer, *, ignore_interrupt: bool) -> None:
    """Let SIGTERM stop *server*, and SIGINT too unless it shall be ignored."""

    def stop(number: int, frame: Any) -> None:
        server.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignore_interrupt else stop)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
