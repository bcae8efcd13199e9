"""A user's own price file in our layout: what it can say, and what is said to its mistakes."""

from __future__ import annotations

import datetime
import json
from fractions import Fraction
from pathlib import Path

import pytest

from gpt_batch_api.data import load_prices
from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.pricing.catalogue import Catalogue, ModelPrices, Rates

TODAY = datetime.date(2026, 11, 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prices.yaml"


def prices_of(path: Path, model: str, text: str, *, today: datetime.date = TODAY) -> ModelPrices:
    path.write_text(text, encoding="utf-8")
    return Catalogue.load(price_file=path, today=today).prices(model)


def complaint(path: Path, text: str) -> str:
    """What is said to the file *text*, without the part that names the file."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError) as caught:
        Catalogue.load(price_file=path)
    assert caught.value.names == ("price_file",)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"price_file {path}")
    return message.removeprefix(f"price_file {path}")


class TestReading:
    """What a line can say."""

    def test_input_and_output_are_enough(self, path: Path) -> None:
        """No discount on cached input then, half price in batches, no rules."""
        prices = prices_of(path, "mine", "models:\n  mine:\n    input: 0.3\n    output: 1.2\n")
        assert prices.direct == Rates(300_000, 300_000, 300_000, 1_200_000)
        assert prices.batch == prices.flex == Rates(150_000, 150_000, 150_000, 600_000)
        assert prices.long_context_above is None

    @pytest.mark.parametrize(("model", "cached"), [("gpt-7-x", 100_000), ("gpt-4.5", 1_000_000), ("qwen", 1_000_000)])
    def test_a_missing_batch_price_follows_the_family(self, path: Path, model: str, cached: int) -> None:
        """Half; cached input by the generation in the name."""
        text = f"models: {{{model}: {{input: 2, cached: 0.2, output: 10}}}}"
        batch = prices_of(path, model, text).batch
        assert (batch.input_pico, batch.cached_pico, batch.output_pico) == (1_000_000, cached, 5_000_000)

    def test_a_partial_batch_price_is_completed(self, path: Path) -> None:
        """What is given is taken; cached input follows the batch price that is given."""
        text = "models: {mine: {input: 2, cached: 0.2, output: 10, batch: {input: 0.4}}}"
        assert prices_of(path, "mine", text).batch == Rates(400_000, 400_000, 400_000, 5_000_000)

    @pytest.mark.parametrize(("batch_input", "cached"), [("0.11", 100_000), ("0.1", 100_000), ("0.09", 90_000)])
    def test_cached_input_is_never_dearer_than_the_plain_input_of_a_batch(
        self, path: Path, batch_input: str, cached: int
    ) -> None:
        """A cheap batch price takes the cached one down with it."""
        text = f"models: {{gpt-7: {{input: 2, cached: 0.2, output: 10, batch: {{input: {batch_input}}}}}}}"
        assert prices_of(path, "gpt-7", text).batch.cached_pico == cached

    def test_a_full_batch_price_is_taken_as_it_is(self, path: Path) -> None:
        """Against every rule, if the user's contract says so."""
        text = "models: {o3: {input: 2, cached: 0.2, output: 10, batch: {input: 0.4, cached: 0.3, output: 11}}}"
        assert prices_of(path, "o3", text).batch == Rates(400_000, 300_000, 400_000, 11_000_000)

    def test_rules_can_be_given(self, path: Path) -> None:
        """Any step and any surcharge on cache writes."""
        text = (
            "models: {mine: {input: 2, output: 10, cache_write_factor: 1.5, shutdown: 2027-05-01,"
            " long_context: {above: 128000, input_factor: 1.7, output_factor: 1.3}}}"
        )
        prices = prices_of(path, "mine", text)
        assert prices.direct.cache_write_pico == 3_000_000
        assert prices.long_context_above == 128_000
        assert (prices.long_input_factor, prices.long_output_factor) == (Fraction(17, 10), Fraction(13, 10))
        assert prices.shutdown == datetime.date(2027, 5, 1)

    def test_rules_left_out_follow_the_family(self, path: Path) -> None:
        """A negotiated price does not lift the step and the surcharge."""
        prices = prices_of(path, "gpt-6-sol", "models: {gpt-6-sol: {input: 1, output: 5}}")
        assert (prices.long_context_above, prices.direct.cache_write_pico) == (272_000, 1_250_000)

    def test_the_step_can_be_lifted(self, path: Path) -> None:
        """`null` says: none."""
        text = "models: {gpt-6-sol: {input: 1, output: 5, long_context: null}}"
        assert prices_of(path, "gpt-6-sol", text).long_context_above is None

    def test_the_packaged_catalogue_can_be_given_as_a_file(self, tmp_path: Path) -> None:
        """Same layout, same prices."""
        path = tmp_path / "prices.json"
        path.write_text(json.dumps(load_prices()))
        for model in load_prices()["models"]:
            mine, packaged = Catalogue.load(price_file=path).prices(model), Catalogue.load().prices(model)
            assert mine.source == "file prices.json"
            assert (mine.direct, mine.batch, mine.flex) == (packaged.direct, packaged.batch, packaged.flex)

    @pytest.mark.parametrize("name", ["prices.yaml", "prices.yml", "PRICES.JSON", "prices"])
    def test_json_is_read_under_any_name(self, tmp_path: Path, name: str) -> None:
        """YAML reads JSON too; a byte order mark does no harm."""
        text = '\ufeff{"models": {"mine": {"input": 0.1, "output": "0.7"}}}'
        assert prices_of(tmp_path / name, "mine", text).direct.output_pico == 700_000

    @pytest.mark.parametrize("price", ["0.1", '"0.1"', "1.0e-1", '" 0.1 "', "0.100000000"])
    @pytest.mark.parametrize("name", ["prices.yaml", "prices.json"])
    def test_a_price_is_taken_as_it_is_written(self, tmp_path: Path, name: str, price: str) -> None:
        """A tenth is a tenth, not the nearest binary fraction."""
        text = f'{{"models": {{"mine": {{"input": {price}, "output": 0}}}}}}'
        assert prices_of(tmp_path / name, "mine", text).direct.input_pico == 100_000


class TestHistory:
    """Lines that hold from a day on."""

    HISTORY = (
        "models:\n  o3:\n"
        "    - {input: 3, output: 3, valid_from: 2026-11-20}\n"
        "    - {input: 1, output: 1}\n"
        "    - {input: 2, output: 2, valid_from: 2026-06-01}\n"
    )

    @pytest.mark.parametrize(
        ("today", "price"),
        [("2026-05-31", 1), ("2026-06-01", 2), ("2026-11-19", 2), ("2026-11-20", 3), ("2030-01-01", 3)],
    )
    def test_the_newest_line_that_holds_is_taken(self, path: Path, today: str, price: int) -> None:
        """In whatever order they stand."""
        prices = prices_of(path, "o3", self.HISTORY, today=datetime.date.fromisoformat(today))
        assert prices.direct.input_pico == price * 10**6

    def test_a_line_of_the_future_is_ignored(self, path: Path) -> None:
        """Until then the catalogue's holds."""
        text = "models: {o3: {input: 3, output: 3, valid_from: '2026-11-21'}}"
        assert prices_of(path, "o3", text).source == "catalogue 2026-11"
        assert prices_of(path, "o3", text, today=TODAY + datetime.timedelta(1)).source == "file prices.yaml"

    def test_today_is_the_day_it_is(self, path: Path) -> None:
        """Without *today*, the calendar is asked."""
        path.write_text("models: {a: {input: 1, output: 1, valid_from: 2020-01-01}}")
        assert Catalogue.load(price_file=path).prices("a").direct.input_pico == 10**6

    def test_two_lines_of_one_day_are_refused(self, path: Path) -> None:
        """Nobody could say which holds."""
        line = "{input: 1, output: 1, valid_from: 2026-01-01}"
        assert complaint(path, f"models: {{a: [{line}, {line}]}}") == (
            ", model 'a': two of its price lines begin on the same day. Give each its own 'valid_from'."
        )

    def test_an_empty_history_is_refused(self, path: Path) -> None:
        """It would silently be an unknown model."""
        assert complaint(path, "models: {a: []}") == (", model 'a': is empty. Give its prices, or leave the model out.")


class TestMistakes:
    """Each gets one line that names the file, the model and the key."""

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("{input: 1}", ", key 'output': is missing. Give its price per million tokens."),
            ("{output: 1}", ", key 'input': is missing. Give its price per million tokens."),
            (
                "{input: 1, ouput: 1}",
                ", key 'ouput': is unknown. Possible keys: "
                "input, cached, output, batch, long_context, cache_write_factor, shutdown, valid_from.",
            ),
            (
                "3",
                ": 3 is not a set of keys and values. Possible keys: "
                "input, cached, output, batch, long_context, cache_write_factor, shutdown, valid_from.",
            ),
            ("{input: -1, output: 1}", ", key 'input': -1 is negative. A price is 0 or more."),
            ("{input: cheap, output: 1}", ", key 'input': 'cheap' is not a number."),
            ("{input: true, output: 1}", ", key 'input': True is not a number."),
            ("{input: .inf, output: 1}", ", key 'input': inf is not a number."),
            ("{input: , output: 1}", ", key 'input': None is not a number."),
            (
                "{input: 0.00000015, output: 1}",
                ", key 'input': 1.5e-07 has more than 6 decimals. Prices are in currency per million tokens: "
                "check the unit, or round it to 6 decimals.",
            ),
            (
                "{input: 1, output: 1, cached: 0.1234567}",
                ", key 'cached': 0.1234567 has more than 6 decimals. Prices are in currency per million tokens: "
                "check the unit, or round it to 6 decimals.",
            ),
            (
                "{input: 1, output: 2000000}",
                ", key 'output': 2000000 is more than 1,000,000. Prices are in currency per million tokens.",
            ),
            ("{input: 1, output: 1, batch: {input: -2}}", ", key 'batch.input': -2 is negative. A price is 0 or more."),
            (
                "{input: 1, output: 1, batch: 0.5}",
                ", key 'batch': 0.5 is not a set of keys and values. Possible keys: input, cached, output.",
            ),
            (
                "{input: 1, output: 1, batch: {in: 1}}",
                ", key 'batch.in': is unknown. Possible keys: input, cached, output.",
            ),
            (
                "{input: 1, output: 1, cache_write_factor: 0.9}",
                ", key 'cache_write_factor': 0.9 is not a possible factor. Give 1 or more.",
            ),
            (
                "{input: 1, output: 1, long_context: {above: 5}}",
                ", key 'long_context.input_factor': is missing. "
                "Give it, or 'long_context: null' for a model without this step.",
            ),
            (
                "{input: 1, output: 1, long_context: {above: 5.5, input_factor: 2, output_factor: 2}}",
                ", key 'long_context.above': 5.5 is not a number of tokens. Give a whole number.",
            ),
            (
                "{input: 1, output: 1, long_context: {above: -5, input_factor: 2, output_factor: 2}}",
                ", key 'long_context.above': -5 is not a number of tokens. Give a whole number.",
            ),
            (
                "{input: 1, output: 1, long_context: {above: 5, input_factor: 2, output_factor: 0.5}}",
                ", key 'long_context.output_factor': 0.5 is not a possible factor. Give 1 or more.",
            ),
            (
                "{input: 1, output: 1, shutdown: soon}",
                ", key 'shutdown': 'soon' is not a date. Write it like 2027-01-14.",
            ),
            (
                "{input: 1, output: 1, valid_from: 2026}",
                ", key 'valid_from': 2026 is not a date. Write it like 2027-01-14.",
            ),
        ],
    )
    def test_a_mistake_in_a_line(self, path: Path, line: str, expected: str) -> None:
        """Found when the file is opened, whether the model is used or not."""
        text = f"models: {{good: {{input: 1, output: 1}}, 'a b': {line}}}"
        assert complaint(path, text) == f", model 'a b'{expected}"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", ": is not a price list. It needs 'models', each with its prices."),
            ("- 1", ": is not a price list. It needs 'models', each with its prices."),
            (
                "model: {}",
                ": has no 'models' with their prices, and is not litellm's (no 'input_cost_per_token' in it) either.",
            ),
            (
                "models: [a]",
                ": has no 'models' with their prices, and is not litellm's (no 'input_cost_per_token' in it) either.",
            ),
            ("models: {4: {input: 1, output: 1}}", ", model 4: is not a name. Put it in quotes."),
            (
                "{currency: EUR, models: {}}",
                ", key 'currency': 'EUR' cannot be used, only 'USD'. Convert the prices.",
            ),
            (
                "{unit: per token, models: {}}",
                ", key 'unit': 'per token' cannot be used, only 'per million tokens'. Convert the prices.",
            ),
            (
                "models: {a: {input: 1, output: 1}, a: {input: 2, output: 2}}",
                ": 'a' stands there twice in one place. Keep one of them.",
            ),
            (
                "models: {a: {input: 1, output: 1, input: 2}}",
                ": 'input' stands there twice in one place. Keep one of them.",
            ),
            ("models:\n  a: {input: 1\n", ": is not YAML: expected ',' or '}', but got '<stream end>' in line 3."),
            ("models: !!python/object:os.system {}", None),
            ("a: \x07", None),
            ("models: {a: {input: 1, output: 1, shutdown: 2027-13-01}}", None),
        ],
    )
    def test_a_mistake_in_the_file(self, path: Path, text: str, expected: str | None) -> None:
        """The file as a whole is not what it should be."""
        message = complaint(path, text)
        assert message == expected or (expected is None and message.startswith(": is not YAML: "))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{"models": {"a": }}', ": is not JSON: Expecting value in line 1, column 18."),
            (
                '{"models": {"a": {"input": 1, "output": 1},\n "a": {"input": 1, "output": 1}}}',
                ": 'a' stands there twice in one place. Keep one of them.",
            ),
            ('{"models": {"a": {"input": NaN, "output": 1}}}', ", model 'a', key 'input': nan is not a number."),
        ],
    )
    def test_a_mistake_in_json(self, tmp_path: Path, text: str, expected: str) -> None:
        """As for YAML."""
        assert complaint(tmp_path / "prices.json", text) == expected

    def test_a_file_that_is_not_there(self, path: Path) -> None:
        """The system's own words, and what to do."""
        with pytest.raises(SettingError) as caught:
            Catalogue.load(price_file=path)
        assert str(caught.value) == f"price_file {path}: cannot be read (No such file or directory). Check the path."

    def test_a_file_that_is_not_text(self, path: Path) -> None:
        """Say where it stops being text."""
        path.write_bytes(b"models: \xff")
        with pytest.raises(SettingError, match=r"is not text in UTF-8 \(byte 8\)\. Save it as UTF-8\.$"):
            Catalogue.load(price_file=path)
