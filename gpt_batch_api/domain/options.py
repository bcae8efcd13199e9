"""How a setting is declared, read and checked.

A setting is a field of a frozen dataclass, made by `setting(...)`. `options` reads what was declared; flags, YAML, docs
and checks all derive from that. `Option.read` turns anything a user may write (a word of a command line, a variable of
the environment, a value of a YAML file) into the declared type, or raises a one-line `SettingError` that names the
setting, its value and the rule. What a secret is set to is never part of a text. Which settings there are is told by
`settings`; where a value comes from matters there too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, get_args, get_type_hints

from gpt_batch_api.domain.errors import SettingError

_ON = frozenset({"true", "yes", "on", "1"})
_OFF = frozenset({"false", "no", "off", "0"})
_NONE = frozenset({"none", "null"})
_LONGEST_SHOWN = 80
_USER_OF_ADDRESS = re.compile(r"//.*@")  # may be a password

_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(
    rf"(?=.)(?:{_NUMBER}d\s*)?(?:{_NUMBER}h\s*)?(?:{_NUMBER}m\s*)?(?:{_NUMBER}s)?|{_NUMBER}", re.ASCII | re.IGNORECASE
)
_TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):[0-5]\d", re.ASCII)
_LONGEST_DEADLINE_S = 366 * 86400
_ANY_MOMENT_S = 1_800_000_000.0


@dataclass(frozen=True)
class Check:
    """A rule for one value. `rule` completes "must be …"; `way_out` is a sentence for who wanted something else."""

    rule: str
    passes: Callable[[Any], bool]
    way_out: str = ""


def at_least(least: int, way_out: str = "") -> Check:
    """The value may be *least* or more."""
    return Check(f"at least {least:_}", lambda value: bool(value >= least), way_out)


def more_than(bound: int, way_out: str = "") -> Check:
    """The value must lie above *bound*."""
    return Check(f"more than {bound:_}", lambda value: bool(value > bound), way_out)


def between(least: int, most: int, way_out: str = "") -> Check:
    """The value may lie from *least* to *most*, both included."""
    return Check(f"between {least:_} and {most:_}", lambda value: least <= value <= most, way_out)


def one_of(*choices: str) -> Check:
    """The value must be one of these words."""
    return Check(f"one of {', '.join(choices)}", lambda value: value in choices)


def deadline_at(text: str, *, now_s: float) -> float:
    """The moment that *text* means, in seconds since 1970: so long from now, or a time. A `ValueError` if it means none.

    A time without a zone is local time; one without a day is the next time that the clock shows it.
    """
    from datetime import datetime, timedelta

    text = text.strip()
    if duration := _DURATION.fullmatch(text):
        counts = zip((86400, 3600, 60, 1, 1), duration.groups(), strict=True)
        delay_s = sum(unit_s * float(count) for unit_s, count in counts if count)
        if not 0 < delay_s <= _LONGEST_DEADLINE_S:
            raise ValueError(f"{text} is not a time to wait for")
        return now_s + delay_s
    if _TIME_OF_DAY.fullmatch(text):
        now = datetime.fromtimestamp(now_s)
        hour, minute = map(int, text.split(":"))
        moment = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        return (moment if moment > now else moment + timedelta(days=1)).timestamp()
    if "T" not in text.upper() and " " not in text:
        raise ValueError(f"{text} is no time")  # a day alone: its morning or its evening?
    return datetime.fromisoformat(text).timestamp()


def _is_deadline(text: str) -> bool:
    try:
        deadline_at(text, now_s=_ANY_MOMENT_S)
    except (ValueError, OverflowError, OSError):
        return False
    return True


DEADLINE = Check(
    "a duration (6h, 90m, 1d12h), a number of seconds, or a time (07:30, 2026-12-01T06:00)",
    _is_deadline,
)


def setting(
    default: Any,
    *,
    help: str,
    help_off: str = "",
    unit: str = "",
    check: Check | None = None,
    env: str | None = None,
    choices: tuple[str, ...] = (),
    metavar: str | None = None,
    empty: str = "none",
    aliases: tuple[str, ...] = (),
    caution: bool = False,
    secret: bool = False,
) -> Any:
    """Declare a setting: a dataclass field that knows all about itself.

    *help* tells what happens; *help_off* what happens if a setting that is on by default is turned off. *empty* tells
    what a default of None means; if it is a single word, users may write it. *caution* marks what destroys, *secret*
    what is never shown.
    """
    declared = {
        "default": default,
        "help": help,
        "help_off": help_off,
        "unit": unit,
        "check": one_of(*choices) if choices else check,
        "env": env,
        "choices": choices,
        "metavar": metavar,
        "empty": empty,
        "aliases": aliases,
        "caution": caution,
        "secret": secret,
    }
    return field(default=default, repr=not secret, metadata={"setting": MappingProxyType(declared)})


def group(title: str, kind: type) -> Any:
    """Declare a field that holds a whole group of settings, the dataclass *kind*."""
    return field(default_factory=kind, metadata={"group": title})


@dataclass(frozen=True)
class Option:
    """One setting as declared. `section` is the attribute that holds its group, `group` that group's title."""

    name: str
    kind: type
    optional: bool
    default: Any
    help: str
    help_off: str
    unit: str
    check: Check | None
    env: str | None
    choices: tuple[str, ...]
    metavar: str | None
    empty: str
    aliases: tuple[str, ...]
    caution: bool
    secret: bool
    section: str = ""
    group: str = ""

    @property
    def rule(self) -> str:
        """What a value must be, in words: "a whole number, at least 0"."""
        kind = "" if self.check and self.kind in (str, Path) else _IN_WORDS[self.kind]
        rule = ", ".join(filter(None, (kind, self.check.rule if self.check else "")))
        return f"{rule}, or {self.word_for_none}" if self.word_for_none else rule

    @property
    def word_for_none(self) -> str:
        """The word that means "no value" wherever a text is read; none where it could be mistaken for a value."""
        if not self.optional:
            return ""
        if self.empty.isalpha():
            return self.empty
        return "" if self.kind in (str, Path) else "none"

    def read(self, value: object, *, origin: str = "") -> Any:
        """Turn *value* into the declared type, or raise a `SettingError`; *origin* says there where it was found."""
        if self._means_none(value):
            return None
        try:
            result = _READERS[self.kind](value)
        except _Unfit as unfit:
            raise self._refusal(value, unfit.rule or self.rule, origin=origin) from None
        if self.check and not self.check.passes(result):
            raise self._refusal(value, self.check.rule, origin=origin, way_out=self.check.way_out)
        return result

    def text(self, value: object) -> str:
        """Write *value* so that `read` gives the same again."""
        if value is None:
            return self.word_for_none
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, float):
            return str(int(value)) if value.is_integer() else repr(value)
        if isinstance(value, Decimal):
            return f"{value:f}"
        if isinstance(value, Path):
            return f"./{value}" if str(value).startswith("~") else str(value)
        return str(value)

    def _means_none(self, value: object) -> bool:
        if not self.optional:
            return False
        if not isinstance(value, str):
            return value is None
        word = value.strip().lower()
        return word == self.word_for_none != "" or (word in _NONE and self.kind not in (str, Path))

    def _refusal(self, value: object, rule: str, *, origin: str, way_out: str = "") -> SettingError:
        place = f" ({origin})" if origin else ""
        is_what = "is set to something that is not shown here" if self.secret else f"is {_shown(value)}"
        more = f" {way_out}" if way_out else ""
        return SettingError(f"{self.name} {is_what}{place}, but must be {rule}.{more}", self.name)


@cache
def options(cls: type) -> tuple[Option, ...]:
    """All settings that the dataclass *cls* declares, in order, those of its groups included."""
    hints = get_type_hints(cls)
    found: list[Option] = []
    for each in fields(cls):
        if title := each.metadata.get("group"):
            found += (replace(option, section=each.name, group=title) for option in options(hints[each.name]))
        elif declared := each.metadata.get("setting"):
            kinds = [kind for kind in get_args(hints[each.name]) or (hints[each.name],) if kind is not NoneType]
            optional = len(get_args(hints[each.name])) > len(kinds)
            found.append(Option(name=each.name, kind=kinds[0], optional=optional, **declared))
    return tuple(found)


@cache
def by_name(cls: type) -> Mapping[str, Option]:
    """The settings of *cls* by name and by other name."""
    return {name: option for option in options(cls) for name in (option.name, *option.aliases)}


def find(cls: type, name: str) -> Option:
    """The setting of *cls* called *name*; if there is none, say which one may be meant."""
    known = by_name(cls)
    if name in known:
        return known[name]
    from difflib import get_close_matches

    close = get_close_matches(name.replace("-", "_").lower(), known, n=1)
    hint = f"Did you mean {close[0]}?" if close else "See the list of settings."
    raise SettingError(f"There is no setting {name!r}. {hint}", name)


class _Unfit(Exception):
    """The value is not of the kind wanted; `rule` if there is more to say than which kind that is."""

    def __init__(self, rule: str = "") -> None:
        self.rule = rule


def _read_number(value: object) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise _Unfit from None
    if not number.is_finite():
        raise _Unfit
    # Beyond these bounds nothing is meant; within them bytes and tokens fit in 64 bits, and 1e999999 in the memory.
    if number and not -12 <= number.adjusted() < 12:
        raise _Unfit("0, or a number between 10^-12 and 10^12")
    return number


def _read_whole(value: object) -> int:
    number = _read_number(value)
    if number != number.to_integral_value():
        raise _Unfit
    return int(number)


def _read_bool(value: object) -> bool:
    word = str(value).strip().lower()
    if word not in _ON | _OFF:
        raise _Unfit
    return word in _ON


def _read_text(value: object) -> str:
    if isinstance(value, bool) or not (isinstance(value, str | int | float) or hasattr(value, "isoformat")):
        raise _Unfit
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)  # YAML knows times, and 7 may be a name
    if not text.strip():
        raise _Unfit("not empty; leave it out to get the default")
    if "\0" in text:
        raise _Unfit("free of NUL characters")
    return text


def _read_path(value: object) -> Path:
    if isinstance(value, Path):
        return Path(_read_text(str(value)))
    return Path(os.path.expanduser(_read_text(value)))


_READERS: Mapping[type, Callable[[object], Any]] = {
    int: _read_whole,
    float: lambda value: float(_read_number(value)),
    Decimal: _read_number,
    bool: _read_bool,
    str: _read_text,
    Path: _read_path,
}

_IN_WORDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    bool: "on or off",
    str: "a text",
    Path: "a path",
}


def _shown(value: object) -> str:
    shown = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, str):
        # A number keeps its looks, whether it came as a word or as a number.
        with suppress(InvalidOperation):
            shown = value if Decimal(value).is_finite() else shown
    one_line = _USER_OF_ADDRESS.sub("//…@", " ".join(shown.split()))
    return one_line if len(one_line) <= _LONGEST_SHOWN else f"{one_line[:_LONGEST_SHOWN]}…"
