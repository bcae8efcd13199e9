"""Which rule of the plan strikes: counting is in the store, chance is a hash, so a restart changes nothing.

Each rule counts what it has looked at (`seen`) and how often it has struck (`fired`), for as long as its plan is in
force. Several rules may look at the same thing; the first that strikes wins.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from gpt_batch_api.sandbox.chance import share
from gpt_batch_api.sandbox.operations import ANSWERING
from gpt_batch_api.sandbox.plan import BatchRule, CallRule, Choice, LineRule, Plan

R = TypeVar("R", bound=Choice)


@dataclass
class Count:
    """How often a rule has looked, and struck."""

    seen: int = 0
    fired: int = 0


@dataclass(frozen=True)
class InForce:
    """A plan and the number under which the store knows it."""

    id: int
    plan: Plan


class Rules:
    """The counters of one list of rules of one plan. `save` writes what has changed."""

    def __init__(self, db: sqlite3.Connection, *, force: InForce, kind: str) -> None:
        self._plan_id = force.id
        self._kind = kind
        self._seed = force.plan.seed
        query = "SELECT position, seen, fired FROM rule WHERE plan_id = ? AND list = ?"
        rows = db.execute(query, (force.id, kind))
        self._counts: dict[int, Count] = {row["position"]: Count(row["seen"], row["fired"]) for row in rows}
        self._changed: set[int] = set()

    def strike(self, rules: Mapping[int, R], *identity: object) -> int | None:
        """Let each of *rules* look; return the position of the first that strikes. *identity* decides `rate`."""
        struck = None
        for position, rule in rules.items():
            count = self._counts.setdefault(position, Count())
            count.seen += 1
            self._changed.add(position)
            if struck is None and self._hits(rule, position, count, identity or (count.seen,)):
                count.fired += 1
                struck = position
        return struck

    def save(self, tx: sqlite3.Connection) -> None:
        """Write the counters."""
        rows = [
            (self._plan_id, self._kind, position, self._counts[position].seen, self._counts[position].fired)
            for position in sorted(self._changed)
        ]
        tx.executemany(
            "INSERT OR REPLACE INTO rule (plan_id, list, position, seen, fired) VALUES (?, ?, ?, ?, ?)", rows
        )

    def _hits(self, rule: Choice, position: int, count: Count, identity: Sequence[object]) -> bool:
        if rule.times is not None and count.fired >= rule.times:
            return False
        if rule.nth and count.seen not in rule.nth:
            return False
        return rule.rate is None or share(self._seed, self._kind, position, *identity) < rule.rate


def matching_calls(plan: Plan, operation: str, text: str) -> dict[int, CallRule]:
    """The rules about calls of *operation* whose `match`, if any, is in *text* (the body, where it is JSON)."""
    matching = {position: rule for position, rule in enumerate(plan.faults) if is_about(rule, operation)}
    if any(rule.match for rule in matching.values()):
        plain = _plain(text)
        return {at: rule for at, rule in matching.items() if rule.match in text or rule.match in plain}
    return matching


def is_about(rule: CallRule, operation: str) -> bool:
    """Whether *rule* looks at calls of *operation*."""
    return operation in ANSWERING if rule.on == "direct" else fnmatchcase(operation, rule.on)


def _plain(text: str) -> str:
    """The JSON *text* with its escaped characters written out."""
    if "\\u" not in text:
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text  # nobody knows yet whether it is JSON


def matching_lines(plan: Plan, raw: bytes) -> dict[int, LineRule]:
    """The rules about lines whose `match`, if any, is in the line *raw*, escaped or not."""
    text = raw.decode("utf-8", "replace")
    plain = _plain(text)
    return {position: rule for position, rule in enumerate(plan.lines) if rule.match in text or rule.match in plain}


def choose_call_fault(tx: sqlite3.Connection, force: InForce, *, operation: str, text: str) -> CallRule | None:
    """The fault that this call meets, if any."""
    rules = Rules(tx, force=force, kind="faults")
    struck = rules.strike(matching_calls(force.plan, operation, text))
    rules.save(tx)
    return None if struck is None else force.plan.faults[struck]


def choose_batch_fault(tx: sqlite3.Connection, force: InForce) -> BatchRule | None:
    """The fault that the batch being created will meet, if any."""
    if not force.plan.batches:
        return None
    rules = Rules(tx, force=force, kind="batches")
    struck = rules.strike(dict(enumerate(force.plan.batches)))
    rules.save(tx)
    return None if struck is None else force.plan.batches[struck]
