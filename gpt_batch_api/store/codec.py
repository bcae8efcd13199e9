"""Pack JSON texts for the store: compressed where that helps, and big embedded media stored once.

A packed blob begins with one byte that says how it is packed, so that other ways can be added without a migration.
An embedded image or file (a long `data:` URI) is cut out of a payload and kept once in the table `content` under its
hash; the payload keeps a mark of it. JSON text never contains the mark's control character raw, so a mark cannot be
mistaken for a user's own text.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import zlib

_PLAIN = b"\x00"
_ZLIB = b"\x01"

_LEAST_MEDIA_BYTES = 1024
_MEDIA = re.compile(rb'"data:[^"\\]{%d,}"' % _LEAST_MEDIA_BYTES)
_MARK = re.compile(rb"\x01([0-9a-f]{64})\x01")


def pack(text: bytes) -> bytes:
    """Compress *text* if that makes it smaller."""
    packed = zlib.compress(text, 1)
    return _ZLIB + packed if len(packed) < len(text) else _PLAIN + text


def unpack(blob: bytes) -> bytes:
    """The text that `pack` was given."""
    return zlib.decompress(memoryview(blob)[1:]) if blob[:1] == _ZLIB else blob[1:]


def storable(text: str) -> str:
    """*text* as SQLite takes it: servers cut messages anywhere, also within a character pair, whose half is replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def pack_payload(db: sqlite3.Connection, body: bytes) -> bytes:
    """Pack a request's JSON body; embedded media go to the table `content`, once each."""

    def stored(match: re.Match[bytes]) -> bytes:
        media = match.group()
        digest = hashlib.sha256(media).digest()
        db.execute("INSERT OR IGNORE INTO content (hash, body) VALUES (?, ?)", (digest, media))
        return b"\x01" + digest.hex().encode() + b"\x01"

    return pack(_MEDIA.sub(stored, body) if len(body) > _LEAST_MEDIA_BYTES else body)


def unpack_payload(db: sqlite3.Connection, blob: bytes) -> bytes:
    """The JSON body that `pack_payload` was given, byte for byte."""

    def restored(match: re.Match[bytes]) -> bytes:
        digest = bytes.fromhex(match.group(1).decode())
        media: bytes = db.execute("SELECT body FROM content WHERE hash = ?", (digest,)).fetchone()[0]
        return media

    body = unpack(blob)
    return _MARK.sub(restored, body) if b"\x01" in body else body


def unpack_without_media(blob: bytes) -> tuple[bytes, list[bytes]]:
    """(the JSON body with an empty text in the place of each medium that is kept apart, the hashes of those media)."""
    body = unpack(blob)
    media = [bytes.fromhex(digest.decode()) for digest in _MARK.findall(body)]
    return (_MARK.sub(b'""', body), media) if media else (body, [])


def drop_unused_content(db: sqlite3.Connection) -> None:
    """Forget all media; for a wipe of the whole task, when no payload is left to need them."""
    db.execute("DELETE FROM content WHERE NOT EXISTS (SELECT 1 FROM payload)")
