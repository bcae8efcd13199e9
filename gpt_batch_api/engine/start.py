"""The beginning of every session, whichever door it came through: the same checks in the same order.

Server and output are looked at before anything is changed, above all before a wipe. Then an interrupted or wanted wipe
is done. What is left of an earlier process on disk is tidied last, and local batches that the present settings would
make differently are dissolved. What that process sent and saw no reply to needs nothing here: an open push is in doubt
by itself, and the loop asks the server about it.
"""

from __future__ import annotations

from gpt_batch_api.domain.errors import WrongServer
from gpt_batch_api.domain.events import RunBegan
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.engine import wipe
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.deliver import check_output
from gpt_batch_api.engine.direct import give_up_lost_calls
from gpt_batch_api.engine.loop import unless_stopped
from gpt_batch_api.engine.seal import dissolve_misfits
from gpt_batch_api.engine.sweep import close_settled, remove_stale_work_files
from gpt_batch_api.store import batches, pushes, tasks

DEFAULT_URL = "https://api.openai.com/v1"


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


def check_server(context: Context) -> None:
    """Refuse another server while anything of the task is on the one before; a sandbox's task stays with sandboxes."""
    known = tasks.get_task(context.db).server
    if known is None or context.transport is None or _is_same(known, context.server):
        return
    db = context.db
    under_way = len(batches.in_states(db, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED))
    files = batches.count_server_files(db) + len(pushes.orphans(db))
    if under_way or files:
        what = f"{under_way} of this task's batches" if under_way else f"{files} of this task's files"
        raise WrongServer(
            f"{what} are on {_name(known)}, but this run would talk to {_name(context.server)}. "
            "Use that server again, or give them up there with --wipe_requests."
        )
    if ("sandbox" in known) != ("sandbox" in context.server) and not context.wipes_task:
        raise WrongServer(
            f"This task was begun with {_name(known)}; its answers must not be mixed with those of "
            f"{_name(context.server)}. Choose another task_prefix, or start from scratch with --wipe_task."
        )


def _is_same(known: dict[str, str], here: dict[str, str]) -> bool:
    """A sandbox is known by its name, whatever its address; if it does not answer now, and for others, by the address."""
    if "sandbox" in known and "sandbox" in here:
        return known["sandbox"] == here["sandbox"]
    if "sandbox" in here:
        return False
    return _address(known) == _address(here)


def _address(server: dict[str, str]) -> tuple[str, str | None, str | None]:
    url = (server.get("base_url") or DEFAULT_URL).rstrip("/").lower()
    return url, server.get("organization"), server.get("project")


def _name(server: dict[str, str]) -> str:
    if "sandbox" in server:
        return f"the sandbox {server['sandbox'][:8]}"
    parts = [server.get("base_url") or "the default server"]
    parts += [f"{name} {server[name]}" for name in ("organization", "project") if server.get(name)]
    return ", ".join(parts)
