"""Read the server's lists back in time, newest first, as far as something of ours can be in them.

How far is told by the server's time. That may not be known exactly, so the first few pages are read whatever the times
say. No server promises an order: a list that does not go back in time is read to its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

PAGE_SIZE = 100
LEAST_PAGES = 3


class Listed(Protocol):
    """Something that the server lists."""

    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> float | None: ...


T = TypeVar("T", bound=Listed)


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list: what of it could be read, and how to go on."""

    items: Sequence[T]
    next_after: str | None
    """The id after which the next page begins; None if this is the last one."""

    @classmethod
    def of(cls, document: Mapping[str, Any], items: Sequence[T]) -> Page[T]:
        """The page of a list reply, of which *items* could be read."""
        entries = document.get("data")
        entries = entries if isinstance(entries, list) else []
        ids = [entry.get("id") for entry in entries if isinstance(entry, Mapping)]
        named = [name for name in ids if isinstance(name, str) and name]
        ended = document.get("has_more") is False  # left out, it says nothing: then the last page is an empty one
        return cls(items, named[-1] if named and not ended else None)


async def read_back(fetch: Callable[[str | None], Awaitable[Page[T]]], *, since: float) -> AsyncIterator[T]:
    """All that was made after *since* (the server's time), and a little more.

    *fetch* gets the page after an id (None: the first).
    """
    after: str | None = None
    followed: set[str | None] = {None}
    oldest: float | None = None
    goes_back = True
    for number in count():
        page = await fetch(after)
        for item in page.items:
            yield item
            if item.created_at is None or (oldest is not None and item.created_at > oldest):
                goes_back = False
            oldest = item.created_at
        after = page.next_after
        if after in followed:  # this was the last page; or the server ignores the id, and would go round for ever
            return
        followed.add(after)
        if goes_back and number + 1 >= LEAST_PAGES and oldest is not None and oldest < since:
            return


def server_time(date_header: str | None) -> float | None:
    """Seconds since 1970 of an HTTP `Date`; None if there is none that can be read."""
    try:
        told = parsedate_to_datetime(date_header or "")
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
