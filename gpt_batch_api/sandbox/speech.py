"""Say something: the text of one answer, its length in tokens, and how it ended. Shared by Chat and Responses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.sandbox.answers import compose
from gpt_batch_api.sandbox.counting import count_text, cut_text
from gpt_batch_api.sandbox.endpoint import Asked
from gpt_batch_api.sandbox.models import is_harmony
from gpt_batch_api.sandbox.words import Question, prose

_REFUSAL = "I'm sorry, but I can't help with that."
_NO_MAXIMUM = 2048  # what "always_maximum" means where the request has none
_LENGTH_WITHOUT_MAXIMUM = 1024
_REASONING = {"none": 0, "minimal": 0, "low": 64, "medium": 128, "high": 512, "xhigh": 1024}


@dataclass(frozen=True)
class Wish:
    """What the text must be: for which question, by which schema, how long at most."""

    question: Question
    schema: Any = None
    as_json: bool = False
    maximum: int | None = None
    effort: str | None = None


@dataclass(frozen=True)
class Speech:
    """What was said. `text` is None for a refusal; `cut` says that it was not all, `filtered` that a filter did that."""

    text: str | None
    refusal: str | None
    cut: bool
    text_tokens: int
    reasoning_tokens: int
    filtered: bool = False

    @property
    def tokens(self) -> int:
        """The output tokens: what was said and what was thought."""
        return self.text_tokens + self.reasoning_tokens


def speak(asked: Asked, wish: Wish, *place: object) -> Speech:
    """Say what *wish* wants; *place* tells several answers to one body apart."""
    if asked.spoilt.refusal:
        return Speech(None, _REFUSAL, False, count_text(_REFUSAL, asked.model), 0)
    if asked.spoilt.empty:
        return Speech("", None, False, 0, 0)
    text = _written(asked, wish, *place)
    if asked.spoilt.content_filter:
        text = cut_text(text, count_text(text, asked.model) // 2, model=asked.model)
        return Speech(text, None, True, count_text(text, asked.model), 0, filtered=True)
    if asked.spoilt.wrong_json and wish.as_json:
        text = _json({"unexpected": text})
    if asked.spoilt.broken_json and wish.as_json:
        text = text[: max(len(text) * 2 // 3, 1)]
    if asked.answers.always_maximum:
        return _at_maximum(asked, wish, text)
    if asked.spoilt.length:
        return _cut_short(asked, wish, text)
    return _within(asked, wish, text, *place)


def arguments_for(asked: Asked, wish: Wish, *place: object) -> str:
    """The arguments of a function call, as the JSON text that the API makes of them."""
    return _json(compose(wish.schema or {"type": "object"}, question=wish.question, asker=_placed(asked, *place)))


def _written(asked: Asked, wish: Wish, *place: object) -> str:
    asker = _placed(asked, *place)
    if wish.schema is not None:
        return _json(compose(wish.schema, question=wish.question, asker=asker))
    words = _prose_words(asked, asker, wish)
    if wish.as_json:
        return _json({"answer": prose(wish.question, asker, words=min(words, 60))})
    return prose(wish.question, asker, words=words) + "."


def _prose_words(asked: Asked, asker: Any, wish: Wish) -> int:
    if asked.answers.always_maximum:
        return (wish.maximum or _NO_MAXIMUM) * 5 // 4 + 8  # some are cut off again
    return max(1, int(asked.answers.answer_tokens * (0.5 + asker.own("length"))))


def _within(asked: Asked, wish: Wish, text: str, *place: object) -> Speech:
    """As long as it is, cut off at the maximum; thinking takes only what the text leaves."""
    tokens = count_text(text, asked.model)
    if wish.maximum is not None and tokens > wish.maximum:
        return Speech(cut_text(text, wish.maximum, model=asked.model), None, True, wish.maximum, 0)
    thought = 0
    if is_harmony(asked.model):
        usual = _REASONING.get(wish.effort or "medium", 128)
        thought = int(usual * (0.5 + asked.asker.own("thought", *place))) // 64 * 64
        if wish.maximum is not None:
            thought = min(thought, (wish.maximum - tokens) // 64 * 64)
    return Speech(text, None, False, tokens, thought)


def _cut_short(asked: Asked, wish: Wish, text: str) -> Speech:
    """Cut off although there was room: a reasoning model thinks until nothing is left to speak with."""
    maximum = wish.maximum or _LENGTH_WITHOUT_MAXIMUM
    if is_harmony(asked.model):
        return Speech("", None, True, 0, maximum)
    tokens = min(count_text(text, asked.model) // 2, maximum)
    return Speech(cut_text(text, tokens, model=asked.model), None, True, tokens, 0)


def _at_maximum(asked: Asked, wish: Wish, text: str) -> Speech:
    """Use all that the request allows. A document stays whole; the rest is booked as thought."""
    maximum = wish.maximum or _NO_MAXIMUM
    text = cut_text(text, maximum, model=asked.model)
    tokens = min(count_text(text, asked.model), maximum)
    return Speech(text, None, asked.spoilt.length, tokens, maximum - tokens)


def _placed(asked: Asked, *place: object) -> Any:
    if not place or place == (0,):
        return asked.asker
    asker = asked.asker
    return type(asker)(asker.seed, asker.body, f"{asker.who}#{'.'.join(map(str, place))}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
