"""Files: uploaded, listed, read, deleted, and refused, as the API does it."""

from __future__ import annotations

import io
import json
import socket
from typing import Any

import openai
import pytest

from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import KEY, Rig, request, requests

DAY_S = 86_400


def refused(rig: Rig, *, name: str, content: bytes, purpose: Any = "batch") -> dict[str, Any]:
    with pytest.raises(openai.BadRequestError) as caught:
        rig.client.files.create(file=(name, content), purpose=purpose)
    error: dict[str, Any] = dict(caught.value.body)  # type: ignore[call-overload]
    return error


def test_an_uploaded_file_is_described_as_the_api_does(rig: Rig) -> None:
    """The file object has every field, and lives for thirty days if nothing else is said."""
    content = json.dumps(request("a")).encode()
    uploaded = rig.client.files.create(file=("in.jsonl", content), purpose="batch")
    assert uploaded.id.startswith("file-")
    assert uploaded.model_dump() == {
        "id": uploaded.id,
        "object": "file",
        "bytes": len(content),
        "created_at": int(rig.clock.now()),
        "expires_at": int(rig.clock.now()) + 30 * DAY_S,
        "filename": "in.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
    }
    assert rig.client.files.retrieve(uploaded.id) == uploaded
    assert rig.client.files.content(uploaded.id).content == content


def test_a_large_upload_comes_back_byte_for_byte(rig: Rig) -> None:
    """Uploads are streamed to the disk, whatever they contain."""
    line = json.dumps(request("a")) + "\n"
    content = line.encode() + bytes(range(256)) * 20_000
    uploaded = rig.client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    with rig.client.files.with_streaming_response.content(uploaded.id) as reply:
        assert b"".join(reply.iter_bytes()) == content


@pytest.mark.parametrize(
    ("wanted", "start", "end"), [("bytes=0-9", 0, 10), ("bytes=50-", 50, None), ("bytes=-7", -7, None)]
)
def test_a_part_of_a_file_can_be_asked_for(rig: Rig, wanted: str, start: int, end: int | None) -> None:
    """Range requests are answered with 206 and just these bytes, so a cut download can be resumed."""
    uploaded = rig.upload(requests(3))
    whole = rig.client.files.content(uploaded.id).content
    headers = {"authorization": f"Bearer {KEY}", "range": wanted}
    reply = rig.http.get(f"/v1/files/{uploaded.id}/content", headers=headers)
    assert reply.status_code == 206
    assert reply.content == whole[start:end]


def test_a_file_lives_as_long_as_was_asked(rig: Rig) -> None:
    """`expires_after` ends a file's life; then it is unknown."""
    uploaded = rig.client.files.create(
        file=("in.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert uploaded.expires_at == uploaded.created_at + 3600
    rig.advance(3599)
    rig.client.files.retrieve(uploaded.id)
    rig.advance(1)
    with pytest.raises(openai.NotFoundError):
        rig.client.files.retrieve(uploaded.id)
    assert list(rig.client.files.list()) == []


@pytest.mark.parametrize("seconds", [3599, 2_592_001])
def test_a_life_out_of_range_is_refused(rig: Rig, seconds: int) -> None:
    """A file lives between an hour and thirty days."""
    with pytest.raises(openai.BadRequestError) as caught:
        rig.client.files.create(
            file=("in.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds}
        )
    assert caught.value.param == "expires_after.seconds"


def test_files_are_listed_newest_first_page_by_page(rig: Rig) -> None:
    """`after` and `limit` make pages; the client's iteration sees every file once."""
    ids = [rig.upload(requests(1)).id for _ in range(5)]
    first = rig.client.files.list(limit=2)
    assert [file.id for file in first.data] == ids[:2:-1]
    assert (first.has_more, first.last_id) == (True, ids[3])  # type: ignore[attr-defined]
    assert [file.id for file in rig.client.files.list(limit=2)] == ids[::-1]
    assert [file.id for file in rig.client.files.list(order="asc", limit=3)] == ids


def test_a_listing_can_be_limited_to_a_purpose(rig: Rig) -> None:
    """`purpose` filters, also for what batches put out."""
    rig.upload(requests(1))
    other = rig.client.files.create(file=("notes.txt", b"hello"), purpose="user_data")
    batch = rig.finish(rig.submit(requests(1)))
    assert [file.id for file in rig.client.files.list(purpose="user_data")] == [other.id]
    assert [file.id for file in rig.client.files.list(purpose="batch_output")] == [batch.output_file_id]


def test_a_page_after_a_deleted_file_continues_where_it_was(rig: Rig) -> None:
    """A client that deletes while it lists misses nothing."""
    ids = [rig.upload(requests(1)).id for _ in range(3)]
    rig.client.files.delete(ids[2])
    assert [file.id for file in rig.client.files.list(after=ids[2])] == [ids[1], ids[0]]


def test_an_empty_listing_says_so(rig: Rig) -> None:
    """No files: an empty page without first and last."""
    reply = rig.http.get("/v1/files", headers={"authorization": f"Bearer {KEY}"})
    assert reply.json() == {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}


def test_a_deleted_file_is_unknown(rig: Rig) -> None:
    """Deleting answers as the API does; afterwards every use is a 404 with the API's text."""
    uploaded = rig.upload(requests(1))
    assert rig.client.files.delete(uploaded.id).model_dump() == {
        "id": uploaded.id,
        "object": "file",
        "deleted": True,
    }
    for use in (rig.client.files.retrieve, rig.client.files.content, rig.client.files.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            use(uploaded.id)
        assert caught.value.body == {
            "message": f"No such File object: {uploaded.id}",
            "type": "invalid_request_error",
            "param": "id",
            "code": None,
        }
    assert list(rig.sandbox.store.folder.iterdir()) == []


def test_a_file_may_be_deleted_while_its_batch_is_under_way(rig: Rig) -> None:
    """The batch has what it needs; the content goes when it ends."""
    uploaded = rig.upload(requests(3))
    batch = rig.create(uploaded.id)
    rig.client.files.delete(uploaded.id)
    done = rig.finish(batch)
    assert done.status == "completed"
    assert len(rig.lines(done.output_file_id)) == 3
    assert len(list(rig.sandbox.store.folder.iterdir())) == 1


def test_a_batch_input_must_be_named_jsonl(rig: Rig) -> None:
    """As bare bytes are not, which the client names `upload`."""
    error = refused(rig, name="upload", content=b"{}")
    assert error["message"] == "Invalid file format for Batch API. Must be .jsonl"


def test_an_upload_is_only_looked_at_superficially(rig: Rig) -> None:
    """The first line must be JSON; anything else is found by the batch."""
    assert refused(rig, name="in.jsonl", content=b"not json\n{}\n")["type"] == "invalid_request_error"
    assert refused(rig, name="in.jsonl", content=b"")["message"] == "File is empty."
    rig.client.files.create(file=("in.jsonl", b"{}\nnot json\n"), purpose="batch")


def test_an_unknown_purpose_is_refused(rig: Rig) -> None:
    """With the list of purposes."""
    error = refused(rig, name="in.jsonl", content=b"{}", purpose="fun")
    assert error["param"] == "purpose"
    assert error["message"].startswith("'fun' is not one of ['fine-tune', 'assistants', 'batch'")


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False), (1, True)])
def test_the_size_limit_is_exact(make_rig: MakeRig, spare: int, fits: bool) -> None:
    """A file of just the limit passes, one byte more does not."""
    content = b'{"a": 1}'
    rig = make_rig(limits={"upload_bytes": len(content) + spare})
    if fits:
        rig.client.files.create(file=("in.jsonl", content), purpose="batch")
    else:
        assert refused(rig, name="in.jsonl", content=content)["message"] == "File is too large."


def test_an_upload_that_breaks_off_makes_no_file(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    """A client that is killed while it sends leaves nothing behind."""
    host, port = rig.http.base_url.host, rig.http.base_url.port
    assert port is not None
    head = (
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-x\r\ncontent-length: 100000\r\n"
        "content-type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--b\r\ncontent-disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n{}\n'
    )
    with socket.create_connection((host, port)) as connection:
        connection.sendall(head.encode())
    while rig.sandbox.state()["calls"] == {}:
        pass
    assert rig.state()["files"] == {}
    assert capfd.readouterr().err == ""


def test_a_new_file_can_lag_in_listings_and_be_invisible_for_a_while(make_rig: MakeRig) -> None:
    """First it cannot even be used; then it can be retrieved but is not listed; at last it is listed."""
    rig = make_rig(retrieve_lag_s={"files": 2}, list_lag_s={"files": 5})
    uploaded = rig.upload(requests(1))
    with pytest.raises(openai.NotFoundError):
        rig.client.files.retrieve(uploaded.id)
    with pytest.raises(openai.BadRequestError, match="Cannot find file"):
        rig.create(uploaded.id)
    rig.advance(2)
    rig.client.files.retrieve(uploaded.id)
    rig.create(uploaded.id)
    assert list(rig.client.files.list(purpose="batch")) == []
    rig.advance(3)
    assert [file.id for file in rig.client.files.list(purpose="batch")] == [uploaded.id]


def test_a_limit_out_of_range_is_refused(rig: Rig) -> None:
    """Pages hold between 1 and 10,000 files."""
    for limit in (0, 10_001):
        with pytest.raises(openai.BadRequestError) as caught:
            rig.client.files.list(limit=limit)
        assert caught.value.param == "limit"
