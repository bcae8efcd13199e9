"""Direct calls: every verdict on demand for single requests, the flex tier, money, latency, many at once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from gpt_batch_api.data import load_encoding
from gpt_batch_api.domain.clock import ManualClock
from gpt_batch_api.sandbox import counting
from gpt_batch_api.sandbox.faults import matching_calls
from gpt_batch_api.sandbox.operations import ANSWERING
from gpt_batch_api.sandbox.plan_file import load_plan, parse_plan
from gpt_batch_api.sandbox.rate_limits import RateLimiter
from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import ANSWER_SCHEMA, KEY, Rig, body, request, requests, rig_on, structured

Ask = Callable[[Rig], httpx2.Response]
HEADERS = {"authorization": f"Bearer {KEY}"}
BILLING_CODES = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "billing_not_active",
)
TEXT_FORMAT = {"format": {"type": "json_schema", "name": "Answer", "strict": True, "schema": ANSWER_SCHEMA}}


def ask_chat(rig: Rig, text: str = 'Say "hello".', **more: Any) -> httpx2.Response:
    return rig.http.post("/v1/chat/completions", json=body(text, **more), headers=HEADERS)


def ask_responses(rig: Rig, question: str = 'Say "hello".', **more: Any) -> httpx2.Response:
    wanted = {"model": "gpt-4o-mini", "input": question, **more}
    return rig.http.post("/v1/responses", json=wanted, headers=HEADERS)


def ask_embeddings(rig: Rig, text: str = "hello", **more: Any) -> httpx2.Response:
    wanted = {"model": "text-embedding-3-small", "input": text, **more}
    return rig.http.post("/v1/embeddings", json=wanted, headers=HEADERS)


ASKS = pytest.mark.parametrize("ask", [ask_chat, ask_responses, ask_embeddings])


def fault(kind: str, **rule: Any) -> list[dict[str, Any]]:
    return [{"on": "direct", "fault": kind, **rule}]


def error_of(reply: httpx2.Response) -> dict[str, Any]:
    return dict(reply.json()["error"])


@ASKS
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529])
def test_every_status_is_there_on_demand_and_costs_nothing(make_rig: MakeRig, ask: Ask, status: int) -> None:
    """For the one call that the plan names; the next is answered."""
    rig = make_rig(faults=fault("status", status=status, nth=1))
    reply = ask(rig)
    assert reply.status_code == status
    assert set(error_of(reply)) == {"message", "type", "param", "code"}
    assert error_of(reply)["message"]
    assert ask(rig).status_code == 200
    assert rig.ledger()["total"]["requests"] == 1


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (401, "invalid_request_error", "invalid_api_key"),
        (404, "invalid_request_error", "model_not_found"),
        (429, "requests", "rate_limit_exceeded"),
        (500, "server_error", "server_error"),
        (503, "server_error", "server_is_overloaded"),
    ],
)
def test_a_status_comes_with_its_usual_code(make_rig: MakeRig, status: int, kind: str, code: str | None) -> None:
    """Unless the rule says otherwise."""
    rig = make_rig(faults=fault("status", status=status))
    error = error_of(ask_chat(rig))
    assert (error["type"], error["code"]) == (kind, code)


@ASKS
@pytest.mark.parametrize("code", BILLING_CODES)
def test_every_billing_code_is_there_for_one_call_or_for_all(make_rig: MakeRig, ask: Ask, code: str) -> None:
    """As 429, never charged."""
    rig = make_rig(faults=fault("status", status=429, code=code, times=1))
    assert error_of(ask(rig))["code"] == code
    assert ask(rig).status_code == 200
    rig.plan(billing_error=code)
    replies = [ask(rig) for _ in range(2)]
    assert [(reply.status_code, error_of(reply)["code"]) for reply in replies] == [(429, code)] * 2
    assert rig.ledger()["total"]["requests"] == 1


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"status": 429, "code": "slow_down"}, {"type": "slow_down", "code": "slow_down"}),
        ({"status": 429, "code": "resource_unavailable"}, {"type": "resource_unavailable"}),
        ({"status": 503, "code": "server_is_overloaded"}, {"type": "server_error"}),
        ({"status": 400, "code": "context_length_exceeded"}, {"param": "messages", "type": "invalid_request_error"}),
        ({"status": 429, "code": "request_too_large"}, {"type": "tokens", "code": "rate_limit_exceeded"}),
    ],
)
def test_codes_have_the_words_of_the_service(make_rig: MakeRig, rule: dict[str, Any], expected: dict[str, Any]) -> None:
    """Not those of their status alone."""
    error = error_of(ask_chat(make_rig(faults=fault("status", **rule))))
    assert error.items() >= expected.items()
    if rule["code"] == "request_too_large":
        assert "Request too large for gpt-4o-mini" in error["message"]
        assert "Limit 30000, Requested 34307." in error["message"]
    if rule["code"] == "context_length_exceeded":
        assert error["message"].startswith("This model's maximum context length is 128000 tokens. However, your")


def test_rules_find_single_requests_by_their_text(make_rig: MakeRig) -> None:
    """Escaped or not, as often as they say."""
    rig = make_rig(faults=fault("status", status=400, match="é", times=2))
    escaped = json.dumps(body("Café"))
    assert "\\u00e9" in escaped
    plain = json.dumps(body("Café"), ensure_ascii=False)
    send = {"headers": {**HEADERS, "content-type": "application/json"}}
    assert rig.http.post("/v1/chat/completions", content=escaped, **send).status_code == 400  # type: ignore[arg-type]
    assert ask_chat(rig, "Cafe").status_code == 200
    assert rig.http.post("/v1/chat/completions", content=plain, **send).status_code == 400  # type: ignore[arg-type]
    assert ask_chat(rig, "Café").status_code == 200


def test_a_body_that_is_no_json_meets_rules_too(make_rig: MakeRig) -> None:
    """And is refused as always where none strikes."""
    rig = make_rig(faults=fault("status", status=503, match="poison"))
    reply = rig.http.post("/v1/chat/completions", content=b"\\u00e9 no json", headers=HEADERS)
    assert reply.status_code == 400


@ASKS
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("lose_before", (httpx2.ReadError, httpx2.RemoteProtocolError)),
        ("lose_after", (httpx2.ReadError, httpx2.RemoteProtocolError)),
        ("cut", httpx2.RemoteProtocolError),
    ],
)
def test_replies_are_lost_or_cut_once(make_rig: MakeRig, ask: Ask, kind: str, error: Any) -> None:
    """Only what was lost before it acted is not charged."""
    rig = make_rig(faults=fault(kind, nth=1))
    with pytest.raises(error):
        ask(rig)
    assert rig.ledger()["total"]["requests"] == (0 if kind == "lose_before" else 1)
    assert ask(rig).status_code == 200


@ASKS
def test_a_reply_can_be_garbage_or_late(make_rig: MakeRig, ask: Ask) -> None:
    """Both are charged."""
    rig = make_rig(faults=[*fault("garbage", nth=1), *fault("stall", seconds=0.2, nth=2)])
    with pytest.raises(json.JSONDecodeError):
        ask(rig).json()
    begun = time.monotonic()
    assert ask(rig).json()
    assert time.monotonic() - begun >= 0.2
    assert rig.ledger()["total"]["requests"] == 2


def chat_answer(rig: Rig, **more: Any) -> tuple[dict[str, Any], str]:
    choice = ask_chat(rig, response_format=structured(), **more).json()["choices"][0]
    return choice["message"], choice["finish_reason"]


def test_chat_answers_go_wrong_in_every_way(make_rig: MakeRig) -> None:
    """One after the other, all charged."""
    kinds = ("refusal", "length", "content_filter", "empty", "broken_json", "wrong_json")
    rig = make_rig(faults=[rule for number, kind in enumerate(kinds, start=1) for rule in fault(kind, nth=number)])
    message, finish = chat_answer(rig)
    assert (message["content"], finish) == (None, "stop")
    assert message["refusal"]
    for reason in ("length", "content_filter"):
        message, finish = chat_answer(rig)
        assert finish == reason
        with pytest.raises(json.JSONDecodeError):
            json.loads(message["content"])
    assert chat_answer(rig)[0]["content"] == ""
    message, finish = chat_answer(rig)
    with pytest.raises(json.JSONDecodeError):
        json.loads(message["content"])
    assert finish == "stop"
    message, finish = chat_answer(rig)
    assert list(json.loads(message["content"])) == ["unexpected"]
    assert list(json.loads(chat_answer(rig)[0]["content"])) == list(ANSWER_SCHEMA["properties"])
    assert rig.ledger()["total"]["requests"] == 7
    assert [call["fault"] for call in rig.calls()] == [*kinds, None]


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("refusal", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("empty", "completed", None),
        ("wrong_json", "completed", None),
    ],
)
def test_responses_go_wrong_in_every_way(make_rig: MakeRig, kind: str, status: str, reason: str | None) -> None:
    """By status and reason, as the endpoint says it."""
    rig = make_rig(faults=fault(kind))
    answer = ask_responses(rig, text=TEXT_FORMAT).json()
    assert (answer["status"], (answer["incomplete_details"] or {}).get("reason")) == (status, reason)
    parts = [part for item in answer["output"] for part in item.get("content", ())]
    assert [part["type"] for part in parts] == {"refusal": ["refusal"], "empty": []}.get(kind, ["output_text"])
    if kind == "wrong_json":
        assert list(json.loads(parts[0]["text"])) == ["unexpected"]


def test_an_embeddings_answer_can_be_empty(make_rig: MakeRig) -> None:
    """It has no vectors."""
    assert ask_embeddings(make_rig(faults=fault("empty"))).json()["data"] == []


@ASKS
def test_ids_can_be_blank_and_usage_missing(make_rig: MakeRig, ask: Ask) -> None:
    """The answer is charged all the same."""
    rig = make_rig(faults=[*fault("blank_id", nth=1), *fault("no_usage", nth=2)])
    assert ask(rig).json().get("id", "") == ""
    assert "usage" not in ask(rig).json()
    assert rig.ledger()["total"]["requests"] == 2


def test_lines_of_batches_go_wrong_in_the_same_ways(make_rig: MakeRig) -> None:
    """By rules about lines."""
    kinds = ("content_filter", "empty", "wrong_json", "blank_id", "no_usage")
    rules = [{"fault": kind, "match": f'"r{number}"'} for number, kind in enumerate(kinds)]
    rig = make_rig(lines=rules)
    lines = [request(f"r{number}", response_format=structured()) for number in range(len(kinds))]
    batch = rig.finish(rig.submit(lines))
    found = {line["custom_id"]: line["response"]["body"] for line in rig.lines(batch.output_file_id)}
    assert found["r0"]["choices"][0]["finish_reason"] == "content_filter"
    assert found["r1"]["choices"][0]["message"]["content"] == ""
    assert list(json.loads(found["r2"]["choices"][0]["message"]["content"])) == ["unexpected"]
    assert found["r3"]["id"] == ""
    assert "usage" not in found["r4"]
    assert rig.ledger()["total"]["requests"] == len(kinds)


def test_a_forced_function_is_not_called_by_an_answer_that_went_wrong(make_rig: MakeRig) -> None:
    """It is cut off or empty instead."""
    rig = make_rig(faults=[*fault("empty", nth=1), *fault("content_filter", nth=2)])
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    replies = [ask_chat(rig, tools=tools, tool_choice="required").json()["choices"][0] for _ in range(3)]
    assert ["tool_calls" in reply["message"] for reply in replies] == [False, False, True]


# ------------------------------------------------------------ flex, money, limits


@pytest.mark.parametrize("ask", [ask_chat, ask_responses])
def test_flex_costs_half(make_rig: MakeRig, ask: Any) -> None:
    """The same question, the same answer, booked on a road of its own."""
    rig = make_rig()
    assert ask(rig, max_completion_tokens=1) if ask is ask_chat else ask(rig)
    assert ask(rig, service_tier="flex").json()["service_tier"] == "flex"
    rows = rig.ledger(rows=1)["rows"]
    assert [row["road"] for row in rows] == ["direct", "flex"]
    for row, input_pico, output_pico in zip(rows, (150_000, 75_000), (600_000, 300_000), strict=True):
        assert row["cost_pico"] == row["input"] * input_pico + row["output"] * output_pico


def test_flex_can_be_unavailable_on_demand(make_rig: MakeRig) -> None:
    """For the calls that a rule finds; the standard tier is served, and nothing is charged for what was not."""
    rig = make_rig(faults=fault("status", status=429, code="resource_unavailable", match="flex", nth=1))
    reply = ask_chat(rig, service_tier="flex")
    assert (reply.status_code, error_of(reply)["code"]) == (429, "resource_unavailable")
    assert ask_chat(rig).status_code == 200
    assert ask_chat(rig, service_tier="flex").status_code == 200
    assert sorted(rig.ledger()["roads"]) == ["direct", "flex"]


@ASKS
def test_every_endpoint_has_rate_limits_with_headers(make_rig: MakeRig, ask: Ask) -> None:
    """Of requests and of tokens."""
    rig = make_rig(rate_limits={"requests_per_minute": 2, "tokens_per_minute": 1000})
    headers = ask(rig).headers
    for kind in ("requests", "tokens"):
        for what in ("limit", "remaining", "reset"):
            assert f"x-ratelimit-{what}-{kind}" in headers
    ask(rig)
    reply = ask(rig)
    assert (reply.status_code, error_of(reply)["type"], reply.headers["retry-after"]) == (429, "requests", "30")


def test_a_rate_limiter_counts_pictures_alike_and_instructions_too(make_rig: MakeRig) -> None:
    """A large picture is not a large text."""
    rig = make_rig(rate_limits={"tokens_per_minute": 2000})
    url = "data:image/png;base64," + "A" * 100_000
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    wanted = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": parts}]}
    reply = rig.http.post("/v1/chat/completions", json=wanted, headers=HEADERS)
    assert reply.headers["x-ratelimit-remaining-tokens"] == str(2000 - 754)
    reply = ask_responses(rig, "a" * 40, instructions="b" * 40)
    assert reply.headers["x-ratelimit-remaining-tokens"] == str(2000 - 754 - 20)
    reply = ask_embeddings(rig, [1, 2, 3])  # type: ignore[arg-type]
    assert reply.headers["x-ratelimit-remaining-tokens"] == "1997"


def test_a_limit_is_not_widened_by_calls_out_of_order() -> None:
    """Time that has been counted is not counted again."""
    limiter, limits = RateLimiter(), parse_plan({"rate_limits": {"requests_per_minute": 60}}).rate_limits

    def left(now: float) -> int:
        headers = limiter.admit("m", characters=0, limits=limits, now=now, time_scale=1)
        return int(headers["x-ratelimit-remaining-requests"])

    assert [left(now) for now in (100, 90, 100, 90, 100)] == [59, 58, 57, 56, 55]


# ------------------------------------------------------------ latency, many at once


def test_latency_is_spread(make_rig: MakeRig) -> None:
    """Between the least and the most; two calls differ."""
    direct = make_rig(latency_s=0.1, latency_spread_s=0.4).sandbox.direct
    plan = parse_plan({"latency_s": 0.1, "latency_spread_s": 0.4})
    waits = [direct.latency_s(plan) for _ in range(200)]
    assert all(0.1 <= wait < 0.5 for wait in waits)
    assert min(waits) < 0.15
    assert max(waits) > 0.45


def test_a_refusal_does_not_wait(make_rig: MakeRig) -> None:
    """Mistakes and limits are told at once: nobody waits an hour here."""
    rig = make_rig(latency_s=3600, rate_limits={"tokens_per_minute": 1})
    assert ask_chat(rig, temperature=9).status_code == 400
    assert ask_chat(rig, "far too long").status_code == 429


def test_calls_under_way_do_not_wait_for_each_other(make_rig: MakeRig) -> None:
    """Twenty calls of 0.3 seconds take far less than six seconds; each is booked once."""
    rig = make_rig(latency_s=0.3)
    ask_chat(rig)
    begun = time.monotonic()
    with ThreadPoolExecutor(20) as threads:
        replies = list(threads.map(lambda number: ask_chat(rig, f"number {number}"), range(20)))
    assert time.monotonic() - begun < 4
    assert {reply.status_code for reply in replies} == {200}
    assert rig.ledger()["total"]["requests"] == 21


def test_the_same_question_asked_at_once_counts_each_time(make_rig: MakeRig) -> None:
    """No two answers are the same one."""
    rig = make_rig()
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda number: ask_chat(rig), range(16)))
    assert len({reply.json()["id"] for reply in replies}) == 16


def test_how_often_was_asked_outlives_a_restart(db: Path, clock: ManualClock) -> None:
    """So an answer is never given twice under one id."""
    ids = []
    for _ in range(2):
        with rig_on(db, clock=clock) as rig:
            ids += [ask_chat(rig).json()["id"] for _ in range(2)]
    assert len(set(ids)) == 4


def test_a_vocabulary_is_loaded_once_however_many_ask() -> None:
    """Loading takes a second, and the first calls come together."""
    load_encoding.cache_clear()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: counting.encoding_for("gpt-4o"), range(8)))
    assert load_encoding.cache_info().misses == 1
    assert len({id(encoding) for encoding in found}) == 1


# ------------------------------------------------------------ the packaged plans


def test_direct_stands_for_the_operations_that_answer() -> None:
    """And for no other."""
    plan = parse_plan({"faults": fault("garbage")})
    struck = {
        operation for operation in ("files.create", "batches.create", *ANSWERING) if matching_calls(plan, operation, "")
    }
    assert struck == set(ANSWERING)


def test_a_storm_meets_direct_calls_as_it_is_described(make_rig: MakeRig) -> None:
    """One in ten a 5xx, one in twenty a 429, some lost or unreadable; one 400 and one refusal in all."""
    rig = make_rig()
    storm = load_plan("storm")
    assert storm.latency_s > 0
    rules = [
        {
            "on": rule.on,
            "fault": rule.fault,
            "status": rule.status,
            "rate": rule.rate,
            "nth": list(rule.nth),
            "times": rule.times,
            "after_bytes": rule.after_bytes,
        }
        for rule in storm.faults
    ]
    rig.plan(faults=rules)
    seen: Counter[Any] = Counter()
    for number in range(400):
        try:
            reply = ask_chat(rig, f"number {number}")
            if reply.status_code != 200:
                seen[reply.status_code] += 1
            elif reply.json()["choices"][0]["message"]["refusal"]:
                seen["refusal"] += 1
        except (httpx2.ReadError, httpx2.RemoteProtocolError):
            seen["lost"] += 1
        except json.JSONDecodeError:
            seen["garbage"] += 1
    assert (seen[400], seen["refusal"]) == (1, 1)
    assert 0.06 < (seen[500] + seen[503]) / 400 < 0.14
    assert 0.02 < seen[429] / 400 < 0.08
    assert seen["lost"]
    assert seen["garbage"]


def test_in_a_storm_the_first_batch_meets_the_token_limit_and_the_second_expires(make_rig: MakeRig) -> None:
    """In the words of the service; the third is completed."""
    rules = [{"fault": rule.fault, "nth": list(rule.nth), "code": rule.code} for rule in load_plan("storm").batches]
    rig = make_rig(batches=[rule for rule in rules if rule["nth"]])
    batches = [rig.finish(rig.submit(requests(4))) for _ in range(3)]
    assert [batch.status for batch in batches] == ["failed", "expired", "completed"]
    assert batches[0].errors is not None
    assert batches[0].errors.data is not None
    error = batches[0].errors.data[0]
    assert error.code == "token_limit_exceeded"
    assert error.message is not None
    assert "Enqueued token limit reached for gpt-4o-mini" in error.message
    assert "Limit: 2,000,000 enqueued tokens." in error.message


def test_fair_weather_answers_every_direct_call(make_rig: MakeRig) -> None:
    """Under the plan that is in force without any."""
    rig = make_rig()
    rig.http.post("/sandbox/plan", json="calm").raise_for_status()
    assert {ask(rig).status_code for ask in (ask_chat, ask_responses, ask_embeddings) for _ in range(20)} == {200}


def test_the_official_client_reads_what_went_wrong(make_rig: MakeRig) -> None:
    """Status, code and message are where it looks for them."""
    rig = make_rig(faults=fault("status", status=429, code="billing_not_active"))
    with pytest.raises(openai.RateLimitError) as caught:
        rig.client.responses.create(model="gpt-4o-mini", input="x")
    assert (caught.value.status_code, caught.value.code) == (429, "billing_not_active")
