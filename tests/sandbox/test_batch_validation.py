"""What a batch fails for after it was created: the table of codes, and the limit of enqueued tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import CHAT, Rig, body, request, requests

Problem = dict[str, Any]


def problems(rig: Rig, lines: list[Any], **more: Any) -> list[Problem]:
    """The errors that a batch of *lines* fails with; nothing may have run."""
    batch = rig.finish(rig.submit(lines, **more))
    assert batch.status == "failed"
    assert batch.failed_at == batch.created_at + 1
    assert (batch.output_file_id, batch.error_file_id, batch.in_progress_at) == (None, None, None)
    assert rig.ledger()["total"]["requests"] == 0
    assert batch.errors is not None
    assert batch.errors.object == "list"
    return [error.model_dump() for error in batch.errors.data or ()]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in request("bad").items() if key != name}


UNPARSABLE = ("invalid_json_line", "This line is not parseable as valid JSON.", None)


@pytest.mark.parametrize(
    ("line", "code", "message", "param"),
    [
        ("{not json", *UNPARSABLE),
        ("[1, 2]", *UNPARSABLE),
        ("", *UNPARSABLE),
        ('{"custom_id": NaN}', *UNPARSABLE),
        (without("custom_id"), "missing_required_parameter", "Missing required parameter: 'custom_id'.", "custom_id"),
        (without("method"), "missing_required_parameter", "Missing required parameter: 'method'.", "method"),
        (without("url"), "missing_required_parameter", "Missing required parameter: 'url'.", "url"),
        (without("body"), "missing_required_parameter", "Missing required parameter: 'body'.", "body"),
        (
            {**request("bad"), "url": "/v1/embeddings"},
            "invalid_url",
            "The URL provided for this request does not match the batch endpoint.",
            "url",
        ),
        (
            {**request("bad"), "body": body(model="gpt-none")},
            "model_not_found",
            "The provided model 'gpt-none' is not supported by the Batch API.",
            "body.model",
        ),
        ({**request("bad"), "body": {}}, "invalid_request", "Model parameter is required.", "body.model"),
        (
            {**request("bad"), "body": {"model": "gpt-4o-mini"}},
            "invalid_request",
            "Messages parameter is required.",
            "body.messages",
        ),
        (
            request("bad", stream=True),
            "streaming_unsupported",
            "Chat Completions: Streaming is not supported in the Batch API.",
            "body.stream",
        ),
        (
            request("r0"),
            "duplicate_custom_id",
            "The custom_id 'r0' for this request is a duplicate of another request. The custom_id parameter must be "
            "unique for each request in a batch.",
            "custom_id",
        ),
        (
            request("bad", model="gpt-5-nano"),
            "mismatched_model",
            "The model 'gpt-5-nano' for this request does not match the rest of the batch. Each batch must contain "
            "requests for a single model.",
            "body.model",
        ),
    ],
)
def test_a_bad_line_fails_the_batch_with_its_number(
    rig: Rig, line: Any, code: str, message: str, param: str | None
) -> None:
    """One entry, lines counted from 1."""
    wanted = {"code": code, "message": message, "param": param, "line": 2}
    assert problems(rig, [request("r0"), line, request("r2")]) == [wanted]


def test_each_bad_line_has_one_entry(rig: Rig) -> None:
    """Even if several things are wrong with it."""
    lines = ["{", request("r1"), {"url": "/nothing"}, request("r1")]
    found = [(problem["line"], problem["code"]) for problem in problems(rig, ["{}", *lines[1:]])]
    assert found == [
        (1, "missing_required_parameter"),
        (3, "missing_required_parameter"),
        (4, "duplicate_custom_id"),
    ]


def test_a_byte_order_mark_is_not_json(rig: Rig) -> None:
    """It passes the upload, and fails the batch."""
    [problem] = problems(rig, ["\ufeff" + json.dumps(request("r0"))])
    assert (problem["code"], problem["line"]) == ("invalid_json_line", 1)


def test_a_file_without_requests_is_empty(rig: Rig) -> None:
    """Blank lines are no requests."""
    [problem] = problems(rig, ["", ""])
    assert (problem["code"], problem["line"], problem["param"]) == ("empty_file", None, None)


def test_blank_lines_at_the_end_do_no_harm(rig: Rig) -> None:
    """As editors leave them."""
    batch = rig.finish(rig.submit([request("r0"), "", ""]))
    assert batch.status == "completed"


@pytest.mark.parametrize(("count", "status"), [(4, "completed"), (5, "completed"), (6, "failed")])
def test_the_limit_of_requests_is_exact(make_rig: MakeRig, count: int, status: str) -> None:
    """One below and at the limit pass, one above does not."""
    rig = make_rig(limits={"batch_requests": 5})
    assert rig.finish(rig.submit(requests(count))).status == status


@pytest.mark.parametrize(("spare", "fails"), [(1, False), (0, False), (-1, True)])
def test_the_limit_of_bytes_is_exact(make_rig: MakeRig, spare: int, fails: bool) -> None:
    """The text names the model."""
    line = request("r0")
    most = len(json.dumps(line)) + 1 + spare
    rig = make_rig(limits={"batch_bytes": most})
    if not fails:
        assert rig.finish(rig.submit([line])).status == "completed"
        return
    [problem] = problems(rig, [line])
    assert problem["message"] == f"The batch input file is larger than the {most} maximum for the gpt-4o-mini model"


def prompt_tokens(rig: Rig, lines: list[Any]) -> int:
    """How many prompt tokens a batch of *lines* has, found out by running it."""
    batch = rig.finish(rig.submit(lines))
    assert batch.usage is not None
    return batch.usage.input_tokens


@pytest.mark.parametrize(("spare", "status"), [(1, "in_progress"), (0, "in_progress"), (-1, "failed")])
def test_the_limit_of_enqueued_tokens_is_exact(make_rig: MakeRig, spare: int, status: str) -> None:
    """Two batches of a model may together have just as many prompt tokens as the limit says."""
    rig = make_rig()
    lines = requests(20)
    limit = 2 * prompt_tokens(rig, lines) + spare
    rig.plan(enqueued_token_limit={"gpt-4o-mini": limit})
    first, second = rig.submit(lines), rig.submit(lines)
    rig.advance(1)
    assert rig.client.batches.retrieve(first.id).status == "in_progress"
    second = rig.client.batches.retrieve(second.id)
    assert second.status == status
    if status == "failed":
        assert second.errors is not None
        assert second.errors.data is not None
        assert second.errors.data[0].model_dump() == {
            "code": "token_limit_exceeded",
            "message": (
                "Enqueued token limit reached for gpt-4o-mini in organization org-sandbox. "
                f"Limit: {limit:,} enqueued tokens. Please try again once some in_progress batches have been completed."
            ),
            "param": None,
            "line": None,
        }


def test_ended_batches_free_their_enqueued_tokens(make_rig: MakeRig) -> None:
    """The same file goes again when the others are done."""
    rig = make_rig()
    lines = requests(20)
    rig.plan(enqueued_token_limit=prompt_tokens(rig, lines))
    uploaded = rig.upload(lines)
    first, second = rig.create(uploaded.id), rig.create(uploaded.id)
    rig.advance(1)
    assert rig.client.batches.retrieve(second.id).status == "failed"
    assert rig.finish(first).status == "completed"
    assert rig.finish(rig.create(uploaded.id)).status == "completed"


def test_enqueued_tokens_are_counted_per_model(make_rig: MakeRig) -> None:
    """A limit for one model leaves others alone; snapshots count with their model."""
    rig = make_rig(enqueued_token_limit={"gpt-4o-mini": 1})
    dated = [request("r0", model="gpt-4o-mini-2024-07-18")]
    assert rig.finish(rig.submit(dated)).status == "failed"
    assert rig.finish(rig.submit([request("r0", model="gpt-5-nano")])).status == "completed"


def test_a_limit_for_all_models_counts_each_by_itself(make_rig: MakeRig) -> None:
    """A number instead of a mapping is the limit of every model."""
    rig = make_rig()
    tokens = prompt_tokens(rig, requests(3))
    rig.plan(enqueued_token_limit=tokens)
    first = rig.submit(requests(3))
    other = rig.submit(requests(3, model="gpt-5-nano"))
    rig.advance(1)
    assert rig.client.batches.retrieve(first.id).status == "in_progress"
    assert rig.client.batches.retrieve(other.id).status == "in_progress"


def test_a_batch_of_another_endpoint_is_validated_for_it(rig: Rig) -> None:
    """The url of each line must be the batch's."""
    uploaded = rig.upload([request("r0")])
    batch = rig.finish(rig.create(uploaded.id, endpoint="/v1/responses"))
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [problem.code for problem in batch.errors.data] == ["invalid_url"]
    assert batch.endpoint != CHAT
