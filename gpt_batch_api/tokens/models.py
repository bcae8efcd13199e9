"""Which model counts how: facts in `data/models.json`, found by the longest family prefix.

A fine-tuned model (`ft:gpt-4o-mini:org::id`), a dated snapshot and a provider's prefix (`openai/gpt-4o`) count like
their family. A name of no known family counts like the newest one and says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from typing import Any

from gpt_batch_api.data import data_path
from gpt_batch_api.tokens.text import count_shared_tokens, count_tokens

_NEWEST_ENCODING = "o200k_base"


@dataclass(frozen=True)
class Dialect:
    """What a family adds around the texts of a request. All numbers are tokens."""

    message: int
    chat_primer: int
    responses_primer: int
    earlier_assistant: int
    instructions_header: str
    renderer: str
    chat_tools: int
    responses_tools: int
    chat_call: int
    responses_call: int
    stored_call: int
    parallel_calls: int
    forced_call: int
    forced_call_named: bool
    required_call: int
    no_call: int
    responses_schema: int
    chat_schema: int
    chat_schema_named: bool
    chat_tools_with_schema: int
    pro_mode: int = 0


@dataclass(frozen=True)
class ImageRule:
    """How a family bills a picture: by tiles (`base`, `tile`) or by patches (`per_patch`)."""

    base: int = 0
    tile: int = 0
    per_patch: float = 0.0
    budget: int = 0
    longest_px: int = 0
    original_budget: int = 0
    original_longest_px: int = 0
    auto_is_original: bool = False
    most_patches: int = 0


@dataclass(frozen=True)
class Model:
    """A model name and how its requests are counted."""

    name: str
    family: str
    encoding: str
    dialect: Dialect
    images: ImageRule
    known: bool
    approximate: bool

    def n(self, text: str) -> int:
        """Tokens of *text*."""
        return count_tokens(text, self.encoding)

    def n_shared(self, text: str) -> int:
        """Tokens of a *text* that many requests share; remembered."""
        return count_shared_tokens(text, self.encoding)


@lru_cache(maxsize=4096)
def resolve(name: str) -> Model:
    """Find how the model *name* counts."""
    facts = load_facts()
    families = {row["prefix"]: row for row in facts["families"]}
    plain = _plain(name)
    prefix = max((prefix for prefix in families if _belongs(plain, prefix)), key=len, default=None)
    row = families[prefix or facts["newest"]]
    return Model(
        name=name,
        family=row["prefix"],
        encoding=row.get("encoding", _NEWEST_ENCODING),
        dialect=_dialect(row["dialect"]),
        images=ImageRule(**facts["images"][row["images"]]),
        known=prefix is not None,
        approximate=row.get("approximate", False),
    )


@cache
def load_facts() -> dict[str, Any]:
    """The packaged facts as they stand in `models.json`."""
    facts: dict[str, Any] = json.loads(data_path("models.json").read_bytes())
    return facts


def drifting(name: str) -> Any:
    """A number that the service has changed before, or that is only an assumption."""
    return load_facts()["drifting"][name]


def _plain(name: str) -> str:
    """The base model's name: without provider, `ft:` and what follows the base model."""
    name = name.strip().lower().rpartition("/")[2]
    return name.removeprefix("ft:").partition(":")[0]


def _belongs(name: str, prefix: str) -> bool:
    """Whether *prefix* ends at a joint of *name*: `gpt-4` is no prefix of `gpt-4o`, nor of `gpt-4.1`."""
    rest = name[len(prefix) :]
    return name.startswith(prefix) and (not rest or rest[0] in "-_@")


@cache
def _dialect(name: str) -> Dialect:
    row = dict(load_facts()["dialects"][name])
    parent = row.pop("like", None)
    if parent:
        base = _dialect(parent)
        row = {field.name: getattr(base, field.name) for field in fields(Dialect)} | row
    return Dialect(**row)
