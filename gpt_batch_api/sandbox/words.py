"""What the sandbox says: quoted pieces of the question given back, short sentences, plain words.

A task that asks about something in quotes finds exactly that thing in the answer, so that its checks can pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from gpt_batch_api.sandbox.chance import Asker

# A block between triple quotes; a quoted quote; nothing; a quoted piece; a piece in curly quotes.
_QUOTED = re.compile(r'"""(?:(?=\w)|\n)([^"]+?)\n?"""|(""")|""|"([^"\n]+|\n)"|“([^”\n]+)”')
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
# In bytes, which bound the tokens. An answer stays short whatever is quoted: a longer piece is not given back whole,
# and only so much of it is repeated in sentences.
_MOST_EXACT, _MOST_REPEATED = 90, 12
_SENTENCES = (
    "Here {0} stands beside {0} again.",
    "We see {0} first, then {0} once more.",
    "This is {0}, and {0} is what was asked.",
    "After {0} comes {0}, as expected.",
)
_FILLING = (
    "the of and to in is that for it was on are as with they at be this have from or one had by but not what all were "
    "we when your can said there use each which she do how their if will up other about out many then them these so "
    "some her would make like him into time has look two more write go see number no way could people my than first "
    "water been call who its now find long down day did get come made may part"
).split()


@dataclass(frozen=True)
class Question:
    """The last user message, read for what can be given back."""

    text: str

    @cached_property
    def piece(self) -> str | None:
        """The first thing in double quotes; a quote, a space or a backslash between quotes is such a thing."""
        for found in _QUOTED.finditer(self.text):
            block, quote, straight, curly = found.groups()
            if quote:
                return '"'
            if block or straight or curly:
                return str(block or straight or curly)
        return None

    @cached_property
    def words(self) -> list[str]:
        """The words of the beginning of the message."""
        return _WORD.findall(self.text[:400]) or ["nothing"]


def first_string(question: Question) -> str:
    """What the first free text of an answer says: exactly the quoted piece, or the first words of the message."""
    piece = question.piece
    if piece is None:
        return _shortened(" ".join(question.words[:4]), _MOST_EXACT)
    return _shortened(piece, _MOST_EXACT)


def sentence(question: Question, asker: Asker, *place: object) -> str:
    """A short sentence that contains the quoted piece (in quotes) at least twice."""
    piece = question.piece
    if piece is None:
        words = question.words
        piece = words[int(asker.draw("word", *place) * len(words))]
    template = asker.pick(_SENTENCES, "sentence", *place)
    return template.format(f'"{_shortened(piece, _MOST_REPEATED)}"')


def prose(question: Question, asker: Asker, *, words: int) -> str:
    """About *words* words that mean nothing; nearly each is one token."""
    source = [_FILLING[int(asker.own("prose", index) * len(_FILLING))] for index in range(max(words, 1))]
    piece = question.piece
    if piece is not None and words >= 12:
        source[2:6] = [f'"{_shortened(piece, _MOST_REPEATED)}"']
    text = " ".join(source)
    return f"{text[:1].upper()}{text[1:]}"


def _shortened(text: str, most_bytes: int) -> str:
    """*text*, or its first words if it has more than *most_bytes* bytes."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most_bytes:
        return text
    cut = raw[:most_bytes].decode("utf-8", "ignore")
    return cut.rpartition(" ")[0] or cut
