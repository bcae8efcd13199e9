"""docs/pricing.md tells what is so."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

from gpt_batch_api.data import load_prices
from gpt_batch_api.pricing.catalogue import Catalogue, PriceFlags, Rates
from gpt_batch_api.pricing.rows import ROW_KEYS

TEXT = (Path(__file__).parents[2] / "docs" / "pricing.md").read_text(encoding="utf-8")


def rows_below(heading: str) -> list[list[str]]:
    """The cells of the table that follows *heading*, without its head."""
    table = TEXT[TEXT.index(heading) :].split("\n|", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().split("\n")[2:]]


def documented(model: str, row: dict[str, Any]) -> list[str]:
    step = row.get("long_context")
    return [
        model,
        *(row[key] for key in ("input", "cached", "output")),
        *(row["batch"][key] for key in ("input", "cached", "output")),
        f"above {step['above']:,}: ×{step['input_factor']}, ×{step['output_factor']}" if step else "–",
        f"×{row['cache_write_factor']}" if "cache_write_factor" in row else "–",
        row.get("shutdown", "–"),
    ]


def test_the_table_is_the_catalogue() -> None:
    """Same models, same order, same numbers, same month."""
    catalogue = load_prices()
    table = rows_below(f"## The catalogue of {catalogue['dated']}\n")
    assert table == [documented(model, row) for model, row in catalogue["models"].items()]


def test_the_settings_are_the_five() -> None:
    """No more, no fewer."""
    assert set(re.findall(r"^   \| `--cost_(\w+)_mtoken`", TEXT, re.M)) == set(PriceFlags.__dataclass_fields__)


def test_every_key_of_a_price_file_is_documented() -> None:
    """And no other."""
    cells = [row[0] for row in rows_below("YAML, or JSON if its name ends")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(ROW_KEYS)


def test_the_example_file_works(tmp_path: Path) -> None:
    """It is opened, and means what its comments say."""
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    path = tmp_path / "prices.yaml"
    path.write_text(example)
    catalogue = Catalogue.load(price_file=path, today=datetime.date(2027, 2, 28))
    assert catalogue.prices("our-finetune").batch == Rates(150_000, 150_000, 150_000, 600_000)
    assert catalogue.prices("gpt-5.6-luna").batch == Rates(80_000, 9_000, 100_000, 540_000)
    assert catalogue.prices("gpt-7-mini").direct.input_pico == 1_000_000
    later = Catalogue.load(price_file=path, today=datetime.date(2027, 3, 1))
    assert later.prices("gpt-7-mini").direct.input_pico == 500_000
