"""What can be seen of a PDF without a PDF library: its pages, and the text of simple content streams.

Streams are inflated, page objects counted, and the strings that are drawn collected. Fonts with their own encoding
come out as nonsense of about the right length. The work is bounded; a file that does not make sense is one page
without text.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from gpt_batch_api.tokens.data_uri import DataUri

_MOST_BYTES = 32_000_000
_MOST_INFLATED_BYTES = 64_000_000
_PAGE = re.compile(rb"/Type\s*/Page\b(?!s)")
_TEXT = rb"\(((?:\\.|[^\\()]|\((?:\\.|[^\\()])*\))*)\)"
_STRING = re.compile(_TEXT, re.DOTALL)
_DRAWN = re.compile(_TEXT + rb"\s*(?:Tj|['\"])|\[([^\]]*)\]\s*TJ|T\*|T[dD]", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class Pdf:
    """What was seen."""

    pages: int
    text: str


def read_pdf(data: DataUri) -> Pdf:
    """Count the pages of *data* and collect the text that they draw."""
    raw = data.read(0, _MOST_BYTES)
    bodies = [raw, *_inflated(raw)]
    pages = sum(len(_PAGE.findall(body)) for body in bodies)
    text = "\n".join(filter(None, (_drawn(body) for body in bodies)))
    return Pdf(max(1, pages), text)


def _inflated(raw: bytes) -> list[bytes]:
    """All streams of *raw* that can be inflated, up to a bound in total."""
    left, found = _MOST_INFLATED_BYTES, []
    for stream in _streams(raw):
        if left <= 0:
            break
        try:
            body = zlib.decompressobj().decompress(stream, left)
        except zlib.error:
            continue
        left -= len(body)
        found.append(body)
    return found


def _streams(raw: bytes) -> Iterator[bytes]:
    """What stands between `stream` and `endstream`."""
    end = 0
    while (start := raw.find(b"stream", end)) >= 0:
        start += len(b"stream")
        start += 2 if raw[start : start + 2] == b"\r\n" else 1
        end = raw.find(b"endstream", start)
        if end < 0:
            return
        yield raw[start:end]
        end += len(b"endstream")


def _drawn(body: bytes) -> str:
    """The strings that the text operators in *body* draw."""
    lines: list[str] = []
    for match in _DRAWN.finditer(body):
        pieces = [match[1]] if match[1] is not None else _STRING.findall(match[2] or b"")
        lines.append("".join(_ESCAPE.sub(rb"\1", piece).decode("latin-1") for piece in pieces) or "\n")
    return "".join(lines).strip()
