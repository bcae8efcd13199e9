"""What every request passes: the key, the headers of each reply, unknown addresses, the log of calls."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import openai
import pytest

from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import KEY, Rig, body, client_of, requests

AUTHORIZED = {"authorization": f"Bearer {KEY}"}


def test_a_wrong_key_is_refused(rig: Rig) -> None:
    """`sk-wrong` is the one wrong key."""
    with client_of(rig.url, key="sk-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.models.list()
    assert caught.value.body == {
        "message": "Incorrect API key provided: sk-wrong. "
        "You can find your API key at https://platform.openai.com/account/api-keys.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer"}, {"authorization": "Basic abc"}])
def test_a_missing_key_is_refused(rig: Rig, headers: dict[str, str]) -> None:
    """For any route of the API; nothing is logged."""
    for path in ("/v1/models", "/v1/files"):
        reply = rig.http.get(path, headers=headers)
        assert reply.status_code == 401
        assert reply.json()["error"]["message"].startswith("You didn't provide an API key.")
    assert rig.calls() == []


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/v1/files/file-x", "/sandbox/state", "/nothing"])
def test_every_reply_says_which_sandbox_it_comes_from(rig: Rig, path: str) -> None:
    """And has a request id of its own, errors too."""
    first, second = rig.http.get(path, headers=AUTHORIZED), rig.http.get(path, headers=AUTHORIZED)
    assert first.headers["x-gpt-batch-api-sandbox"] == rig.sandbox.uuid
    assert int(first.headers["openai-processing-ms"]) >= 0
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/sandbox/state"])
def test_every_reply_tells_the_sandbox_s_time(rig: Rig, path: str) -> None:
    """To the second, as servers do."""
    told = parsedate_to_datetime(rig.http.get(path, headers=AUTHORIZED).headers["date"])
    assert 0 <= rig.sandbox.time.now() - told.timestamp() < 3


def test_the_client_sees_the_request_id_of_an_error(rig: Rig) -> None:
    """It is how users ask for help."""
    with pytest.raises(openai.NotFoundError) as caught:
        rig.client.batches.retrieve("batch_x")
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")


def test_an_unknown_address_is_answered_as_the_api_does(rig: Rig) -> None:
    """With the method and the path."""
    reply = rig.http.get("/v1/nothing", headers=AUTHORIZED)
    assert reply.status_code == 404
    assert reply.json() == {
        "error": {
            "message": "Invalid URL (GET /v1/nothing)",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }
    assert rig.http.put("/v1/files", headers=AUTHORIZED).status_code == 405


def test_calls_are_logged_in_order_with_their_object(rig: Rig) -> None:
    """Each once, failed ones too."""
    uploaded = rig.upload(requests(1))
    batch = rig.create(uploaded.id)
    rig.client.batches.retrieve(batch.id)
    with pytest.raises(openai.NotFoundError):
        rig.client.files.retrieve("file-x")
    answer = rig.client.chat.completions.create(**body())
    found = [(call["operation"], call["key"], call["status"]) for call in rig.calls()]
    assert found == [
        ("files.create", uploaded.id, 200),
        ("batches.create", batch.id, 200),
        ("batches.retrieve", batch.id, 200),
        ("files.retrieve", "file-x", 404),
        ("chat.create", answer.id, 200),
    ]


def test_the_log_of_calls_can_be_read_in_parts(rig: Rig) -> None:
    """By operation, and after a number."""
    for _ in range(3):
        rig.client.models.list()
    list(rig.client.files.list())
    reply = rig.http.get("/sandbox/calls", params={"operation": "models.list", "after": 1, "limit": 1}).json()
    assert [call["id"] for call in reply["calls"]] == [2]


def test_the_state_counts_what_there_is(rig: Rig) -> None:
    """Files by purpose, batches by status, calls by operation."""
    done = rig.finish(rig.submit(requests(1)))
    rig.submit(requests(1))
    state = rig.state()
    assert state["sandbox"] == rig.sandbox.uuid
    assert state["files"] == {"batch": 2, "batch_output": 1}
    assert state["batches"] == {"completed": 1, "validating": 1}
    assert state["calls"] == {"files.create": 2, "batches.create": 2, "batches.retrieve": 1}
    assert done.status == "completed"


def test_time_jumps_ahead_on_demand_only(rig: Rig) -> None:
    """Never back."""
    before = rig.state()["now"]
    rig.advance(12.5)
    assert rig.state()["now"] == before + 12.5
    assert rig.http.post("/sandbox/advance", json={"seconds": -1}).status_code == 400
    assert rig.http.post("/sandbox/advance", json={}).status_code == 400


def test_simulated_time_runs_at_its_scale(make_rig: MakeRig) -> None:
    """A hundred simulated seconds for each real one; a new scale goes on from there."""
    rig = make_rig(timing={"time_scale": 100})
    before = rig.state()["now"]
    rig.clock.advance(3)
    assert rig.state()["now"] == pytest.approx(before + 300)
    rig.plan(timing={"time_scale": 2})
    rig.clock.advance(3)
    assert rig.state()["now"] == pytest.approx(before + 306)


def test_a_clock_that_is_set_back_stops_time_but_turns_nothing_back(rig: Rig) -> None:
    """As a time server may do."""
    before = rig.state()["now"]
    rig.clock.set_back(100)
    assert rig.state()["now"] == before
