"""What is kept packed is read as a run would read it; what cannot be read is named by its sample."""

from __future__ import annotations

import pytest

from gpt_batch_api.store.contents import unreadable
from tests.store.rig import Desk, body_of, new_request

PICTURE = "data:image/png;base64," + "A" * 2000


@pytest.fixture
def shown(desk: Desk) -> Desk:
    """Two samples that show the same picture, and one that shows none."""
    desk.add(
        *(new_request(key, body=body_of(key, image=PICTURE, n=number)) for number, key in enumerate(("a", "b"))),
        new_request("c"),
    )
    assert list(unreadable(desk.db)) == []
    return desk


@pytest.mark.parametrize("damage", ["DELETE FROM content", "UPDATE content SET body = x'2222'"])
def test_media_that_are_gone_or_changed_break_all_payloads_that_hold_them(shown: Desk, damage: str) -> None:
    shown.db.execute(damage)
    assert list(unreadable(shown.db)) == ["2 payloads are not what was asked: a, b"]


def test_what_stands_around_media_must_be_readable(shown: Desk) -> None:
    shown.db.execute("UPDATE payload SET body = CAST(x'00' || body AS BLOB) WHERE request_id = 1")
    assert list(unreadable(shown.db)) == ["1 payloads are not what was asked: a"]


def test_a_payload_of_the_same_form_that_asks_something_else_is_named(shown: Desk) -> None:
    shown.db.execute("UPDATE request SET payload_hash = zeroblob(16) WHERE id = 3")
    assert list(unreadable(shown.db)) == ["1 payloads are not what was asked: c"]


def test_only_the_first_broken_ones_are_named(desk: Desk) -> None:
    desk.add(*"abcde")
    desk.db.execute("UPDATE payload SET body = x'01'")
    assert list(unreadable(desk.db)) == ["5 payloads are not what was asked: a, b, c …"]


@pytest.mark.parametrize(
    "body", [b"\x01\x00", b"\x00", b"", b"\x00[]", b"\x00{}", b"\x00\xff", b'\x00{"response": {"body": []}}']
)
def test_an_answer_that_counts_as_good_must_have_a_reply_in_it(desk: Desk, body: bytes) -> None:
    desk.answered("a", "b", raw=b'{"response": {"body": {"choices": []}}}')
    assert list(unreadable(desk.db)) == []
    desk.db.execute("UPDATE raw_response SET body = ? WHERE response_id = 2", (body,))
    assert list(unreadable(desk.db)) == ["1 answers cannot be read as they came: b"]
