"""Chance without dice: every "random" choice is a hash of the seed and of names that stay the same.

So the sandbox gives the same answer to the same question after a restart, on another machine, in another order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Three of four choices about a question follow the question alone; the fourth also who asks. See `Asker`.
_COMMON_SHARE = 0.75


def number(*parts: object) -> int:
    """A whole number below 2**64 that depends on *parts* only."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def share(*parts: object) -> float:
    """A number from 0 up to, but not including, 1."""
    return (number(*parts) >> 11) / (1 << 53)


def dice(*parts: object) -> Random:
    """A generator of its own, for choices too many to name one by one."""
    return Random(number(*parts))


def name(length: int, *parts: object) -> str:
    """An identifier of *length* (at most 40) letters and digits."""
    rest, letters = int(hexadecimal(64, *parts), 16), []
    for _ in range(length):
        rest, place = divmod(rest, len(_LETTERS))
        letters.append(_LETTERS[place])
    return "".join(letters)


def hexadecimal(length: int, *parts: object) -> str:
    """An identifier of *length* (at most 64) hexadecimal digits."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:length]


def fingerprint(body: Any) -> str:
    """What identifies the JSON document *body*, whatever the order of its keys."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Asker:
    """Who asks what: the seed, the question (`body`, a fingerprint) and its asker (`who`).

    `who` is the custom_id of a batch line, or how often a direct call has asked the same. Opinions therefore agree
    mostly, not always: `draw` follows the question alone three times out of four.
    """

    seed: int
    body: str
    who: str

    def draw(self, *what: object) -> float:
        """A number from 0 up to 1 for the choice *what*: mostly the same for all who ask."""
        if self.own("common", *what) < _COMMON_SHARE:
            return share(self.seed, self.body, *what)
        return self.own(*what)

    def own(self, *what: object) -> float:
        """A number from 0 up to 1 for the choice *what* of this asker only."""
        return share(self.seed, self.body, self.who, "own", *what)

    def pick(self, options: Sequence[T], *what: object) -> T:
        """One of *options*; see `draw`."""
        return options[int(self.draw(*what) * len(options))]
