"""Faults of calls: lost, cut, stalled and garbled replies, statuses; when they strike and what has happened then."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from openai.types import FileObject

from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import KEY, Rig, body, client_of, request, requests


def test_a_call_lost_before_it_acted_changes_nothing(make_rig: MakeRig) -> None:
    """The connection is reset; the next call works."""
    rig = make_rig(faults=[{"on": "files.create", "fault": "lose_before", "times": 1}])
    with pytest.raises(openai.APIConnectionError):
        rig.upload(requests(1))
    assert rig.state()["files"] == {}
    rig.upload(requests(1))
    assert [(call["fault"], call["status"]) for call in rig.calls()] == [("lose_before", None), (None, 200)]


Act = Callable[[Rig], Any]


def acted_upload(rig: Rig) -> bool:
    return bool(rig.state()["files"] == {"batch": 1})


def acted_batch(rig: Rig) -> bool:
    return len(list(rig.client.batches.list())) == 1


def acted_chat(rig: Rig) -> bool:
    return bool(rig.ledger()["total"]["requests"] == 1)


@pytest.mark.parametrize(
    ("operation", "act", "has_acted"),
    [
        ("files.create", lambda rig: rig.upload(requests(1)), acted_upload),
        ("batches.create", lambda rig: rig.submit(requests(1)), acted_batch),
        ("chat.create", lambda rig: rig.client.chat.completions.create(**body()), acted_chat),
    ],
)
def test_a_lost_reply_leaves_the_server_acted(
    make_rig: MakeRig, operation: str, act: Act, has_acted: Callable[[Rig], bool]
) -> None:
    """The client knows nothing, but the file, the batch, the cost are there."""
    rig = make_rig(faults=[{"on": operation, "fault": "lose_after", "nth": 1}])
    with pytest.raises(openai.APIConnectionError):
        act(rig)
    assert has_acted(rig)
    [call] = [call for call in rig.calls() if call["operation"] == operation]
    assert call["fault"] == "lose_after"


def test_a_client_that_resends_gets_two_batches(make_rig: MakeRig) -> None:
    """Which is what the official client does by itself."""
    rig = make_rig(faults=[{"on": "batches.create", "fault": "lose_after", "times": 1}])
    uploaded = rig.upload(requests(1))
    with client_of(rig.url, max_retries=1) as client:
        client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert len(list(rig.client.batches.list())) == 2


def download(rig: Rig, file: FileObject, got: bytearray) -> None:
    """Stream the content of *file* into *got*."""
    with rig.client.files.with_streaming_response.content(file.id) as reply:
        assert int(reply.headers["content-length"]) == file.bytes
        for part in reply.iter_bytes():
            got += part


@pytest.mark.parametrize("after_bytes", [0, 100, 70_000])
def test_a_download_can_be_cut(make_rig: MakeRig, after_bytes: int) -> None:
    """After so many bytes, although more were promised; the rest can be asked for."""
    rig = make_rig(faults=[{"on": "files.content", "fault": "cut", "after_bytes": after_bytes, "times": 1}])
    uploaded = rig.upload(requests(2000))
    got = bytearray()
    with pytest.raises(httpx2.RemoteProtocolError):
        download(rig, uploaded, got)
    assert len(got) == after_bytes
    headers = {"authorization": f"Bearer {KEY}", "range": f"bytes={len(got)}-"}
    rest = rig.http.get(f"/v1/files/{uploaded.id}/content", headers=headers).content
    assert bytes(got) + rest == rig.client.files.content(uploaded.id).content


def test_a_download_can_be_short_and_look_whole(make_rig: MakeRig) -> None:
    """Only the size that the file object tells says that bytes are missing."""
    rig = make_rig(faults=[{"on": "files.content", "fault": "short", "after_bytes": 70_000, "times": 1}])
    uploaded = rig.upload(requests(2000))
    with rig.client.files.with_streaming_response.content(uploaded.id) as reply:
        got = reply.read()
        assert int(reply.headers["content-length"]) == len(got) == 70_000
    assert rig.client.files.retrieve(uploaded.id).bytes > len(got)
    assert rig.client.files.content(uploaded.id).content.startswith(got)


def test_a_reply_can_be_garbage(make_rig: MakeRig) -> None:
    """Status 200, but no JSON; the server has acted."""
    rig = make_rig(faults=[{"on": "batches.create", "fault": "garbage", "nth": 1}])
    with pytest.raises(json.JSONDecodeError):
        rig.submit(requests(1))
    assert rig.state()["batches"] == {"validating": 1}


def test_a_reply_can_stall(make_rig: MakeRig) -> None:
    """A client that does not wait gives up, and the server has acted; one that waits gets the reply."""
    rig = make_rig(faults=[{"on": "files.create", "fault": "stall", "seconds": 0.4}])
    content = json.dumps(request("a")).encode()
    with pytest.raises(openai.APITimeoutError):
        rig.client.with_options(timeout=0.1).files.create(file=("in.jsonl", content), purpose="batch")
    begun = time.monotonic()
    assert rig.upload(requests(1)).id
    assert time.monotonic() - begun >= 0.4
    assert rig.state()["files"] == {"batch": 2}


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (
            {"status": 503},
            {
                "message": "The server is currently overloaded. Please try again later.",
                "type": "server_error",
                "param": None,
                "code": "server_is_overloaded",
            },
        ),
        (
            {"status": 429},
            {
                "message": "Rate limit reached for gpt-4o-mini in organization org-sandbox on requests per min (RPM).",
                "type": "requests",
                "param": None,
                "code": "rate_limit_exceeded",
            },
        ),
        (
            {"status": 429, "code": "insufficient_quota"},
            {
                "message": "You exceeded your current quota, please check your plan and billing details.",
                "type": "insufficient_quota",
                "param": None,
                "code": "insufficient_quota",
            },
        ),
        (
            {"status": 418, "code": "teapot", "type": "kitchen_error", "message": "Short and stout."},
            {"message": "Short and stout.", "type": "kitchen_error", "param": None, "code": "teapot"},
        ),
    ],
)
def test_a_call_can_be_answered_with_any_status(make_rig: MakeRig, rule: dict[str, Any], error: dict[str, Any]) -> None:
    """What the rule leaves open is what the service says; nothing is done."""
    rig = make_rig(faults=[{"on": "chat.create", "fault": "status", **rule}])
    with pytest.raises(openai.APIStatusError) as caught:
        rig.client.chat.completions.create(**body())
    assert caught.value.status_code == rule["status"]
    assert caught.value.body == error
    assert rig.ledger()["total"]["requests"] == 0


def test_a_status_can_say_when_to_come_again(make_rig: MakeRig) -> None:
    """By `retry-after`."""
    rig = make_rig(faults=[{"on": "batches.list", "fault": "status", "status": 429, "retry_after": 7}])
    with pytest.raises(openai.RateLimitError) as caught:
        rig.client.batches.list()
    assert caught.value.response.headers["retry-after"] == "7"


def test_an_upload_is_read_to_its_end_before_it_is_refused(make_rig: MakeRig) -> None:
    """So the client reads the status, instead of failing to send."""
    rig = make_rig(faults=[{"on": "files.create", "fault": "status", "status": 500}])
    with pytest.raises(openai.InternalServerError):
        rig.client.files.create(file=("in.jsonl", b"{}\n" * 1_000_000), purpose="batch")


def outcomes(rig: Rig, calls: int) -> list[bool]:
    """Which of so many listings of models work."""
    found = []
    for _ in range(calls):
        try:
            rig.client.models.list()
        except openai.APIStatusError:
            found.append(False)
        else:
            found.append(True)
    return found


def models_fault(**rule: Any) -> list[dict[str, Any]]:
    return [{"on": "models.list", "fault": "status", "status": 500, **rule}]


def test_a_fault_strikes_at_the_calls_that_it_names(make_rig: MakeRig) -> None:
    """The first and the third."""
    assert outcomes(make_rig(faults=models_fault(nth=[1, 3])), 4) == [False, True, False, True]


def test_a_fault_strikes_at_most_so_many_times(make_rig: MakeRig) -> None:
    """Then never again."""
    assert outcomes(make_rig(faults=models_fault(times=2)), 4) == [False, False, True, True]


def test_a_fault_strikes_at_its_rate(make_rig: MakeRig) -> None:
    """The same calls for the same seed, others for another."""
    rig = make_rig()
    found = []
    for seed in (1, 1, 2):
        rig.plan(seed=seed, faults=models_fault(rate=0.3))
        found.append(outcomes(rig, 60))
    assert 0.1 < found[0].count(False) / 60 < 0.5
    assert found[0] == found[1] != found[2]


def test_a_name_with_a_star_stands_for_several_operations(make_rig: MakeRig) -> None:
    """And counts all of them together."""
    rig = make_rig(faults=[{"on": "files.*", "fault": "status", "status": 500, "nth": 2}])
    rig.upload(requests(1))
    with pytest.raises(openai.InternalServerError):
        rig.client.files.list()
    rig.client.files.list()


def test_a_fault_can_be_for_certain_bodies_only(make_rig: MakeRig) -> None:
    """By a part of the text of the request."""
    rig = make_rig(faults=[{"on": "chat.create", "fault": "status", "status": 400, "match": "poison"}])
    rig.client.chat.completions.create(**body("wholesome"))
    with pytest.raises(openai.BadRequestError):
        rig.client.chat.completions.create(**body("poison"))


def test_the_first_rule_that_strikes_wins(make_rig: MakeRig) -> None:
    """But all of them count the call."""
    rig = make_rig(
        faults=[
            {"on": "models.list", "fault": "status", "status": 503, "nth": 1},
            {"on": "models.list", "fault": "status", "status": 500, "nth": [1, 2]},
        ]
    )
    statuses = []
    for _ in range(2):
        with pytest.raises(openai.APIStatusError) as caught:
            rig.client.models.list()
        statuses.append(caught.value.status_code)
    assert statuses == [503, 500]


def test_a_plan_replaced_at_run_time_counts_anew(make_rig: MakeRig) -> None:
    """Its rules have seen nothing yet."""
    rig = make_rig(faults=models_fault(nth=1))
    assert outcomes(rig, 2) == [False, True]
    rig.plan(faults=models_fault(nth=1))
    assert outcomes(rig, 2) == [False, True]


def test_flex_can_be_unavailable_and_costs_nothing_then(make_rig: MakeRig) -> None:
    """A 429 that may pass; other tiers are served."""
    rig = make_rig(flex_unavailable_rate=1)
    with pytest.raises(openai.RateLimitError) as caught:
        rig.client.chat.completions.create(**body(service_tier="flex"))
    assert caught.value.code == "resource_unavailable"
    rig.client.chat.completions.create(**body())
    assert list(rig.ledger()["roads"]) == ["direct"]


def test_a_flex_call_that_is_repeated_gets_through(make_rig: MakeRig) -> None:
    """Each try has a chance of its own."""
    rig = make_rig(flex_unavailable_rate=0.5)
    served = 0
    for _ in range(20):
        try:
            rig.client.chat.completions.create(**body(service_tier="flex"))
            served += 1
        except openai.RateLimitError:
            pass
    assert 0 < served < 20


def test_an_account_that_cannot_pay_is_told_so(make_rig: MakeRig) -> None:
    """Directly by 429 with the code, in batches line by line; nothing is charged."""
    rig = make_rig(billing_error="insufficient_quota")
    with pytest.raises(openai.RateLimitError) as caught:
        rig.client.chat.completions.create(**body())
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    batch = rig.finish(rig.submit(requests(2)))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    errors = [line["response"]["body"]["error"]["code"] for line in rig.lines(batch.error_file_id)]
    assert errors == ["insufficient_quota"] * 2
    assert rig.ledger()["total"]["requests"] == 0


def test_a_hard_limit_fails_the_batch(make_rig: MakeRig) -> None:
    """At its validation."""
    rig = make_rig(billing_error="billing_hard_limit_reached")
    batch = rig.finish(rig.submit(requests(2)))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert batch.errors.data[0].code == "billing_hard_limit_reached"


def test_latency_delays_answers(make_rig: MakeRig) -> None:
    """In real seconds."""
    rig = make_rig(latency_s=0.2)
    begun = time.monotonic()
    rig.client.chat.completions.create(**body())
    assert time.monotonic() - begun >= 0.2
