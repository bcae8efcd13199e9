"""Read the result files of a batch in the order of its requests.

Results come in any order. Read in the order of the requests, they are booked into the store from front to back, and the
task's code and its output see them in the order in which they were asked. Only positions are held in memory (a batch
has at most 50,000 lines); the lines themselves are read one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.request import parse_custom_id

_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([0-9]{1,18})-')
_HEAD_BYTES = 400
_LAST = 2**62
"""Where lines stand whose request cannot be seen at a glance."""


@dataclass(frozen=True)
class Line:
    """One line of a result file that names a request of ours."""

    request_id: int
    epoch: int
    document: Mapping[str, Any]
    raw: bytes


def seems_complete(paths: Sequence[Path], *, requests: int) -> bool:
    """Whether the files hold a line for each of so many requests, and the last line of each is whole."""
    seen: set[int] = set()
    for path in paths:
        last = b"\n"
        with path.open("rb") as stream:
            for _, last in _lines(stream):
                seen.add(_request_at_a_glance(last))
        if not last.endswith(b"\n") and _read(last) is None:
            return False
    return len(seen - {_LAST}) >= requests


def read_in_order(paths: Sequence[Path], *, on_broken: Callable[[bytes], None]) -> Iterator[Line]:
    """The lines of all *paths*, by request; of several on one request the first comes first.

    Lines that are not readable, or name no request of ours, are given to *on_broken*.
    """
    with ExitStack() as stack:
        streams = [stack.enter_context(path.open("rb")) for path in paths]
        positions = sorted(
            (_request_at_a_glance(raw), index, offset)
            for index, stream in enumerate(streams)
            for offset, raw in _lines(stream)
        )
        for _, index, offset in positions:
            streams[index].seek(offset)
            raw = streams[index].readline()
            line = _read(raw)
            if line is None:
                on_broken(raw)
            else:
                yield line


def _lines(stream: Any) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of all lines that are not blank. Cut at line feeds only: JSON may hold other line ends raw."""
    offset = 0
    for raw in stream:
        if raw.strip():
            yield offset, raw
        offset += len(raw)


def _request_at_a_glance(raw: bytes) -> int:
    found = _CUSTOM_ID.search(raw, 0, _HEAD_BYTES)
    return int(found.group(1)) if found else _LAST


def _read(raw: bytes) -> Line | None:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):  # no JSON, or nested beyond reason
        return None
    name = parse_custom_id(document.get("custom_id")) if isinstance(document, dict) else None
    return None if name is None else Line(name[0], name[1], document, raw.rstrip(b"\r\n"))
