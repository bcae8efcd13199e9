"""A bad network between a job and its server: a TCP proxy that refuses, resets, stalls, cuts and hangs.

It knows no HTTP. An exchange begins with the first bytes that the job sends after the server's last: that is enough to
harm it before the server has acted (its bytes are not passed on) or after (the reply is there, and not passed on).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

CHUNK = 65536


class Harm(StrEnum):
    """What becomes of an exchange."""

    RESET_BEFORE = "reset before the server acted"
    RESET_AFTER = "reset after the server acted"
    STALL = "stalled"
    CUT = "cut in the reply"
    HANG = "hung, then reset after the server acted"
    REFUSED = "connections refused for a while"


EXCHANGE_HARMS = (Harm.RESET_BEFORE, Harm.RESET_AFTER, Harm.STALL, Harm.CUT, Harm.HANG)


@dataclass(frozen=True)
class Badness:
    """How bad the network is."""

    rates: Mapping[Harm, float]
    """Share of the exchanges that each kind of harm strikes."""
    longest_stall_s: float
    up_s: float
    """Mean time between two outages; in one, connections are refused."""
    longest_outage_s: float
    hang_s: float = 0.0
    """How long a hanging exchange is kept back before the server gets it (never, if nobody waits for it any more)."""


class BadNetwork:
    """The proxy. It runs in a thread of its own; `url` is what the job is given in place of the server's."""

    def __init__(self, url: str, badness: Badness, chance: random.Random) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = (parts.hostname, parts.port)
        self._badness = badness
        self._chance = chance
        self.harms: Counter[Harm] = Counter()
        # Bound but never listening: it keeps the port, and whoever connects while nobody else listens is refused.
        self._keeper = _bound(0)
        self.port: int = self._keeper.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}{parts.path}"
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._listened = threading.Event()
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.contextmanager
    def running(self) -> Iterator[BadNetwork]:
        """Serve while this lasts."""
        thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._main()), daemon=True)
        thread.start()
        self._listened.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set)
            thread.join()
            self._loop.close()
            self._keeper.close()

    async def _main(self) -> None:
        """Listen, but for outages."""
        while not self._stopped.is_set():
            listening = _bound(self.port)
            listening.listen(256)
            async with await asyncio.start_server(self._serve, sock=listening):
                self._listened.set()
                await self._passes(self._chance.expovariate(1 / self._badness.up_s))
            if not self._stopped.is_set():
                self.harms[Harm.REFUSED] += 1
                await self._passes(self._chance.uniform(0, self._badness.longest_outage_s))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for stream in self._open:  # of what was just ending when it was broken off
            stream.transport.abort()
        for _ in range(2):
            await asyncio.sleep(0)  # what was broken off is closed in the next round of the loop

    async def _passes(self, time_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), time_s)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            upstream, to_upstream = await asyncio.open_connection(*self._server)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        streams = (writer, to_upstream)
        self._open.update(streams)
        exchange = _Exchange()
        pumps = [
            asyncio.ensure_future(self._requests(exchange, reader, to_upstream)),
            asyncio.ensure_future(self._replies(exchange, upstream, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            if exchange.is_reset:
                _reset(writer)
            for stream in streams:
                await _closed(stream)
                self._open.discard(stream)

    async def _requests(self, exchange: _Exchange, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if exchange.is_over:
                exchange.begin(self._harm())
            if exchange.harm is Harm.RESET_BEFORE:
                exchange.is_reset = True
                return
            if exchange.harm is Harm.HANG:
                data = await self._kept_back(data, reader)
            server.write(data)
            await server.drain()

    async def _kept_back(self, data: bytes, reader: asyncio.StreamReader) -> bytes:
        """*data* and what follows it, after a while; nothing if the job has gone away meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._badness.hang_s):
                while more := await reader.read(CHUNK):
                    data += more
                return b""
        return data

    async def _replies(self, exchange: _Exchange, reader: asyncio.StreamReader, job: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            first, exchange.is_over = not exchange.is_over, True
            if exchange.harm in (Harm.RESET_AFTER, Harm.HANG):
                exchange.is_reset = True
                return
            if exchange.harm is Harm.STALL and first:
                await asyncio.sleep(self._chance.uniform(0, self._badness.longest_stall_s))
            if exchange.harm is Harm.CUT:
                job.write(data[: self._chance.randrange(len(data))])
                await job.drain()
                return
            job.write(data)
            await job.drain()

    def _harm(self) -> Harm | None:
        for harm, rate in self._badness.rates.items():
            if self._chance.random() < rate:
                self.harms[harm] += 1
                return harm
        return None


@dataclass
class _Exchange:
    """What is going on on one connection."""

    is_over: bool = True
    """The server has begun to reply: what the job sends next begins another exchange."""
    harm: Harm | None = None
    is_reset: bool = False

    def begin(self, harm: Harm | None) -> None:
        self.is_over, self.harm = False, harm


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


async def _closed(stream: asyncio.StreamWriter) -> None:
    """Close a connection once what was written to it has gone, but do not wait long for that."""
    stream.close()
    try:
        async with asyncio.timeout(1):
            await stream.wait_closed()
    except (OSError, TimeoutError):
        stream.transport.abort()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection so that the other side sees a reset."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
