"""Packaged data: token vocabularies and the price catalogue.

Data only. How tokens are counted and what a response costs is decided elsewhere (`tokens`, `pricing`, and,
independently, `sandbox`); all of them read the same published facts here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tiktoken


@dataclass(frozen=True)
class Vocabulary:
    """What is needed to build an encoding from its rank file."""

    sha256: str
    pattern: str
    special_tokens: dict[str, int]


# The split patterns and special tokens are published facts of the encodings (tiktoken, MIT).
_O200K_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_O200K_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

VOCABULARIES = {
    "o200k_base": Vocabulary(
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern="|".join(
            (
                rf"[^\r\n\p{{L}}\p{{N}}]?{_O200K_UPPER}*{_O200K_LOWER}+{_O200K_CONTRACTIONS}",
                rf"[^\r\n\p{{L}}\p{{N}}]?{_O200K_UPPER}+{_O200K_LOWER}*{_O200K_CONTRACTIONS}",
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            )
        ),
        special_tokens={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
    "cl100k_base": Vocabulary(
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
        ),
        special_tokens={
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
}


def data_path(name: str) -> Path:
    """Where the packaged file *name* lies."""
    return Path(__file__).parent / name


@cache
def load_encoding(name: str) -> tiktoken.Encoding:
    """Build the encoding *name* (`o200k_base`, `cl100k_base`) from the packaged vocabulary; no network.

    Takes about half a second and 80 MB the first time; cached afterwards.
    """
    import tiktoken

    vocabulary = VOCABULARIES[name]
    raw = lzma.decompress(data_path(f"{name}.tiktoken.xz").read_bytes())
    if hashlib.sha256(raw).hexdigest() != vocabulary.sha256:
        raise RuntimeError(f"The packaged vocabulary {name} is damaged; install gpt_batch_api again.")
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in raw.splitlines())}
    return tiktoken.Encoding(
        name,
        pat_str=vocabulary.pattern,
        mergeable_ranks=ranks,
        special_tokens=vocabulary.special_tokens,
    )


@cache
def load_prices() -> dict[str, Any]:
    """The packaged price catalogue as it stands in `prices.json` (its layout is described there)."""
    catalogue: dict[str, Any] = json.loads(data_path("prices.json").read_bytes())
    return catalogue
