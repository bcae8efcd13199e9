"""Pictures: their size from the header, and what a picture of that size costs.

A picture in a data URI is never decoded: only the few base64 characters that hold the wanted bytes are. Remote
pictures are never fetched; their size is assumed and the count says so.

Tile models (gpt-4o, o1, gpt-5 …) shrink a picture into 2048 x 2048, then its short side to 768, and bill each tile of
512 x 512. Patch models (the small ones, gpt-5.2 and later) bill patches of 32 x 32 after shrinking to a budget. Nothing
is ever enlarged. The numbers of each family are in `data/models.json`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gpt_batch_api.tokens.count import Count, fitted, guess
from gpt_batch_api.tokens.data_uri import DataUri, parse_data_uri
from gpt_batch_api.tokens.models import ImageRule, Model, drifting

_TILE_PX, _PATCH_PX = 512, 32
_TILES_FIT_PX, _TILES_SHORT_PX = 2048, 768
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_MOST_JPEG_SEGMENTS = 1000
_REFUSED = "image of more patches than the server takes: such a request is refused"


def count_image(part: Mapping[str, Any], *, model: Model) -> Count:
    """Tokens of an image part, of chat completions or of Responses."""
    source = part.get("image_url")
    inner = source if isinstance(source, Mapping) else {"url": source}
    url, detail = inner.get("url"), inner.get("detail", part.get("detail"))
    detail = detail if isinstance(detail, str) else "auto"
    size = image_size(url) if isinstance(url, str) else None
    if size is not None:
        tokens = image_tokens(*size, detail=detail, rule=model.images)
        return guess(tokens, _REFUSED) if _is_refused(*size, detail=detail, rule=model.images) else fitted(tokens)
    if detail == "low" and model.images.tile:
        return fitted(model.images.base)
    width, height = drifting("assumed_image_px")
    tokens = image_tokens(width, height, detail=detail, rule=model.images)
    return guess(tokens, f"{_describe(url)}: size unknown, assumed {tokens} tokens")


def image_tokens(width: int, height: int, *, detail: str, rule: ImageRule) -> int:
    """What a picture of *width* x *height* pixels costs under *rule*."""
    if rule.tile:
        return rule.base + (0 if detail == "low" else rule.tile * _tiles(width, height))
    patches = _patches(width, height, detail=detail, rule=rule)
    return math.ceil(round(patches * rule.per_patch, 6)) + 1


def image_size(url: str) -> tuple[int, int] | None:
    """Width and height of the picture in the data URI *url*; None if it is none, or of an unknown format."""
    data = parse_data_uri(url)
    if data is None:
        return None
    head = data.read(0, 32)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        size = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif head[:6] in (b"GIF87a", b"GIF89a"):
        size = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        size = _webp_size(head)
    elif head[:2] == b"\xff\xd8":
        size = _jpeg_size(data)
    else:
        return None
    return size if min(size) > 0 else None


def _is_refused(width: int, height: int, *, detail: str, rule: ImageRule) -> bool:
    return bool(rule.most_patches) and _patches(width, height, detail=detail, rule=rule) > rule.most_patches


def _webp_size(head: bytes) -> tuple[int, int]:
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF


def _jpeg_size(data: DataUri) -> tuple[int, int]:
    """Go from segment to segment until the frame header."""
    place = 2
    for _ in range(_MOST_JPEG_SEGMENTS):
        segment = data.read(place, 9)
        if len(segment) < 9 or segment[0] != 0xFF:
            break
        if segment[1] in _JPEG_FRAMES:
            return int.from_bytes(segment[7:9], "big"), int.from_bytes(segment[5:7], "big")
        filler = segment[1] == 0xFF
        bare = segment[1] in _JPEG_BARE
        place += 1 if filler else 2 if bare else 2 + int.from_bytes(segment[2:4], "big")
    return 0, 0


def _tiles(width: float, height: float) -> int:
    shrink = min(1.0, _TILES_FIT_PX / max(width, height))
    width, height = width * shrink, height * shrink
    shrink = min(1.0, _TILES_SHORT_PX / min(width, height))
    return _cells(width * shrink, _TILE_PX) * _cells(height * shrink, _TILE_PX)


def _cells(length: float, cell: int) -> int:
    """How many cells cover *length* pixels; a hair's breadth from floating point is no further cell."""
    return max(1, math.ceil(round(length / cell, 6)))


def _patches(width: float, height: float, *, detail: str, rule: ImageRule) -> int:
    original = detail == "original" or (rule.auto_is_original and detail != "high")
    if detail == "low":
        longest, budget = drifting("low_detail_px"), 0
    elif original and rule.most_patches:
        longest, budget = 0, 0
    elif original and rule.original_budget:
        longest, budget = rule.original_longest_px, rule.original_budget
    else:
        longest, budget = rule.longest_px, rule.budget
    if longest and max(width, height) > longest:
        shrink = longest / max(width, height)
        width, height = width * shrink, height * shrink
    patches = _cells(width, _PATCH_PX) * _cells(height, _PATCH_PX)
    if not budget or patches <= budget:
        return patches
    shrink = math.sqrt(_PATCH_PX**2 * budget / (width * height))
    columns, rows = width * shrink / _PATCH_PX, height * shrink / _PATCH_PX
    shrink *= min(math.floor(columns) / columns, math.floor(rows) / rows) if min(columns, rows) >= 1 else 1.0
    return _cells(width * shrink, _PATCH_PX) * _cells(height * shrink, _PATCH_PX)


def _describe(url: Any) -> str:
    if not isinstance(url, str):
        return "image by file id"
    return "image in an unknown format" if url.startswith("data:") else "image by URL"
