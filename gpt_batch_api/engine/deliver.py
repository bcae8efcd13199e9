"""Bring output rows from the store into the output file: write, make durable, then commit the position."""

from __future__ import annotations

from gpt_batch_api.domain.delivery import Progress
from gpt_batch_api.domain.disk import refused_file
from gpt_batch_api.domain.errors import OutputError
from gpt_batch_api.domain.events import OutputCut, OutputDelivered
from gpt_batch_api.engine.context import Context
from gpt_batch_api.store import outbox, tasks


def check_output(context: Context) -> None:
    """At start-up: what was delivered must still be there, unless it is gone altogether (then it is made anew)."""
    output = context.hooks.output
    if output is not None and not output.check(outbox.delivered(context.db)):
        with context.transaction() as tx:
            outbox.note_progress(tx, Progress(begins=True))


def deliver(context: Context) -> None:
    """Deliver all rows that wait."""
    output = context.hooks.output
    if output is None:
        return
    generation = tasks.get_task(context.db).generation
    before = outbox.count_delivered(context.db)
    try:
        for progress in output.deliver(
            outbox.StoredRows(context.db), outbox.to_continue(context.db, generation), generation=generation
        ):
            if progress.cut_bytes:
                context.tell(OutputCut(size_bytes=progress.cut_bytes))
                continue
            with context.transaction() as tx:
                outbox.note_progress(tx, progress)
                if progress.begins:
                    continue
                total = outbox.count_delivered(tx)
                name = progress.parts[-1].file_name if progress.parts else "the output"
                context.tell(
                    OutputDelivered(file_name=name, rows=total - before, total_rows=total, continuous=output.continuous)
                )
                before = total
    except OSError as error:
        raise OutputError(
            refused_file(error, context.workplace.folder, safe="The rows of the output are safe in the store")
        ) from error


def is_due(context: Context) -> bool:
    """Whether rows wait for an output that is delivered as it grows."""
    output = context.hooks.output
    return output is not None and output.continuous and outbox.is_behind(context.db)
