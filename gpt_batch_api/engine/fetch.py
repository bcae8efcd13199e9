"""Fetch the result files of an ended batch to spool files: complete and durable, or not at all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gpt_batch_api.engine.context import Context
from gpt_batch_api.store.batches import BatchRow
from gpt_batch_api.wire import files as wire_files
from gpt_batch_api.wire.trouble import Refused


async def fetch_results(context: Context, batch: BatchRow) -> tuple[list[Path], bool]:
    """Download the result files; whether one that should be there is gone."""
    paths: list[Path] = []
    vanished = False
    for role, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
        if file_id is None:
            continue
        path = context.workplace.spool(batch.id, role, task_uuid=context.task_uuid)
        try:
            may_be_empty = role == "error" or not batch.count_completed
            await wire_files.download(
                context.remote, file_id, path, may_begin=partial(_may_begin, may_be_empty=may_be_empty)
            )
            paths.append(path)
        except Refused as refused:
            if refused.status not in (404, 410):
                raise
            vanished = True
    return paths, vanished


def _may_begin(begin: bytes, *, may_be_empty: bool) -> bool:
    """Whether a result file can begin so.

    A page that some proxy on the way sends in its place, with status 200, must not be taken for a file in which all
    answers are missing: they would be asked, and paid, again.
    """
    if not begin.strip():
        return may_be_empty
    return b'"custom_id"' in begin or len(begin) >= wire_files.CHUNK_BYTES
