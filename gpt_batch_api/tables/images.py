"""Pictures named in cells: a path, an address or a data URI becomes what a request can carry."""

from __future__ import annotations

import base64
from pathlib import Path

from gpt_batch_api.domain.errors import UserError

_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


def image_url(cell: str, *, folder: Path, where: str) -> str:
    """What stands for the picture in a request: addresses and data URIs as they are, files as data URIs.

    A relative path begins at *folder*. Raises UserError, which says *where* the cell stands.
    """
    if is_address(cell):
        return cell
    path = image_path(cell, folder=folder, where=where)
    content = path.read_bytes()
    return f"data:{_media_type(content, path, where)};base64,{base64.b64encode(content).decode()}"


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


def _media_type(content: bytes, path: Path, where: str) -> str:
    for beginning, media_type in _BEGINNINGS.items():
        if content.startswith(beginning):
            return media_type
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    raise UserError(f"{where}: {path} is no PNG, JPEG, GIF or WebP picture.")
