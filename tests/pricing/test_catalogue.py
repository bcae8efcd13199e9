"""Which prices hold: names, settings, and the order of the sources."""

from __future__ import annotations

import datetime
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.pricing.catalogue import Catalogue, PriceFlags, Rates

ALL_FLAGS = PriceFlags(
    input_direct=Decimal("0.150"),
    input_cached=Decimal("0.075"),
    input_batch=Decimal("0.080"),
    output_direct=Decimal("0.600"),
    output_batch=Decimal("0.300"),
)
FREE = PriceFlags(*[Decimal(0)] * 5)


def with_flags(flags: PriceFlags) -> Catalogue:
    return Catalogue.load(flags=flags)


class TestNames:
    """A model is known by its name, or by its name without a date."""

    def test_an_exact_name_is_found(self) -> None:
        """The plain case."""
        assert Catalogue.load().prices("gpt-5-mini").model == "gpt-5-mini"

    def test_a_date_at_the_end_is_left_out(self) -> None:
        """Snapshots cost what their model costs."""
        catalogue = Catalogue.load()
        assert catalogue.prices("gpt-4o-mini-2024-07-18") == catalogue.prices("gpt-4o-mini")
        assert catalogue.prices("gpt-4o-mini-2024-07-18").model == "gpt-4o-mini"

    @pytest.mark.parametrize(
        "model",
        [
            "gpt-5-foo",
            "gpt-5-",
            "gpt-5-mini-2",
            "gpt-5-20250807",
            "gpt-5-2025-08",
            "gpt-5-2025-08-07-eu",
            "gpt-5-2025-08-07-2025-08-07",
            "gpt-5-٢٠٢٥-٠٨-٠٧",
            "GPT-5",
            "gpt-6",
            "openai/gpt-5",
            "ft:gpt-4o-mini-2024-07-18:org::id",
            "ft:gpt-4o-mini-2024-07-18",
            "sample_spec",
            "",
        ],
    )
    def test_nothing_else_is_guessed(self, model: str) -> None:
        """A name that merely begins like a known one may cost ten times as much."""
        with pytest.raises(SettingError, match=r"is not in the price lists"):
            Catalogue.load().prices(model)

    def test_a_list_may_have_a_dated_name_of_its_own(self, tmp_path: Path) -> None:
        """The exact name wins over the name without the date."""
        path = tmp_path / "prices.yaml"
        path.write_text("models: {gpt-4o-2024-05-13: {input: 5, cached: 5, output: 15}, gpt-4o: {input: 1, output: 2}}")
        catalogue = Catalogue.load(price_file=path)
        assert catalogue.prices("gpt-4o-2024-05-13").direct.input_pico == 5_000_000
        assert catalogue.prices("gpt-4o-2024-08-06").direct.input_pico == 1_000_000


class TestUnknown:
    """What a user reads when a model has no prices."""

    def test_no_setting_given(self) -> None:
        """One line: what, where it was looked for, and both ways out."""
        with pytest.raises(SettingError) as caught:
            Catalogue.load().prices("gpt-5-foo")
        assert str(caught.value) == (
            "Model 'gpt-5-foo' is not in the price lists (catalogue 2026-11). Give the five prices "
            "(--cost_input_direct_mtoken, --cost_input_cached_mtoken, --cost_input_batch_mtoken, "
            "--cost_output_direct_mtoken, --cost_output_batch_mtoken; 0 for a free server), "
            "or a --price_file that has this model."
        )
        assert caught.value.names[-1] == "price_file"
        assert len(caught.value.names) == 6

    def test_some_settings_given(self) -> None:
        """Only the missing ones are named."""
        flags = replace(ALL_FLAGS, input_cached=None, output_batch=None)
        with pytest.raises(SettingError) as caught:
            with_flags(flags).prices("llama")
        assert str(caught.value) == (
            "Model 'llama' is not in the price lists (catalogue 2026-11). Give the missing prices too "
            "(--cost_input_cached_mtoken, --cost_output_batch_mtoken; 0 for a free server), "
            "or a --price_file that has this model."
        )

    def test_the_users_own_file_is_named(self, tmp_path: Path) -> None:
        """Its lack of the model may be the mistake."""
        path = tmp_path / "mine.yaml"
        path.write_text("models: {}")
        with pytest.raises(SettingError, match=r"\(file mine\.yaml and catalogue 2026-11\)"):
            Catalogue.load(price_file=path).prices("llama")


class TestSettings:
    """The five settings win, number by number."""

    def test_all_five_price_any_model(self) -> None:
        """No list is needed then. Cached input in a batch costs what plain input does: the family is unknown."""
        prices = with_flags(ALL_FLAGS).prices("llama-3")
        assert prices.model == "llama-3"
        assert prices.source == "settings"
        assert prices.direct == Rates(150_000, 75_000, 150_000, 600_000)
        assert prices.batch == Rates(80_000, 80_000, 80_000, 300_000)
        assert prices.flex == Rates(75_000, 37_500, 75_000, 300_000)
        assert (prices.long_context_above, prices.shutdown) == (None, None)
        assert (prices.long_input_factor, prices.long_output_factor) == (Fraction(1), Fraction(1))

    def test_a_new_sounding_name_gets_no_rules_from_nowhere(self) -> None:
        """gpt-5-foo may be anything: cached input in a batch stays at the full price."""
        assert with_flags(ALL_FLAGS).prices("gpt-5-foo").batch.cached_pico == 80_000

    @pytest.mark.parametrize("model", ["llama-3", "gpt-4o-mini", "gpt-5-mini", "gpt-6-sol"])
    def test_a_free_server_is_free(self, model: str) -> None:
        """Five zeros leave nothing that costs, also where the name is a known one."""
        prices = with_flags(FREE).prices(model)
        assert {prices.rates(road) for road in Road} == {Rates(0, 0, 0, 0)}

    def test_the_documented_arguments_change_nothing_for_gpt_4o_mini(self) -> None:
        """They are its true prices."""
        flags = replace(ALL_FLAGS, input_batch=Decimal("0.075"))
        prices = with_flags(flags).prices("gpt-4o-mini-2024-07-18")
        assert replace(prices, source="") == replace(Catalogue.load().prices("gpt-4o-mini"), source="")
        assert prices.source == "settings"

    def test_one_setting_replaces_just_its_number(self) -> None:
        """Everything else stays the catalogue's."""
        plain = Catalogue.load().prices("gpt-5.6-sol")
        changed = with_flags(PriceFlags(output_batch=Decimal(3))).prices("gpt-5.6-sol")
        assert changed.batch == replace(plain.batch, output_pico=3_000_000)
        assert replace(changed, batch=plain.batch, source="") == replace(plain, source="")
        assert changed.source == "catalogue 2026-11, settings"

    def test_direct_settings_halve_for_flex_and_leave_batches_alone(self) -> None:
        """Flex has no settings of its own."""
        flags = PriceFlags(input_direct=Decimal(8), input_cached=Decimal(2), output_direct=Decimal(40))
        plain = Catalogue.load().prices("gpt-5.6-sol")
        changed = with_flags(flags).prices("gpt-5.6-sol")
        assert changed.direct == Rates(8_000_000, 2_000_000, 10_000_000, 40_000_000)
        assert changed.flex == Rates(4_000_000, 1_000_000, 5_000_000, 20_000_000)
        assert changed.batch == plain.batch

    @pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "o3"])
    def test_cached_input_in_a_batch_follows_the_batch_price_in_the_old_families(self, model: str) -> None:
        """They charge it in full, whatever the setting for cached input says."""
        flags = PriceFlags(input_batch=Decimal("0.7"), input_cached=Decimal("0.1"))
        assert with_flags(flags).prices(model).batch.cached_pico == 700_000

    @pytest.mark.parametrize(
        ("batch_input", "expected"), [("0.9", 200_000), ("0.200001", 200_000), ("0.2", 200_000), ("0.199999", 199_999)]
    )
    def test_cached_input_in_a_batch_stays_half_the_cached_price_in_the_new_ones(
        self, batch_input: str, expected: int
    ) -> None:
        """Half of the catalogue's 0.4, whatever the settings say, unless plain input is cheaper."""
        flags = PriceFlags(input_batch=Decimal(batch_input), input_cached=Decimal(3))
        assert with_flags(flags).prices("gpt-5.6-sol").batch.cached_pico == expected

    def test_cache_writes_follow_the_input_setting(self) -> None:
        """A quarter above the plain input of their road."""
        flags = PriceFlags(input_direct=Decimal(1), input_batch=Decimal("0.4"))
        prices = with_flags(flags).prices("gpt-5.6-sol")
        assert (prices.direct.cache_write_pico, prices.batch.cache_write_pico) == (1_250_000, 500_000)

    def test_the_rules_of_a_known_model_stay(self) -> None:
        """All five prices given: the long-context step and the shutdown are the model's all the same."""
        prices = with_flags(ALL_FLAGS).prices("gpt-6-luna")
        assert prices.long_context_above == 272_000
        assert (prices.long_input_factor, prices.long_output_factor) == (Fraction(2), Fraction(3, 2))
        assert with_flags(ALL_FLAGS).prices("o3").shutdown == datetime.date(2026, 12, 11)

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            ("-0.1", "-0.1 is negative. A price is 0 or more."),
            (
                "0.0000001",
                "1E-7 has more than 6 decimals. Prices are in currency per million tokens: "
                "check the unit, or round it to 6 decimals.",
            ),
            (
                "2.1234567",
                "2.1234567 has more than 6 decimals. Prices are in currency per million tokens: "
                "check the unit, or round it to 6 decimals.",
            ),
            ("1000000.000001", "1000000.000001 is more than 1,000,000. Prices are in currency per million tokens."),
            ("NaN", "NaN is not a number."),
            ("Infinity", "Infinity is not a number."),
        ],
    )
    @pytest.mark.parametrize("flag", PriceFlags.__dataclass_fields__)
    def test_an_impossible_price_is_refused_by_name(self, flag: str, value: str, complaint: str) -> None:
        """When the settings are read, not when the first request comes."""
        with pytest.raises(SettingError) as caught:
            with_flags(PriceFlags(**{flag: Decimal(value)}))
        assert str(caught.value) == f"cost_{flag}_mtoken: {complaint}"
        assert caught.value.names == (f"cost_{flag}_mtoken",)

    @pytest.mark.parametrize(
        ("value", "pico"), [("0.000001", 1), ("0.0000010", 1), ("0E-30", 0), ("1000000", 10**12), ("0.0125", 12_500)]
    )
    def test_the_limits_of_a_possible_price(self, value: str, pico: int) -> None:
        """Six decimals that count, from nothing to a unit per token."""
        assert with_flags(PriceFlags(input_direct=Decimal(value))).prices("o3").direct.input_pico == pico

    def test_halves_of_an_odd_price_are_rounded_up(self) -> None:
        """A reservation must not be smaller than what it reserves for."""
        flags = PriceFlags(*[Decimal("0.000003")] * 5)
        assert with_flags(flags).prices("any").flex == Rates(2, 2, 2, 2)
        assert with_flags(flags).prices("gpt-6-sol").direct.cache_write_pico == 4

    @given(
        model=st.sampled_from(["gpt-4o", "gpt-5-nano", "gpt-5.4", "gpt-6-astra", "o3"]),
        values=st.lists(st.one_of(st.none(), st.integers(0, 10**8)), min_size=5, max_size=5),
    )
    def test_given_numbers_are_taken_and_others_kept(self, model: str, values: list[int | None]) -> None:
        """Whatever is combined: each setting moves its number, and only that."""
        flags = PriceFlags(*[None if value is None else Decimal(value).scaleb(-6) for value in values])
        before, after = Catalogue.load().prices(model), with_flags(flags).prices(model)
        old = (
            before.direct.input_pico,
            before.direct.cached_pico,
            before.batch.input_pico,
            before.direct.output_pico,
            before.batch.output_pico,
        )
        new = (
            after.direct.input_pico,
            after.direct.cached_pico,
            after.batch.input_pico,
            after.direct.output_pico,
            after.batch.output_pico,
        )
        assert new == tuple(kept if value is None else value for kept, value in zip(old, values, strict=True))
        assert after.batch.cached_pico <= after.batch.input_pico


class TestOrder:
    """Settings over the user's file over the catalogue."""

    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        path = tmp_path / "own.yaml"
        path.write_text("models: {gpt-4o: {input: 1, cached: 0.1, output: 2}, mine: {input: 3, output: 4}}")
        return path

    def test_the_file_replaces_the_catalogues_line(self, own: Path) -> None:
        """All of its prices, not some."""
        prices = Catalogue.load(price_file=own).prices("gpt-4o")
        assert prices.direct == Rates(1_000_000, 100_000, 1_000_000, 2_000_000)
        assert prices.batch == Rates(500_000, 500_000, 500_000, 1_000_000)
        assert prices.source == "file own.yaml"

    def test_the_file_wins_for_dated_names_too(self, own: Path) -> None:
        """A user's line of a model holds for its snapshots."""
        assert Catalogue.load(price_file=own).prices("gpt-4o-2024-08-06").source == "file own.yaml"

    def test_the_catalogue_fills_in(self, own: Path) -> None:
        """Models that the file does not have."""
        assert Catalogue.load(price_file=own).prices("o3").source == "catalogue 2026-11"

    def test_the_settings_win_over_the_file(self, own: Path) -> None:
        """Number by number."""
        prices = Catalogue.load(price_file=own, flags=PriceFlags(input_batch=Decimal("0.2"))).prices("mine")
        assert prices.batch == Rates(200_000, 200_000, 200_000, 2_000_000)
        assert prices.direct.input_pico == 3_000_000
        assert prices.source == "file own.yaml, settings"

    def test_a_shutdown_is_known_although_the_file_does_not_tell(self, own: Path) -> None:
        """It is a fact about the model, not about its price."""
        assert Catalogue.load(price_file=own).prices("gpt-4o").shutdown == datetime.date(2027, 1, 14)
        assert Catalogue.load(price_file=own).prices("mine").shutdown is None

    def test_asking_again_gives_the_same_answer(self, own: Path) -> None:
        """Prices are asked for per request, so they are looked up once."""
        catalogue = Catalogue.load(price_file=own)
        assert catalogue.prices("gpt-4o") is catalogue.prices("gpt-4o")
