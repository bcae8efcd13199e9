"""Push attempts: each intent is committed with its reservation, and every doubt is kept until it is resolved."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import InternalError, StateConflict
from gpt_batch_api.domain.states import BatchState, PushState
from gpt_batch_api.store import batches, ledger, pushes
from gpt_batch_api.store.ledger import Booked
from gpt_batch_api.store.pushes import Orphan, PushRow, Uploaded
from tests.store.rig import EXPECTED_PICO, NOW, SERVER_NOW, Desk, desk_at, dump


def sealed(desk: Desk, *keys: str) -> int:
    return desk.seal(desk.add(*(keys or ("a", "b"))))


def get(desk: Desk, push_id: int) -> PushRow:
    return pushes.get(desk.db, push_id)


def look_later(desk: Desk, push_id: int, *, at: float) -> None:
    with desk.store.transaction() as tx:
        pushes.look_later(tx, pushes.get(tx, push_id), at=at)


def found(desk: Desk, *, file_id: str | None) -> None:
    """The one orphan was found on the server, or is given up (None)."""
    (orphan,) = pushes.orphans(desk.db)
    with desk.store.transaction() as tx:
        pushes.end_orphan(tx, orphan, file_id=file_id)


def test_the_intent_reserves_what_the_batch_is_expected_to_cost(desk: Desk) -> None:
    """In the same transaction, for the session that pushes it."""
    batch_id = sealed(desk)
    desk.begin_push(batch_id)
    booked = Booked(requests=2, input_tokens=14, reserved_pico=2 * EXPECTED_PICO)
    assert ledger.batch_total(desk.db, batch_id) == ledger.session_total(desk.db, desk.session_id) == booked
    assert (desk.batch(batch_id).state, desk.batch(batch_id).session_id) == (BatchState.PUSHING, desk.session_id)


def test_a_push_goes_its_way(desk: Desk) -> None:
    """uploading → uploaded → creating → created; the batch is remote then, and its file is known for deletion."""
    batch_id = sealed(desk)
    push_id = desk.begin_push(batch_id)
    assert get(desk, push_id).state is PushState.UPLOADING
    file_id = desk.upload(push_id)
    assert (get(desk, push_id).state, get(desk, push_id).file_id) == (PushState.UPLOADED, file_id)
    desk.begin_create(push_id)
    assert (get(desk, push_id).state, get(desk, push_id).create_at) == (PushState.CREATING, SERVER_NOW)
    desk.note_created(push_id)
    assert get(desk, push_id).state is PushState.CREATED
    assert pushes.open_pushes(desk.db) == []
    batch = desk.batch(batch_id)
    assert (batch.state, batch.remote_id, batch.remote_status) == (BatchState.REMOTE, f"remote-{push_id}", "validating")
    assert batch.pushed_at == NOW
    assert desk.table("SELECT file_id, batch_id, role, deleted FROM server_file") == [(file_id, batch_id, "input", 0)]


def test_a_refusal_gives_everything_back(desk: Desk) -> None:
    """Nothing happened: the batch is local again, nothing is reserved, and the reason is kept."""
    batch_id = sealed(desk)
    push_id = desk.begin_push(batch_id)
    desk.refuse(push_id, "no room")
    batch = desk.batch(batch_id)
    assert (batch.state, batch.session_id, batch.remote_id) == (BatchState.SEALED, None, None)
    assert ledger.session_total(desk.db, desk.session_id) == Booked()
    assert (get(desk, push_id).state, get(desk, push_id).outcome) == (PushState.REFUSED, "no room")
    assert desk.table("SELECT kind, reserved_pico, note FROM ledger ORDER BY id") == [
        ("reserve", 200, None),
        ("release", -200, "no room"),
    ]


def test_a_refusal_is_kept_in_whatever_words_it_came(desk: Desk) -> None:
    """Half a character pair in a message must not keep a batch from being taken back."""
    batch_id = sealed(desk)
    desk.refuse(desk.begin_push(batch_id), "cut in the middle \ud83d")
    assert desk.batch_state(batch_id) is BatchState.SEALED


def test_a_refused_batch_waits_as_long_as_it_was_told(desk: Desk) -> None:
    """And the next push forgets it."""
    batch_id = sealed(desk)
    push_id = desk.begin_push(batch_id)
    with desk.store.transaction() as tx:
        batch = batches.get(tx, batch_id)
        pushes.refuse(tx, pushes.get(tx, push_id), batch=batch, outcome="later", not_before=NOW + 9, now=NOW)
    assert desk.batch(batch_id).not_before == NOW + 9
    desk.begin_push(batch_id)
    assert desk.batch(batch_id).not_before is None


def test_a_batch_can_be_refused_and_pushed_again_many_times(desk: Desk) -> None:
    """Each time the same is reserved, and the same file is used."""
    batch_id = sealed(desk)
    uploads = []
    files = set()
    for turn in range(4):
        push_id = desk.begin_push(batch_id, server_now=SERVER_NOW + turn)
        if get(desk, push_id).state is PushState.UPLOADING:
            uploads.append(desk.upload(push_id))
        push = get(desk, push_id)
        files.add((push.file_id, push.upload_nonce, push.upload_at))
        desk.begin_create(push_id)
        assert ledger.session_total(desk.db, desk.session_id).reserved_pico == 2 * EXPECTED_PICO
        desk.refuse(push_id)
    assert len(uploads) == len(files) == 1
    assert files.pop()[2] == SERVER_NOW
    assert ledger.session_total(desk.db, desk.session_id) == Booked()


def test_a_reservation_is_given_back_to_the_session_that_made_it(desk: Desk) -> None:
    """Even if a later session finds out that nothing happened."""
    batch_id = sealed(desk)
    push_id = desk.begin_push(batch_id)
    later = Desk.open(desk.store.path)
    later.refuse(push_id)
    assert ledger.session_total(later.db, desk.session_id) == Booked()
    assert ledger.session_total(later.db, later.session_id) == Booked()
    later.store.close()


def test_a_file_that_was_deleted_is_not_used_again(desk: Desk) -> None:
    """Only one that still lies on the server."""
    batch_id = sealed(desk)
    push_id = desk.begin_push(batch_id)
    file_id = desk.upload(push_id)
    expected = Uploaded(get(desk, push_id).upload_nonce, file_id, SERVER_NOW)
    assert pushes.reusable_file(desk.db, batch_id) == expected
    with desk.store.transaction() as tx:
        batches.mark_deleted(tx, [file_id])
    assert pushes.reusable_file(desk.db, batch_id) is None


def test_another_batch_s_file_is_not_used(desk: Desk) -> None:
    """Each batch has its own file."""
    desk.upload(desk.begin_push(sealed(desk)))
    assert pushes.reusable_file(desk.db, sealed(desk, "c")) is None


def test_the_newest_file_is_used_again(desk: Desk) -> None:
    """Of two that lie there, it is the one that is likelier to stay."""
    batch_id = sealed(desk)
    desk.lose(desk.begin_push(batch_id))
    second = desk.begin_push(batch_id)
    file_id = desk.upload(second)
    desk.refuse(second)
    found(desk, file_id="file-late")
    again = pushes.reusable_file(desk.db, batch_id)
    assert again is not None
    assert again.file_id == file_id


# ---------------------------------------------------------------- doubts


@pytest.mark.parametrize("known", [PushState.UPLOADING, PushState.UPLOADED, PushState.CREATING])
def test_an_attempt_whose_end_is_not_known_is_in_doubt(path: Path, known: PushState) -> None:
    """However far it was known to be when the process died: the next one finds it open, to be looked for at once."""
    with desk_at(path) as desk:
        push_id = desk.begin_push(sealed(desk))
        if known is not PushState.UPLOADING:
            desk.upload(push_id)
        if known is PushState.CREATING:
            desk.begin_create(push_id)
    with desk_at(path) as desk:
        (push,) = pushes.open_pushes(desk.db)
        assert (push.id, push.state, push.look_at) == (push_id, known, None)


def test_open_attempts_are_told_oldest_first(desk: Desk) -> None:
    """Those that are created, refused or lost are open no more."""
    ids = [desk.begin_push(sealed(desk, key)) for key in "abcd"]
    desk.refuse(ids[1])
    desk.lose(ids[2])
    desk.push(sealed(desk, "e"))
    assert [push.id for push in pushes.open_pushes(desk.db)] == [ids[0], ids[3]]


def test_the_next_look_is_remembered(desk: Desk) -> None:
    """The attempt stays open in its state, its batch and its money stay as they are."""
    batch_id = sealed(desk)
    push_id = desk.begin_push(batch_id)
    for at in (NOW + 5, NOW + 50):
        look_later(desk, push_id, at=at)
        (push,) = pushes.open_pushes(desk.db)
        assert (push.id, push.state, push.look_at) == (push_id, PushState.UPLOADING, at)
    assert desk.batch_state(batch_id) is BatchState.PUSHING
    assert ledger.batch_total(desk.db, batch_id).reserved_pico == 2 * EXPECTED_PICO


def test_the_first_look_decides_by_when_the_call_was_over(desk: Desk) -> None:
    """From then on the lists have their time: the intent says nothing about it."""
    push_id = desk.begin_push(sealed(desk))
    desk.upload(push_id)
    desk.begin_create(push_id)
    look_later(desk, push_id, at=NOW)
    assert get(desk, push_id).over_at is None
    for over_at in (SERVER_NOW + 700, SERVER_NOW + 800):
        with desk.store.transaction() as tx:
            pushes.look_later(tx, get(desk, push_id), at=NOW, over_at=over_at)
        assert get(desk, push_id).over_at == SERVER_NOW + 700


def test_what_is_found_out_ends_the_doubt(desk: Desk) -> None:
    """A found upload and a found batch go on as if their replies had arrived."""
    push_id = desk.begin_push(sealed(desk))
    look_later(desk, push_id, at=NOW)
    desk.upload(push_id)
    assert get(desk, push_id).look_at is None
    desk.begin_create(push_id)
    look_later(desk, push_id, at=NOW)
    desk.note_created(push_id)
    assert (get(desk, push_id).state, get(desk, push_id).look_at) == (PushState.CREATED, None)


def test_times_of_a_push_are_the_server_s(desk: Desk) -> None:
    """They are compared with what its lists say; only the books go by our own clock."""
    push_id = desk.begin_push(sealed(desk), server_now=NOW - 3600)
    assert get(desk, push_id).upload_at == NOW - 3600
    desk.upload(push_id)
    desk.begin_create(push_id)
    assert (get(desk, push_id).upload_at, get(desk, push_id).create_at) == (SERVER_NOW, SERVER_NOW)
    assert desk.table("SELECT at FROM ledger") == [(NOW,)]


# ---------------------------------------------------------------- lost


def test_a_lost_upload_is_given_up_and_remembered(desk: Desk) -> None:
    """The batch is local again and nothing is reserved; the file may yet turn up: it is an orphan."""
    batch_id = sealed(desk)
    push_id = desk.begin_push(batch_id)
    look_later(desk, push_id, at=NOW)
    desk.lose(push_id)
    push = get(desk, push_id)
    assert (push.state, push.outcome, push.look_at) == (PushState.LOST, "upload lost", None)
    assert (desk.batch_state(batch_id), desk.batch(batch_id).session_id) == (BatchState.SEALED, None)
    assert ledger.task_total(desk.db) == Booked()
    assert pushes.orphans(desk.db) == [Orphan(push_id, batch_id, push.upload_nonce, SERVER_NOW, SERVER_NOW)]


def test_a_lost_creation_is_given_up_and_its_file_used_again(desk: Desk) -> None:
    """Uploaded already: only a new nonce and a new creation are needed, and no orphan is left."""
    batch_id = sealed(desk)
    first = desk.begin_push(batch_id)
    desk.upload(first)
    desk.begin_create(first)
    desk.lose(first)
    assert (get(desk, first).state, get(desk, first).outcome) == (PushState.LOST, "create lost")
    assert desk.batch_state(batch_id) is BatchState.SEALED
    assert (ledger.task_total(desk.db), pushes.orphans(desk.db)) == (Booked(), [])
    before, push = get(desk, first), get(desk, desk.begin_push(batch_id))
    assert (push.state, push.create_nonce) == (PushState.UPLOADED, None)
    assert (push.file_id, push.upload_nonce, push.upload_at) == (before.file_id, before.upload_nonce, before.upload_at)


def test_a_known_upload_cannot_be_lost(desk: Desk) -> None:
    """It lies there: such an attempt is taken back, and nobody can call it lost by mistake."""
    push_id = desk.begin_push(sealed(desk))
    desk.upload(push_id)
    before = dump(desk.db)
    with pytest.raises(StateConflict):
        desk.lose(push_id)
    assert dump(desk.db) == before


def test_a_push_goes_another_time_whatever_was_lost(desk: Desk) -> None:
    """Uploads and creations lost again and again: one batch, reserved once, created once."""
    batch_id = sealed(desk)
    for _ in range(3):
        desk.lose(desk.begin_push(batch_id))
    for _ in range(3):
        push_id = desk.begin_push(batch_id)
        if get(desk, push_id).state is PushState.UPLOADING:
            desk.upload(push_id)
        desk.begin_create(push_id)
        desk.lose(push_id)
    desk.push(batch_id)
    assert desk.batch_state(batch_id) is BatchState.REMOTE
    assert ledger.task_total(desk.db) == Booked(2, 14, 2 * EXPECTED_PICO, 0, 0)
    assert len({row[0] for row in desk.table("SELECT upload_nonce FROM push")}) == 4


def test_a_create_nonce_is_never_used_twice(desk: Desk) -> None:
    """By it a batch is found on the server; two attempts with one nonce could not be told apart."""
    first, second = (desk.begin_push(sealed(desk, key)) for key in "ab")
    for push_id in (first, second):
        desk.upload(push_id)
    with desk.store.transaction() as tx:
        pushes.begin_create(tx, pushes.get(tx, first), nonce="same", now=NOW)
    with pytest.raises(InternalError), desk.store.transaction() as tx:
        pushes.begin_create(tx, pushes.get(tx, second), nonce="same", now=NOW)


# ---------------------------------------------------------------- orphans and files


def test_an_orphan_that_turns_up_is_deleted_later(desk: Desk) -> None:
    """Its batch went with another file, so this one is superseded, even while the batch is under way."""
    batch_id = sealed(desk)
    desk.lose(desk.begin_push(batch_id))
    second = desk.begin_push(batch_id)
    used = desk.upload(second)
    found(desk, file_id="file-late")
    assert pushes.orphans(desk.db) == []
    assert batches.superseded_files(desk.db) == [("file-late", batch_id)]
    desk.begin_create(second)
    desk.note_created(second)
    assert batches.superseded_files(desk.db) == [("file-late", batch_id)]
    assert used not in dict(batches.files_to_delete(desk.db))


def test_an_orphan_that_turns_up_in_time_is_used(desk: Desk) -> None:
    """Its batch still waits: the file needs no second upload."""
    batch_id = sealed(desk)
    desk.lose(desk.begin_push(batch_id))
    found(desk, file_id="file-late")
    push = get(desk, desk.begin_push(batch_id))
    assert (push.state, push.file_id) == (PushState.UPLOADED, "file-late")
    assert batches.superseded_files(desk.db) == []


def test_an_orphan_that_never_turns_up_is_given_up(desk: Desk) -> None:
    """Nothing is left to delete."""
    desk.lose(desk.begin_push(sealed(desk)))
    found(desk, file_id=None)
    assert pushes.orphans(desk.db) == []
    assert desk.table("SELECT * FROM server_file") == []


def test_an_orphan_that_turns_up_before_the_new_upload_is_done_is_superseded_after_it(desk: Desk) -> None:
    """The file in use is never among those to delete."""
    batch_id = sealed(desk)
    desk.lose(desk.begin_push(batch_id))
    second = desk.begin_push(batch_id)
    found(desk, file_id="file-late")
    assert batches.superseded_files(desk.db) == []
    used = desk.upload(second)
    assert batches.superseded_files(desk.db) == [("file-late", batch_id)]
    assert used != "file-late"


def test_a_file_that_the_server_does_not_find_is_uploaded_anew(desk: Desk) -> None:
    """It may only be late: it is an orphan, deleted if it turns up again."""
    batch_id = sealed(desk)
    first = desk.begin_push(batch_id)
    file_id = desk.upload(first)
    desk.refuse(first)
    with desk.store.transaction() as tx:
        batches.supersede_file(tx, file_id)
    assert (pushes.reusable_file(desk.db, batch_id), batches.count_server_files(desk.db)) == (None, 0)
    assert [orphan.push_id for orphan in pushes.orphans(desk.db)] == [first]
    second = desk.begin_push(batch_id)
    assert get(desk, second).state is PushState.UPLOADING
    desk.upload(second)
    found(desk, file_id=file_id)
    assert batches.superseded_files(desk.db) == [(file_id, batch_id)]
    assert batches.count_server_files(desk.db) == 2


def test_a_superseded_file_is_one_orphan_however_often_it_was_used(desk: Desk) -> None:
    """Several attempts went with it; it is looked for once, and found or given up once."""
    batch_id = sealed(desk)
    for _ in range(3):
        push_id = desk.begin_push(batch_id)
        if get(desk, push_id).file_id is None:
            desk.upload(push_id)
        desk.refuse(push_id)
    file_id = get(desk, push_id).file_id
    assert file_id is not None
    with desk.store.transaction() as tx:
        batches.supersede_file(tx, file_id)
    found(desk, file_id=None)
    assert pushes.orphans(desk.db) == []


def test_files_on_the_server_are_counted(desk: Desk) -> None:
    """Those that are not known to be deleted, whatever their role."""
    desk.answered("a")
    assert batches.count_server_files(desk.db) == 3
    with desk.store.transaction() as tx:
        batches.mark_deleted(tx, [file_id for file_id, _ in batches.files_to_delete(tx)][:2])
    assert batches.count_server_files(desk.db) == 1
