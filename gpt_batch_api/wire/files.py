"""Files on the server: upload, find again, download, delete."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_batch_api.wire.listing import PAGE_SIZE, Page, read_back
from gpt_batch_api.wire.transport import QUICK_S, Transport, items_of, number_or_none, text_or_none
from gpt_batch_api.wire.trouble import Lost, Refused, doubted, understand


@dataclass(frozen=True)
class RemoteFile:
    """A file in the server's list."""

    id: str
    filename: str
    created_at: float | None


async def upload(transport: Transport, path: Path, *, filename: str) -> str:
    """Upload a batch input file under *filename*, streamed from disk; its id. Made exactly once."""

    async def call() -> str:
        with path.open("rb") as stream:
            raw = await transport.client.files.with_raw_response.create(
                file=(filename, stream, "application/jsonl"), purpose="batch"
            )
        file_id = text_or_none(transport.read(raw).document, "id")
        if file_id is None:
            raise Lost("the reply to the upload has no file id")
        return file_id

    return await transport.once(call)


def newest(transport: Transport, *, since: float) -> AsyncIterator[RemoteFile]:
    """The batch input files on the server that were made after *since* (seconds since 1970, the server's), newest first."""

    async def page(after: str | None) -> Page[RemoteFile]:
        return await _page(transport, after)

    return read_back(page, since=since)


async def _page(transport: Transport, after: str | None) -> Page[RemoteFile]:
    async def call() -> Page[RemoteFile]:
        extra: dict[str, Any] = {"after": after} if after else {}
        raw = await transport.client.files.with_raw_response.list(
            purpose="batch", limit=PAGE_SIZE, order="desc", timeout=QUICK_S, **extra
        )
        reply = transport.read(raw)
        files = [
            RemoteFile(file_id, str(item.get("filename") or ""), number_or_none(item.get("created_at")))
            for item in items_of(reply.document)
            if (file_id := text_or_none(item, "id")) is not None
        ]
        return Page.of(reply.document, files)

    return await transport.repeatedly(call)


CHUNK_BYTES = 1 << 18


async def download(
    transport: Transport, file_id: str, path: Path, *, may_begin: Callable[[bytes], bool] = lambda begin: True
) -> None:
    """Fetch a file's content to *path*, complete and durable, or raise.

    What arrived before a cut is kept beside it (`.part`) and continued with a range request where the server can;
    where it cannot, the download begins again. A file that is there already was complete. *may_begin* says whether the
    file can begin so (up to CHUNK_BYTES, all of a shorter one); what cannot is not kept, and asked for again.
    """
    if path.exists():
        return
    part = unfinished(path)

    async def call() -> None:
        while not await _fetch_on(transport, file_id, part, may_begin):
            pass

    await transport.repeatedly(call)
    part.replace(path)


def unfinished(path: Path) -> Path:
    """Where the beginning of what will be *path* is kept."""
    return path.with_name(path.name + ".part")


async def _fetch_on(transport: Transport, file_id: str, part: Path, may_begin: Callable[[bytes], bool]) -> bool:
    """Fetch from where *part* ends; whether it is the whole file then (a server may give less than it was asked for)."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # positions are those of the file, not of a compressed stream
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        async with transport.client.files.with_streaming_response.content(file_id, extra_headers=headers) as reply:
            piece = _Piece.read(reply.headers) if reply.status_code == 206 else None
            if reply.status_code == 206 and (piece is None or piece.start != have):
                part.unlink(missing_ok=True)
                raise Lost("the server continued the file from another place")
            with part.open("wb" if piece is None else "ab") as stream:
                begun = piece is not None
                async for chunk in reply.iter_bytes(CHUNK_BYTES):
                    if not begun and not may_begin(chunk):
                        raise Lost("something else came than the file")
                    begun = True
                    stream.write(chunk)
                if not begun and not may_begin(b""):
                    raise Lost("nothing came of the file")
                stream.flush()
                os.fsync(stream.fileno())
    except Exception as error:
        if isinstance(error, (OSError, Lost)):
            raise
        trouble = doubted(understand(error))
        if not (isinstance(trouble, Refused) and trouble.status == 416):
            raise trouble from error
        if not have or _whole_size(error) != have:  # it is no beginning of this file
            part.unlink(missing_ok=True)
            raise Lost("what was fetched before is not a part of the file") from error
        return True
    return piece is None or piece.ends_file(part)


async def told_size(transport: Transport, file_id: str) -> int | None:
    """How many bytes the server says that a file has; None if it tells no size.

    Raises Unreachable or AccountError if it cannot be asked: that is no word on whether it would tell one.
    """

    async def call() -> float | None:
        try:
            raw = await transport.client.files.with_raw_response.retrieve(file_id, timeout=QUICK_S)
        except Exception as error:
            raise doubted(understand(error)) from error
        return number_or_none(transport.read(raw).document.get("bytes"))

    try:
        size = await transport.repeatedly(call)
    except Refused:
        return None
    return int(size) if size is not None and size > 0 else None


@dataclass(frozen=True)
class _Piece:
    """Which part of a file a reply holds: where it begins, and how long the whole file is, if the server knows."""

    start: int
    whole: int | None

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> _Piece | None:
        """Understand `Content-Range: bytes 10-99/100`; None for anything else, and for a part of a compressed file."""
        found = re.match(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:([0-9]{1,18})$|\*$)", headers.get("content-range", ""))
        if not found or headers.get("content-encoding", "identity") != "identity":
            return None
        return cls(int(found.group(1)), int(found.group(2)) if found.group(2) else None)

    def ends_file(self, part: Path) -> bool:
        """Whether *part*, to which this piece was added, is the whole file; if its length is not known, ask further."""
        has = part.stat().st_size
        if self.whole is not None and has > self.whole:
            part.unlink()
            raise Lost("the server gave more than the file holds")
        if has == self.start and has != self.whole:
            raise Lost("the server gave nothing of the file")
        return has == self.whole


def _whole_size(error: Exception) -> int | None:
    """How long the file is, as a refusal of a range says (`Content-Range: bytes */100`)."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    found = re.match(r"bytes \*/([0-9]{1,18})$", headers.get("content-range", ""))
    return int(found.group(1)) if found else None


async def delete(transport: Transport, file_id: str) -> None:
    """Delete a file; one that is gone already is fine."""

    async def call() -> None:
        try:
            await transport.client.files.with_raw_response.delete(file_id, timeout=QUICK_S)
        except Exception as error:
            raise doubted(understand(error)) from error

    try:
        await transport.repeatedly(call)
    except Refused as refused:
        if refused.status != 404:
            raise
