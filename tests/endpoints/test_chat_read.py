"""Replies of chat completions, in every form in which they come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.outcome import SUCCESS, Usage, Verdict
from gpt_batch_api.endpoints.base import MAX_TOKENS, Choice, Reading, count
from gpt_batch_api.endpoints.chat import ChatCompletions
from tests.endpoints.shapes import any_json, any_text, mapping_of

LARGEST_STORED = 2**63 - 1

USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 6, "audio_tokens": 0, "text_tokens": 2006},
    "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0, "rejected_prediction_tokens": 0},
}
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}


def choice(content: Any = "Hello", *, finish: Any = "stop", index: int = 0, **message: Any) -> dict[str, Any]:
    """One alternative as the server writes it."""
    return {
        "index": index,
        "finish_reason": finish,
        "logprobs": None,
        "message": {"role": "assistant", "content": content, "refusal": None, "annotations": [], **message},
    }


def reply(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": list(choices), "usage": USAGE, **more}


def read(body: dict[str, Any], *, structured: bool = False) -> Reading:
    return ChatCompletions().read(body, structured=structured)


class TestText:
    """Plain text was asked for."""

    @pytest.mark.parametrize(
        ("one", "verdict", "reason"),
        [
            (choice("Hello"), Verdict.SUCCESS, "ok"),
            (choice('{"broken'), Verdict.SUCCESS, "ok"),
            (choice("Hel", finish="length"), Verdict.SUCCESS, "cut_off"),
            (choice("Hello", finish=None), Verdict.SUCCESS, "ok"),
            (choice("Hello", finish="never_heard_of"), Verdict.SUCCESS, "ok"),
            (choice(None, refusal="I cannot help with that."), Verdict.RETRYABLE, "refusal"),
            (choice("", finish="length"), Verdict.RETRYABLE, "cut_off"),
            (choice(None, finish="length"), Verdict.RETRYABLE, "cut_off"),
            (choice("Hel", finish="content_filter"), Verdict.RETRYABLE, "content_filter"),
            (choice(None, finish="content_filter"), Verdict.RETRYABLE, "content_filter"),
            (choice(""), Verdict.RETRYABLE, "empty_response"),
            (choice(None), Verdict.RETRYABLE, "empty_response"),
            (choice([{"type": "text", "text": "Hello"}]), Verdict.RETRYABLE, "empty_response"),
            (choice(None, finish="tool_calls", tool_calls=[TOOL_CALL]), Verdict.SUCCESS, "ok"),
            (choice("Hello", refusal=""), Verdict.SUCCESS, "ok"),
        ],
    )
    def test_an_answer_is_judged(self, one: dict[str, Any], verdict: Verdict, reason: str) -> None:
        outcome = read(reply(one)).outcome
        assert (outcome.verdict, outcome.reason) == (verdict, reason)
        assert (outcome == SUCCESS) == (reason == "ok")
        assert outcome.message or reason == "ok"

    def test_a_cut_off_tool_call_is_told_apart(self) -> None:
        """Its arguments break off in the middle, so it is not simply fine."""
        cut = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": '}}
        outcome = read(reply(choice(None, finish="length", tool_calls=[cut]))).outcome
        assert (outcome.verdict, outcome.reason) == (Verdict.RETRYABLE, "cut_off")


class TestStructured:
    """JSON was asked for: it must be complete JSON here; that it fits the model is seen later."""

    @pytest.mark.parametrize(
        ("one", "verdict", "reason"),
        [
            (choice('{"a":1}'), Verdict.SUCCESS, "ok"),
            (choice(' {"a": "\u2028"} \n'), Verdict.SUCCESS, "ok"),
            (choice('{"a":1}', finish="length"), Verdict.SUCCESS, "ok"),
            (choice('{"a":1', finish="length"), Verdict.RETRYABLE, "cut_off"),
            (choice("", finish="length"), Verdict.RETRYABLE, "cut_off"),
            (choice("\n\n\n\n", finish="length"), Verdict.RETRYABLE, "cut_off"),
            (choice('{"a":1'), Verdict.RETRYABLE, "parse_failure"),
            (choice("Sure! Here it is."), Verdict.RETRYABLE, "parse_failure"),
            (choice('{"a":1} {"a":1}'), Verdict.RETRYABLE, "parse_failure"),
            (choice('{"a":NaN}'), Verdict.RETRYABLE, "parse_failure"),
            (choice('{"a":-Infinity}'), Verdict.RETRYABLE, "parse_failure"),
            (choice('{"a":' + "1" * 5000 + "}"), Verdict.RETRYABLE, "parse_failure"),
            (choice(None, refusal="I cannot help with that."), Verdict.RETRYABLE, "refusal"),
            (choice('{"a":1}', finish="content_filter"), Verdict.RETRYABLE, "content_filter"),
            (choice(None), Verdict.RETRYABLE, "empty_response"),
            (choice(None, finish="tool_calls", tool_calls=[TOOL_CALL]), Verdict.SUCCESS, "ok"),
        ],
        ids=lambda value: f"{value['message']['content']!r:.30}" if isinstance(value, dict) else str(value),
    )
    def test_an_answer_is_judged(self, one: dict[str, Any], verdict: Verdict, reason: str) -> None:
        outcome = read(reply(one), structured=True).outcome
        assert (outcome.verdict, outcome.reason) == (verdict, reason)

    @pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=["arrays", "objects"])
    @pytest.mark.parametrize("finish", ["stop", "length"])
    def test_a_model_that_repeats_itself_breaks_nothing(self, text: str, finish: str) -> None:
        """Endless opening brackets are a well-known way to reach the maximum of output tokens."""
        outcome = read(reply(choice(text, finish=finish)), structured=True).outcome
        assert outcome.reason == ("cut_off" if finish == "length" else "parse_failure")

    def test_a_refusal_says_what_the_model_said(self) -> None:
        outcome = read(reply(choice(None, refusal="I cannot help. " + "x" * 1000)), structured=True).outcome
        assert outcome.message.startswith("the model refused: I cannot help.")
        assert len(outcome.message) < 300


class TestSeveralChoices:
    """With n > 1 the best of all choices decides."""

    BAD = choice("nonsense", index=1)
    GOOD = choice('{"a":1}', index=2)
    REFUSED = choice(None, refusal="No.", index=3)

    @pytest.mark.parametrize(
        ("choices", "reason"),
        [
            ((BAD, GOOD, REFUSED), "ok"),
            ((REFUSED, BAD, GOOD), "ok"),
            ((GOOD,), "ok"),
            ((BAD, REFUSED), "parse_failure"),
            ((REFUSED, BAD), "refusal"),
        ],
    )
    def test_one_good_choice_is_enough(self, choices: tuple[dict[str, Any], ...], reason: str) -> None:
        """Without any, the first one says why."""
        assert read(reply(*choices), structured=True).outcome.reason == reason

    @pytest.mark.parametrize("cut_off_first", [True, False])
    def test_a_complete_text_counts_more_than_one_that_was_cut_off(self, cut_off_first: bool) -> None:
        both = [choice("Hel", finish="length"), choice("Hello", index=1)]
        assert read(reply(*(both if cut_off_first else both[::-1]))).outcome == SUCCESS

    def test_a_text_that_was_cut_off_counts_more_than_none(self) -> None:
        found = read(reply(self.REFUSED, choice("Hel", finish="length"))).outcome
        assert (found.verdict, found.reason) == (Verdict.SUCCESS, "cut_off")

    def test_all_choices_are_given_usable_or_not(self) -> None:
        body = reply(self.BAD, choice(None, finish="tool_calls", tool_calls=[TOOL_CALL, "odd"]), self.REFUSED)
        assert ChatCompletions().choices(body) == (
            Choice("nonsense", None, "stop"),
            Choice(None, None, "tool_calls", (TOOL_CALL,)),
            Choice(None, "No.", "stop"),
        )

    @pytest.mark.parametrize(("finish", "cut_off"), [("length", True), ("stop", False), ("", False)])
    def test_a_choice_knows_whether_it_was_cut_off(self, finish: str, cut_off: bool) -> None:
        assert Choice("x", None, finish).cut_off == cut_off


class TestOddReplies:
    """HTTP 200 promises nothing."""

    @pytest.mark.parametrize(
        "body",
        [{}, {"choices": None}, {"choices": []}, {"choices": "abc"}, {"choices": [1, None]}, {"choices": {"0": {}}}],
    )
    @pytest.mark.parametrize("structured", [False, True])
    def test_a_reply_without_choices_is_empty(self, body: dict[str, Any], structured: bool) -> None:
        assert read(body, structured=structured).outcome.reason == "empty_response"
        assert ChatCompletions().choices(body) == ()

    @pytest.mark.parametrize("message", [None, "text", [], {}, {"content": 5, "refusal": 5, "tool_calls": 5}])
    def test_a_choice_without_a_message_is_empty(self, message: Any) -> None:
        body = reply({"index": 0, "finish_reason": "stop", "message": message})
        assert read(body).outcome.reason == "empty_response"
        assert ChatCompletions().choices(body) == (Choice(None, None, "stop"),)


class TestUsage:
    """Tokens that the server says it used; what it leaves out counts as 0."""

    def test_it_is_read(self) -> None:
        assert read(reply(choice())).usage == Usage(
            input_tokens=2006, cached_tokens=1920, cache_write_tokens=6, output_tokens=300, reasoning_tokens=128
        )

    def test_it_is_read_from_a_bad_answer_too(self) -> None:
        """A refusal and a cut-off answer are charged."""
        for one in (choice(None, refusal="No."), choice("", finish="length")):
            assert read(reply(one)).usage.output_tokens == 300

    @pytest.mark.parametrize(
        ("usage", "expected"),
        [
            (None, Usage()),
            ("many", Usage()),
            ([], Usage()),
            ({}, Usage()),
            ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input_tokens=8)),
            (
                {
                    "prompt_tokens": 8,
                    "completion_tokens": 2,
                    "prompt_tokens_details": None,
                    "completion_tokens_details": None,
                },
                Usage(input_tokens=8, output_tokens=2),
            ),
            ({"prompt_tokens": 8, "prompt_tokens_details": {"cached_tokens": None}}, Usage(input_tokens=8)),
            ({"prompt_tokens": 8, "prompt_tokens_details": []}, Usage(input_tokens=8)),
            ({"prompt_tokens": -8, "completion_tokens": 2}, Usage(output_tokens=2)),
            ({"prompt_tokens": True, "completion_tokens": 2.0}, Usage()),
            ({"prompt_tokens": "8"}, Usage()),
        ],
    )
    def test_missing_and_odd_numbers_count_as_0(self, usage: Any, expected: Usage) -> None:
        assert read(reply(choice(), usage=usage)).usage == expected

    def test_a_reply_without_usage_has_none(self) -> None:
        body = reply(choice())
        del body["usage"]
        assert read(body) == Reading(SUCCESS, Usage())

    @pytest.mark.parametrize(
        ("value", "expected"),
        [(0, 0), (1, 1), (MAX_TOKENS, MAX_TOKENS), (MAX_TOKENS + 1, 0), (LARGEST_STORED + 1, 0), (10**30, 0)],
    )
    def test_a_number_that_the_store_cannot_hold_is_not_sensible(self, value: int, expected: int) -> None:
        assert count(value) == expected


tool_calls = st.lists(mapping_of(id=any_text, type=st.just("function"), function=mapping_of(name=any_text)), max_size=2)
texts = any_text | any_json.map(lambda value: json.dumps(value))
messages = mapping_of(role=st.just("assistant"), content=texts, refusal=any_text, tool_calls=tool_calls)
finishes = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "function_call"])
choices_ = st.lists(mapping_of(index=st.integers(), finish_reason=finishes, message=messages) | any_json, max_size=3)
numbers = st.integers(-5, 10**6)
usages = mapping_of(
    prompt_tokens=numbers,
    completion_tokens=numbers,
    prompt_tokens_details=mapping_of(cached_tokens=numbers, cache_write_tokens=numbers),
    completion_tokens_details=mapping_of(reasoning_tokens=numbers),
)
bodies = mapping_of(choices=choices_, usage=usages) | st.dictionaries(any_text, any_json, max_size=4)


class TestAnyReply:
    """Whatever the body is, reading it never raises."""

    @given(body=bodies, structured=st.booleans())
    def test_reading_never_raises(self, body: dict[str, Any], structured: bool) -> None:
        found = read(body, structured=structured)
        assert found.outcome.verdict in (Verdict.SUCCESS, Verdict.RETRYABLE)
        assert found.outcome.reason

    @given(body=bodies, structured=st.booleans())
    def test_a_success_has_something_to_give(self, body: dict[str, Any], structured: bool) -> None:
        """A text or a tool call in one of the choices."""
        if read(body, structured=structured).outcome.ok:
            found = ChatCompletions().choices(body)
            assert any(one.text or one.tool_calls for one in found)

    @given(body=bodies, structured=st.booleans())
    def test_no_number_of_tokens_is_negative(self, body: dict[str, Any], structured: bool) -> None:
        assert min(vars(read(body, structured=structured).usage).values()) >= 0

    @given(refusal=any_text.filter(bool))
    def test_the_words_of_any_refusal_can_be_stored_and_shown(self, refusal: str) -> None:
        """Text with half of a character pair can be neither; one such reply must not stop a run for good."""
        read(reply(choice(None, refusal=refusal))).outcome.message.encode()

    @given(content=any_text, refusal=any_text, finish=any_text)
    def test_the_texts_of_any_choice_can_be_stored_and_shown(self, content: str, refusal: str, finish: str) -> None:
        (found,) = ChatCompletions().choices(reply(choice(content, refusal=refusal, finish=finish)))
        f"{found.text}{found.refusal}{found.finish_reason}".encode()

    @given(content=st.text())
    def test_whole_characters_stay_as_they_are(self, content: str) -> None:
        assert ChatCompletions().choices(reply(choice(content)))[0].text == content
