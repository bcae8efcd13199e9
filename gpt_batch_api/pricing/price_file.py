"""A user's own price list: found, read, recognised. YAML or JSON, our layout or litellm's.

Our layout is checked from end to end when it is opened, so that a mistake shows before anything runs. PyYAML is
imported only for YAML; it also reads JSON, but a hundred times slower, and litellm's file has a megabyte.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from gpt_batch_api.data import load_prices
from gpt_batch_api.pricing.exact import Place
from gpt_batch_api.pricing.litellm import INPUT, is_litellm, read_litellm_row, without_example
from gpt_batch_api.pricing.rows import Row, read_rows

SETTING = "price_file"
CURRENCY = "USD"
UNIT = "per million tokens"

ReadRow = Callable[[str, object, Place], tuple[Row, ...]]


@dataclass(frozen=True)
class PriceList:
    """Some models' prices from one source, read on demand."""

    source: str
    place: Place
    models: Mapping[Any, object]
    read: ReadRow

    def find(self, model: str, *, today: datetime.date) -> Row | None:
        """The newest line of *model* that holds already; None if the list has none."""
        if model not in self.models:
            return None
        rows = self.rows(model)
        return next((row for row in rows if row.holds_on(today)), None)

    def rows(self, model: str) -> tuple[Row, ...]:
        return self.read(model, self.models[model], self.place.at(f"model '{model}'"))


def packaged_list() -> PriceList:
    """The catalogue that comes with this library."""
    catalogue = load_prices()
    source = f"catalogue {catalogue['dated']}"
    return PriceList(source, Place(f"packaged price {source}", SETTING), catalogue["models"], read_rows)


def open_price_file(path: Path) -> PriceList:
    """Read the user's list at *path*."""
    place = Place(f"{SETTING} {path}", SETTING)
    document, twins = _parse(path, place)
    if not isinstance(document, dict):
        raise place.wrong("is not a price list. It needs 'models', each with its prices.")
    if "models" not in document and is_litellm(document):
        return PriceList(f"file {path.name}", place, without_example(document), read_litellm_row)
    if twins:
        raise place.wrong(f"'{twins[0]}' stands there twice in one place. Keep one of them.")
    prices = PriceList(f"file {path.name}", place, _models(document, place), read_rows)
    for model in prices.models:
        prices.rows(model)
    return prices


def _models(document: Mapping[str, object], place: Place) -> Mapping[Any, object]:
    models = document.get("models")
    if not isinstance(models, dict):
        raise place.wrong(f"has no 'models' with their prices, and is not litellm's (no '{INPUT}' in it) either.")
    for key, expected in (("currency", CURRENCY), ("unit", UNIT)):
        if document.get(key, expected) != expected:
            raise place.at(f"key '{key}'").wrong(
                f"{document[key]!r} cannot be used, only '{expected}'. Convert the prices."
            )
    for model in models:
        if not isinstance(model, str):
            raise place.at(f"model {model!r}").wrong("is not a name. Put it in quotes.")
    return models


def _parse(path: Path, place: Place) -> tuple[object, list[str]]:
    """Read a document, and which of its keys stand twice in one place (a parser would keep the last, silently)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise place.wrong(f"cannot be read ({error.strerror}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise place.wrong(f"is not text in UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    twins: list[str] = []
    if path.suffix.lower() == ".json":
        return _parse_json(text, place, twins), twins
    return _parse_yaml(text, place, twins), twins


def _parse_json(text: str, place: Place, twins: list[str]) -> object:
    def notice(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twins.extend(_twins(key for key, _ in pairs))
        return dict(pairs)

    try:
        return json.loads(text, parse_float=Decimal, object_pairs_hook=notice)
    except json.JSONDecodeError as error:
        raise place.wrong(f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}.") from error


def _parse_yaml(text: str, place: Place, twins: list[str]) -> object:
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain data only."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            twins.extend(_twins(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)))
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise place.wrong(f"is not YAML: {error.problem}{where}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise place.wrong(f"is not YAML: {' '.join(str(error).split())}.") from error


def _twins(keys: Iterable[str]) -> list[str]:
    return [key for key, times in Counter(keys).items() if times > 1]
