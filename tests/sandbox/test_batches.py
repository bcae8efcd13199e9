"""Batches: how they are created, move, end and are cancelled; what they count; what they leave."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import CHAT, Rig, request, requests

# With the rig's timing a batch of ten is validated after 1 s, processed after 2 s, completed after 3 s.
VALIDATED_S, PROCESSED_S, COMPLETED_S = 1, 2, 3


def refused(rig: Rig, **body: Any) -> dict[str, Any]:
    """What the API says at once against a batch that differs in *body* from a good one."""
    wanted = {"input_file_id": rig.upload(requests(1)).id, "endpoint": CHAT, "completion_window": "24h", **body}
    wanted = {key: value for key, value in wanted.items() if value is not ...}
    reply = rig.http.post("/v1/batches", json=wanted, headers={"authorization": "Bearer sk-x"})
    assert reply.status_code == 400
    error: dict[str, Any] = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


def counts(batch: openai.types.Batch) -> tuple[int, int, int]:
    assert batch.request_counts is not None
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


def test_a_new_batch_is_being_validated(rig: Rig) -> None:
    """Its object has every field of the API, with counts of nought."""
    uploaded = rig.upload(requests(2))
    batch = rig.create(uploaded.id, metadata={"k": "v"})
    now = int(rig.clock.now())
    assert batch.model_dump() == {
        "id": batch.id,
        "object": "batch",
        "endpoint": CHAT,
        "model": None,
        "errors": None,
        "input_file_id": uploaded.id,
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        "in_progress_at": None,
        "expires_at": now + 86_400,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
        "metadata": {"k": "v"},
    }


def test_a_batch_moves_through_its_states_with_time(rig: Rig) -> None:
    """Each state comes at its simulated second, is stamped with it, and counts what is done."""
    batch = rig.submit(requests(10))
    start = batch.created_at
    seen = []
    for _ in range(7):
        batch = rig.client.batches.retrieve(batch.id)
        seen.append((batch.status, counts(batch)))
        rig.advance(0.5)
    assert seen == [
        ("validating", (0, 0, 0)),
        ("validating", (0, 0, 0)),
        ("in_progress", (10, 0, 0)),
        ("in_progress", (10, 5, 0)),
        ("finalizing", (10, 10, 0)),
        ("finalizing", (10, 10, 0)),
        ("completed", (10, 10, 0)),
    ]
    assert batch.model == "gpt-4o-mini"
    assert batch.in_progress_at == start + VALIDATED_S
    assert batch.finalizing_at == start + PROCESSED_S
    assert batch.completed_at == start + COMPLETED_S


def test_every_request_is_answered_once_in_another_order(rig: Rig) -> None:
    """The output file holds each custom_id once, shuffled; without errors there is no error file."""
    batch = rig.finish(rig.submit(requests(30)))
    lines = rig.lines(batch.output_file_id)
    ids = [line["custom_id"] for line in lines]
    assert sorted(ids) == sorted(f"r{number}" for number in range(30))
    assert ids != [f"r{number}" for number in range(30)]
    assert batch.error_file_id is None
    assert all(line["error"] is None and line["response"]["status_code"] == 200 for line in lines)
    assert len({line["id"] for line in lines}) == 30


def test_the_usage_of_a_batch_is_the_sum_of_its_lines(rig: Rig) -> None:
    """With the names of the Responses API, whatever the endpoint."""
    batch = rig.finish(rig.submit(requests(8)))
    used = [line["response"]["body"]["usage"] for line in rig.lines(batch.output_file_id)]
    assert batch.usage is not None
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in used)
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in used)
    assert batch.usage.total_tokens == sum(usage["total_tokens"] for usage in used)


def test_http_errors_go_to_the_error_file(rig: Rig) -> None:
    """With `error: null`: the error is in the response; the rest of the batch is not disturbed."""
    bad = request("bad", temperature=3)
    batch = rig.finish(rig.submit([*requests(3), bad]))
    assert batch.status == "completed"
    assert counts(batch) == (4, 3, 1)
    [line] = rig.lines(batch.error_file_id)
    assert (line["custom_id"], line["error"], line["response"]["status_code"]) == ("bad", None, 400)
    assert line["response"]["body"]["error"]["param"] == "temperature"
    assert len(rig.lines(batch.output_file_id)) == 3


def test_a_batch_whose_requests_all_fail_is_completed_without_output(rig: Rig) -> None:
    """Only an error file; nothing is charged."""
    batch = rig.finish(rig.submit([request(f"r{number}", n=0) for number in range(3)]))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert len(rig.lines(batch.error_file_id)) == 3
    assert rig.ledger()["total"]["requests"] == 0


def test_result_files_live_as_long_as_was_asked(rig: Rig) -> None:
    """`output_expires_after` counts from the end of the batch."""
    expiry = {"anchor": "created_at", "seconds": 7200}
    batch = rig.finish(rig.submit(requests(2), output_expires_after=expiry))
    assert batch.output_file_id is not None
    output = rig.client.files.retrieve(batch.output_file_id)
    assert output.purpose == "batch_output"
    assert output.created_at == batch.completed_at
    assert output.expires_at == output.created_at + 7200


def test_a_batch_can_be_cancelled_while_it_is_validated(rig: Rig) -> None:
    """Nothing has run: no files, no counts, no money."""
    batch = rig.submit(requests(5))
    cancelling = rig.client.batches.cancel(batch.id)
    assert (cancelling.status, cancelling.cancelling_at) == ("cancelling", batch.created_at)
    batch = rig.finish(batch)
    assert (batch.status, batch.cancelled_at) == ("cancelled", batch.created_at + 1)
    assert counts(batch) == (0, 0, 0)
    assert (batch.output_file_id, batch.error_file_id, batch.in_progress_at) == (None, None, None)
    assert rig.ledger()["total"]["cost_pico"] == 0


def test_a_cancelled_batch_keeps_and_charges_what_was_finished(make_rig: MakeRig) -> None:
    """The finished part is in the output file; the others have `batch_cancelled` lines."""
    rig = make_rig(timing={"validating_s": 1, "requests_per_s": 2, "cancelling_s": 0})
    batch = rig.submit(requests(10))
    rig.advance(1 + 1.6)
    assert counts(rig.client.batches.retrieve(batch.id)) == (10, 3, 0)
    rig.client.batches.cancel(batch.id)
    batch = rig.finish(batch)
    assert (batch.status, counts(batch)) == ("cancelled", (10, 3, 0))
    done, left = rig.lines(batch.output_file_id), rig.lines(batch.error_file_id)
    assert (len(done), len(left)) == (3, 7)
    assert {line["custom_id"] for line in done + left} == {f"r{number}" for number in range(10)}
    assert left[0]["response"] is None
    assert left[0]["error"] == {
        "code": "batch_cancelled",
        "message": "This request was not executed because the batch was cancelled.",
    }
    assert rig.ledger()["total"]["requests"] == 3


def test_requests_in_flight_finish_while_a_batch_is_cancelled(rig: Rig) -> None:
    """What would be done within a second is still done, counted and charged."""
    batch = rig.submit(requests(30))
    rig.advance(VALIDATED_S + 0.5)
    rig.client.batches.cancel(batch.id)
    batch = rig.finish(batch)
    assert counts(batch) == (30, 15, 0)
    assert len(rig.lines(batch.output_file_id)) == rig.ledger()["total"]["requests"] == 15


@pytest.mark.parametrize("status", ["completed", "failed", "expired"])
def test_an_ended_batch_cannot_be_cancelled(make_rig: MakeRig, status: str) -> None:
    """A conflict that names the state."""
    fault = {"completed": [], "failed": [{"fault": "fail"}], "expired": [{"fault": "expire"}]}[status]
    rig = make_rig(batches=fault)
    batch = rig.finish(rig.submit(requests(4)))
    assert batch.status == status
    with pytest.raises(openai.ConflictError) as caught:
        rig.client.batches.cancel(batch.id)
    assert str(caught.value.body["message"]) == f"Cannot cancel a batch with status '{status}'."  # type: ignore[index]


def test_cancelling_twice_does_no_harm(rig: Rig) -> None:
    """Neither while it is being cancelled nor afterwards."""
    batch = rig.submit(requests(4))
    rig.client.batches.cancel(batch.id)
    assert rig.client.batches.cancel(batch.id).status == "cancelling"
    rig.finish(batch)
    assert rig.client.batches.cancel(batch.id).status == "cancelled"


def test_a_batch_that_is_too_slow_expires_with_partial_results(make_rig: MakeRig) -> None:
    """At the end of its window the finished part is kept and charged, the rest has `batch_expired` lines."""
    rig = make_rig(timing={"validating_s": 0, "requests_per_s": 0.001, "completion_window_s": 2500})
    batch = rig.submit(requests(4))
    rig.advance(2499)
    assert rig.client.batches.retrieve(batch.id).status == "in_progress"
    batch = rig.finish(batch)
    assert (batch.status, batch.expired_at) == ("expired", batch.created_at + 2500)
    assert batch.expired_at == batch.expires_at
    done, left = rig.lines(batch.output_file_id), rig.lines(batch.error_file_id)
    assert (len(done), len(left)) == (2, 2)
    assert left[0]["error"] == {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }
    assert rig.ledger()["batches"][batch.id]["requests"] == 2


def test_batches_are_listed_newest_first_page_by_page(rig: Rig) -> None:
    """`after` and `limit` make pages; the client's iteration sees every batch once."""
    uploaded = rig.upload(requests(1))
    ids = [rig.create(uploaded.id).id for _ in range(5)]
    first = rig.client.batches.list(limit=2)
    assert [batch.id for batch in first.data] == ids[:2:-1]
    assert first.has_more
    assert [batch.id for batch in rig.client.batches.list(limit=2)] == ids[::-1]


def test_a_page_holds_twenty_batches_unless_asked_otherwise(rig: Rig) -> None:
    """And never more than a hundred."""
    uploaded = rig.upload(requests(1))
    for _ in range(21):
        rig.create(uploaded.id)
    assert len(rig.client.batches.list().data) == 20
    with pytest.raises(openai.BadRequestError):
        rig.client.batches.list(limit=101)


def test_a_new_batch_can_lag_in_listings(make_rig: MakeRig) -> None:
    """It can be retrieved at once, but is listed only later."""
    rig = make_rig(list_lag_s={"batches": 30})
    batch = rig.submit(requests(1))
    rig.client.batches.retrieve(batch.id)
    rig.advance(29)
    assert list(rig.client.batches.list()) == []
    rig.advance(1)
    assert [listed.id for listed in rig.client.batches.list()] == [batch.id]


def test_an_unknown_batch_is_not_found(rig: Rig) -> None:
    """With the API's text."""
    with pytest.raises(openai.NotFoundError) as caught:
        rig.client.batches.retrieve("batch_x")
    assert caught.value.body == {
        "message": "No batch found with id 'batch_x'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize("name", ["input_file_id", "endpoint", "completion_window"])
def test_a_missing_field_is_refused_at_once(rig: Rig, name: str) -> None:
    """With its name."""
    error = refused(rig, **{name: ...})
    assert (error["code"], error["param"]) == ("missing_required_parameter", name)


def test_a_wrong_endpoint_or_window_is_refused_at_once(rig: Rig) -> None:
    """`invalid_value`, with the values that are possible."""
    for name, value in (("endpoint", "/v1/nothing"), ("completion_window", "48h")):
        error = refused(rig, **{name: value})
        assert (error["code"], error["param"]) == ("invalid_value", name)
        assert error["message"].startswith(f"Invalid value: '{value}'. Supported values are: ")


@pytest.mark.parametrize(
    ("metadata", "code", "param"),
    [
        ({"tags": 1}, "invalid_type", "metadata.tags"),
        ({"tags": ["a"]}, "invalid_type", "metadata.tags"),
        ({f"k{number}": "v" for number in range(17)}, "object_above_max_properties", "metadata"),
        ({"k" * 65: "v"}, "string_above_max_length", f"metadata.{'k' * 65}"),
        ({"k": "v" * 513}, "string_above_max_length", "metadata.k"),
        ("text", "invalid_type", "metadata"),
    ],
)
def test_wrong_metadata_is_refused_at_once(rig: Rig, metadata: Any, code: str, param: str) -> None:
    """Sixteen pairs of short strings, nothing else."""
    error = refused(rig, metadata=metadata)
    assert (error["code"], error["param"]) == (code, param)


def test_metadata_at_the_limits_is_kept(rig: Rig) -> None:
    """Sixteen pairs, keys of 64 and values of 512 characters."""
    metadata = {f"{number:064}": "v" * 512 for number in range(16)}
    batch = rig.submit(requests(1), metadata=metadata)
    assert rig.client.batches.retrieve(batch.id).metadata == metadata


def test_an_unknown_input_file_is_refused_at_once(rig: Rig) -> None:
    """As a 400 about `file_id`."""
    error = refused(rig, input_file_id="file-x")
    assert error["param"] == "file_id"
    assert error["message"].startswith("Cannot find file file-x, or project ")


def test_an_unknown_input_file_can_also_fail_later(make_rig: MakeRig) -> None:
    """The API has been seen to do both, so a plan can choose."""
    rig = make_rig(unknown_file="fail")
    batch = rig.finish(rig.create("file-x"))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    [problem] = batch.errors.data
    assert (problem.code, problem.param, problem.line) == ("invalid_request", "file_id", None)


def test_only_so_many_batches_can_be_created_in_an_hour(make_rig: MakeRig) -> None:
    """At the limit, one more is a 429, and possible again an hour later."""
    rig = make_rig(limits={"batches_per_hour": 2})
    uploaded = rig.upload(requests(1))
    rig.create(uploaded.id)
    rig.create(uploaded.id)
    with pytest.raises(openai.RateLimitError):
        rig.create(uploaded.id)
    rig.advance(3600)
    rig.create(uploaded.id)


def test_a_batch_of_a_few_hundred_requests_is_made_in_pieces(rig: Rig) -> None:
    """Answers are recorded piece by piece; none is lost or doubled at the seams."""
    batch = rig.finish(rig.submit(requests(777)))
    ids = [line["custom_id"] for line in rig.lines(batch.output_file_id)]
    assert sorted(ids) == sorted(f"r{number}" for number in range(777))
    assert rig.ledger()["total"]["requests"] == 777
