"""Fetch the result files of an ended batch to spool files: complete and durable, or not at all.

A file that something on the way cut short may look whole: its length is as announced, its last line has an end. Its
missing answers would be asked, and paid, again. So where answers are missing, the size that the server tells of the file
is compared with what came. If they differ, the file is fetched again, for as long as a server may be behind
(`list_lag_wait`); after that the missing answers are said to be cut off, and only the user can decide to pay again.
Servers that tell no size, or a wrong one, do no harm as long as all answers are there. That the server cannot be asked
just now does not mean that it tells no size: the file is fetched again then too. Only one that gives the file, again
and again, and no word on its size all that time, is taken for one that tells none.

A file that is not there, although its batch ended only just now, may not be shown yet, and is looked for again likewise;
one that should have been there for long, some times in a row.

Each look is a step of its own, so everything else goes on in between: polls, pushes, the results of other batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gpt_batch_api.domain.errors import ServerError, Unreachable
from gpt_batch_api.domain.events import Advice
from gpt_batch_api.domain.words import sentence
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.search import FIRST_PAUSE_S, LEAST_LOOKS, Search
from gpt_batch_api.engine.spool import seems_complete
from gpt_batch_api.sinks.publish import remove
from gpt_batch_api.store import batches
from gpt_batch_api.store.batches import BatchRow
from gpt_batch_api.wire import batches as wire_batches
from gpt_batch_api.wire import files as wire_files
from gpt_batch_api.wire.trouble import Refused


@dataclass(frozen=True)
class Part:
    """One of the two result files of a batch, as the server knows it, and where it is fetched to."""

    role: str
    file_id: str
    path: Path

    @property
    def size(self) -> int:
        """How many bytes came."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class Fetched:
    """What came of the result files."""

    parts: tuple[Part, ...]
    vanished: tuple[Part, ...] = ()
    """Those that should be there, and are gone."""
    cut_short: tuple[Part, ...] = ()
    """Those of which the server says that they have another size than what came, although answers are missing."""

    @property
    def paths(self) -> list[Path]:
        return [part.path for part in self.parts]

    def remove(self) -> None:
        """Remove all that came, also of files that vanished while they were fetched."""
        for part in self.parts:
            remove(part.path)
        for part in self.vanished:
            remove(wire_files.unfinished(part.path))


async def fetch_results(context: Context, batch: BatchRow) -> Fetched | None:
    """Look at the result files of *batch* once. None: they must be looked at again, `context.searches` says when.

    Raises Unreachable if the server is out of reach altogether, Refused if it goes on refusing a file.
    """
    search = context.searches.setdefault(batch.id, Search())
    began_at = context.remote.server_now()
    try:
        fetched = await _fetch(context, batch)
    except Unreachable as trouble:
        await wire_batches.check_there(context.remote)
        _fail(context, batch, search, trouble.happened, asked_s=trouble.retry_after_s)
        return None
    except Refused as refused:
        if search.failures >= LEAST_LOOKS:
            raise
        _fail(context, batch, search, str(refused), asked_s=refused.retry_after_s)
        return None
    search.looks, search.failures = search.looks + 1, 0
    is_new = _ended_just_now(context, batch, asked_at=context.remote.looked_at(began_at))
    doubtful = await _in_doubt(context, batch, fetched, search.told)
    now_s, longest_s = context.clock.monotonic(), context.settings.extra.list_lag_wait
    if search.looks == 1 and doubtful:
        may_come = is_new or len(doubtful) > len(fetched.vanished)
        search.until_s = now_s + (longest_s if may_come else 0.0)
        for part in doubtful:
            context.tell(Advice(text=_doubt(part, batch, fetched, search.told, longest_s=longest_s)))
    if not doubtful or search.is_over(now_s):
        del context.searches[batch.id]
        short = tuple(part for part in doubtful if part.file_id in search.told and part not in fetched.vanished)
        return replace(fetched, cut_short=short)
    for part in doubtful:
        remove(part.path)
    search.put_off(now_s, most_s=max(search.until_s - now_s, min(FIRST_PAUSE_S, longest_s)))
    return None


def _fail(context: Context, batch: BatchRow, search: Search, why: str, *, asked_s: float | None) -> None:
    """The server does not give a file. Others may go on; it is asked again, not before the pause that it *asked* for."""
    search.failures += 1
    search.put_off(context.clock.monotonic(), least_s=asked_s or 0.0)
    if search.failures == 1:
        text = f"The results of batch {batch.id} do not come: {sentence(why)} They are asked for again."
        context.tell(Advice(text=text))


async def _fetch(context: Context, batch: BatchRow) -> Fetched:
    parts: list[Part] = []
    vanished: list[Part] = []
    for part in _parts(context, batch):
        try:
            may_be_empty = part.role == "error" or not batch.count_completed
            await wire_files.download(
                context.remote, part.file_id, part.path, may_begin=partial(_may_begin, may_be_empty=may_be_empty)
            )
            parts.append(part)
        except Refused as refused:
            if refused.status not in (404, 410):
                raise
            vanished.append(part)
    return Fetched(tuple(parts), tuple(vanished))


def _parts(context: Context, batch: BatchRow) -> Iterator[Part]:
    for role, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
        if file_id is not None:
            yield Part(role, file_id, context.workplace.spool(batch.id, role, task_uuid=context.task_uuid))


async def _in_doubt(context: Context, batch: BatchRow, fetched: Fetched, told: dict[str, int]) -> tuple[Part, ...]:
    """The files of which the server may have more than what came. *told* keeps the sizes that it tells."""
    if seems_complete(fetched.paths, requests=batch.load.requests):
        return ()
    longer = [part for part in fetched.parts if await _may_be_longer(context, part, told)]
    return (*fetched.vanished, *longer)


def _ended_just_now(context: Context, batch: BatchRow, *, asked_at: float) -> bool:
    """Whether the server may not have shown all of *batch* yet, when it was asked (in its own time)."""
    report = wire_batches.read_batch(batches.report_of(context.db, batch.id))
    ended_at = None if report is None else report.ended_at
    return ended_at is None or asked_at - ended_at < context.settings.extra.list_lag_wait


async def _may_be_longer(context: Context, part: Part, told: dict[str, int]) -> bool:
    """Whether the server tells another size of *part* than what came, or cannot be asked."""
    try:
        size = await wire_files.told_size(context.remote, part.file_id)
    except ServerError:
        return told.get(part.file_id) != part.size
    if size is not None:
        told[part.file_id] = size
    return told.get(part.file_id, part.size) != part.size


def _doubt(part: Part, batch: BatchRow, fetched: Fetched, told: Mapping[str, int], *, longest_s: float) -> str:
    """What is the matter with *part*, for the user."""
    if part in fetched.vanished:
        return (
            f"The {part.role} file of batch {batch.id} is not on the server, or not shown yet. It is looked for again."
        )
    size = told.get(part.file_id)
    says = "cannot be asked how many it has" if size is None else f"says that it has {size:,}"
    return (
        f"Of the {part.role} file of batch {batch.id} came {part.size:,} bytes, and the server {says}; answers are missing. "
        f"It is fetched again, for up to {longest_s:,.0f} s."
    )


def _may_begin(begin: bytes, *, may_be_empty: bool) -> bool:
    """Whether a result file can begin so.

    A page that some proxy on the way sends in its place, with status 200, must not be taken for a file in which all
    answers are missing: they would be asked, and paid, again.
    """
    if not begin.strip():
        return may_be_empty
    return b'"custom_id"' in begin or len(begin) >= wire_files.CHUNK_BYTES
