"""Payloads as bytes: exactly what goes out, or an error that names the place of what is not JSON."""

from __future__ import annotations

import json
import math
from datetime import date
from decimal import Decimal
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.errors import PayloadError
from gpt_batch_api.domain.request import batch_line
from gpt_batch_api.endpoints.base import MAX_DEPTH, MAX_NUMBER_BITS, encode
from tests.endpoints.shapes import clean_json, clean_text

bodies = st.dictionaries(clean_text, clean_json, max_size=5)


@given(body=bodies)
def test_the_bytes_say_the_same_as_the_payload(body: dict[str, Any]) -> None:
    assert json.loads(encode(body)) == body


@given(body=bodies)
def test_the_bytes_are_one_line(body: dict[str, Any]) -> None:
    """Lines of a batch file end at line feeds, so there is none inside; nor other control characters."""
    assert min(encode(body)) >= 0x20
    assert batch_line(1, 0, endpoint="/v1/x", body=encode(body)).count(b"\n") == 1


@given(body=bodies)
def test_the_same_payload_gives_the_same_bytes(body: dict[str, Any]) -> None:
    """By their hash a request is compared after a restart."""
    assert encode(body) == encode(json.loads(encode(body)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, b"{}"),
        ({"a": 1, "b": [True, None, 1.5, "x"]}, b'{"a":1,"b":[true,null,1.5,"x"]}'),
        ({"b": 1, "a": 2}, b'{"b":1,"a":2}'),
        ({"a": "é 漢 😀"}, '{"a":"é 漢 😀"}'.encode()),
        ({"a": "\u2028\u2029\u0085"}, '{"a":"\u2028\u2029\u0085"}'.encode()),
        ({"a": "\ufeff"}, b'{"a":"\xef\xbb\xbf"}'),
        ({"a": '"\\/'}, b'{"a":"\\"\\\\/"}'),
        ({"a": "\n\r\t\x00\x1f"}, b'{"a":"\\n\\r\\t\\u0000\\u001f"}'),
        ({"a": "</script>"}, b'{"a":"</script>"}'),
        ({"a": (1, 2)}, b'{"a":[1,2]}'),
        ({"a": 10**18}, b'{"a":1000000000000000000}'),
    ],
)
def test_bytes_are_exact(body: dict[str, Any], expected: bytes) -> None:
    """Compact, UTF-8, in the user's order; line ends other than line feeds go out raw, as the user wrote them."""
    assert encode(body) == expected


HALF_PAIR = "the text holds half of a character pair (a lone surrogate)"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"a": math.nan}, "The payload is not JSON at a: nan is no JSON value."),
        ({"a": math.inf}, "The payload is not JSON at a: inf is no JSON value."),
        ({"a": [0, {"b": -math.inf}]}, "The payload is not JSON at a[1].b: -inf is no JSON value."),
        ({"a": {"b": {"c": [[], [1, b"x"]]}}}, "The payload is not JSON at a.b.c[1][1]: b'x' is no JSON value."),
        ({"a": {1}}, "The payload is not JSON at a: {1} is no JSON value."),
        ({"a": Decimal("1.5")}, "The payload is not JSON at a: Decimal('1.5') is no JSON value."),
        (
            {"a": ({"b": date(2026, 1, 2)},)},
            "The payload is not JSON at a[0].b: datetime.date(2026, 1, 2) is no JSON value.",
        ),
        ({"a": PurePath("x")}, f"The payload is not JSON at a: {PurePath('x')!r} is no JSON value."),
        ({"messages": [{"content": "\ud83d"}]}, f"The payload is not JSON at messages[0].content: {HALF_PAIR}."),
        ({"messages": [{"content": "ok \udc00 ok"}]}, f"The payload is not JSON at messages[0].content: {HALF_PAIR}."),
        ({"a": {(1, 2): 3}}, "The payload is not JSON at a: the key (1, 2) is no text."),
        ({("a",): 3}, "The payload is not JSON: the key ('a',) is no text."),
        ({"first": 1, "a": math.nan, "b": b"later"}, "The payload is not JSON at a: nan is no JSON value."),
    ],
)
def test_what_is_not_json_is_named_with_its_place(body: dict[Any, Any], words: str) -> None:
    with pytest.raises(PayloadError) as caught:
        encode(body)
    assert str(caught.value) == words


@pytest.mark.parametrize("key", [1, 1.5, True, None])
def test_a_key_that_is_no_text_is_refused(key: object) -> None:
    """Written as JSON it would silently become another key."""
    with pytest.raises(PayloadError, match=r"at metadata: the key .* is no text"):
        encode({"metadata": {key: "x"}})


def test_a_key_with_half_of_a_character_pair_is_named_with_its_place() -> None:
    with pytest.raises(PayloadError, match=r"not JSON at metadata: .*half of a character pair"):
        encode({"metadata": {"\ud83d": "x"}})


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"messages": [MappingProxyType({"role": "user"})]}, r"messages\[0\]"),
        ({"a": {"b": range(3)}}, r"a\.b"),
        ({"a": {"b": {"c": 1}.keys()}}, r"a\.b"),
    ],
    ids=["mapping", "sequence", "view"],
)
def test_what_only_looks_like_json_is_named_with_its_place(body: dict[str, Any], place: str) -> None:
    """Mappings and sequences of other kinds than dict, list and tuple."""
    with pytest.raises(PayloadError, match=f"not JSON at {place}: "):
        encode(body)


def test_a_payload_that_holds_itself_is_refused() -> None:
    body: dict[str, Any] = {"model": "m"}
    body["again"] = [body]
    with pytest.raises(PayloadError, match=r"not JSON at again\[0\]\.again.*…: it is nested .* or holds itself"):
        encode(body)


@pytest.mark.parametrize(("depth", "fits"), [(MAX_DEPTH - 1, True), (MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_nesting_has_a_limit(depth: int, fits: bool) -> None:
    assert is_encoded({"a": nested(depth)}) == fits


def test_nesting_beyond_reason_is_refused() -> None:
    """It is not even walked through."""
    assert not is_encoded({"a": nested(100_000)})


def nested(depth: int) -> Any:
    """A value so many levels below the payload."""
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return value


def is_encoded(body: dict[str, Any]) -> bool:
    try:
        encode(body)
    except PayloadError:
        return False
    return True


@pytest.mark.parametrize(
    ("number", "fits"),
    [(2**MAX_NUMBER_BITS - 1, True), (2**MAX_NUMBER_BITS, False), (-(2**MAX_NUMBER_BITS), False), (10**5000, False)],
    ids=["longest", "too long", "too long, negative", "not writable"],
)
def test_a_number_too_long_to_be_written_is_refused(number: int, fits: bool) -> None:
    assert is_encoded({"seed": number}) == fits


def test_the_error_names_the_number_and_what_holds_it() -> None:
    with pytest.raises(PayloadError) as caught:
        encode({"a": [10**5000]}, what="The metadata")
    assert str(caught.value) == "The metadata is not JSON at a[0]: the number is too long."


def test_an_error_about_a_long_value_stays_short() -> None:
    with pytest.raises(PayloadError) as caught:
        encode({"a": b"x" * 10_000})
    assert len(str(caught.value)) < 200


odd_values = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(alphabet=st.characters(codec=None, categories=None), max_size=8)
    | st.binary(max_size=4)
    | st.dates()
    | st.sets(st.integers(), max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(clean_text | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(body=st.dictionaries(clean_text, odd_values, max_size=4))
def test_any_payload_is_refused_or_can_be_read_again(body: dict[str, Any]) -> None:
    """There is nothing in between."""
    try:
        text = encode(body)
    except PayloadError as error:
        str(error).encode()  # it can be shown
    else:
        json.loads(text.decode())
