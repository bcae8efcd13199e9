"""Pictures named in cells: a path, an address, a data URI or the picture itself becomes what a request can carry."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.errors import UserError

_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


def image_url(picture: Any, *, folder: Path, where: str) -> str:
    """What stands for a picture in a request: addresses and data URIs as they are, files and bytes as data URIs.

    A relative path begins at *folder*. Raises UserError, which says *where* the cell stands.
    """
    if isinstance(picture, str):
        if is_address(picture):
            return picture
        path = image_path(picture, folder=folder, where=where)
        return _data_uri(path.read_bytes(), what=f"{where}: {path}")
    if isinstance(picture, bytes):
        return _data_uri(picture, what=f"{where}: the cell")
    if callable(save := getattr(picture, "save", None)):  # a picture of Pillow, as data sets have them
        stream = io.BytesIO()
        save(stream, format="PNG")
        return _data_uri(stream.getvalue(), what=where)
    raise UserError(f"{where}: {picture!r:.60} is no picture. It may be a path, an address, a data URI or bytes.")


def is_address(cell: str) -> bool:
    """Whether a picture is somewhere else, or in the cell itself."""
    return cell.startswith(("http://", "https://", "data:image/"))


def image_path(cell: str, *, folder: Path, where: str) -> Path:
    """The file that a cell names."""
    path = folder / Path(cell).expanduser()
    if not path.is_file():
        raise UserError(
            f"{where}: there is no picture {path}. Relative paths begin at the folder of the input; an address begins "
            "with https://."
        )
    return path


def _data_uri(content: bytes, *, what: str) -> str:
    return f"data:{_media_type(content, what)};base64,{base64.b64encode(content).decode()}"


def _media_type(content: bytes, what: str) -> str:
    for beginning, media_type in _BEGINNINGS.items():
        if content.startswith(beginning):
            return media_type
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    raise UserError(f"{what} is no PNG, JPEG, GIF or WebP picture.")
