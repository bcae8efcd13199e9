"""Text files: their encoding checked, and a broken place told by its line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from gpt_batch_api.domain.errors import UserError

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def reading(path: Path, encoding: str | None) -> Iterator[TextIO]:
    """*path* as text, line ends as they are. The default is UTF-8, with or without a mark, or UTF-16 with one.

    Raises UserError if it cannot be read, or names the first line that is not of the encoding.
    """
    try:
        chosen = encoding or _marked_encoding(path)
        with path.open(encoding=chosen, newline="") as stream:
            try:
                yield stream
            except UnicodeError as error:
                raise _not_encoded(path, chosen) from error
    except OSError as error:
        raise UserError(f"The input {path} cannot be read: {error.strerror or error}.") from error
    except LookupError as error:
        raise UserError(
            f"encoding is {encoding!r}, which Python does not know. Try utf-8, latin-1 or cp1252."
        ) from error


def _marked_encoding(path: Path) -> str:
    with path.open("rb") as stream:
        return "utf-16" if stream.read(2) in _UTF16_MARKS else "utf-8-sig"


def _not_encoded(path: Path, encoding: str) -> UserError:
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    where = ""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode(encoding)
            except UnicodeError as error:
                byte = f" (byte 0x{error.object[error.start]:02x})" if isinstance(error, UnicodeDecodeError) else ""
                where = f", line {number}{byte}"
                break
    return UserError(
        f"The input {path}{where} is not {name}. Say what it is with --encoding (latin-1 or cp1252, for example), "
        "or save it as UTF-8."
    )
