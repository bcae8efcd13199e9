"""Packing a text for the store and taking it out again gives the same bytes, whatever they are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt_batch_api.endpoints.base import encode
from gpt_batch_api.store.codec import drop_unused_content, pack, pack_payload, unpack, unpack_payload
from tests.store.rig import Desk, body_of, new_request

LEAST = 1024
"""Characters from which on a data URI is kept on its own."""


@contextmanager
def shelf() -> Iterator[sqlite3.Connection]:
    """A database with only the table that the codec needs."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE content (hash BLOB PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID")
    try:
        yield db
    finally:
        db.close()


def stored(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM content").fetchone()[0])


def data_uri(length: int = 2000, *, character: str = "A", kind: str = "image/png") -> str:
    return f"data:{kind};base64,{character * length}"


media = st.builds(
    data_uri,
    st.integers(0, 2 * LEAST),
    character=st.sampled_from(["A", "é", " ", ",", "\\", '"', "\x01", "\n", "\u2028", "{"]),
    kind=st.sampled_from(["image/png", "application/pdf", ""]),
)
marks = st.builds(lambda digits: f"\x01{digits}\x01", st.text("0123456789abcdef", min_size=62, max_size=66))
texts = st.one_of(st.text(st.characters(codec="utf-8")), media, marks)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(texts, inner, max_size=5)),
    max_leaves=8,
)


@given(st.binary(max_size=3000))
def test_any_bytes_come_back_as_they_were(text: bytes) -> None:
    """Answers of a server are kept byte for byte, whether they are JSON or not."""
    assert unpack(pack(text)) == text


@given(st.dictionaries(texts, documents, max_size=5), st.booleans())
@example({"url": data_uri()}, False)
@example({data_uri(): data_uri()}, False)
@example({"text": f'he said "{data_uri()}" and left'}, False)
@example({"text": "\x01" + 64 * "a" + "\x01" + data_uri()}, False)
@example({"text": "data:" * 1000}, False)
@example({"a": '"', "b": data_uri(), "c": '\\"data:' + 2000 * "x"}, False)
def test_any_payload_comes_back_as_it_was(payload: dict[str, Any], spaced: bool) -> None:
    """Byte for byte: with media in values, keys and within quotes, control characters, and texts that look like marks."""
    body = json.dumps(payload, ensure_ascii=True, indent=1).encode() if spaced else encode(payload)
    with shelf() as db:
        assert unpack_payload(db, pack_payload(db, body)) == body


def test_an_image_in_many_payloads_is_stored_once() -> None:
    """However often and in whatever request it stands."""
    with shelf() as db:
        bodies = [body_of(f"question {number}", images=[data_uri(), data_uri()]) for number in range(20)]
        packed = [pack_payload(db, body) for body in bodies]
        assert stored(db) == 1
        assert [unpack_payload(db, blob) for blob in packed] == bodies


def test_different_images_are_stored_apart() -> None:
    """A different last character makes another image."""
    with shelf() as db:
        body = body_of("two", images=[data_uri() + "A", data_uri() + "B"])
        packed = pack_payload(db, body)
        assert stored(db) == 2
        assert unpack_payload(db, packed) == body


@pytest.mark.parametrize(("length", "count"), [(LEAST - 1, 0), (LEAST, 1), (LEAST + 1, 1)])
def test_only_long_media_are_stored_apart(length: int, count: int) -> None:
    """A short one costs less where it stands. Counted are the characters after `data:`."""
    with shelf() as db:
        body = body_of("", url="data:" + "A" * length, rest="x" * LEAST)
        assert unpack_payload(db, pack_payload(db, body)) == body
        assert stored(db) == count


def test_a_packed_payload_is_small() -> None:
    """A payload of words is compressed, one with media keeps only their mark."""
    words = body_of("the same words again and again " * 200)
    with shelf() as db:
        assert len(pack_payload(db, words)) < len(words) / 10
        noise = "".join(chr(33 + number * 7919 % 90) for number in range(50_000)).replace('"', "").replace("\\", "")
        assert len(pack_payload(db, body_of("look", url="data:" + noise))) < 400


@pytest.mark.parametrize("text", [b"", b"x", bytes(range(256))])
def test_what_cannot_be_compressed_grows_by_one_byte_only(text: bytes) -> None:
    """The byte that says how it is packed."""
    assert len(pack(text)) == len(text) + 1


def test_a_packed_text_is_known_by_its_first_byte() -> None:
    """Stores of older versions must stay readable: 0 is plain, 1 is zlib. This test may be added to, never changed."""
    assert unpack(b"\x00as it is") == b"as it is"
    assert unpack(bytes.fromhex("0178014b4c4a240a0200387b0f3d")) == b"ab" * 20
    assert pack(b"ab" * 99)[:1] == b"\x01"
    assert pack(b"xy")[:1] == b"\x00"


def test_media_are_forgotten_with_the_last_payload(desk: Desk) -> None:
    """Not while a payload is left to need them."""
    desk.add(new_request("a", body=body_of("look", url=data_uri())))
    with desk.store.transaction() as tx:
        drop_unused_content(tx)
    assert stored(desk.db) == 1
    with desk.store.transaction() as tx:
        tx.execute("DELETE FROM payload")
        drop_unused_content(tx)
    assert stored(desk.db) == 0
