"""Names, lines and weights of requests."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import reduce
from operator import add

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt_batch_api.domain.request import (
    ASSUMED_MAX_OUTPUT_TOKENS,
    GPTRequest,
    Load,
    Prepared,
    RequestKey,
    batch_line,
    custom_id,
    parse_custom_id,
)

LARGEST_ROW_ID = 2**63 - 1

row_ids = st.integers(0, LARGEST_ROW_ID)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(st.text(), json_values, max_size=4)
loads = st.builds(Load, *(st.integers(0, 10**12) for _ in fields(Load)))


class TestCustomId:
    """The name of a request in a batch file."""

    @given(request_id=row_ids, epoch=row_ids)
    @example(request_id=LARGEST_ROW_ID, epoch=LARGEST_ROW_ID)
    def test_it_tells_request_and_epoch_again(self, request_id: int, epoch: int) -> None:
        """Whatever numbers the store can hold."""
        assert parse_custom_id(custom_id(request_id, epoch)) == (request_id, epoch)

    @given(request_id=row_ids, epoch=row_ids)
    def test_it_is_short_enough_for_the_api(self, request_id: int, epoch: int) -> None:
        """At most 64 characters."""
        assert len(custom_id(request_id, epoch)) <= 64

    @given(first=st.tuples(row_ids, row_ids), second=st.tuples(row_ids, row_ids))
    def test_different_requests_have_different_names(self, first: tuple[int, int], second: tuple[int, int]) -> None:
        assert (custom_id(*first) == custom_id(*second)) == (first == second)

    @given(text=st.text() | json_values | st.binary() | st.from_regex(r"[-0-9 +_.٣²]{0,50}", fullmatch=True))
    def test_parsing_never_raises(self, text: object) -> None:
        """Result lines hold names of any shape."""
        found = parse_custom_id(text)
        assert found is None or all(number >= 0 for number in found)

    @pytest.mark.parametrize(
        "text",
        [
            *("", "-", "1-", "-1", "1", "1--2", "1-2-3", "r1", "request-1"),
            *(" 1-2", "1-2 ", "1-2\n", "+1-2", "1_0-2", "0x1-2", "1.0-2", "١-٢", "²-1"),
            *("01-2", "1-02", "00-0", "-0-1", "1" * 20 + "-1"),
            *(None, 12, 1.5, True, b"1-2", ["1-2"], {"1-2": 1}),
            *("1" * 5000 + "-1", "1-" + "1" * 5000),
        ],
        ids=lambda text: f"{text!r:.20}",
    )
    def test_a_name_that_is_not_ours_is_none(self, text: object) -> None:
        assert parse_custom_id(text) is None

    @given(text=st.from_regex(r"0{0,2}[0-9]{1,3}-0{0,2}[0-9]{1,3}", fullmatch=True))
    def test_only_names_that_we_give_are_ours(self, text: str) -> None:
        """A name with leading zeros was never given by us."""
        found = parse_custom_id(text)
        assert found is None or custom_id(*found) == text


class TestBatchLine:
    """One line of a batch input file."""

    @given(request_id=row_ids, epoch=row_ids, body=bodies)
    def test_it_is_a_line_of_the_batch_api(self, request_id: int, epoch: int, body: dict[str, object]) -> None:
        """Method POST, url = the batch's endpoint, no headers, and the body as it is."""
        text = json.dumps(body, ensure_ascii=False).encode()
        line = batch_line(request_id, epoch, endpoint="/v1/chat/completions", body=text)
        assert json.loads(line) == {
            "custom_id": custom_id(request_id, epoch),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body,
        }

    @given(request_id=row_ids, epoch=row_ids, body=bodies)
    def test_it_holds_the_exact_bytes_of_the_body_and_ends_once(
        self, request_id: int, epoch: int, body: dict[str, object]
    ) -> None:
        text = json.dumps(body, ensure_ascii=False).encode()
        line = batch_line(request_id, epoch, endpoint="/v1/chat/completions", body=text)
        assert line.endswith(b',"body":' + text + b"}\n")
        assert line.count(b"\n") == 1
        assert not line.startswith(b"\xef\xbb\xbf")

    @given(request_id=row_ids, epoch=row_ids, body=bodies)
    def test_its_size_depends_on_name_endpoint_and_body_alone(
        self, request_id: int, epoch: int, body: dict[str, object]
    ) -> None:
        """So that it can be weighed before it is written."""
        text = json.dumps(body, ensure_ascii=False).encode()
        empty = len('{"custom_id":"","method":"POST","url":"","body":}\n')
        line = batch_line(request_id, epoch, endpoint="/v1/chat/completions", body=text)
        assert len(line) == empty + len(custom_id(request_id, epoch)) + len("/v1/chat/completions") + len(text)

    def test_a_percent_sign_in_the_body_is_left_alone(self) -> None:
        """The line is made from a pattern; the body is not read as one."""
        assert b'{"a":"100%s %d %%"}' in batch_line(1, 0, endpoint="/v1/x", body=b'{"a":"100%s %d %%"}')


class TestLoad:
    """How heavy requests are together."""

    @given(some=st.lists(loads, max_size=6))
    def test_a_sum_adds_up_every_measure(self, some: list[Load]) -> None:
        total = reduce(add, some, Load())
        for field in fields(Load):
            assert getattr(total, field.name) == sum(getattr(load, field.name) for load in some)

    @given(load=loads)
    def test_an_empty_load_weighs_nothing(self, load: Load) -> None:
        assert load + Load() == Load() + load == load


class TestOutputAllowance:
    """Most tokens that an answer can have."""

    @pytest.mark.parametrize(
        ("most", "choices", "allowance"),
        [(100, 1, 100), (100, 3, 300), (1, 1, 1), (None, 1, ASSUMED_MAX_OUTPUT_TOKENS), (None, 2, 4096)],
    )
    def test_it_counts_every_choice_and_assumes_a_maximum_where_there_is_none(
        self, most: int | None, choices: int, allowance: int
    ) -> None:
        prepared = Prepared(b"{}", "m", 1, "exact", max_output_tokens=most, choices=choices)
        assert prepared.output_allowance == allowance


class TestKey:
    """What makes a request the same one after a restart."""

    def test_sample_purpose_and_number_are_the_identity(self) -> None:
        """Payload and meta are not part of it."""
        one = GPTRequest("char-é", {"model": "a"}, purpose="check", number=2, meta={"x": 1})
        other = GPTRequest("char-é", lambda: {"model": "b"}, purpose="check", number=2)
        assert one.key == other.key == RequestKey("char-é", "check", 2)
        assert one.key != GPTRequest("char-é", {}, purpose="check").key

    @pytest.mark.parametrize(
        ("key", "words"),
        [
            (RequestKey("a"), "'a'"),
            (RequestKey("a", "check"), "'a', 'check'"),
            (RequestKey("a", "", 3), "'a' #3"),
            (RequestKey("a", "check", 3), "'a', 'check' #3"),
            (RequestKey("line\nend"), r"'line\nend'"),
        ],
    )
    def test_its_words_name_what_is_not_the_default(self, key: RequestKey, words: str) -> None:
        """In one line, whatever the key is."""
        assert str(key) == words
