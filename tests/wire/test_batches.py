"""Batches on the server: created once with all that finds them again, looked at however they are shown, cancelled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt_batch_api.domain.errors import AccountError, ServerError, Unreachable
from gpt_batch_api.wire import batches
from gpt_batch_api.wire.batches import RemoteBatch, read_batch
from gpt_batch_api.wire.transport import SANDBOX_HEADER, Transport
from gpt_batch_api.wire.trouble import Refused
from tests.wire.tiny import AFTER_READING, Answer, Seen, TinyServer, document, refusal, talk, unused_url

BATCH: dict[str, Any] = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "errors": None,
    "input_file_id": "file-1",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "file-2",
    "error_file_id": "file-3",
    "created_at": 1711471533,
    "request_counts": {"total": 100, "completed": 95, "failed": 5},
    "metadata": {"k": "v"},
}


def retrieve(server: TinyServer, batch_id: str = "batch_1") -> RemoteBatch | None:
    return talk(server.url, lambda transport: batches.retrieve(transport, batch_id))


def cancel(server: TinyServer) -> None:
    talk(server.url, lambda transport: batches.cancel(transport, "batch_1"))


def newest(server: TinyServer) -> list[RemoteBatch]:
    async def look(transport: Transport) -> list[RemoteBatch]:
        return list((await batches.newest_page(transport)).items)

    return talk(server.url, look)


def test_an_empty_list_may_be_null_but_an_error_is_no_list(server: TinyServer) -> None:
    """To take it for one would be to create what is there already once more."""
    server.answers(document({"object": "list", "data": None}))
    assert newest(server) == []
    server.answers(*[document({"code": 500, "message": "try again", "data": None})] * 9)
    with pytest.raises(Unreachable, match="no list"):
        newest(server)


def sandbox_there(url: str) -> str | None:
    return talk(url, batches.sandbox_there)


# ---------------------------------------------------------------- created


def test_a_batch_is_created_with_its_metadata(server: TinyServer) -> None:
    """One POST that says everything: file, endpoint, window, and the marks by which it is found again."""
    server.answers(document({**BATCH, "status": "validating"}))

    async def create(transport: Transport) -> RemoteBatch:
        return await batches.create(
            transport, file_id="file-1", endpoint="/v1/chat/completions", metadata={"nonce": "ü", "batch": "7"}
        )

    created = talk(server.url, create)
    assert (created.id, created.status) == ("batch_1", "validating")
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", "/batches")
    assert seen.json == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"nonce": "ü", "batch": "7"},
    }


# ---------------------------------------------------------------- looked at


def test_a_batch_is_read_as_the_server_shows_it(server: TinyServer) -> None:
    """Every fact, and the whole document."""
    server.answers(document(BATCH))
    batch = retrieve(server)
    assert batch == RemoteBatch(
        id="batch_1",
        status="completed",
        created_at=1711471533.0,
        metadata={"k": "v"},
        output_file_id="file-2",
        error_file_id="file-3",
        total=100,
        completed=95,
        failed=5,
        errors=(),
        document=BATCH,
    )
    assert batch.ended
    assert server.requests[0].path == "/batches/batch_1"


def test_a_batch_that_the_server_does_not_know_is_none(server: TinyServer) -> None:
    """Asked once: that is no trouble, but an answer."""
    server.answers(refusal(404, message="No batch found with id 'batch_1'."))
    assert retrieve(server) is None
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [document({}), document({"status": "completed"}), document({"id": ""})])
def test_a_reply_without_a_batch_does_not_mean_that_there_is_none(server: TinyServer, answer: Answer) -> None:
    """Only the server's own word does: a batch taken for gone is given up, and paid again."""
    server.answers(answer)
    with pytest.raises(ServerError):
        retrieve(server)


@pytest.mark.parametrize("status", [400, 409])
def test_a_server_may_say_otherwise_that_it_does_not_know_a_batch(server: TinyServer, status: int) -> None:
    """What counts is what it says."""
    server.answers(refusal(status, message="No batch found with id 'batch_1'."))
    assert retrieve(server) is None
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("body", [b"<html>404 page not found</html>", b"", b"404 page not found", b'"no"', b"[" * 9999])
def test_the_page_of_a_gateway_is_no_word_about_a_batch(server: TinyServer, status: int, body: bytes) -> None:
    """The way to the server may be wrong for a while: the batch is asked for again."""
    server.answers(Answer(status, body), document(BATCH))
    assert retrieve(server) == read_batch(BATCH)
    server.answers(Answer(status, body))
    with pytest.raises(Unreachable, match=str(status)):
        retrieve(server)


def test_the_page_of_a_gateway_does_not_mean_that_a_batch_is_cancelled(server: TinyServer) -> None:
    """It would run on, and be paid."""
    server.answers(*[Answer(404, b"<html>no such page</html>")] * 9)
    with pytest.raises(Unreachable, match="404"):
        cancel(server)


FILES = {"output_file_id": None, "error_file_id": None}
USED = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize(
    ("facts", "hides"),
    [
        ({}, False),
        ({"output_file_id": None}, True),
        ({"output_file_id": ""}, True),
        ({"output_file_id": None, "request_counts": {"total": 2, "completed": 0, "failed": 2}}, False),
        ({**FILES, "request_counts": {"total": 2, "completed": 0, "failed": 0}}, True),
        ({**FILES, "request_counts": None}, True),
        ({**FILES, "request_counts": None, "status": "cancelled"}, False),
        ({**FILES, "request_counts": None, "status": "expired", "usage": USED}, True),
        ({**FILES, "status": "cancelled"}, True),
        ({**FILES, "status": "failed", "request_counts": None}, False),
    ],
)
def test_a_batch_that_must_have_answers_and_names_no_file_hides_them(facts: dict[str, Any], hides: bool) -> None:
    """By its counts, by its usage, or because a completed batch has one file at the least."""
    batch = read_batch({**BATCH, **facts})
    assert batch is not None
    assert batch.hides_answers is hides


@pytest.mark.parametrize(
    ("facts", "ended_at"),
    [
        ({}, None),
        ({"completed_at": 1711471600}, 1711471600),
        ({"status": "expired", "expired_at": 1711471700, "completed_at": None}, 1711471700),
        ({"completed_at": 0}, None),
        ({"completed_at": "today"}, None),
    ],
)
def test_when_a_batch_ended_is_told_or_not_known(facts: dict[str, Any], ended_at: float | None) -> None:
    batch = read_batch({**BATCH, **facts})
    assert batch is not None
    assert batch.ended_at == ended_at


@pytest.mark.parametrize("status", [400, 422])
def test_another_refusal_is_told(server: TinyServer, status: int) -> None:
    """It says nothing about whether the batch is there."""
    server.answers(refusal(status))
    with pytest.raises(Refused):
        retrieve(server)


@pytest.mark.parametrize(
    ("written", "status", "ended"),
    [
        ("validating", "validating", False),
        ("in_progress", "in_progress", False),
        ("finalizing", "finalizing", False),
        ("cancelling", "cancelling", False),
        ("completed", "completed", True),
        ("failed", "failed", True),
        ("expired", "expired", True),
        ("cancelled", "cancelled", True),
        ("COMPLETED", "completed", True),
        ("IN_PROGRESS", "in_progress", False),
        ("Expired", "expired", True),
        ("canceled", "cancelled", True),
        ("CANCELING", "cancelling", False),
        ("paused_for_lunch", "paused_for_lunch", False),
        ("", "unknown", False),
        (None, "unknown", False),
        (7, "unknown", False),
    ],
)
def test_a_status_is_read_however_it_is_written(written: Any, status: str, ended: bool) -> None:
    """In capitals too; a status never heard of stays as it is, and is not the end."""
    batch = read_batch({"id": "b", "status": written})
    assert batch is not None
    assert (batch.status, batch.ended) == (status, ended)


@pytest.mark.parametrize("missing", sorted(set(BATCH) - {"id"}))
def test_whatever_is_missing_is_none(missing: str) -> None:
    """Left out or null: the rest is read all the same."""
    whole = read_batch(BATCH)
    for shown in ({name: value for name, value in BATCH.items() if name != missing}, {**BATCH, missing: None}):
        batch = read_batch(shown)
        assert whole is not None
        assert batch is not None
        same = [name for name in ("id", "output_file_id", "error_file_id", "total") if name != missing]
        if missing == "request_counts":
            same.remove("total")
            assert (batch.total, batch.completed, batch.failed) == (None, None, None)
        assert [getattr(batch, name) for name in same] == [getattr(whole, name) for name in same]


@pytest.mark.parametrize("name", ["output_file_id", "error_file_id"])
@pytest.mark.parametrize("empty", ["", None, 7, [], {}])
def test_a_file_id_that_is_none_is_none(name: str, empty: Any) -> None:
    """Servers send empty texts for files that do not exist."""
    batch = read_batch({**BATCH, name: empty})
    assert batch is not None
    assert getattr(batch, name) is None


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (None, (None, None, None)),
        ({}, (None, None, None)),
        ([], (None, None, None)),
        ({"total": None, "completed": None, "failed": None}, (None, None, None)),
        ({"total": 3, "completed": 0}, (3, 0, None)),
        ({"total": 3.0, "completed": "2", "failed": True}, (3, None, None)),
        ({"total": -1, "completed": 2**53, "failed": 2**53 + 1}, (None, 2**53, None)),
    ],
)
def test_counts_are_read_as_far_as_they_are_numbers(counts: Any, expected: tuple[int | None, ...]) -> None:
    """A server may leave them out, or send null."""
    batch = read_batch({**BATCH, "request_counts": counts})
    assert batch is not None
    assert (batch.total, batch.completed, batch.failed) == expected


def test_errors_are_read_from_both_shapes() -> None:
    """A list object as OpenAI sends it, or a bare list; what is no error object is left out."""
    error = {"code": "invalid_json_line", "line": 3, "message": "…", "param": None}
    for errors in ({"object": "list", "data": [error, None, "x"]}, [error, 7]):
        batch = read_batch({**BATCH, "errors": errors})
        assert batch is not None
        assert batch.errors == (error,)


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just(10**400),
        st.just(-(10**400)),
        st.floats(),
        st.text(max_size=10),
        st.sampled_from(["completed", "FAILED", "file-1", ""]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["total", "completed", "failed", "data", "code", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)
shown = st.fixed_dictionaries({}, optional=dict.fromkeys(BATCH, anything))


@given(shown)
@example({"id": "b", "created_at": 1e999})
@example({"id": "b", "request_counts": {"total": float("nan")}})
@example({"id": "b", "request_counts": {"total": 10**400}})
def test_no_document_makes_reading_fail(document_: Mapping[str, Any]) -> None:
    """Whatever JSON a server sends (Python reads `NaN` and 1e999 too): every field is what it should be, or nothing."""
    batch = read_batch(json.loads(json.dumps(document_)))
    assert (batch is None) == (not isinstance(document_.get("id"), str) or not document_["id"])
    if batch is not None:
        assert batch.status == batch.status.lower() != ""
        for count in (batch.total, batch.completed, batch.failed):
            assert count is None or (type(count) is int and 0 <= count <= 2**53)
        for file_id in (batch.output_file_id, batch.error_file_id):
            assert file_id is None or file_id
        assert batch.created_at is None or isinstance(batch.created_at, float)
        assert all(isinstance(error, Mapping) for error in batch.errors)
        assert isinstance(batch.metadata, Mapping)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_none(server: TinyServer, number: str) -> None:
    """Python reads it all the same; the store, which takes only JSON, could not keep the document."""
    server.answers(Answer(200, b'{"id": "batch_1", "usage": {"odd": %s}}' % number.encode()))
    batch = retrieve(server)
    assert batch is not None
    assert json.dumps(batch.document, allow_nan=False) == '{"id": "batch_1", "usage": {"odd": null}}'


@pytest.mark.parametrize("half", [chr(0xD83D), chr(0xDC00)], ids=ascii)
def test_half_a_character_is_a_question_mark(server: TinyServer, half: str) -> None:
    """JSON can hold it (a text was cut in the middle of an emoji); no file, database or screen could."""
    server.answers(document({"id": "batch_1", "metadata": {half: f"note {half}"}, "output_file_id": f"file-{half}"}))
    batch = retrieve(server)
    assert batch is not None
    assert batch.output_file_id == "file-?"
    assert batch.metadata == {"?": "note ?"}
    assert json.dumps(batch.document, ensure_ascii=False).encode("utf-8")


def test_whole_characters_stay_as_they_are(server: TinyServer) -> None:
    """Written out or escaped."""
    server.answers(Answer(200, '{"id": "batch_1", "metadata": {"k": "ü \\ud83d\\ude00 😀"}}'.encode()))
    batch = retrieve(server)
    assert batch is not None
    assert batch.metadata == {"k": "ü 😀 😀"}


# ---------------------------------------------------------------- cancelled


def test_a_batch_is_cancelled(server: TinyServer) -> None:
    """By a POST of its own."""
    server.answers(document({**BATCH, "status": "cancelling"}))
    cancel(server)
    assert [(seen.method, seen.path) for seen in server.requests] == [("POST", "/batches/batch_1/cancel")]


@pytest.mark.parametrize(
    "answer",
    [
        refusal(409, message="Cannot cancel a batch with status 'completed'."),
        refusal(400, message="Batch already ended."),
        refusal(404, message="No batch found with id 'batch_1'."),
        document({**BATCH, "status": "cancelled"}),
        Answer(200, b""),
    ],
    ids=["ended by itself", "ended, in other words", "unknown", "cancelled before", "nothing said"],
)
def test_a_batch_that_is_over_needs_no_cancelling(server: TinyServer, answer: Answer) -> None:
    """That is fine, and it is asked once: asking again changes nothing."""
    server.answers(answer)
    cancel(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [AFTER_READING, refusal(500), refusal(429, "rate_limit_exceeded")])
def test_cancelling_is_tried_again(server: TinyServer, answer: Answer) -> None:
    """It does no harm to ask twice."""
    server.answers(answer, document(BATCH))
    cancel(server)
    assert len(server.requests) == 2


def test_a_refused_cancellation_is_told(server: TinyServer) -> None:
    """If it is about something else."""
    server.answers(refusal(422))
    with pytest.raises(Refused):
        cancel(server)


# ---------------------------------------------------------------- the sandbox


def test_a_sandbox_tells_its_name(server: TinyServer) -> None:
    """In a header of every reply; one look that costs nothing is enough."""
    server.answers(Answer(200, b'{"data": []}', {SANDBOX_HEADER: "0000-name"}))
    assert sandbox_there(server.url) == "0000-name"
    assert [(seen.method, seen.path, seen.query.get("limit")) for seen in server.requests] == [("GET", "/batches", "1")]


@pytest.mark.parametrize(
    "answer", [document({"data": []}), refusal(404), refusal(500), AFTER_READING, Answer(200, b"{")]
)
def test_whatever_else_answers_is_no_sandbox(server: TinyServer, answer: Answer) -> None:
    """A provider, a broken server, a web page. It is asked once: nothing waits for it."""
    server.answers(answer)
    assert sandbox_there(server.url) is None
    assert server.connections == 1


def test_where_nobody_answers_is_no_sandbox() -> None:
    """The run will find out by itself."""
    assert sandbox_there(unused_url()) is None


def test_a_wrong_key_is_told_before_anything_is_done(server: TinyServer) -> None:
    """The first look at the server shows it already."""
    server.answers(refusal(401, "invalid_api_key"))
    with pytest.raises(AccountError):
        sandbox_there(server.url)


# ---------------------------------------------------------------- one connection after another


def test_a_transport_is_used_again_after_it_was_closed(server: TinyServer) -> None:
    """Closing forgets the connections, not the way. (The client's own, with the machine's certificates.)"""
    from gpt_batch_api.domain.clock import ManualClock
    from gpt_batch_api.wire.transport import Server

    server.answers(document(BATCH))

    async def twice(_transport: Transport) -> list[RemoteBatch | None]:
        own = Transport(Server("sk-own", server.url), clock=ManualClock())
        found = []
        for _ in range(2):
            found.append(await batches.retrieve(own, "batch_1"))
            await own.close()
        return found

    assert [batch.id for batch in talk(server.url, twice) if batch] == ["batch_1", "batch_1"]


def test_the_client_s_own_resending_is_off(server: TinyServer) -> None:
    """Also in the client that is made when no test gives one: a creation that fails reaches the server once."""
    from gpt_batch_api.domain.clock import ManualClock
    from gpt_batch_api.wire.transport import Server
    from gpt_batch_api.wire.trouble import Trouble

    def retry_count(seen: Seen) -> Answer:
        assert seen.headers.get("x-stainless-retry-count") in (None, "0")
        return refusal(500, x_should_retry="true")

    server.answers(retry_count)

    async def create(_transport: Transport) -> None:
        own = Transport(Server("sk-own", server.url), clock=ManualClock())
        try:
            await batches.create(own, file_id="file-1", endpoint="/v1/chat/completions", metadata={})
        finally:
            await own.close()

    with pytest.raises(Trouble):
        talk(server.url, create)
    assert len(server.requests) == 1
