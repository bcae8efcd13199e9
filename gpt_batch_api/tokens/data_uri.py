"""Bytes inside a base64 data URI, read piece by piece, so that a large one is never held twice."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

_HEAD = re.compile(r"data:[^,;]*(?:;[^,;]*)*?;base64,", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")
_URL_SAFE = str.maketrans("-_", "+/")
_LOOKED_AT = 4096


@dataclass(frozen=True)
class DataUri:
    """A data URI, or bare base64 text, whose payload starts at `start`."""

    text: str
    start: int

    @property
    def size_bytes(self) -> int:
        """How many bytes the payload is, about: padding and line breaks are not looked at."""
        return (len(self.text) - self.start) * 3 // 4

    def read(self, place: int, length: int) -> bytes:
        """Up to *length* bytes from byte *place* on; fewer at the end, or where the text is no base64."""
        first = place // 3
        begin = self.start + first * 4
        last = self.start + (place + length + 2) // 3 * 4
        piece = self.text[begin:last].translate(_URL_SAFE).rstrip("=")
        piece = piece[: len(piece) - (len(piece) % 4 == 1)]
        try:
            raw = base64.b64decode(piece + "=" * (-len(piece) % 4))
        except (binascii.Error, ValueError):
            return b""
        return raw[place - first * 3 :][:length]


def parse_data_uri(text: str) -> DataUri | None:
    """Read the head of *text*; None if it is no base64 data URI."""
    head = _HEAD.match(text)
    if head is None:
        return None
    return _without_blanks(DataUri(text, head.end()))


def bare_base64(text: str) -> DataUri:
    """Take *text* as a data URI, or else as the payload of one."""
    return parse_data_uri(text) or _without_blanks(DataUri(text, 0))


def _without_blanks(data: DataUri) -> DataUri:
    """Base64 in lines (as mail programs write it) cannot be read by position: take the line breaks out once."""
    if not _BLANKS.search(data.text, data.start, data.start + _LOOKED_AT):
        return data
    return DataUri(_BLANKS.sub("", data.text[data.start :]), 0)
