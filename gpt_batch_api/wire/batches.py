"""Batches on the server: create, find again, look at, cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.endpoints.base import batch_usage
from gpt_batch_api.wire.listing import PAGE_SIZE, Page, read_back
from gpt_batch_api.wire.transport import QUICK_S, Transport, items_of, number_or_none, text_or_none
from gpt_batch_api.wire.trouble import Lost, Refused, Trouble, doubted, understand

TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True)
class RemoteBatch:
    """A batch as the server shows it. Whatever a server leaves out is None; unknown statuses stay as they are."""

    id: str
    status: str
    created_at: float | None
    metadata: Mapping[str, Any]
    output_file_id: str | None
    error_file_id: str | None
    total: int | None
    completed: int | None
    failed: int | None
    errors: tuple[Mapping[str, Any], ...]
    document: Mapping[str, Any]

    @property
    def ended(self) -> bool:
        """The server will change nothing more."""
        return self.status in TERMINAL

    @property
    def ended_at(self) -> float | None:
        """When it ended, in the server's time; None if that is not said."""
        times = [number_or_none(self.document.get(f"{status}_at")) for status in TERMINAL]
        return max((time for time in times if time), default=None)

    @property
    def hides_answers(self) -> bool:
        """It must have answers, by its own counts or usage or because it is completed, but names no file that holds them."""
        if self.output_file_id is not None or self.status == "failed":
            return False
        has_answers = bool(self.completed) or batch_usage(self.document) is not None
        return has_answers or (self.status == "completed" and self.error_file_id is None)


def read_batch(document: Mapping[str, Any]) -> RemoteBatch | None:
    """Understand a batch object, however incomplete; None if it has no id."""
    batch_id = text_or_none(document, "id")
    if batch_id is None:
        return None
    counts = document.get("request_counts")
    counts = counts if isinstance(counts, Mapping) else {}
    metadata = document.get("metadata")
    return RemoteBatch(
        id=batch_id,
        status=_status(document),
        created_at=number_or_none(document.get("created_at")),
        metadata=metadata if isinstance(metadata, Mapping) else {},
        output_file_id=text_or_none(document, "output_file_id"),
        error_file_id=text_or_none(document, "error_file_id"),
        total=_count(counts.get("total")),
        completed=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        errors=tuple(_errors(document.get("errors"))),
        document=document,
    )


def _status(document: Mapping[str, Any]) -> str:
    """The status in the words that we know; others write in capitals, or with one l."""
    status = (text_or_none(document, "status") or "unknown").lower()
    return {"canceled": "cancelled", "canceling": "cancelling"}.get(status, status)


def _errors(errors: Any) -> list[Mapping[str, Any]]:
    data = errors.get("data") if isinstance(errors, Mapping) else errors
    return [item for item in data if isinstance(item, Mapping)] if isinstance(data, list) else []


def _count(value: Any) -> int | None:
    number = number_or_none(value)
    return None if number is None or number < 0 else int(number)


async def create(transport: Transport, *, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
    """Create a batch: the call that costs money. Made exactly once."""

    async def call() -> RemoteBatch:
        create_raw: Any = transport.client.batches.with_raw_response.create
        raw = await create_raw(
            input_file_id=file_id, endpoint=endpoint, completion_window="24h", metadata=dict(metadata)
        )
        batch = read_batch(transport.read(raw).document)
        if batch is None:
            raise Lost("the reply to the creation has no batch id")
        return batch

    return await transport.once(call)


async def sandbox_there(transport: Transport) -> str | None:
    """The name of the sandbox that answers; None if it is no sandbox, or does not answer at all."""

    async def call() -> str | None:
        return transport.read(await transport.client.batches.with_raw_response.list(limit=1, timeout=QUICK_S)).sandbox

    try:
        return await transport.once(call)
    except Trouble:
        return None


async def retrieve(transport: Transport, batch_id: str) -> RemoteBatch | None:
    """One batch; None if the server does not know it."""

    async def call() -> RemoteBatch | None:
        try:
            raw = await transport.client.batches.with_raw_response.retrieve(batch_id, timeout=QUICK_S)
        except Exception as error:
            trouble = doubted(understand(error))
            if _knows_no_batch(trouble):
                if response := getattr(error, "response", None):  # its own word, so its time too
                    transport.heard(response.headers)
                return None
            raise trouble from error
        batch = read_batch(transport.read(raw).document)
        if batch is None:  # only the server's own word means that it does not know the batch
            raise Lost("the reply shows no batch")
        return batch

    return await transport.repeatedly(call)


def _knows_no_batch(trouble: Trouble) -> bool:
    if not isinstance(trouble, Refused):
        return False
    return trouble.status == 404 or (trouble.status in (400, 409) and "no batch found" in str(trouble).lower())


async def newest_page(transport: Transport, *, after: str | None = None) -> Page[RemoteBatch]:
    """Up to 100 batches of the server's list, newest first."""

    async def call() -> Page[RemoteBatch]:
        extra: dict[str, Any] = {"after": after} if after else {}
        raw = await transport.client.batches.with_raw_response.list(limit=PAGE_SIZE, timeout=QUICK_S, **extra)
        reply = transport.read(raw)
        found = (read_batch(item) for item in items_of(reply.document))
        return Page.of(reply.document, [batch for batch in found if batch is not None])

    return await transport.repeatedly(call)


async def check_there(transport: Transport) -> None:
    """After trouble with one thing: raise Unreachable if the server answers nothing else either."""
    await newest_page(transport)


def newest(transport: Transport, *, since: float) -> AsyncIterator[RemoteBatch]:
    """The batches made after *since* (seconds since 1970, the server's), newest first."""

    async def page(after: str | None) -> Page[RemoteBatch]:
        return await newest_page(transport, after=after)

    return read_back(page, since=since)


async def cancel(transport: Transport, batch_id: str) -> None:
    """Ask the server to cancel a batch; one that ended by itself, or is unknown, is fine."""

    async def call() -> None:
        try:
            await transport.client.batches.with_raw_response.cancel(batch_id, timeout=QUICK_S)
        except Exception as error:
            trouble = doubted(understand(error))
            if not (isinstance(trouble, Refused) and trouble.status in (400, 404, 409)):
                raise trouble from error

    await transport.repeatedly(call)
