"""The beginning of every session, whichever door it came through: the same checks in the same order.

Server and output are looked at before anything is changed, above all before a wipe. Then an interrupted or wanted wipe
is done. What is left of an earlier process on disk is tidied last, and local batches that the present settings would
make differently are dissolved. What that process sent and saw no reply to needs nothing here: an open push is in doubt
by itself, and the loop asks the server about it.
"""

from __future__ import annotations

from gpt_batch_api.domain.events import RunBegan
from gpt_batch_api.engine import wipe
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.deliver import check_output
from gpt_batch_api.engine.direct import give_up_lost_calls
from gpt_batch_api.engine.loop import unless_stopped
from gpt_batch_api.engine.seal import dissolve_misfits
from gpt_batch_api.engine.server import check_server
from gpt_batch_api.engine.sweep import close_settled, remove_stale_work_files
from gpt_batch_api.store import pushes, tasks


async def start(context: Context) -> None:
    """Make the task ready: checks, wipes, tidying. Raises UserError if something must be settled first."""
    check_server(context)
    give_up_lost_calls(context)
    kind = wipe.begun_or_wanted(context)
    if kind != "task":
        check_output(context)
    if kind is not None:
        wipe.begin(context, kind)
        await unless_stopped(context, wipe.finish(context))
    if context.interruption.wanted or not context.settings.task.run:
        return
    context.tell(
        RunBegan(
            resumed=tasks.sessions_before(context.db, context.session_id) > 0,
            in_doubt=len(pushes.open_pushes(context.db)),
        )
    )
    remove_stale_work_files(context)
    close_settled(context)
    dissolve_misfits(context)
