"""Files on the server: uploaded as they are, downloaded completely or not at all, deleted without fuss."""

from __future__ import annotations

import gzip
import json
import random
import re
import tracemalloc
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import ServerError, Unreachable
from gpt_batch_api.wire import files
from gpt_batch_api.wire.transport import Transport
from gpt_batch_api.wire.trouble import Refused
from tests.wire.tiny import AFTER_READING, Answer, Decide, Seen, TinyServer, document, refusal, talk

CONTENT = b"".join(
    json.dumps({"custom_id": f"{number}-1", "text": "ü\u2028"}).encode() + b"\n" for number in range(30_000)
)
"""A result file of more than a megabyte."""
MEGABYTES_48 = 48_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a download goes, alone in its folder."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder / "out.jsonl"


def download(server: TinyServer, path: Path, file_id: str = "file-1") -> None:
    talk(server.url, lambda transport: files.download(transport, file_id, path))


def ranges(server: TinyServer) -> list[str | None]:
    """What part of the file each request asked for."""
    return [seen.headers.get("range") for seen in server.requests]


def start_of(seen: Seen) -> int:
    """Where the range that was asked for begins; 0 for the whole file."""
    wanted = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range") or "bytes=0-")
    assert wanted
    return int(wanted.group(1))


def content_server(content: bytes = CONTENT, *, cuts: tuple[int | None, ...] = (), ranges: bool = True) -> Decide:
    """Serves *content*, with ranges as RFC 9110 has them; each of *cuts* ends a reply after so many bytes of its body."""
    left = list(cuts)

    def serve(seen: Seen) -> Answer:
        cut = left.pop(0) if left else None
        start = start_of(seen)
        if not ranges or not start:
            return Answer(200, content, cut_after=cut)
        if start >= len(content):
            return Answer(416, b"", {"content-range": f"bytes */{len(content)}"})
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Answer(206, content[start:], {"content-range": span}, cut_after=cut)

    return serve


# ---------------------------------------------------------------- uploaded


@pytest.fixture
def local(tmp_path: Path) -> Path:
    local = tmp_path / "local_name.jsonl"
    local.write_bytes(CONTENT)
    return local


def parts_of(seen: Seen) -> dict[str, tuple[str, bytes]]:
    """The parts of a multipart form: name → (its headers, its bytes)."""
    boundary = seen.headers["content-type"].split("boundary=")[1].encode()
    parts = {}
    for piece in seen.body.split(b"--" + boundary)[1:-1]:
        head, _, content = piece.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        assert name
        parts[name.group(1).decode()] = (head.decode(), content)
    return parts


def test_a_file_is_uploaded_as_it_is(server: TinyServer, local: Path) -> None:
    """Byte for byte, for batches, under the name by which it is found again, not under its local one."""
    server.answers(document({"id": "file-9", "object": "file"}))
    name = "toy_batch7_0000-uuid_0123abc.jsonl"
    assert talk(server.url, lambda transport: files.upload(transport, local, filename=name)) == "file-9"
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", "/files")
    parts = parts_of(seen)
    assert parts["purpose"][1] == b"batch"
    assert f'filename="{name}"' in parts["file"][0]
    assert parts["file"][1] == CONTENT


def test_a_big_file_is_streamed_from_disk(server: TinyServer, tmp_path: Path) -> None:
    """Two hundred megabytes are a full batch: they never stand in memory."""
    big = tmp_path / "big.jsonl"
    with big.open("wb") as stream:
        stream.truncate(MEGABYTES_48)
    server.answers(document({"id": "file-9"}))

    async def upload(transport: Transport) -> int:
        await files.upload(transport, big, filename="first.jsonl")  # whatever is loaded once, is loaded
        tracemalloc.start()
        try:
            await files.upload(transport, big, filename="in.jsonl")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert talk(server.url, upload) < MEGABYTES_48 / 2
    assert [seen.size_bytes >= MEGABYTES_48 for seen in server.requests] == [True, True]


# ---------------------------------------------------------------- downloaded


@pytest.mark.parametrize("content", [CONTENT, b"", b"x", b"\x00\xff\r\n\n", b"no line end"], ids=len)
def test_a_file_is_downloaded_as_it_is(server: TinyServer, path: Path, content: bytes) -> None:
    """Byte for byte; nothing else is left in the folder."""
    server.answers(content_server(content))
    download(server, path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]
    assert [(seen.method, seen.path) for seen in server.requests] == [("GET", "/files/file-1/content")]
    assert ranges(server) == [None]


def test_a_file_that_is_there_is_not_fetched_again(server: TinyServer, path: Path) -> None:
    """Under its final name a file is always complete."""
    path.write_bytes(b"complete")
    server.answers(content_server())
    download(server, path)
    assert path.read_bytes() == b"complete"
    assert server.requests == []


def test_a_file_has_its_name_only_when_it_is_complete(server: TinyServer, path: Path) -> None:
    """A kill in the middle leaves no half file that looks whole."""
    seen: list[list[str]] = []

    def look() -> None:
        seen.append([file.name for file in path.parent.iterdir()])

    server.answers(Answer(200, CONTENT, pause_at=len(CONTENT) - 1, meanwhile=look))
    download(server, path)
    assert path.name not in seen[0]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("cut", [0, 1, 300_000, 800_000, len(CONTENT) - 1])
def test_a_download_that_is_cut_is_continued(server: TinyServer, path: Path, cut: int) -> None:
    """What has arrived is not fetched again (but for the last piece that was not written yet)."""
    server.answers(content_server(cuts=(cut,)))
    download(server, path)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2
    assert cut - 300_000 <= start_of(server.requests[1]) <= cut


def test_a_download_may_be_cut_many_times(server: TinyServer, path: Path) -> None:
    """Each time it goes on from where it was."""
    server.answers(content_server(cuts=(400_000, 300_000, 290_000, 1)))
    download(server, path)
    assert path.read_bytes() == CONTENT
    starts = [start_of(seen) for seen in server.requests]
    assert starts == sorted(starts)


@pytest.mark.parametrize("other", [b"<html>Please log in.</html>", b""], ids=["a page", "nothing"])
def test_what_cannot_be_the_file_is_not_kept_and_asked_for_again(server: TinyServer, path: Path, other: bytes) -> None:
    """The second request is for the whole file."""
    server.answers(Answer(200, other), Answer(200, CONTENT))

    async def fetch(transport: Transport) -> None:
        await files.download(transport, "file-1", path, may_begin=lambda begin: begin.startswith(b'{"custom_id"'))

    talk(server.url, fetch)
    assert path.read_bytes() == CONTENT
    assert ranges(server) == [None, None]


@pytest.mark.parametrize("cut", [1, 800_000, len(CONTENT) - 1])
def test_a_server_that_knows_no_ranges_is_asked_for_everything_again(server: TinyServer, path: Path, cut: int) -> None:
    """It answers a range with the whole file: what was there is thrown away, not added to."""
    server.answers(content_server(cuts=(cut, cut), ranges=False))
    download(server, path)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_download_that_never_comes_through_can_be_continued_later(server: TinyServer, path: Path) -> None:
    """By this process or the next: what has arrived stays beside the place where the file will be."""
    server.answers(content_server(cuts=(400_000, 0, 0, 0, 0)))
    with pytest.raises(Unreachable):
        download(server, path)
    assert not path.exists()
    before = len(server.requests)
    server.answers(content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT
    assert start_of(server.requests[before]) > 0
    assert list(path.parent.iterdir()) == [path]


def test_a_download_that_was_complete_but_had_no_name_yet_is_complete(server: TinyServer, path: Path) -> None:
    """A kill between the last byte and the final name: the server says that nothing is left to fetch."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(CONTENT)
    server.answers(content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_a_remainder_that_is_longer_than_the_file_is_thrown_away(server: TinyServer, path: Path) -> None:
    """It is no beginning of this file: that nothing is left to fetch does not make it complete."""
    path.with_name(path.name + ".part").write_bytes(CONTENT + b"of something else")
    server.answers(content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT


def test_a_range_that_was_not_asked_for_is_not_glued_on(server: TinyServer, path: Path) -> None:
    """A server that answers from another place than the one asked for does not spoil the file."""

    def from_the_start(seen: Seen) -> Answer:
        span = f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"
        return Answer(206, CONTENT, {"content-range": span}) if seen.headers.get("range") else Answer(200, CONTENT)

    server.answers(Answer(200, CONTENT, cut_after=800_000), from_the_start)
    download(server, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("named", ["*", "whole"])
@pytest.mark.parametrize("most", [300_000, 400_000])
def test_a_server_may_give_less_than_it_was_asked_for(server: TinyServer, path: Path, most: int, named: str) -> None:
    """A piece that is complete is not the file: the next one is asked for, until nothing is left."""
    whole = len(CONTENT) if named == "whole" else "*"

    def in_pieces(seen: Seen) -> Answer:
        start = start_of(seen)
        if not start:
            return Answer(200, CONTENT, cut_after=most)
        if start >= len(CONTENT):
            return Answer(416, b"", {"content-range": f"bytes */{len(CONTENT)}"})
        piece = CONTENT[start : start + most]
        return Answer(206, piece, {"content-range": f"bytes {start}-{start + len(piece) - 1}/{whole}"})

    server.answers(in_pieces)
    download(server, path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_gives_nothing_of_the_rest_is_not_asked_for_ever(server: TinyServer, path: Path) -> None:
    """It is trouble like any other; what has arrived is kept."""
    path.with_name(path.name + ".part").write_bytes(CONTENT[:1000])
    server.answers(Answer(206, b"", {"content-range": f"bytes 1000-1000/{len(CONTENT)}"}))
    with pytest.raises(Unreachable):
        download(server, path)
    server.answers(content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT


def test_more_than_the_file_holds_is_thrown_away(server: TinyServer, path: Path) -> None:
    """The pieces do not fit together: the file is fetched anew."""
    path.with_name(path.name + ".part").write_bytes(CONTENT[:1000])
    span = f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}"
    server.answers(Answer(206, CONTENT[1000:] + b"more", {"content-range": span}), content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT
    assert ranges(server) == ["bytes=1000-", None]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-range": "bytes"},
        {"content-range": "bytes 1000-"},
        {"content-range": "lines 1000-2000/3000"},
        {"content-range": f"bytes {'9' * 5000}-{'9' * 5000}/{'9' * 5000}"},
        {"content-range": f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}", "content-encoding": "gzip"},
        {"content-range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"},
    ],
    ids=lambda headers: str(headers)[:60],
)
def test_a_piece_that_does_not_say_where_it_belongs_is_not_glued_on(
    server: TinyServer, path: Path, headers: dict[str, str]
) -> None:
    """Or says that it is one of a compressed file: the file is fetched anew."""
    path.with_name(path.name + ".part").write_bytes(CONTENT[:1000])
    server.answers(Answer(206, CONTENT[1000:], headers), content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT
    assert ranges(server) == ["bytes=1000-", None]


@pytest.mark.parametrize("span", [None, "bytes */*", f"bytes */{'9' * 5000}"])
def test_a_refusal_of_a_range_that_does_not_tell_the_length_proves_nothing(
    server: TinyServer, path: Path, span: str | None
) -> None:
    """What is there may be another file's: it is fetched anew."""
    path.with_name(path.name + ".part").write_bytes(b"something else")
    server.answers(Answer(416, b"", {} if span is None else {"content-range": span}), content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT


def test_a_refusal_of_a_range_that_was_not_asked_for_is_no_file(server: TinyServer, path: Path) -> None:
    """It is tried again; nothing is taken for a file that never came."""
    server.answers(Answer(416, b"", {"content-range": "bytes */0"}), content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT


def test_files_are_asked_for_as_they_are(server: TinyServer, path: Path) -> None:
    """Not compressed, at the beginning and after a cut."""
    server.answers(content_server(cuts=(400_000,)))
    download(server, path)
    assert [seen.headers.get_all("accept-encoding") for seen in server.requests] == [["identity"]] * 2


def compressing(cut: int | None) -> Decide:
    """A server that compresses for clients that understand it, and whose ranges are of what it sends."""
    squeezed = gzip.compress(CONTENT, 1)
    left = [cut]

    def serve(seen: Seen) -> Answer:
        accepts = "gzip" in (seen.headers.get("accept-encoding") or "")
        body, named = (squeezed, {"content-encoding": "gzip"}) if accepts else (CONTENT, {})
        start = start_of(seen)
        if start >= len(body):
            return Answer(416, b"", {"content-range": f"bytes */{len(body)}"})
        cut_after = left.pop() if left else None
        if not start:
            return Answer(200, body, named, cut_after=cut_after)
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Answer(206, body[start:], {**named, "content-range": span}, cut_after=cut_after)

    return serve


@pytest.mark.parametrize("cut", [None, 30_000, 60_000])
def test_a_server_that_compresses_spoils_nothing(server: TinyServer, path: Path, cut: int | None) -> None:
    """Positions in the compressed stream are not positions in the file: a download that was cut comes out right too."""
    server.answers(compressing(cut))
    download(server, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 410, 400])
def test_a_file_that_is_gone_is_told(server: TinyServer, path: Path, status: int) -> None:
    """At once, with the server's word; nothing is left behind that looks like a file."""
    server.answers(refusal(status, message="No such File object: file-1"))
    with pytest.raises(Refused, match="No such File") as caught:
        download(server, path)
    assert caught.value.status == status
    assert len(server.requests) == 1
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("body", [b"<html>no such page</html>", b"", b"404 page not found"])
def test_the_page_of_a_gateway_is_no_word_about_a_file(
    server: TinyServer, path: Path, status: int, body: bytes
) -> None:
    """Answers that are paid for are not given up for it: it is tried again, by the next run too."""
    server.answers(Answer(status, body), content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT
    server.answers(Answer(status, body))
    with pytest.raises(Unreachable, match=str(status)):
        download(server, path.with_name("other.jsonl"))


@pytest.mark.parametrize("answer", [refusal(500), refusal(429, "rate_limit_exceeded"), AFTER_READING])
def test_trouble_before_the_first_byte_is_no_trouble(server: TinyServer, path: Path, answer: Answer) -> None:
    """It is tried again."""
    server.answers(answer, content_server())
    download(server, path)
    assert path.read_bytes() == CONTENT


def test_a_big_file_does_not_stand_in_memory(server: TinyServer, path: Path) -> None:
    """However big it is."""
    body = random.Random(1).randbytes(1_000_000) * 48
    server.answers(content_server(body))

    async def fetch(transport: Transport) -> int:
        await files.download(transport, "file-1", path.with_name("first.jsonl"))
        tracemalloc.start()
        try:
            await files.download(transport, "file-1", path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert talk(server.url, fetch) < MEGABYTES_48 / 4
    assert path.stat().st_size == len(body)


def test_a_folder_that_is_not_there_is_no_fault_of_the_server(server: TinyServer, tmp_path: Path) -> None:
    """What the disk refuses is told as what it is, and not tried five times."""
    server.answers(content_server())
    with pytest.raises(OSError, match="nowhere"):
        download(server, tmp_path / "nowhere" / "out.jsonl")
    assert len(server.requests) == 1


# ---------------------------------------------------------------- their sizes


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        (document({"id": "file-1", "bytes": 170}), 170),
        (document({"id": "file-1", "bytes": 0}), None),
        (document({"id": "file-1", "bytes": -1}), None),
        (document({"id": "file-1", "bytes": None}), None),
        (document({"id": "file-1", "bytes": "170"}), None),
        (document({"id": "file-1"}), None),
        (refusal(404), None),
        (refusal(405), None),
    ],
    ids=["told", "0", "negative", "null", "text", "none", "unknown", "no such call"],
)
def test_a_size_is_told_or_not_told(server: TinyServer, answer: Answer, size: int | None) -> None:
    """Some servers tell none, or nonsense: that is no trouble."""
    server.answers(*[answer] * 9)
    assert talk(server.url, lambda transport: files.told_size(transport, "file-1")) == size
    assert {(seen.method, seen.path) for seen in server.requests} == {("GET", "/files/file-1")}


@pytest.mark.parametrize(
    "answer",
    [refusal(500), refusal(429), refusal(401), AFTER_READING, document([170]), Answer(404, b"<html>Not here</html>")],
    ids=["failing", "busy", "account", "silent", "nonsense", "a gateway"],
)
def test_who_cannot_be_asked_has_not_said_that_it_tells_no_size(server: TinyServer, answer: Answer) -> None:
    """What cannot be known now may be known later."""
    server.answers(*[answer] * 9)
    with pytest.raises(ServerError):
        talk(server.url, lambda transport: files.told_size(transport, "file-1"))


# ---------------------------------------------------------------- deleted


def delete(server: TinyServer) -> None:
    talk(server.url, lambda transport: files.delete(transport, "file-1"))


def test_the_page_of_a_gateway_does_not_mean_that_a_file_is_gone(server: TinyServer) -> None:
    """It would stay on the server, and nobody would know."""
    server.answers(*[Answer(404, b"<html>no such page</html>")] * 9)
    with pytest.raises(Unreachable, match="404"):
        delete(server)


def test_a_file_is_deleted(server: TinyServer) -> None:
    """By its id."""
    server.answers(document({"id": "file-1", "object": "file", "deleted": True}))
    delete(server)
    assert [(seen.method, seen.path) for seen in server.requests] == [("DELETE", "/files/file-1")]


def test_a_file_that_is_gone_already_is_fine(server: TinyServer) -> None:
    """Somebody, or the last run, was quicker."""
    server.answers(refusal(404, message="No such File object: file-1"))
    delete(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [AFTER_READING, refusal(500), refusal(409), refusal(429, "rate_limit_exceeded")])
def test_deleting_is_tried_again(server: TinyServer, answer: Answer) -> None:
    """A lost reply may mean that it is gone: then the second try says so."""
    server.answers(answer, refusal(404))
    delete(server)
    assert len(server.requests) == 2


def test_a_refused_deletion_is_told(server: TinyServer) -> None:
    """The file is still there."""
    server.answers(refusal(400))
    with pytest.raises((Refused, ServerError)):
        delete(server)
