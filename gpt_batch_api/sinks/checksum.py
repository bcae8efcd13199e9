"""The checksum by which a delivered file is known again."""

from __future__ import annotations

import zlib
from pathlib import Path

_READ_BYTES = 1 << 20


def crc32_of(path: Path, size_bytes: int | None = None) -> int:
    """The CRC-32 of the first *size_bytes* of a file (of all that it has, if it has fewer or none are given)."""
    crc, left = 0, path.stat().st_size if size_bytes is None else size_bytes
    with path.open("rb") as stream:
        while left > 0 and (chunk := stream.read(min(left, _READ_BYTES))):
            crc = zlib.crc32(chunk, crc)
            left -= len(chunk)
    return crc
