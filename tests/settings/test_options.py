"""The machinery: every rule at its border, every error as the user reads it."""

# ruff: noqa: RUF009 - `setting` and `group` are `dataclasses.field` with more to say

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.options import (
    DEADLINE,
    Check,
    Option,
    at_least,
    between,
    by_name,
    deadline_at,
    find,
    group,
    more_than,
    one_of,
    options,
    setting,
)


@dataclass(frozen=True)
class Small:
    count: int = setting(2, help="how many", check=at_least(0, "0 means: none."), unit="things")
    wait: float | None = setting(None, help="how long", check=more_than(0))
    price: Decimal = setting(Decimal("0.5"), help="price", check=between(0, 10))
    on: bool = setting(True, help="do it", help_off="leave it")
    maybe: bool | None = setting(None, empty="auto", help="perhaps")
    name: str | None = setting(None, empty="–", help="a name")
    until: str | None = setting(None, help="when", check=DEADLINE)
    colour: str = setting("red", help="which", choices=("red", "blue"), aliases=("color",))
    place: Path = setting(Path("here"), help="where", env="PLACE")
    key: str | None = setting(None, help="a key", secret=True, check=one_of("right"))


@dataclass(frozen=True)
class Tree:
    small: Small = group("small things", Small)


def option(name: str) -> Option:
    return find(Tree, name)


def message(name: str, value: object, *, origin: str = "") -> str:
    with pytest.raises(SettingError) as caught:
        option(name).read(value, origin=origin)
    assert caught.value.names == (name,)
    return str(caught.value)


def test_options_tell_what_was_declared() -> None:
    """Name, type, group and all else are read off the dataclasses, in order."""
    assert [each.name for each in options(Tree)][:3] == ["count", "wait", "price"]
    count = option("count")
    assert (count.kind, count.optional, count.default, count.unit) == (int, False, 2, "things")
    assert (count.section, count.group) == ("small", "small things")
    assert options(Small)[0].section == ""
    assert (option("wait").kind, option("wait").optional) == (float, True)
    assert option("place").env == "PLACE"
    assert option("colour").check is not None


def test_another_name_finds_the_same_setting() -> None:
    assert option("color") is option("colour")
    assert by_name(Tree)["color"].name == "colour"


def test_an_unknown_name_says_which_one_may_be_meant() -> None:
    with pytest.raises(SettingError, match=r"^There is no setting 'cuont'. Did you mean count\?$"):
        find(Tree, "cuont")
    with pytest.raises(SettingError, match=r"^There is no setting 'zzz'. See the list of settings.$"):
        find(Tree, "zzz")


@pytest.mark.parametrize(
    ("check", "passing", "failing", "rule"),
    [
        (at_least(3), [3, 4, Decimal("3.0")], [2, 2.999], "at least 3"),
        (more_than(3), [3.001, 4], [3, 2], "more than 3"),
        (between(0, 1), [0, 0.5, 1], [-0.001, 1.001], "between 0 and 1"),
        (between(0, 1_000_000), [1_000_000], [1_000_001], "between 0 and 1_000_000"),
        (one_of("a", "b"), ["a", "b"], ["c", "A", ""], "one of a, b"),
    ],
)
def test_each_check_holds_at_its_border(check: Check, passing: list[object], failing: list[object], rule: str) -> None:
    """At the limit, one below, one above; and the rule in words."""
    assert all(check.passes(value) for value in passing)
    assert not any(check.passes(value) for value in failing)
    assert check.rule == rule


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("count", "5_000_000", 5_000_000),
        ("count", "1e6", 1_000_000),
        ("count", 7.0, 7),
        ("count", " 7 ", 7),
        ("count", 999_999_999_999, 999_999_999_999),
        ("wait", "0.25", 0.25),
        ("wait", 3, 3.0),
        ("wait", None, None),
        ("wait", "none", None),
        ("wait", "NULL", None),
        ("price", "0.150", Decimal("0.150")),
        ("price", 0.1, Decimal("0.1")),
        ("on", "no", False),
        ("on", "True", True),
        ("on", 0, False),
        ("maybe", "auto", None),
        ("maybe", "off", False),
        ("name", 7, "7"),
        ("name", "none", "none"),
        ("until", "6h", "6h"),
        ("until", 3600, "3600"),
        ("until", datetime(2026, 12, 1, 6, tzinfo=UTC), "2026-12-01T06:00:00+00:00"),
        ("until", "none", None),
        ("place", "a/b", Path("a/b")),
        ("place", Path("~"), Path("~")),
        ("place", "~/x", Path.home() / "x"),
        ("key", "right", "right"),
    ],
)
def test_values_are_read_as_users_write_them(name: str, value: object, expected: object) -> None:
    """Words of a command line and values of YAML become the declared type."""
    read = option(name).read(value)
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("count", -1, "count is -1, but must be at least 0. 0 means: none."),
        ("count", "-1", "count is -1, but must be at least 0. 0 means: none."),
        ("count", "many", "count is 'many', but must be a whole number, at least 0."),
        ("count", "1,000", "count is '1,000', but must be a whole number, at least 0."),
        ("count", 0.5, "count is 0.5, but must be a whole number, at least 0."),
        ("count", True, "count is True, but must be a whole number, at least 0."),
        ("count", None, "count is None, but must be a whole number, at least 0."),
        ("count", [1], "count is [1], but must be a whole number, at least 0."),
        ("count", 10**12, "count is 1000000000000, but must be 0, or a number between 10^-12 and 10^12."),
        ("count", "1e999999", "count is 1e999999, but must be 0, or a number between 10^-12 and 10^12."),
        ("wait", 0, "wait is 0, but must be more than 0."),
        ("wait", "inf", "wait is 'inf', but must be a number, more than 0, or none."),
        ("wait", "nan", "wait is 'nan', but must be a number, more than 0, or none."),
        ("price", "10.01", "price is 10.01, but must be between 0 and 10."),
        ("price", "1e-13", "price is 1e-13, but must be 0, or a number between 10^-12 and 10^12."),
        ("on", "perhaps", "on is 'perhaps', but must be on or off."),
        ("on", 2, "on is 2, but must be on or off."),
        ("maybe", "perhaps", "maybe is 'perhaps', but must be on or off, or auto."),
        ("name", "", "name is '', but must be not empty; leave it out to get the default."),
        ("name", " ", "name is ' ', but must be not empty; leave it out to get the default."),
        ("name", "a\0b", "name is 'a\\x00b', but must be free of NUL characters."),
        ("name", {"a": 1}, "name is {'a': 1}, but must be a text."),
        ("name", False, "name is False, but must be a text."),
        ("colour", "green", "colour is 'green', but must be one of red, blue."),
        ("place", "", "place is '', but must be not empty; leave it out to get the default."),
        (
            "until",
            "soon",
            "until is 'soon', but must be a duration (6h, 90m, 1d12h), a number of seconds, or a time (07:30, "
            "2026-12-01T06:00).",
        ),
    ],
)
def test_an_error_names_setting_value_and_rule(name: str, value: object, expected: str) -> None:
    assert message(name, value) == expected


def test_an_error_says_where_the_value_was_found() -> None:
    assert message("count", -1, origin="from COUNT") == (
        "count is -1 (from COUNT), but must be at least 0. 0 means: none."
    )


def test_an_error_stays_on_one_line() -> None:
    text = message("colour", "x\n" * 1000)
    assert "\n" not in text
    assert len(text) < 200


def test_a_secret_is_in_no_error() -> None:
    text = message("key", "sk-123456")
    assert text == "key is set to something that is not shown here, but must be one of right."
    assert "sk-123456" not in repr(Small(key="sk-123456"))


def test_a_password_in_an_address_is_in_no_error() -> None:
    assert "secret" not in message("colour", "https://me:secret@host/v1")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("count", 5, "5"),
        ("wait", 5.0, "5"),
        ("wait", 0.25, "0.25"),
        ("wait", None, "none"),
        ("price", Decimal("1E+1"), "10"),
        ("price", Decimal("0.150"), "0.150"),
        ("on", True, "on"),
        ("maybe", None, "auto"),
        ("place", Path("~x"), "./~x"),
        ("place", Path("/a"), "/a"),
    ],
)
def test_a_value_is_written_so_that_it_reads_back(name: str, value: object, text: str) -> None:
    assert option(name).text(value) == text
    assert option(name).read(text) == value


NOW = datetime(2026, 11, 20, 12, 0).timestamp()


@pytest.mark.parametrize(
    ("text", "delay_s"),
    [
        ("6h", 6 * 3600),
        ("90m", 5400),
        ("1d12h", 36 * 3600),
        ("1.5h", 5400),
        ("1h 30m", 5400),
        ("2H", 7200),
        ("45s", 45),
        ("3600", 3600),
        ("0.5", 0.5),
        ("366d", 366 * 86400),
        ("12:01", 60),
        ("12:00", 86400),
        ("7:30", 19.5 * 3600),
        ("2026-11-20T13:00", 3600),
        ("2026-11-20 13:00", 3600),
        ("2026-11-20T11:00", -3600),
    ],
)
def test_a_deadline_is_a_duration_or_a_time(text: str, delay_s: float) -> None:
    """A time of day is the next such time; a moment may lie in the past."""
    assert deadline_at(text, now_s=NOW) == pytest.approx(NOW + delay_s)
    assert DEADLINE.passes(text)


def test_a_deadline_obeys_its_zone() -> None:
    expected = datetime(2026, 12, 1, 6, tzinfo=UTC).timestamp()
    assert deadline_at("2026-12-01T06:00Z", now_s=NOW) == expected
    assert deadline_at("2026-12-01T08:00+02:00", now_s=NOW) == expected


@pytest.mark.parametrize(
    "text",
    ["", "h", "0", "0h", "-1h", "367d", "6h30", "24:00", "12:60", "2026-12-01", "2026-13-01T00:00", "x T y", "٣h"],
)
def test_what_is_no_deadline_is_refused(text: str) -> None:
    assert not DEADLINE.passes(text)
    with pytest.raises(ValueError, match=r".*"):
        deadline_at(text, now_s=NOW)
