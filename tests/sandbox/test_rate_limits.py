"""Rate limits of direct calls."""

from __future__ import annotations

import openai
import pytest

from gpt_batch_api.sandbox.rate_limits import duration_text
from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import Rig, body


def headers(rig: Rig, text: str = "x") -> dict[str, str]:
    reply = rig.client.chat.completions.with_raw_response.create(**body(text))
    return {name: value for name, value in reply.headers.items() if name.startswith("x-ratelimit")}


def refused(rig: Rig, text: str = "x") -> openai.RateLimitError:
    with pytest.raises(openai.RateLimitError) as caught:
        rig.client.chat.completions.create(**body(text))
    return caught.value


def test_without_limits_there_are_no_headers(rig: Rig) -> None:
    """Nothing to say."""
    assert headers(rig) == {}


def test_requests_per_minute_are_limited(make_rig: MakeRig) -> None:
    """At the limit, one more is a 429 that says when to come again; then there is room for one."""
    rig = make_rig(rate_limits={"requests_per_minute": 3})
    assert headers(rig) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "20s",
    }
    headers(rig)
    headers(rig)
    error = refused(rig)
    assert error.body == {
        "message": "Rate limit reached for gpt-4o-mini in organization org-sandbox on requests per min (RPM): "
        "Limit 3, Used 3, Requested 1. Please try again in 20s.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert error.response.headers["retry-after"] == "20"
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
    rig.advance(20)
    headers(rig)
    refused(rig)


def test_tokens_per_minute_are_guessed_from_the_characters(make_rig: MakeRig) -> None:
    """Four characters are a token, whatever the text."""
    rig = make_rig(rate_limits={"tokens_per_minute": 100, "retry_after": False})
    assert headers(rig, "a" * 240)["x-ratelimit-remaining-tokens"] == "40"
    error = refused(rig, "a" * 164)
    assert error.type == "tokens"
    assert "Limit 100, Used 60, Requested 41. Please try again in 600ms." in error.message
    assert "retry-after" not in error.response.headers
    headers(rig, "a" * 160)


def test_a_request_above_the_limit_can_never_succeed(make_rig: MakeRig) -> None:
    """It has the same code; only the text tells."""
    rig = make_rig(rate_limits={"tokens_per_minute": 100})
    error = refused(rig, "a" * 404)
    assert error.code == "rate_limit_exceeded"
    assert "Request too large for gpt-4o-mini" in error.message
    assert "Limit 100, Requested 101." in error.message
    headers(rig, "a" * 400)


def test_models_have_limits_of_their_own(make_rig: MakeRig) -> None:
    """One does not use up the other's."""
    rig = make_rig(rate_limits={"requests_per_minute": 1})
    rig.client.chat.completions.create(**body())
    rig.client.chat.completions.create(**body(model="gpt-5-nano"))
    refused(rig)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0201, "21ms"), (0, "0ms"), (1.5, "1.5s"), (20, "20s"), (59.9994, "59.999s"), (360, "6m0s")]
)
def test_durations_are_written_as_the_service_does(seconds: float, text: str) -> None:
    """20ms, 1.5s, 6m0s."""
    assert duration_text(seconds) == text
