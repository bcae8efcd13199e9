"""A `Selection` as a condition of SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gpt_batch_api.domain.selection import Selection

_ANSWERED = "EXISTS (SELECT 1 FROM response WHERE response.request_id = request.id"


def condition(selection: Selection) -> tuple[str, Mapping[str, Any]]:
    """(what must hold of `request` and `sample`, its values)."""
    parts = ["1"]
    values: dict[str, Any] = {}
    if selection.key is not None and selection.key.endswith("*"):
        parts.append("sample.key >= :key AND substr(sample.key, 1, length(:key)) = :key")
        values["key"] = selection.key[:-1]
    elif selection.key is not None:
        parts.append("sample.key = :key")
        values["key"] = selection.key
    if selection.states:
        parts.append("request.state IN (SELECT value FROM json_each(:states))")
        values["states"] = json.dumps(sorted(selection.states))
    if selection.reason is not None:
        parts.append(f"(request.reason = :reason OR {_ANSWERED} AND coalesce(task_reason, response.reason) = :reason))")
        values["reason"] = selection.reason
    if selection.batch is not None:
        parts.append(f"(request.batch_id = :batch OR {_ANSWERED} AND response.batch_id = :batch))")
        values["batch"] = selection.batch
    if selection.since is not None or selection.until is not None:
        parts.append(f"{_ANSWERED} AND received_at >= :since AND received_at < :until)")
        values["since"] = selection.since if selection.since is not None else float("-inf")
        values["until"] = selection.until if selection.until is not None else float("inf")
    return " AND ".join(parts), values
