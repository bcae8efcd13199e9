"""Faults of single lines in result files: what is found where, what is counted, what is charged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import Rig, request, requests, structured


def run(make_rig: MakeRig, *rules: dict[str, Any], lines: list[Any] | None = None) -> tuple[Rig, Any]:
    rig = make_rig(lines=list(rules))
    return rig, rig.finish(rig.submit(requests(5) if lines is None else lines))


def ids(lines: list[dict[str, Any]]) -> list[str]:
    return sorted(line["custom_id"] for line in lines)


OTHERS = ["r0", "r2", "r3", "r4"]


@pytest.mark.parametrize(("charged", "rows"), [(True, 5), (False, 4)])
def test_a_line_can_be_missing_from_both_files(make_rig: MakeRig, charged: bool, rows: int) -> None:
    """The counts claim success; it is charged unless the plan says otherwise."""
    rig, batch = run(make_rig, {"fault": "missing", "nth": 2, "charged": charged})
    assert ids(rig.lines(batch.output_file_id)) == OTHERS
    assert batch.error_file_id is None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (5, 0)
    assert rig.ledger()["total"]["requests"] == rows


def test_a_line_can_be_doubled(make_rig: MakeRig) -> None:
    """Charged once."""
    rig, batch = run(make_rig, {"fault": "doubled", "nth": 2})
    assert ids(rig.lines(batch.output_file_id)) == ["r0", "r1", "r1", "r2", "r3", "r4"]
    assert rig.ledger()["total"]["requests"] == 5


def test_a_line_can_be_broken(make_rig: MakeRig) -> None:
    """Cut in the middle; the others are whole."""
    rig, batch = run(make_rig, {"fault": "broken", "nth": 2})
    found = []
    for raw in rig.raw_lines(batch.output_file_id):
        try:
            found.append(json.loads(raw)["custom_id"])
        except json.JSONDecodeError:
            found.append("broken")
    assert sorted(found) == ["broken", *OTHERS]
    assert rig.ledger()["total"]["requests"] == 5


def test_a_line_can_have_a_stranger_beside_it(make_rig: MakeRig) -> None:
    """With a custom_id that nobody sent."""
    rig, batch = run(make_rig, {"fault": "unknown_id", "nth": 2})
    found = ids(rig.lines(batch.output_file_id))
    assert found[:5] == [f"r{number}" for number in range(5)]
    assert found[5].startswith("unknown-")


@pytest.mark.parametrize(
    ("rule", "status", "error"),
    [
        (
            {"fault": "status"},
            500,
            {
                "message": "The server had an error while processing your request. Sorry about that!",
                "type": "server_error",
                "param": None,
                "code": "server_error",
            },
        ),
        (
            {"fault": "status", "status": 429, "code": "insufficient_quota"},
            429,
            {
                "message": "You exceeded your current quota, please check your plan and billing details.",
                "type": "insufficient_quota",
                "param": None,
                "code": "insufficient_quota",
            },
        ),
        (
            {"fault": "fatal", "message": "No.", "code": "never"},
            400,
            {"message": "No.", "type": "invalid_request_error", "param": None, "code": "never"},
        ),
    ],
)
def test_a_line_can_have_an_http_error(
    make_rig: MakeRig, rule: dict[str, Any], status: int, error: dict[str, Any]
) -> None:
    """In the error file, with `error: null`, counted as failed, not charged."""
    rig, batch = run(make_rig, {**rule, "nth": 2})
    [line] = rig.lines(batch.error_file_id)
    assert (line["custom_id"], line["error"]) == ("r1", None)
    assert line["response"]["status_code"] == status
    assert line["response"]["body"] == {"error": error}
    assert batch.request_counts.failed == 1
    assert rig.ledger()["total"]["requests"] == 4


@pytest.mark.parametrize("rule", [{"fault": "infrastructure"}, {"fault": "status", "status": 0}])
def test_an_infrastructure_fault_has_no_status(make_rig: MakeRig, rule: dict[str, Any]) -> None:
    """It is in the error file while the counts claim full success."""
    rig, batch = run(make_rig, {**rule, "nth": 2})
    [line] = rig.lines(batch.error_file_id)
    assert line["response"] == {"status_code": 0, "request_id": "", "body": {}}
    assert (batch.request_counts.completed, batch.request_counts.failed) == (5, 0)
    assert rig.ledger()["total"]["requests"] == 4


@pytest.mark.parametrize(("fault", "code"), [("expired", "batch_expired"), ("timeout", "request_timeout")])
def test_a_line_can_be_left_unanswered_in_a_completed_batch(make_rig: MakeRig, fault: str, code: str) -> None:
    """With an error of the line itself and no response."""
    rig, batch = run(make_rig, {"fault": fault, "nth": 2})
    assert batch.status == "completed"
    [line] = rig.lines(batch.error_file_id)
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("r1", None, code)


def test_single_answers_can_be_refused_cut_or_broken(make_rig: MakeRig) -> None:
    """Whatever the rates of the plan."""
    lines = [request(f"r{number}", response_format=structured()) for number in range(4)]
    rules = [
        {"fault": fault, "match": f'"r{number}"'} for number, fault in enumerate(("refusal", "length", "broken_json"))
    ]
    rig, batch = run(make_rig, *rules, lines=lines)
    choices = {line["custom_id"]: line["response"]["body"]["choices"][0] for line in rig.lines(batch.output_file_id)}
    assert choices["r0"]["message"]["refusal"]
    assert choices["r1"]["finish_reason"] == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(choices["r2"]["message"]["content"])
    assert json.loads(choices["r3"]["message"]["content"])
    assert rig.ledger()["total"]["requests"] == 4


def test_a_fault_can_be_for_certain_requests_only(make_rig: MakeRig) -> None:
    """By a part of their text, escaped or not; at most so many times over all batches."""
    rig = make_rig(lines=[{"fault": "missing", "match": "é", "times": 2}])
    lines = [request("a", "é"), request("b", "e"), request("c", "Café")]
    first = rig.finish(rig.submit(lines))
    assert ids(rig.lines(first.output_file_id)) == ["b"]
    second = rig.finish(rig.submit(lines))
    assert ids(rig.lines(second.output_file_id)) == ["a", "b", "c"]


def test_lines_are_counted_over_batches_in_the_order_they_were_sent(make_rig: MakeRig) -> None:
    """The seventh line is the second of the second batch."""
    rig = make_rig(lines=[{"fault": "missing", "nth": 7}])
    first, second = rig.submit(requests(5)), rig.submit(requests(5))
    assert len(rig.lines(rig.finish(first).output_file_id)) == 5
    assert ids(rig.lines(rig.finish(second).output_file_id)) == OTHERS


def test_a_rate_hits_others_when_the_same_lines_are_sent_again(make_rig: MakeRig) -> None:
    """So trying again helps."""
    rig = make_rig(lines=[{"fault": "missing", "rate": 0.3}])
    found = []
    for _ in range(2):
        batch = rig.finish(rig.submit(requests(60)))
        found.append(set(ids(rig.lines(batch.output_file_id))))
    assert all(0.4 < len(answered) / 60 < 0.95 for answered in found)
    assert found[0] != found[1]


def test_text_in_result_files_is_not_escaped(make_rig: MakeRig) -> None:
    """So U+2028 occurs within lines, as it does at the service: only b"\\n" ends one."""
    lines = [request("r0", 'What is "\u2028"?', response_format=structured())]
    rig, batch = run(make_rig, lines=lines)
    [raw] = rig.raw_lines(batch.output_file_id)
    assert "\u2028".encode() in raw


def test_half_a_surrogate_pair_survives(make_rig: MakeRig) -> None:
    """Bad text of a user does not break the file."""
    rig, batch = run(make_rig, lines=[json.dumps(request("r0", 'What is "\ud800x"?', response_format=structured()))])
    [line] = rig.lines(batch.output_file_id)
    assert line["custom_id"] == "r0"
