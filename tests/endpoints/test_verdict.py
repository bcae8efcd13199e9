"""What errors of the server mean, in all the ways in which they arrive."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.outcome import Outcome, Verdict
from gpt_batch_api.endpoints.verdict import BILLING_CODES, TABLE, ServerError, judge
from tests.endpoints.shapes import any_json, any_text, mapping_of

ACCOUNT, FREE, RETRYABLE, FATAL = Verdict.ACCOUNT, Verdict.FREE, Verdict.RETRYABLE, Verdict.FATAL

RATE_LIMIT = (
    "Rate limit reached for gpt-6-luna in organization org-a1 on tokens per min (TPM): Limit 150000, Used 149000, "
    "Requested 3300. Please try again in 920ms."
)
TOO_LARGE = (
    "Request too large for gpt-6-luna in organization org-a1 on tokens per min (TPM): Limit 30000, Requested {}. "
    "The input or output tokens must be reduced in order to run successfully."
)


def body(code: str | None, type: str, message: str, param: str | None = None) -> dict[str, Any]:
    """An error as it comes over HTTP."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def judged(reply: object, status: int | None) -> Outcome:
    return judge(ServerError.read(reply, status=status))


class TestTable:
    """Each row of the table, with errors as the server words them."""

    @pytest.mark.parametrize(
        ("status", "code", "type", "message", "verdict", "reason"),
        [
            # the whole account
            (
                401,
                "invalid_api_key",
                "invalid_request_error",
                "Incorrect API key provided.",
                ACCOUNT,
                "invalid_api_key",
            ),
            (401, None, "invalid_request_error", "You must be a member of an organization.", ACCOUNT, "unauthorized"),
            (403, None, "invalid_request_error", "Project proj_b2 has no access to this model.", ACCOUNT, "forbidden"),
            (403, "unsupported_region", "request_forbidden", "Region not supported.", ACCOUNT, "forbidden"),
            # may succeed another time
            (429, "rate_limit_exceeded", "tokens", RATE_LIMIT, RETRYABLE, "rate_limited"),
            (429, "rate_limit_exceeded", "requests", RATE_LIMIT, RETRYABLE, "rate_limited"),
            (429, "slow_down", "invalid_request_error", "Please slow down.", RETRYABLE, "slow_down"),
            (429, "resource_unavailable", "requests", "No capacity for flex now.", RETRYABLE, "resource_unavailable"),
            (429, None, "", "Too many requests", RETRYABLE, "rate_limited"),
            (500, "server_error", "server_error", "The server had an error.", RETRYABLE, "server_error"),
            (500, None, "server_error", "The server had an error.", RETRYABLE, "server_error"),
            (503, "server_is_overloaded", "service_unavailable_error", "Overloaded.", RETRYABLE, "overloaded"),
            (408, None, "timeout", "Request timed out.", RETRYABLE, "timeout"),
            (409, None, "conflict", "The resource was changed meanwhile.", RETRYABLE, "conflict"),
            # cannot
            (
                400,
                "context_length_exceeded",
                "invalid_request_error",
                "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens.",
                FATAL,
                "context_length_exceeded",
            ),
            (
                404,
                "model_not_found",
                "invalid_request_error",
                "The model 'gpt-9' does not exist.",
                FATAL,
                "model_not_found",
            ),
            (
                400,
                "model_not_found",
                "invalid_request_error",
                "The model 'gpt-9' does not exist.",
                FATAL,
                "model_not_found",
            ),
            (400, None, "invalid_request_error", "Invalid schema for response_format 'A'.", FATAL, "invalid_request"),
            (400, "invalid_value", "invalid_request_error", "Invalid value: 'xx'.", FATAL, "invalid_request"),
            (404, None, "invalid_request_error", "No such thing.", FATAL, "invalid_request"),
            (413, None, "invalid_request_error", "Body too large.", FATAL, "invalid_request"),
            (422, None, "invalid_request_error", "Unprocessable.", FATAL, "invalid_request"),
        ],
    )
    def test_an_error_over_http(
        self, status: int, code: str | None, type: str, message: str, verdict: Verdict, reason: str
    ) -> None:
        outcome = judged(body(code, type, message), status)
        assert (outcome.verdict, outcome.reason) == (verdict, reason)
        assert message in outcome.message

    @pytest.mark.parametrize("code", sorted(BILLING_CODES))
    @pytest.mark.parametrize("as_type", [False, True])
    def test_no_billing_error_uses_up_an_attempt(self, code: str, as_type: bool) -> None:
        """Billing comes with the status of a rate limit, and asking again never helps."""
        reply = body(None if as_type else code, code if as_type else "billing", "Check your plan and billing details.")
        outcome = judged(reply, 429)
        assert (outcome.verdict, outcome.reason) == (ACCOUNT, "billing")

    @pytest.mark.parametrize(
        ("error", "verdict", "reason"),
        [
            (
                {"code": "batch_expired", "message": "This request could not be executed before the window expired."},
                FREE,
                "expired",
            ),
            (
                {"code": "batch_cancelled", "message": "This request was not executed: the batch was cancelled."},
                FREE,
                "cancelled",
            ),
            ({"code": "request_timeout", "message": "The request took too long."}, RETRYABLE, "request_timeout"),
            ({"code": "server_error", "message": "The server had an error."}, RETRYABLE, "server_error"),
            ({"code": "insufficient_quota", "message": "You exceeded your quota."}, ACCOUNT, "billing"),
        ],
    )
    def test_an_error_of_a_line_has_no_status(self, error: dict[str, Any], verdict: Verdict, reason: str) -> None:
        outcome = judged(error, None)
        assert (outcome.verdict, outcome.reason) == (verdict, reason)
        assert error["message"] in outcome.message

    def test_a_fault_of_the_infrastructure_has_status_0(self) -> None:
        """It comes with an empty body, while the counts claim full success."""
        outcome = judged({}, 0)
        assert (outcome.verdict, outcome.reason) == (RETRYABLE, "infrastructure_fault")
        assert outcome.message

    def test_every_reason_is_a_short_code(self) -> None:
        """Stable words that a script can compare."""
        for row in TABLE:
            assert row.reason.replace("_", "").isalpha()
            assert row.reason.islower()

    def test_no_error_is_a_success(self) -> None:
        assert Verdict.SUCCESS not in {row.verdict for row in TABLE}


class TestUnknownCodes:
    """Codes never heard of are judged by their status class."""

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [
            *((status, FATAL) for status in (402, 418, 451, 499)),
            *((status, RETRYABLE) for status in (399, 500, 502, 504, 529, 599, 302, 1, None)),
        ],
    )
    def test_mistakes_do_not_mend_themselves_anything_else_may(self, status: int | None, verdict: Verdict) -> None:
        outcome = judged(body("never_heard_of", "odd_error", "What is this?"), status)
        assert outcome == Outcome(verdict, "never_heard_of", "never_heard_of: What is this?")

    @pytest.mark.parametrize(
        ("reply", "status", "reason", "message"),
        [
            (body(None, "odd_error", "Why?"), 502, "odd_error", "odd_error: Why?"),
            ("upstream connect error", 502, "status_502", "HTTP 502: upstream connect error"),
            ("", 504, "status_504", "HTTP 504"),
            (None, 418, "status_418", "HTTP 418"),
        ],
    )
    def test_without_a_code_the_type_is_the_reason_and_then_the_status(
        self, reply: object, status: int, reason: str, message: str
    ) -> None:
        outcome = judged(reply, status)
        assert (outcome.reason, outcome.message) == (reason, message)

    @pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422])
    def test_an_unknown_code_with_a_known_status_is_the_requests_own_fault(self, status: int) -> None:
        outcome = judged(body("never_heard_of", "invalid_request_error", "No."), status)
        assert (outcome.verdict, outcome.reason) == (FATAL, "invalid_request")

    def test_a_known_code_counts_whatever_the_status_is(self) -> None:
        """Other servers send other statuses."""
        assert judged(body("insufficient_quota", "", "No."), 402).verdict is ACCOUNT
        assert judged(body("rate_limit_exceeded", "", "No."), 503).verdict is RETRYABLE
        assert judged(body("invalid_api_key", "", "No."), 400).verdict is ACCOUNT


class TestRequestTooLarge:
    """A request larger than the rate limit has a rate limit's code, and never succeeds."""

    @pytest.mark.parametrize(
        ("requested", "verdict", "reason"),
        [
            ("29999", RETRYABLE, "rate_limited"),
            ("30000", RETRYABLE, "rate_limited"),
            ("30001", FATAL, "request_too_large"),
            ("30,001", FATAL, "request_too_large"),
            ("4,000", RETRYABLE, "rate_limited"),
        ],
    )
    def test_it_is_told_by_its_numbers(self, requested: str, verdict: Verdict, reason: str) -> None:
        outcome = judged(body("rate_limit_exceeded", "tokens", TOO_LARGE.format(requested)), 429)
        assert (outcome.verdict, outcome.reason) == (verdict, reason)

    def test_a_full_minute_is_no_reason_to_give_up(self) -> None:
        """Limit, used and requested: it passes a little later."""
        assert judged(body("rate_limit_exceeded", "tokens", RATE_LIMIT), 429).verdict is RETRYABLE

    def test_it_is_told_also_when_the_message_says_what_was_used(self) -> None:
        """Requested is more than the limit, so waiting cannot help."""
        message = RATE_LIMIT.replace("Requested 3300", "Requested 150001")
        assert judged(body("rate_limit_exceeded", "tokens", message), 429).reason == "request_too_large"

    def test_the_limit_itself_fits_when_the_message_says_what_was_used(self) -> None:
        message = RATE_LIMIT.replace("Requested 3300", "Requested 150000")
        assert judged(body("rate_limit_exceeded", "tokens", message), 429).reason == "rate_limited"

    @pytest.mark.parametrize(("limit", "requested"), [(",", "5"), ("1", ","), ("", "5"), ("٣", "٥"), ("²", "³")])
    def test_what_is_no_number_is_not_compared(self, limit: str, requested: str) -> None:
        message = f"Limit {limit}, Requested {requested}."
        assert judged(body("rate_limit_exceeded", "tokens", message), 429).reason == "rate_limited"

    def test_only_rate_limits_are_read_so(self) -> None:
        """The user's own text may be quoted in other errors."""
        outcome = judged(body("invalid_value", "invalid_request_error", "'Limit 1, Requested 2' is no colour"), 400)
        assert outcome.reason == "invalid_request"


class TestReading:
    """The error is found in a body of any shape."""

    @pytest.mark.parametrize(
        ("reply", "expected"),
        [
            (body("c", "t", "m", "p"), ServerError(400, "c", "t", "p", "m")),
            ({"code": "c", "message": "m", "type": "t", "param": "p"}, ServerError(400, "c", "t", "p", "m")),
            ({"error": {"message": "m"}}, ServerError(400, message="m")),
            ({"error": {"message": None, "code": None}}, ServerError(400)),
            ({"error": {"code": 1234, "message": "m"}}, ServerError(400, "1234", message="m")),
            ({"error": "plain words"}, ServerError(400, message="plain words")),
            ({"error": None}, ServerError(400)),
            ({"error": {}}, ServerError(400)),
            ({}, ServerError(400)),
            ({"id": "chatcmpl-1"}, ServerError(400)),
            ("<html>Bad gateway</html>", ServerError(400, message="<html>Bad gateway</html>")),
            (None, ServerError(400)),
            ([1, 2], ServerError(400, message="[1, 2]")),
            (7, ServerError(400, message="7")),
        ],
    )
    def test_what_there_is_is_read(self, reply: object, expected: ServerError) -> None:
        assert ServerError.read(reply, status=400) == expected

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (ServerError(429, "c", "t", "p", "m"), "c: m"),
            (ServerError(429, "", "t", "", "m"), "t: m"),
            (ServerError(429, message="m"), "HTTP 429: m"),
            (ServerError(429), "HTTP 429"),
            (ServerError(message="m"), "error: m"),
            (ServerError(), "error"),
        ],
    )
    def test_its_words_are_the_servers(self, error: ServerError, words: str) -> None:
        assert str(error) == words

    @pytest.mark.parametrize("length", [499, 500, 501, 10**6])
    def test_a_page_instead_of_an_error_is_cut_short(self, length: int) -> None:
        """A proxy may answer with a whole page."""
        assert len(ServerError.read("x" * length, status=502).message) == min(length, 500)

    @pytest.mark.parametrize("length", [499, 500, 501, 10**6])
    @pytest.mark.parametrize("name", ["code", "type", "param", "message"])
    def test_each_text_of_an_error_is_cut_short(self, name: str, length: int) -> None:
        """It is kept with each of up to 50,000 answers."""
        assert len(getattr(ServerError.read({"error": {name: "x" * length}}), name)) == min(length, 500)


odd_errors = mapping_of(
    code=st.sampled_from(sorted(BILLING_CODES)) | any_text,
    type=any_text,
    param=any_text,
    message=st.from_regex(r"Limit:? [\d,]{1,8}, Requested:? [\d,]{1,8}") | any_text,
)
replies = any_json | odd_errors | mapping_of(error=odd_errors)
statuses = st.none() | st.integers(-1, 700) | st.sampled_from([0, 200, 400, 401, 403, 404, 408, 409, 429, 500, 503])


class TestAnyReply:
    """The server may send anything."""

    @given(reply=replies, status=statuses)
    def test_judging_never_raises_and_always_says_why(self, reply: object, status: int | None) -> None:
        outcome = judged(reply, status)
        assert not outcome.ok
        assert outcome.reason
        assert outcome.message

    @given(reply=replies, status=statuses)
    def test_the_words_can_be_stored_and_shown(self, reply: object, status: int | None) -> None:
        """Text with half of a character pair can be neither; one such reply must not stop a run for good."""
        outcome = judged(reply, status)
        outcome.reason.encode()
        outcome.message.encode()

    @given(limit=st.text("19,", min_size=1, max_size=6), requested=st.text("19,", min_size=1, max_size=6))
    def test_odd_numbers_in_a_rate_limit_do_no_harm(self, limit: str, requested: str) -> None:
        message = f"Limit {limit}, Requested {requested}."
        assert judged(body("rate_limit_exceeded", "tokens", message), 429).verdict in (RETRYABLE, FATAL)
