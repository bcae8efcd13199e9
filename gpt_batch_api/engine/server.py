"""On which server a task is: written down before anything is sent there, and never mixed up with another one.

A sandbox says its name in every reply. The first reply of a run may be lost, so the name is also learnt later; what is
written down is what a server has said, never that it has said nothing yet.
"""

from __future__ import annotations

import sqlite3

from gpt_batch_api.domain.errors import WrongServer
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.engine.context import Context
from gpt_batch_api.store import batches, pushes, tasks

DEFAULT_URL = "https://api.openai.com/v1"


def check_server(context: Context) -> None:
    """Refuse another server while anything of the task is on the one before; a sandbox's task stays with sandboxes."""
    known, here = tasks.get_task(context.db).server, context.server_now_known
    if known is None or context.transport is None or _is_same(known, here):
        return
    db = context.db
    under_way = len(batches.in_states(db, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED))
    files = batches.count_server_files(db) + len(pushes.orphans(db))
    if under_way or files:
        what = f"{under_way} of this task's batches" if under_way else f"{files} of this task's files"
        raise WrongServer(
            f"{what} are on {_name(known)}, but this run would talk to {_name(here)}. "
            "Use that server again, or give them up there with --wipe_requests."
        )
    if ("sandbox" in known) != ("sandbox" in here) and not context.wipes_task:
        raise WrongServer(
            f"This task was begun with {_name(known)}; its answers must not be mixed with those of "
            f"{_name(here)}. Choose another task_prefix, or start from scratch with --wipe_task."
        )


def note_server(context: Context, tx: sqlite3.Connection) -> bool:
    """Write down the server of this run once it has replied; whether that is done. Raises WrongServer."""
    if not context.remote.was_answered:
        return False
    if tasks.get_task(tx).server != context.server_now_known:
        check_server(context)
        tasks.set_server(tx, context.server_now_known)
    return True


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
