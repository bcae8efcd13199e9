"""What the tests stand on: a served sandbox with a clock of its own, and the official client before it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from openai.types import Batch, FileObject

from gpt_batch_api.domain.clock import ManualClock
from gpt_batch_api.sandbox.plan import Plan
from gpt_batch_api.sandbox.plan_file import parse_plan
from gpt_batch_api.sandbox.sandbox import Sandbox
from gpt_batch_api.sandbox.server import serving

CHAT = "/v1/chat/completions"
KEY = "sk-test"
# Batches move in steps that a test can count: one second of validation, ten requests a second, one of finalizing.
TIMING = {
    "validating_s": 1,
    "requests_per_s": 10,
    "minimum_s": 0,
    "finalizing_s": 1,
    "cancelling_s": 1,
}
PRICES: dict[str, Any] = {
    "gpt-4o-mini": {
        "input": "0.15",
        "cached": "0.075",
        "output": "0.6",
        "batch": {"input": "0.075", "cached": "0.075", "output": "0.3"},
    },
    "gpt-5-nano": {
        "input": "0.05",
        "cached": "0.005",
        "output": "0.4",
        "batch": {"input": "0.025", "cached": "0.0025", "output": "0.2"},
    },
    "gpt-6-luna": {
        "input": "0.1",
        "cached": "0.01",
        "output": "0.5",
        "batch": {"input": "0.05", "cached": "0.005", "output": "0.25"},
        "long_context": {"above": 272000, "input_factor": "2", "output_factor": "1.5"},
        "cache_write_factor": "1.25",
    },
}
ANSWER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "character": {"type": "string"},
        "type": {"type": "string", "enum": ["letter", "digit", "punctuation", "symbol"]},
        "description": {"type": "string"},
        "sample_sentence": {"type": "string"},
    },
    "required": ["character", "type", "description", "sample_sentence"],
    "additionalProperties": False,
}


@dataclass
class Rig:
    """A served sandbox. `http` speaks to it without the official client."""

    sandbox: Sandbox
    clock: ManualClock
    client: openai.OpenAI
    http: httpx2.Client

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def upload(self, lines: Iterable[Any], *, name: str = "in.jsonl") -> FileObject:
        """Upload *lines* (requests, or raw text) as the input of a batch."""
        text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
        return self.client.files.create(file=(name, text.encode()), purpose="batch")

    def create(self, file_id: str, **more: Any) -> Batch:
        """Create a batch of chat completions."""
        wanted: dict[str, Any] = {"endpoint": CHAT, "completion_window": "24h", **more}
        return self.client.batches.create(input_file_id=file_id, **wanted)

    def submit(self, lines: Iterable[Any], **more: Any) -> Batch:
        """Upload *lines* and create a batch of them."""
        return self.create(self.upload(lines).id, **more)

    def advance(self, seconds: float) -> None:
        """Let simulated time jump."""
        self.http.post("/sandbox/advance", json={"seconds": seconds}).raise_for_status()

    def finish(self, batch: Batch) -> Batch:
        """Let enough time pass for *batch* to end, and look at it."""
        self.advance(3600)
        return self.client.batches.retrieve(batch.id)

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """The parsed lines of a result file; none if there is no file."""
        return [json.loads(line) for line in self.raw_lines(file_id)]

    def raw_lines(self, file_id: str | None) -> list[bytes]:
        """The lines of a result file as they are."""
        return self.client.files.content(file_id).content.split(b"\n")[:-1] if file_id else []

    def plan(self, **document: Any) -> None:
        """Replace the plan."""
        self.http.post("/sandbox/plan", json={"timing": TIMING, **document}).raise_for_status()

    def ledger(self, **query: Any) -> dict[str, Any]:
        """The ledger."""
        return dict(self.http.get("/sandbox/ledger", params=query).json())

    def state(self) -> dict[str, Any]:
        """The counts of everything."""
        return dict(self.http.get("/sandbox/state").json())

    def calls(self) -> list[dict[str, Any]]:
        """The log of calls."""
        return list(self.http.get("/sandbox/calls").json()["calls"])


@contextmanager
def rig_on(db: Path, *, clock: ManualClock, plan: dict[str, Any] | None = None) -> Iterator[Rig]:
    """Serve the sandbox *db* with *plan* and with time in the hands of *clock*."""
    wanted: Plan = parse_plan({"timing": TIMING, **(plan or {})})
    with (
        Sandbox(db, plan=wanted, clock=clock, prices=PRICES, patience_s=30) as sandbox,
        serving(sandbox) as url,
        client_of(url) as client,
        httpx2.Client(base_url=url.removesuffix("/v1"), verify=False) as http,
    ):
        yield Rig(sandbox, clock, client, http)


def client_of(url: str, *, key: str = KEY, max_retries: int = 0) -> openai.OpenAI:
    """The official client for *url*. Loading certificates takes long, and nothing here is encrypted."""
    transport = openai.DefaultHttpxClient(verify=False)
    return openai.OpenAI(base_url=url, api_key=key, max_retries=max_retries, http_client=transport)


def body(text: str = 'Say "hello" to the world.', **more: Any) -> dict[str, Any]:
    """A chat body that asks *text*."""
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **more}


def request(custom_id: str, text: str = 'Say "hello" to the world.', **more: Any) -> dict[str, Any]:
    """A line of a batch that asks *text*."""
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body(text, **more)}


def requests(count: int, **more: Any) -> list[dict[str, Any]]:
    """Lines r0, r1, … of a batch."""
    return [request(f"r{number}", f'Tell me about "{number}".', **more) for number in range(count)]


def structured(schema: dict[str, Any] | None = None, *, name: str = "Answer") -> dict[str, Any]:
    """A `response_format` that demands *schema*."""
    wanted = ANSWER_SCHEMA if schema is None else schema
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": wanted}}
