"""Requests: known by (sample, purpose, number), stored once, queued in order, with the exact bytes of their lines."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_batch_api.domain.errors import InternalError, StateConflict
from gpt_batch_api.domain.request import (
    ASSUMED_MAX_OUTPUT_TOKENS,
    Load,
    RequestKey,
    ResponseSchema,
    batch_line,
    parse_custom_id,
)
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import batches, requests, samples, tasks
from tests.store.rig import CHAT, MODEL, NOW, Desk, body_of, desk_at, new_request, statements

letters = st.characters(codec="utf-8")
key_letters = st.characters(codec="utf-8", exclude_characters="\0")
keys = st.builds(
    RequestKey,
    st.text(key_letters, min_size=1, max_size=20),
    st.text(key_letters, max_size=8),
    st.integers(-(2**63), 2**63 - 1),
)
ODD = [
    "plain", "é", "e\u0301", "\ufb01", "ﷺ", "🏳️‍🌈", "\u202eabc", "a\u2028b", "tab\tline\nreturn\r", "\x01\x1f\x7f",
    "'; DROP TABLE request; --", '"quoted"', "back\\slash", "%_*?", "[1]", "$.a", "null", "0", "-1", "  spaces  ",
    "A", "a", "ß", "ẞ", "ı", "\ufeff", "\U0010ffff", "x" * 10_000,
]  # fmt: skip


def known(desk: Desk, *asked: RequestKey) -> set[RequestKey]:
    return set(requests.find_known(desk.db, asked))


# ---------------------------------------------------------------- looked up


def test_what_is_stored_is_known(desk: Desk) -> None:
    """With the hash of what it asked, and the version of the metadata it was asked under."""
    item = new_request("a", "check", 2)
    desk.add(item)
    with desk.store.transaction() as tx:
        tasks.replace_metadata(tx, {"model": "another"})
    desk.add(new_request("b"))
    found = requests.find_known(desk.db, [item.key, RequestKey("b")])
    assert found[item.key].payload_hash == item.payload_hash
    assert (found[item.key].metadata_version, found[RequestKey("b")].metadata_version) == (1, 2)


@pytest.mark.parametrize(
    "other",
    [RequestKey("a"), RequestKey("a", "p"), RequestKey("a", "p", 2), RequestKey("b", "p", 1), RequestKey("A", "p", 1)],
)
def test_each_part_of_a_key_counts(desk: Desk, other: RequestKey) -> None:
    """Another sample, purpose or number is another request."""
    desk.add(new_request("a", "p", 1))
    assert known(desk, other) == set()


def test_a_thousand_keys_are_looked_up_in_one_query(desk: Desk) -> None:
    """A restart of a big task costs one statement per thousand samples."""
    desk.add(*(f"sample-{number}" for number in range(0, 1000, 2)))
    asked = [RequestKey(f"sample-{number}") for number in range(1000)]
    seen: list[str] = []
    statements(desk.db, seen)
    found = requests.find_known(desk.db, asked)
    assert set(found) == set(asked[::2])
    assert len(seen) == 1


def test_nothing_asked_nothing_found(desk: Desk) -> None:
    """An empty look-up is no special case; nor is a key that is asked for twice."""
    desk.add("a")
    assert requests.find_known(desk.db, []) == {}
    assert len(requests.find_known(desk.db, [RequestKey("a"), RequestKey("a")])) == 1


@pytest.mark.parametrize("key", ODD, ids=lambda key: ascii(key[:12]))
def test_an_odd_key_is_found_again(desk: Desk, key: str) -> None:
    """Any text is a good sample key and a good purpose, and stands for itself alone."""
    item = new_request(key, purpose=key)
    request_id = desk.add(item, *(new_request(other) for other in ODD if other != key))[0]
    assert requests.find_known(desk.db, [item.key])[item.key].payload_hash == item.payload_hash
    assert requests.describe(desk.db, request_id) == item.key


@given(st.lists(keys, min_size=1, max_size=12, unique=True), st.data())
@settings(max_examples=60)
def test_exactly_the_stored_keys_are_known(chosen: list[RequestKey], data: st.DataObject) -> None:
    """Whatever texts and numbers they are made of."""
    there = data.draw(st.sets(st.sampled_from(chosen)), label="stored")
    with tempfile.TemporaryDirectory() as folder, desk_at(Path(folder) / "s.db") as desk:
        desk.add(*(new_request(key.sample_key, key.purpose, key.number) for key in there))
        assert known(desk, *chosen) == there


# ---------------------------------------------------------------- stored


def test_adding_the_same_request_twice_is_refused(desk: Desk) -> None:
    """Uniqueness is the schema's promise: the second time is refused as a whole."""
    desk.add("a")
    with pytest.raises(InternalError, match="UNIQUE"):
        desk.add("b", "a")
    with pytest.raises(InternalError, match="UNIQUE"):
        desk.add("c", "c")
    assert desk.table("SELECT key FROM sample") == [("a",)]


def test_requests_of_one_sample_share_it(desk: Desk) -> None:
    """A sample has one row however many requests are asked on its behalf, in one step or in several."""
    desk.add(new_request("a"), new_request("a", "p"), new_request("b"))
    desk.add(new_request("a", "", 1))
    assert desk.table("SELECT key, open, status FROM sample ORDER BY id") == [("a", 3, "pending"), ("b", 1, "pending")]


def test_new_requests_are_queued_for_their_first_attempt(desk: Desk) -> None:
    """With what planning needs to know of them."""
    desk.add(new_request("a", input_tokens=11, max_output_tokens=5))
    row = desk.db.execute("SELECT * FROM request").fetchone()
    assert (row["state"], row["attempt"], row["tries"], row["expiries"]) == ("queued", 1, 0, 0)
    assert (row["endpoint"], row["model"], row["input_tokens"], row["output_allowance"]) == (CHAT, MODEL, 11, 5)
    assert (row["asked_by_task"], row["epoch"], row["metadata_version"]) == (0, 1, 1)


def test_follow_ups_are_told_apart(desk: Desk) -> None:
    """Who asked, the generator or the task's code, is kept."""
    desk.add("a")
    desk.add(new_request("a", "follow-up"), asked_by_task=True)
    assert desk.table("SELECT purpose, asked_by_task FROM request") == [("", 0), ("follow-up", 1)]


@pytest.mark.parametrize("meta", [None, 0, False, "", [], {}, {"ü": [1, 2.5, None]}, "text", 10**20])
def test_meta_comes_back_with_the_answer(desk: Desk, meta: Any) -> None:
    """Any small JSON, empty ones included."""
    desk.answered(new_request("a", meta=meta))
    (answer,) = desk.to_hand()
    assert answer.meta == meta
    assert type(answer.meta) is type(meta)


def test_schemas_are_stored_once(desk: Desk) -> None:
    """A thousand requests with one schema share a row; another model with the same JSON has its own."""
    one = ResponseSchema("Answer", '{"type":"object"}', "here:Answer")
    two = ResponseSchema("Answer", '{"type":"object"}', "there:Answer")
    plain = ResponseSchema("Answer", '{"type":"object"}')
    desk.add(*(new_request(f"a{number}", schema=one) for number in range(10)))
    desk.add(
        new_request("b", schema=one), new_request("c", schema=two), new_request("d", schema=plain), new_request("e")
    )
    ids = [row[0] for row in desk.table("SELECT DISTINCT schema_id FROM request WHERE schema_id IS NOT NULL")]
    assert len(ids) == 3
    assert set(requests.response_schemas(desk.db, ids).values()) == {one, two, plain}
    assert desk.one("SELECT count(*) FROM request WHERE schema_id IS NULL") == 1


def test_only_those_schemas_are_read_that_are_needed(desk: Desk) -> None:
    """A task may have a schema for each sample: a chunk of answers must not read them all."""
    one, two = (ResponseSchema(name, f'{{"title":"{name}"}}') for name in ("One", "Two"))
    desk.add(new_request("a", schema=one), new_request("b", schema=two))
    schema_id = desk.one("SELECT schema_id FROM request ORDER BY id LIMIT 1")
    assert requests.response_schemas(desk.db, [schema_id, 99]) == {schema_id: one}
    assert requests.response_schemas(desk.db, []) == {}


def test_a_schema_comes_back_with_the_answer(desk: Desk) -> None:
    """So that a restarted process knows what was demanded."""
    schema = ResponseSchema("Answer", '{"type":"object"}', "here:Answer")
    twin = ResponseSchema("Answer", '{"type":"object"}', "there:Answer")
    plain = ResponseSchema("Answer", '{"type":"object"}')
    asked = [schema, None, twin, plain]
    desk.answered(*(new_request(f"s{number}", schema=each) for number, each in enumerate(asked)))
    assert [answer.schema for answer in desk.to_hand()] == asked


# ---------------------------------------------------------------- lines


def lines(desk: Desk, ids: list[int]) -> list[bytes]:
    return list(requests.lines_of(desk.db, ids))


def test_a_line_is_what_the_batch_endpoint_expects(desk: Desk) -> None:
    """One JSON document per line: custom_id, method, url, and the payload byte for byte."""
    body = body_of("Grüße \u2028 and\x85 \x01 😀", seed=7)
    ids = desk.add("first", new_request("a", body=body))
    line = lines(desk, ids)[1]
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert body in line
    document = json.loads(line)
    assert document == {"custom_id": f"{ids[1]}-1", "method": "POST", "url": CHAT, "body": json.loads(body)}
    assert parse_custom_id(document["custom_id"]) == (ids[1], 1)


@given(st.lists(st.text(letters, max_size=2000), min_size=1, max_size=5), st.integers(1, 200))
@settings(max_examples=40)
def test_stored_sizes_are_those_of_the_lines(contents: list[str], others: int) -> None:
    """Byte for byte, with ids of any length and after wipes raised the epoch: a limit of bytes is kept exactly."""
    with tempfile.TemporaryDirectory() as folder, desk_at(Path(folder) / "s.db") as desk:
        desk.add(*(f"other-{number}" for number in range(others)))
        with desk.store.transaction() as tx:
            tx.execute("UPDATE task SET epoch = ?", (others,))
        ids = desk.add(*(new_request(f"s{number}", body=body_of(text)) for number, text in enumerate(contents)))
        found = lines(desk, ids)
        sizes = [size for (size,) in desk.table("SELECT size_bytes FROM request WHERE sample_id > ?", others)]
        assert [len(line) for line in found] == sizes
        assert [json.loads(line)["custom_id"] for line in found] == [f"{request_id}-{others}" for request_id in ids]


def test_lines_come_in_the_order_asked_for(desk: Desk) -> None:
    """The order of the batch file is the caller's."""
    ids = desk.add("a", "b", "c")
    order = [ids[2], ids[0], ids[1]]
    assert [json.loads(line)["custom_id"] for line in lines(desk, order)] == [f"{request_id}-1" for request_id in order]


def test_lines_of_a_batch_are_those_that_were_queued(desk: Desk) -> None:
    """Sealing changes no byte: the file can be written again from the store at any time."""
    ids = desk.add("a", "b", "c")
    before = lines(desk, ids)
    batch_id = desk.seal(ids)
    assert requests.ids_of_batch(desk.db, batch_id) == ids
    assert lines(desk, requests.ids_of_batch(desk.db, batch_id)) == before


def test_a_request_keeps_its_name_when_it_is_asked_again(desk: Desk) -> None:
    """Only a wipe raises the epoch; requests that survive it keep the name they have, new ones get the new one."""
    (kept,) = desk.answered("kept")
    desk.hand()
    desk.add("wiped")
    desk.wipe("requests")
    (fresh,) = desk.add("wiped")
    assert lines(desk, [kept])[0].startswith(b'{"custom_id":"%d-1"' % kept)
    assert lines(desk, [fresh])[0].startswith(b'{"custom_id":"%d-2"' % fresh)


def test_a_line_holds_payloads_with_media(desk: Desk) -> None:
    """An image that is kept apart stands in the line again."""
    body = body_of("look", url="data:image/png;base64," + "A" * 5000)
    (request_id,) = desk.add(new_request("a", body=body))
    assert lines(desk, [request_id]) == [batch_line(request_id, 1, endpoint=CHAT, body=body)]


# ---------------------------------------------------------------- queued and batched


def test_the_queue_is_read_oldest_first(desk: Desk) -> None:
    """Whatever the order of their samples; requests that come back keep their place."""
    ids = desk.add("c", "a", "b")
    late = desk.add(new_request("a", "again"))
    batch_id = desk.seal(ids[:2])
    with desk.store.transaction() as tx:
        batches.dissolve(tx, batches.get(tx, batch_id), now=NOW)
    assert [item.id for item in requests.queued(desk.db, endpoint=CHAT, model=MODEL)] == ids + late


def test_each_model_has_its_own_queue(desk: Desk) -> None:
    """A batch holds one model only."""
    one, other = desk.add(new_request("a"), new_request("b", model="gpt-5"))
    assert [item.id for item in requests.queued(desk.db, endpoint=CHAT, model=MODEL)] == [one]
    assert [item.id for item in requests.queued(desk.db, endpoint=CHAT, model="gpt-5")] == [other]
    assert list(requests.queued(desk.db, endpoint="/v1/responses", model=MODEL)) == []


def test_the_queue_tells_which_requests_set_a_maximum(desk: Desk) -> None:
    """strict_budget refuses those that do not; they are weighed with an assumed one."""
    desk.add(new_request("a", max_output_tokens=9), new_request("b", max_output_tokens=None))
    found = [
        (item.kind.max_output_tokens is not None, item.kind.output_allowance)
        for item in requests.queued(desk.db, endpoint=CHAT, model=MODEL)
    ]
    assert found == [(True, 9), (False, ASSUMED_MAX_OUTPUT_TOKENS)]


def test_what_waits_is_told_by_endpoint_and_model(desk: Desk) -> None:
    """Sums of all measures; a queue that has become empty is not told."""
    ids = desk.add(new_request("a", input_tokens=3), new_request("b", input_tokens=4), new_request("c", model="gpt-5"))
    size = sum(len(line) for line in lines(desk, ids[:2]))
    assert requests.queue_loads(desk.db)[CHAT, MODEL] == Load(2, size, 7, 40)
    desk.seal(ids[:2])
    assert list(requests.queue_loads(desk.db)) == [(CHAT, "gpt-5")]


def test_every_state_has_a_load(desk: Desk) -> None:
    """Zeros included."""
    assert requests.state_loads(desk.db) == {state: Load() for state in RequestState}


def test_a_batch_takes_all_its_requests_or_none(desk: Desk) -> None:
    """One that is not queued any more makes the whole step a conflict."""
    ids = desk.add("a", "b", "c")
    desk.seal(ids[:1])
    with pytest.raises(StateConflict):
        desk.seal(ids)
    assert [desk.state_of(request_id) for request_id in ids] == ["batched", "queued", "queued"]


def test_the_same_request_cannot_stand_in_a_batch_twice(desk: Desk) -> None:
    """Its second line would be paid."""
    ids = desk.add("a")
    with pytest.raises(StateConflict):
        desk.seal([ids[0], ids[0]])


# ---------------------------------------------------------------- samples


def test_states_of_samples_are_kept(desk: Desk) -> None:
    """Those asked for, as the very text that was written; None where the task has set none."""
    desk.add("a", "b", "c")
    text = '{"seen":  ["ü"], "size": 1.0}'
    with desk.store.transaction() as tx:
        samples.save_states(tx, {1: text, 3: "null"})
    assert samples.load_states(desk.db, [1, 2, 3, 99]) == {1: text, 2: None, 3: "null"}
    assert samples.load_states(desk.db, []) == {}


def test_a_state_can_be_taken_back(desk: Desk) -> None:
    """None is a state too."""
    desk.add("a")
    for text in ("1", None):
        with desk.store.transaction() as tx:
            samples.save_states(tx, {1: text})
    assert desk.one("SELECT state FROM sample") is None
