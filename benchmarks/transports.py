"""What one small call costs by each HTTP library: CPU time in the caller, calls per second.

    python -m benchmarks.transports [--requests 2000] [--concurrency 50]

The same calls (50 ms each) to the same sandbox server: by the official client, by its HTTP library alone (httpx2, pools of ten
connections, which suits it best), and by aiohttp as this library uses it for direct calls. One event loop, three rounds by turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.direct import LATENCY_S, payload
from gpt_batch_api.domain.clock import SystemClock
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.wire.transport import Server, Transport

Post = Callable[[int, bytes], Awaitable[bytes]]
"""Send a body by one of the workers; the reply's body."""
KEY = "sk-benchmark"
POOL = 10


async def timed(post: Post, *, requests: int, concurrency: int) -> tuple[float, float]:
    """CPU seconds and seconds of all calls."""
    numbers = iter(range(requests))

    async def worker(place: int) -> None:
        for index in numbers:
            assert json.loads(await post(place, json.dumps(payload(index)).encode()))["choices"]

    cpu_s, began = time.process_time(), time.monotonic()
    await asyncio.gather(*(worker(place) for place in range(concurrency)))
    return time.process_time() - cpu_s, time.monotonic() - began


async def compare(url: str, *, requests: int, concurrency: int) -> None:
    """Print the figures of the three."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    client = AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)
    headers = {name: str(value) for name, value in {**client.default_headers, **client.auth_headers}.items() if value}
    pools = [DefaultAsyncHttpxClient() for _ in range(-(-concurrency // POOL))]
    transport = Transport(Server(KEY, url), clock=SystemClock())

    async def official(place: int, body: bytes) -> bytes:
        reply = await client.chat.completions.with_raw_response.create(**json.loads(body))
        return bytes(reply.content)

    async def httpx2(place: int, body: bytes) -> bytes:
        pool = pools[place // POOL]
        return (await pool.post(f"{url}/chat/completions", content=body, headers=headers)).content

    async def aiohttp(place: int, body: bytes) -> bytes:
        return (await transport.post("/chat/completions", body, timeout_s=60)).content

    ways = {"official client": official, "httpx2": httpx2, "aiohttp": aiohttp}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for post in ways.values():
        await timed(post, requests=100, concurrency=concurrency)  # imports, connections
    for _ in range(3):
        for name, post in ways.items():
            found[name].append(await timed(post, requests=requests, concurrency=concurrency))
    print(f"{requests:,} calls of {LATENCY_S * 1000:.0f} ms, {concurrency} at once")
    print(f"{'':>16}{'CPU ms a call':>15}{'calls a second':>16}")
    for name, times in found.items():
        cpu_ms = statistics.median(cpu_s for cpu_s, _ in times) / requests * 1000
        print(f"{name:>16}{cpu_ms:>15.2f}{requests / statistics.median(passed_s for _, passed_s in times):>16.0f}")
    await transport.close()
    await client.close()
    for pool in pools:
        await pool.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(f"latency_s: {LATENCY_S}\n", encoding="utf-8")
        with SandboxProcess.start(Path(folder) / "sandbox.db", plan=plan) as server:
            asyncio.run(compare(server.url, requests=options.requests, concurrency=options.concurrency))


if __name__ == "__main__":
    main()
