"""The content of one message: text, pictures, sound, files.

Adjacent text parts are joined without a separator and counted once, as the server does; a part that is not text ends
the run. Chat completions and Responses name the same parts differently; both names are understood everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpt_batch_api.tokens.count import NOTHING, Count, exact, fitted, guess
from gpt_batch_api.tokens.images import count_image
from gpt_batch_api.tokens.media import count_audio, count_file
from gpt_batch_api.tokens.models import Model, drifting
from gpt_batch_api.tokens.text import compact_json

_TEXT_TYPES = frozenset({"text", "input_text", "output_text", "refusal", None})
_IMAGE_TYPES = frozenset({"image_url", "input_image"})
_LONGEST_UNKNOWN = 20_000


def count_content(content: Any, *, model: Model, chat: bool) -> Count:
    """Tokens of *content*: a string, a list of parts, or nothing. *chat*: chat completions, else Responses."""
    if isinstance(content, str):
        return exact(model.n(content))
    if content is None:
        return NOTHING
    if not isinstance(content, list):
        return count_unknown(content, "content of an unknown kind", model=model)
    total, run = NOTHING, ""
    for part in content:
        text = text_of_part(part)
        if text is not None:
            run += text
            continue
        total += exact(model.n(run)) + _count_part(part, model=model, chat=chat)
        run = ""
    if not chat and content and all(_kind(part) in _IMAGE_TYPES for part in content):
        total += fitted(drifting("responses_pictures_alone"))
    return total + exact(model.n(run)) if run else total


def count_unknown(value: Any, what: str, *, model: Model) -> Count:
    """Tokens of something that no rule is known for: those of its JSON, unless that is so long that it must be data."""
    text = compact_json(value)
    if len(text) > _LONGEST_UNKNOWN:
        return guess(0, f"{what}: too long to be text, counted as 0 tokens")
    return guess(model.n(text), f"{what}: counted as its JSON")


def split_text(content: Any) -> tuple[str, list[Any]]:
    """All the text of *content*, joined, and the parts that are not text."""
    if not isinstance(content, list):
        return (content, []) if isinstance(content, str) else ("", [] if content is None else [content])
    texts = [(part, text_of_part(part)) for part in content]
    return "".join(text for _, text in texts if text), [part for part, text in texts if text is None]


def text_of_part(part: Any) -> str | None:
    """The text of *part*, or None if it is of another kind."""
    if isinstance(part, str):
        return part
    kind = _kind(part)
    if not isinstance(part, Mapping) or kind not in _TEXT_TYPES:
        return None
    text = part.get("refusal" if kind == "refusal" else "text")
    return text if isinstance(text, str) else None


def _count_part(part: Any, *, model: Model, chat: bool) -> Count:
    kind = _kind(part)
    if kind in _IMAGE_TYPES:
        return count_image(part, model=model)
    if kind == "input_audio":
        return count_audio(part.get("input_audio"))
    if kind in ("file", "input_file"):
        return count_file(part, model=model, chat=chat)
    return count_unknown(part, "content of an unknown kind", model=model)


def _kind(part: Any) -> str | None:
    """What *part* says it is: its type, None if it has none, "?" if that is no text."""
    kind = part.get("type") if isinstance(part, Mapping) else "?"
    return kind if kind is None or isinstance(kind, str) else "?"
