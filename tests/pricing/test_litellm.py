"""litellm's price file, as it is."""

from __future__ import annotations

import datetime
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.pricing.catalogue import Catalogue, ModelPrices, Rates

EXAMPLE = {
    "input_cost_per_token": 0.0,
    "output_cost_per_token": 0.0,
    "deprecation_date": "date when the model becomes deprecated in the format YYYY-MM-DD",
    "max_input_tokens": "max input tokens, if the provider specifies it",
}
BARE = {"input_cost_per_token": 2e-06, "output_cost_per_token": 8e-06}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model_prices_and_context_window.json"


def prices_of(path: Path, model: str, **line: Any) -> ModelPrices:
    path.write_text(json.dumps({"sample_spec": EXAMPLE, model: line}))
    return Catalogue.load(price_file=path).prices(model)


def complaint(path: Path, **line: Any) -> str:
    with pytest.raises(SettingError) as caught:
        prices_of(path, "some/model", **line)
    assert caught.value.names == ("price_file",)
    return str(caught.value).removeprefix(f"price_file {path}, ")


def test_prices_per_token_become_picodollars(path: Path) -> None:
    """All six prices, exactly."""
    prices = prices_of(
        path,
        "gpt-4o-mini",
        input_cost_per_token=1.5e-07,
        output_cost_per_token=6e-07,
        cache_read_input_token_cost=7.5e-08,
        input_cost_per_token_batches=7.4e-08,
        output_cost_per_token_batches=2.9e-07,
        cache_read_input_token_cost_batches=3.7e-08,
        max_input_tokens=128000,
        deprecation_date="2027-02-01",
    )
    assert prices.direct == Rates(150_000, 75_000, 150_000, 600_000)
    assert prices.batch == Rates(74_000, 37_000, 74_000, 290_000)
    assert prices.shutdown == datetime.date(2027, 2, 1)
    assert prices.source == "file model_prices_and_context_window.json"


@pytest.mark.parametrize(("model", "cached"), [("gpt-5.1", 250_000), ("gpt-4.1", 1_000_000), ("x/y", 1_000_000)])
def test_no_batch_price_means_half(path: Path, model: str, cached: int) -> None:
    """And cached input follows the family."""
    prices = prices_of(path, model, **BARE, cache_read_input_token_cost=5e-07)
    assert prices.batch == Rates(1_000_000, cached, 1_000_000, 4_000_000)


def test_no_price_for_cached_input_means_no_discount(path: Path) -> None:
    """Never too cheap."""
    assert prices_of(path, "x/y", **BARE, cache_read_input_token_cost=None).direct.cached_pico == 2_000_000


def test_cache_writes_are_priced_where_the_line_does(path: Path) -> None:
    """As a multiple of plain input, in batches too."""
    prices = prices_of(path, "x/y", **BARE, cache_creation_input_token_cost=2.5e-06)
    assert (prices.direct.cache_write_pico, prices.batch.cache_write_pico) == (2_500_000, 1_250_000)


def test_the_long_context_step_is_read(path: Path) -> None:
    """Its limit stands in the name of the key."""
    prices = prices_of(
        path, "x/y", **BARE, input_cost_per_token_above_200k_tokens=3e-06, output_cost_per_token_above_200k_tokens=1e-5
    )
    assert prices.long_context_above == 200_000
    assert (prices.long_input_factor, prices.long_output_factor) == (Fraction(3, 2), Fraction(5, 4))


def test_of_several_steps_the_dearest_holds_from_the_first_limit(path: Path) -> None:
    """One step is all we know; it must not be too cheap."""
    prices = prices_of(
        path,
        "x/y",
        **BARE,
        input_cost_per_token_above_256k_tokens=8e-06,
        input_cost_per_token_above_128k_tokens=4e-06,
        output_cost_per_token_above_128k_tokens=None,
    )
    assert prices.long_context_above == 128_000
    assert (prices.long_input_factor, prices.long_output_factor) == (Fraction(4), Fraction(1))


def test_the_family_has_the_step_where_the_line_is_silent(path: Path) -> None:
    """litellm's file was older than the step for a while."""
    assert prices_of(path, "gpt-5.4", **BARE).long_context_above == 272_000
    assert prices_of(path, "gpt-5.2", **BARE).long_context_above is None


@pytest.mark.parametrize(
    ("price", "pico"),
    [
        ("8.999999999999999e-07", 900_000),
        ("2.9000000000000003e-07", 290_000),
        ("0.0000001234561", 123_457),
        ("1e-15", 1),
        ("0", 0),
        ("1", 10**12),
    ],
)
def test_noise_is_removed_and_fractions_round_up(path: Path, price: str, pico: int) -> None:
    """Binary fractions on the way leave traces in the last digits."""
    path.write_text(f'{{"m": {{"input_cost_per_token": {price}, "output_cost_per_token": 0}}}}')
    assert Catalogue.load(price_file=path).prices("m").direct.input_pico == pico


def test_its_example_line_is_no_model(path: Path) -> None:
    """`sample_spec` would be a model that costs nothing."""
    path.write_text(json.dumps({"sample_spec": EXAMPLE}))
    with pytest.raises(SettingError, match=r"^Model 'sample_spec' is not in the price lists"):
        Catalogue.load(price_file=path).prices("sample_spec")


def test_a_broken_line_harms_only_who_asks_for_it(path: Path) -> None:
    """Thousands of models are in the file, and not all of them are priced by the token."""
    lines = {"image": {"input_cost_per_image": 1}, "odd": 3, "good": BARE}
    path.write_text(json.dumps(lines))
    assert Catalogue.load(price_file=path).prices("good").direct.input_pico == 2_000_000
    with pytest.raises(SettingError, match="model 'image', key 'input_cost_per_token': is missing"):
        Catalogue.load(price_file=path).prices("image")
    with pytest.raises(SettingError, match="model 'odd', key 'input_cost_per_token': is missing"):
        Catalogue.load(price_file=path).prices("odd")


def test_a_key_that_stands_twice_is_litellms_affair(path: Path) -> None:
    """It happens in so large a file; the last one counts, as for litellm itself."""
    line = json.dumps(BARE)
    path.write_text(f'{{"m": {line}, "m": {line}}}')
    assert Catalogue.load(price_file=path).prices("m").direct.output_pico == 8_000_000


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            {"input_cost_per_token": 1e-6},
            "model 'some/model', key 'output_cost_per_token': is missing. "
            "Mend the line, or use a price file of your own.",
        ),
        (
            {"input_cost_per_token": -1e-6, "output_cost_per_token": 1e-6},
            "model 'some/model', key 'input_cost_per_token': -0.000001 is not a price per token. "
            "Mend the line, or use a price file of your own.",
        ),
        (
            {"input_cost_per_token": 1e-6, "output_cost_per_token": 1.5},
            "model 'some/model', key 'output_cost_per_token': 1.5 is not a price per token. "
            "Mend the line, or use a price file of your own.",
        ),
        (
            {**BARE, "cache_read_input_token_cost": "free"},
            "model 'some/model', key 'cache_read_input_token_cost': 'free' is not a number.",
        ),
    ],
)
def test_what_is_said_to_a_broken_line(path: Path, line: dict[str, Any], expected: str) -> None:
    """File, model, key, and the way out."""
    assert complaint(path, **line) == expected


def test_it_can_be_yaml(tmp_path: Path) -> None:
    """Somebody may have cut out some lines."""
    path = tmp_path / "cut.yaml"
    path.write_text("m:\n  input_cost_per_token: 1.5e-07\n  output_cost_per_token: 6e-07\n")
    assert Catalogue.load(price_file=path).prices("m").direct == Rates(150_000, 150_000, 150_000, 600_000)
