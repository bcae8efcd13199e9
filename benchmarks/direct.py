"""How fast direct calls go, beside a bare asyncio script with the official client; and how well a rate limit is used.

    python -m benchmarks.direct [--requests 2000] [--concurrency 10 20 50] [--minutes 3]

Both roads ask the same sandbox server (50 ms a call) for the same answers at the same concurrency, in one run, each in a
process of its own, several times by turns; the figure is the ratio of their medians. Throughput counts from the first call
to the last answer booked; what a process needs to begin (imports, vocabulary, the store) does not count. Then, for some
minutes, calls against a limit of 500 requests per minute: the share of the limit that is used after the first minute, and
the share of calls answered 429.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import GPTRequest, Result, Sample, TaskManager

LATENCY_S = 0.05
LIMIT = 500


def payload(index: int) -> dict[str, Any]:
    """A small question."""
    return {
        "model": "gpt-4o-mini",
        "max_completion_tokens": 200,
        "messages": [{"role": "user", "content": f'Write one sentence with the word "sample-{index}".'}],
    }


class Sentences(TaskManager):
    """One small question a sample."""

    name = "benchmark"
    count = 0

    def generate_requests(self) -> Iterable[GPTRequest]:
        for index in range(self.count):
            yield GPTRequest(f"sample-{index}", payload(index))

    def process_result(self, result: Result, sample: Sample) -> None:
        if result.ok:
            sample.emit({"key": sample.key, "text": result.value})


async def bare(url: str, *, requests: int, concurrency: int) -> float:
    """Seconds for all answers, by a script that keeps nothing but the texts."""
    from openai import AsyncOpenAI

    texts: list[str | None] = []
    numbers = iter(range(requests))

    async def worker(client: AsyncOpenAI) -> None:
        for index in numbers:
            answer = await client.chat.completions.create(**payload(index))
            texts.append(answer.choices[0].message.content)

    async with AsyncOpenAI(base_url=url, api_key="sk-bare", max_retries=0) as client:
        began = time.monotonic()
        await asyncio.gather(*(worker(client) for _ in range(concurrency)))
    assert len(texts) == requests
    return time.monotonic() - began


def ours(url: str, *, requests: int, concurrency: int) -> float:
    """Seconds from the first call to the last answer booked; generation, processing and delivery go on meanwhile."""
    import openai.resources.chat.completions  # noqa: F401 - what the bare script has done by then, too

    Sentences.count = requests
    with tempfile.TemporaryDirectory() as folder:
        task = Sentences(
            client_base_url=url,
            openai_api_key="sk-ours",
            task_dir=folder,
            force_direct=True,
            max_direct_concurrency=concurrency,
            verbosity="quiet",
        )
        assert task.run()
        db = sqlite3.connect(task.workplace.store)
        first, last = db.execute(
            "SELECT (SELECT min(at) FROM ledger WHERE kind = 'reserve'), max(received_at) FROM response"
        ).fetchone()
        db.close()
        return float(last - first)


def _measure(road: str, url: str, requests: int, concurrency: int, pipe: Any) -> None:
    if road == "bare":
        pipe.send(asyncio.run(bare(url, requests=requests, concurrency=concurrency)))
    else:
        pipe.send(ours(url, requests=requests, concurrency=concurrency))


def measured(road: str, url: str, *, requests: int, concurrency: int) -> float:
    """The seconds of one road, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(road, url, requests, concurrency, there))
    process.start()
    seconds: float = here.recv()
    process.join()
    return seconds


def compare(requests: int, levels: list[int], *, rounds: int) -> None:
    """Print calls per second of both roads."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(f"latency_s: {LATENCY_S}\n", encoding="utf-8")
        with SandboxProcess.start(Path(folder) / "sandbox.db", plan=plan) as server:
            print(f"{requests:,} calls of {LATENCY_S * 1000:.0f} ms: calls per second")
            print(f"{'concurrency':>12}{'bare script':>14}{'this library':>14}{'ratio':>8}")
            measured("bare", server.url, requests=200, concurrency=50)  # the server warms up
            for level in levels:
                rates: dict[str, list[float]] = {"bare": [], "ours": []}
                for _ in range(rounds):
                    for road, found in rates.items():
                        found.append(requests / measured(road, server.url, requests=requests, concurrency=level))
                plain, own = (statistics.median(found) for found in rates.values())
                print(f"{level:>12}{plain:>14.0f}{own:>14.0f}{own / plain:>8.2f}", flush=True)


def rate_limited(minutes: float) -> None:
    """Print how well a limit of so many requests per minute is used."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(f"latency_s: {LATENCY_S}\nrate_limits: {{requests_per_minute: {LIMIT}}}\n", encoding="utf-8")
        with SandboxProcess.start(Path(folder) / "sandbox.db", plan=plan) as server:
            Sentences.count = int(LIMIT * (minutes + 1))
            task = Sentences(
                client_base_url=server.url,
                openai_api_key="sk-ours",
                task_dir=folder,
                force_direct=True,
                verbosity="quiet",
            )
            from gpt_batch_api.engine.session import Seams
            from gpt_batch_api.wire.transport import Transport

            moments: list[tuple[float, int]] = []

            class Counting(Transport):
                async def once(self, call: Any) -> Any:
                    reply = await super().once(call)
                    status = getattr(reply, "status", None)
                    if status is not None:
                        moments.append((time.monotonic() - began, status))
                    return reply

            task._seams = Seams(make_transport=lambda server, clock: Counting(server, clock=clock))
            began = time.monotonic()
            task.run()
            last = max(moment for moment, _ in moments)
            later = [status for moment, status in moments if 60 <= moment < last]
            good = sum(status == 200 for status in later)
            refused = sum(status == 429 for status in later)
            print(f"\n{LIMIT} requests per minute allowed, {(last - 60) / 60:.1f} minutes after the first:")
            print(
                f"  {good / ((last - 60) / 60) / LIMIT:.1%} of the limit used, {refused / len(later):.1%} of calls refused"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=3.0)
    options = parser.parse_args()
    compare(options.requests, options.concurrency, rounds=options.rounds)
    if options.minutes:
        rate_limited(options.minutes)


if __name__ == "__main__":
    main()
