"""Wipes forget by sample, replay what was kept, and never forget money."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from gpt_batch_api.domain.outcome import Outcome, Verdict
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import batches, ledger, outbox, requests, samples, tasks, wipe
from gpt_batch_api.store.ledger import Booked
from gpt_batch_api.store.responses import Answer
from gpt_batch_api.store.wipe import Wiped
from tests.store.rig import (
    FATAL,
    METADATA,
    MODEL,
    NOW,
    Desk,
    body_of,
    dump,
    expired,
    fatal,
    good,
    new_request,
    retried,
)

SUCCEEDED, FAILED, QUEUED = RequestState.SUCCEEDED, RequestState.FAILED, RequestState.QUEUED
PARTIAL = ("requests", "failed")


def keys(desk: Desk) -> dict[str, list[str]]:
    """Each sample with the states of its requests."""
    found: dict[str, list[str]] = {key: [] for (key,) in desk.table("SELECT key FROM sample ORDER BY id")}
    for key, state in desk.table(
        "SELECT key, request.state FROM request JOIN sample ON sample.id = sample_id ORDER BY request.id"
    ):
        found[key].append(state)
    return found


def two_answers(desk: Desk, key: str, first: RequestState, second: RequestState, **how: bool) -> list[int]:
    """A sample with two requests that ended so, a row for each success, and a state."""
    ids = desk.answered(new_request(key), new_request(key, "more"))
    endings = {ids[0]: first, ids[1]: second}
    desk.hand(endings, rows=True, states={desk.sample_id(key): f'"about {key}"'}, **how)
    return ids


def half_done(desk: Desk, key: str, *, state: RequestState = SUCCEEDED, keep_raw: bool = True) -> tuple[int, int]:
    """A sample with one request that ended as *state* (with a row if it succeeded) and one that is open; their ids."""
    (done,) = desk.answered(new_request(key))
    desk.hand({done: state}, rows=True, states={desk.sample_id(key): f'"about {key}"'}, keep_raw=keep_raw)
    (waiting,) = desk.add(new_request(key, "more"))
    return done, waiting


# ---------------------------------------------------------------- requests


def test_requests_without_a_final_result_are_forgotten(desk: Desk) -> None:
    """Queued and held ones; whoever is done is not touched, nor an answer that the task's code has not seen yet."""
    two_answers(desk, "done", SUCCEEDED, SUCCEEDED)
    two_answers(desk, "failed", FAILED, FAILED)
    ids = desk.add("answered", "held", "expired")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [good(ids[0]), fatal(ids[1]), expired(ids[2])], failure="bad")
    desk.add("queued")
    before = dump(desk.db)
    assert desk.wipe("requests") == Wiped(requests=3, samples=3, rows=0, to_replay=0)
    assert keys(desk) == {"done": ["succeeded"] * 2, "failed": ["failed"] * 2, "answered": ["answered"]}
    after = dump(desk.db)
    for table in ("output", "raw_response"):
        kept = [row for row in before[table] if row in after[table]]
        assert after[table] == kept
    assert desk.sample("done")["state"] == '"about done"'


def test_a_touched_sample_is_reset_and_its_answers_are_replayed(desk: Desk) -> None:
    """State and rows go, the open request goes, and the kept answer waits for the task's code again."""
    done, _ = half_done(desk, "a")
    half_done(desk, "b")
    desk.hand(rows=True)
    assert desk.wipe("requests") == Wiped(requests=2, samples=2, rows=2, to_replay=2)
    assert keys(desk) == {"a": ["answered"], "b": ["answered"]}
    assert desk.sample("a")["state"] is None
    assert desk.rows() == []
    assert (desk.to_hand()[0].request_id, desk.to_hand()[0].raw) == (done, b"{}")


def test_a_replayed_answer_can_be_handed_like_a_new_one(desk: Desk) -> None:
    """The corrected code decides anew; nothing is paid."""
    half_done(desk, "a")
    spent = ledger.task_total(desk.db)
    desk.wipe("requests")
    desk.hand(FAILED)
    assert keys(desk) == {"a": ["failed"]}
    assert desk.table("SELECT handed, task_verdict FROM response") == [(1, "retryable")]
    assert ledger.task_total(desk.db) == spent


def test_only_the_final_answer_of_a_request_is_replayed(desk: Desk) -> None:
    """Earlier tries were not final: one failed at the server, one was sent back by the task."""
    (request_id,) = desk.add("a")
    for answer, ending in ((retried(request_id), None), (good(request_id), QUEUED), (good(request_id), SUCCEEDED)):
        batch_id = desk.seal([request_id])
        desk.push(batch_id)
        desk.end(batch_id)
        desk.settle(batch_id, [answer])
        if ending:
            desk.hand(ending, rows=True)
    desk.add(new_request("a", "more"))
    assert desk.wipe("requests") == Wiped(requests=1, samples=1, rows=1, to_replay=1)
    assert desk.table("SELECT try, handed FROM response ORDER BY id") == [(1, None), (2, 1), (3, 0)]


def test_an_answer_that_the_task_has_not_seen_is_kept(desk: Desk) -> None:
    """It is paid: its sample begins anew with it, and its money stays linked."""
    (answered,) = desk.answered("a", cost_pico=44)
    desk.add(new_request("a", "more"))
    with desk.store.transaction() as tx:
        samples.save_states(tx, {desk.sample_id("a"): '"half way"'})
    assert desk.wipe("requests") == Wiped(requests=1, samples=1, rows=0, to_replay=0)
    assert [(answer.request_id, answer.raw) for answer in desk.to_hand()] == [(answered, b"{}")]
    assert desk.sample("a")["state"] is None
    assert ledger.task_total(desk.db).unlinked_pico == 0


@pytest.mark.parametrize("kind", PARTIAL)
def test_a_sample_that_waits_only_for_the_task_s_code_is_not_touched(desk: Desk, kind: str) -> None:
    """Nothing of it would be asked anew."""
    first, _ = desk.answered(new_request("a"), new_request("a", "more"))
    desk.hand({first: SUCCEEDED}, rows=True, states={1: '"half way"'})
    before = dump(desk.db)
    assert desk.wipe(kind) == Wiped()
    after = dump(desk.db)
    assert {name for name in after if after[name] != before[name]} == {"task"}


def test_an_unseen_answer_goes_with_a_sample_that_is_forgotten_wholly(desk: Desk) -> None:
    """A failed sample is tried again from its beginning."""
    first, _ = desk.answered(new_request("a"), new_request("a", "more"))
    desk.hand({first: FAILED})
    assert desk.wipe("failed") == Wiped(requests=2, samples=1, rows=0, to_replay=0, cost_pico=60)
    assert (keys(desk), desk.to_hand()) == ({}, [])
    assert spent_is_explained(desk)


@pytest.mark.parametrize("state", [SUCCEEDED, FAILED])
def test_a_touched_sample_without_kept_answers_is_forgotten_wholly(desk: Desk, state: RequestState) -> None:
    """What cannot be replayed must be asked anew: all its requests go, and the sample with them."""
    half_done(desk, "a", state=state, keep_raw=False)
    two_answers(desk, "untouched", SUCCEEDED, FAILED, keep_raw=False)
    assert desk.wipe("requests").requests == 2
    assert keys(desk) == {"untouched": ["succeeded", "failed"]}
    assert not desk.to_hand()


def test_one_answer_that_was_not_kept_takes_its_whole_sample(desk: Desk) -> None:
    """Its other answers could be replayed, but not the state that the lost one made."""
    ids = desk.answered(new_request("a"), new_request("a", "more"))
    desk.hand({ids[0]: SUCCEEDED}, keep_raw=True)
    desk.hand({ids[1]: SUCCEEDED}, keep_raw=False)
    desk.add(new_request("a", "third"))
    assert desk.wipe("requests") == Wiped(requests=3, samples=1, rows=0, to_replay=0, cost_pico=60)
    assert keys(desk) == {}


def test_an_answer_that_never_had_a_text_is_replayed(desk: Desk) -> None:
    """A request that was missing from the result files failed for good; there was nothing to keep."""
    ids = desk.add("a")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [Answer(ids[0], Outcome(Verdict.RETRYABLE, "missing"), RequestState.ANSWERED)])
    desk.hand(FAILED)
    desk.add(new_request("a", "more"))
    assert desk.wipe("requests") == Wiped(requests=1, samples=1, rows=0, to_replay=1)
    assert [answer.outcome.reason for answer in desk.to_hand()] == ["missing"]


def test_a_bad_answer_whose_text_was_not_kept_is_replayed(desk: Desk) -> None:
    """Its verdict is all that the task's code ever saw of it."""
    ids = desk.add("a")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [Answer(ids[0], FATAL, RequestState.ANSWERED, raw=b"{}")])
    desk.hand(FAILED, keep_raw=False)
    desk.add(new_request("a", "more"))
    assert desk.wipe("requests") == Wiped(requests=1, samples=1, rows=0, to_replay=1)
    assert [(answer.outcome, answer.raw) for answer in desk.to_hand()] == [(FATAL, None)]


def test_failed_samples_survive_a_wipe_of_requests(desk: Desk) -> None:
    """They have their final results."""
    two_answers(desk, "failed", FAILED, FAILED)
    desk.add("open")
    desk.wipe("requests")
    assert keys(desk) == {"failed": ["failed", "failed"]}


# ---------------------------------------------------------------- failed


def test_samples_with_a_failed_request_are_forgotten_wholly(desk: Desk) -> None:
    """Mixed ones too: they are tried again with all their retries. Open requests go as well, successes stay."""
    two_answers(desk, "good", SUCCEEDED, SUCCEEDED)
    two_answers(desk, "mixed", SUCCEEDED, FAILED)
    two_answers(desk, "failed", FAILED, FAILED)
    desk.add("open")
    assert desk.wipe("failed") == Wiped(requests=5, samples=3, rows=1, to_replay=0, cost_pico=120)
    assert keys(desk) == {"good": ["succeeded", "succeeded"]}
    assert len(desk.rows()) == 2


def test_half_done_samples_are_replayed_in_a_wipe_of_failed_ones(desk: Desk) -> None:
    """Unless one of their requests has failed."""
    half_done(desk, "a")
    half_done(desk, "b", state=FAILED)
    assert desk.wipe("failed") == Wiped(requests=3, samples=2, rows=1, to_replay=1, cost_pico=30)
    assert keys(desk) == {"a": ["answered"]}


def test_a_forgotten_sample_can_be_asked_about_again(desk: Desk) -> None:
    """As if for the first time."""
    two_answers(desk, "a", FAILED, FAILED)
    desk.wipe("failed")
    (request_id,) = desk.add("a")
    assert desk.table("SELECT state, attempt, tries, expiries, epoch FROM request WHERE id = ?", request_id) == [
        ("queued", 1, 0, 0, 2)
    ]
    assert desk.sample("a")["status"] == "pending"


# ---------------------------------------------------------------- money


def spent_is_explained(desk: Desk) -> bool:
    """spent = sum of the responses' costs + unlinked."""
    booked = ledger.task_total(desk.db)
    linked = desk.one("SELECT coalesce(sum(cost_pico), 0) FROM response")
    return bool(booked.spent_pico == linked + booked.unlinked_pico)


@pytest.mark.parametrize("kind", PARTIAL)
def test_the_money_of_forgotten_answers_stays_as_unlinked(desk: Desk, kind: str) -> None:
    """Spent all the same, though no answer is left to show for it: every try counts."""
    (request_id,) = desk.add("a")
    for answer in (retried(request_id, cost_pico=7), good(request_id, cost_pico=31)):
        batch_id = desk.seal([request_id])
        desk.push(batch_id)
        desk.end(batch_id)
        desk.settle(batch_id, [answer])
    two_answers(desk, "kept", SUCCEEDED, SUCCEEDED)
    desk.hand(FAILED if kind == "failed" else QUEUED)
    desk.wipe(kind)
    booked = ledger.task_total(desk.db)
    assert (booked.spent_pico, booked.unlinked_pico) == (31 + 7 + 60, 31 + 7)
    assert spent_is_explained(desk)
    assert desk.table("SELECT kind, spent_pico, unlinked_pico FROM ledger ORDER BY id DESC LIMIT 1") == [
        ("wipe", 0, 38)
    ]


def test_a_wipe_that_costs_nothing_writes_no_line(desk: Desk) -> None:
    """Only money moves by ledger lines."""
    half_done(desk, "a")
    lines = desk.one("SELECT count(*) FROM ledger")
    desk.wipe("requests")
    assert desk.one("SELECT count(*) FROM ledger") == lines


def test_the_money_of_replayed_answers_stays_linked(desk: Desk) -> None:
    """They are still there."""
    half_done(desk, "a")
    desk.wipe("requests")
    assert ledger.task_total(desk.db).unlinked_pico == 0
    assert spent_is_explained(desk)


def test_a_batch_that_is_discarded_is_paid_all_the_same(desk: Desk) -> None:
    """On the server at the time of the wipe: its cost is booked as unlinked, its answers are not."""
    ids = desk.add("a", "b")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    with desk.store.transaction() as tx:
        wipe.begin(tx, "requests")
        wipe.discard_batches(tx)
    assert desk.batch(batch_id).discard
    desk.end(batch_id, status="cancelled")
    desk.settle(batch_id, [good(ids[0])])
    with desk.store.transaction() as tx:
        done = desk.finish_wipe(tx, "requests")
    assert done == Wiped(requests=2, samples=2, rows=0, to_replay=0)
    assert ledger.task_total(desk.db) == Booked(2, 14, 0, 30, 30)
    assert spent_is_explained(desk)


def test_failures_are_nobody_s_concern_after_a_wipe(desk: Desk) -> None:
    """Their requests are gone."""
    ids = desk.add("a")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [fatal(ids[0])], failure="bad")
    desk.wipe("requests")
    assert not desk.batch(batch_id).failure_open


# ---------------------------------------------------------------- batches


def weigh(desk: Desk) -> list[int]:
    """The batches that can be weighed now."""
    return [batch_id for batch_id, _, _ in batches.unweighed(desk.db)]


def test_a_batch_that_lost_answers_is_not_weighed(desk: Desk) -> None:
    """What is left of them says nothing about whether it passed, also if one of them waits for the task's code."""
    ids = desk.add("a", "b", "c")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [good(ids[0]), fatal(ids[1]), retried(ids[2])], failure="bad")
    desk.wipe("requests")
    assert desk.one("SELECT passed FROM batch") == 1
    desk.hand(FAILED)
    assert weigh(desk) == []


def test_a_batch_that_lost_nothing_is_weighed_as_ever(desk: Desk) -> None:
    """When the task's code has seen its answers."""
    desk.answered("a", "b")
    half_done(desk, "c")
    desk.wipe("requests")
    assert weigh(desk) == []
    desk.hand()
    assert weigh(desk) == [1, 2]


def test_a_batch_that_has_failed_before_stays_so(desk: Desk) -> None:
    """A wipe forgets answers, not verdicts."""
    desk.answered("a")
    desk.hand(QUEUED)
    with desk.store.transaction() as tx:
        batches.note_passed(tx, 1, passed=False)
    desk.wipe("requests")
    assert desk.one("SELECT passed FROM batch") == 0


# ---------------------------------------------------------------- names, output, progress


@pytest.mark.parametrize("kind", ["requests", "failed", "task"])
def test_every_wipe_raises_the_epoch(desk: Desk, kind: str) -> None:
    """At its beginning already: a late answer to a wiped request fits none. The task is not complete any more."""
    desk.db.execute("UPDATE task SET complete = 1")
    with desk.store.transaction() as tx:
        wipe.begin(tx, kind)
    task = tasks.get_task(desk.db)
    assert (task.epoch, task.wiping, task.complete) == (2, kind, False)
    with desk.store.transaction() as tx:
        desk.finish_wipe(tx, kind)
    assert (tasks.get_task(desk.db).epoch, tasks.get_task(desk.db).wiping) == (2, None)


def test_a_name_of_a_wiped_request_never_comes_back(desk: Desk) -> None:
    """Even if the new request has the old one's number."""
    old = desk.add("a", "b")
    lines = set(requests.lines_of(desk.db, old))
    desk.wipe("requests")
    new = desk.add("a", "b")
    assert new == old
    assert lines.isdisjoint(requests.lines_of(desk.db, new))


@pytest.mark.parametrize("delivered", [True, False])
def test_the_generation_is_raised_only_if_delivered_rows_were_taken_back(desk: Desk, delivered: bool) -> None:
    """Rows that stand in no file yet can go without a trace."""
    two_answers(desk, "done", SUCCEEDED, SUCCEEDED)
    if not delivered:
        desk.deliver()
    half_done(desk, "a")
    if delivered:
        desk.deliver()
    assert desk.wipe("requests").rows == 1
    assert tasks.get_task(desk.db).generation == (2 if delivered else 1)
    assert outbox.is_behind(desk.db) is delivered
    assert samples.count_rows(desk.db) == 2


def test_a_wipe_without_rows_leaves_the_output_alone(desk: Desk) -> None:
    """Delivered rows of other samples do not count."""
    two_answers(desk, "done", SUCCEEDED, SUCCEEDED)
    desk.deliver()
    desk.add("open")
    desk.wipe("requests")
    assert tasks.get_task(desk.db).generation == 1
    assert not outbox.is_behind(desk.db)


def test_counts_and_tallies_are_right_after_a_wipe(desk: Desk) -> None:
    """Equal to what a recount gives."""
    for number in range(4):
        half_done(desk, f"half-{number}", state=(SUCCEEDED, FAILED)[number % 2], keep_raw=number > 1)
    two_answers(desk, "mixed", SUCCEEDED, FAILED)
    for kind in ("requests", "failed"):
        desk.wipe(kind)
        recount = desk.table("SELECT state, count(*) FROM request GROUP BY state ORDER BY state")
        told = desk.table("SELECT state, requests FROM tally WHERE requests > 0 ORDER BY state")
        assert told == recount
        assert desk.table("SELECT status, samples FROM sample_tally WHERE samples > 0 ORDER BY 1") == desk.table(
            "SELECT status, count(*) FROM sample GROUP BY status ORDER BY 1"
        )


@pytest.mark.parametrize("kind", PARTIAL)
def test_a_wipe_of_nothing_takes_nothing_back(desk: Desk, kind: str) -> None:
    """Everything is done and good; only the epoch goes up."""
    two_answers(desk, "done", SUCCEEDED, SUCCEEDED)
    desk.deliver()
    before = dump(desk.db)
    assert desk.wipe(kind) == Wiped()
    changed = {name for name, rows in dump(desk.db).items() if rows != before[name]}
    assert changed == {"task"}


def test_a_begun_wipe_is_known_to_the_next_run(path: Path) -> None:
    """A kill in between does not end it."""
    with closing((desk := Desk.open(path)).store):
        desk.add("a")
        with desk.store.transaction() as tx:
            wipe.begin(tx, "failed")
    with closing((desk := Desk.open(path)).store):
        assert tasks.get_task(desk.db).wiping == "failed"
        with desk.store.transaction() as tx:
            assert desk.finish_wipe(tx, "failed").requests == 1
        assert tasks.get_task(desk.db).wiping is None


def test_the_greatest_of_some_wipes_is_told() -> None:
    """Each forgets all that the one before does."""
    assert wipe.KINDS == ("requests", "failed", "task")
    assert wipe.greatest("failed", "requests", None) == "failed"
    assert wipe.greatest("requests", "task", "failed") == "task"
    assert wipe.greatest(None, "requests") == "requests"
    assert wipe.greatest(None) is wipe.greatest() is None


@pytest.mark.parametrize("greater", ["failed", "task"])
def test_a_greater_wipe_takes_the_place_of_one_that_was_begun(desk: Desk, greater: str) -> None:
    """It does what the other would have done, and more."""
    for kind in ("requests", greater):
        with desk.store.transaction() as tx:
            wipe.begin(tx, kind)
    assert tasks.get_task(desk.db).wiping == greater


@pytest.mark.parametrize("lesser", PARTIAL)
def test_a_lesser_wipe_does_not_end_a_greater_one_that_was_begun(desk: Desk, lesser: str) -> None:
    """What the user committed to is finished by this run or a later one, also if that asks for less."""
    with desk.store.transaction() as tx:
        wipe.begin(tx, "task")
    with desk.store.transaction() as tx:
        wipe.begin(tx, lesser)
    assert tasks.get_task(desk.db).wiping == "task"


# ---------------------------------------------------------------- the whole task


def test_a_wiped_task_is_empty(desk: Desk) -> None:
    """No sample, request, answer, image, row, batch or event is left, and all counts are zero."""
    image = "data:image/png;base64," + "A" * 3000
    desk.answered(new_request("a", body=body_of("look", url=image)), "b")
    desk.hand(rows=True)
    desk.deliver()
    half_done(desk, "c")
    with desk.store.transaction() as tx:
        tasks.learn_model_limit(tx, MODEL, enqueued_tokens=5, now=NOW)
    done = desk.wipe("task")
    assert (done.requests, done.samples, done.rows) == (4, 3, 3)
    kept = {"task", "session", "ledger", "account", "legal_move", "sqlite_sequence"}
    assert {name for name, rows in dump(desk.db).items() if rows} - kept == set()


def test_the_ledger_of_a_wiped_task_is_an_archive(desk: Desk) -> None:
    """Every line is kept; limits begin anew."""
    desk.answered("a", cost_pico=44)
    lines = desk.table("SELECT * FROM ledger")
    desk.wipe("task")
    assert desk.table("SELECT * FROM ledger") == lines
    assert ledger.archived_total(desk.db).spent_pico == 44
    assert ledger.task_total(desk.db) == ledger.session_total(desk.db, desk.session_id) == Booked()
    desk.answered("a", cost_pico=5)
    assert ledger.task_total(desk.db).spent_pico == 5
    assert ledger.archived_total(desk.db).spent_pico == 44
    assert spent_is_explained(desk)


def test_a_wiped_task_forgets_its_server_but_not_itself(desk: Desk) -> None:
    """Nothing of it is anywhere any more, so it may go elsewhere. Its output is a new generation."""
    with desk.store.transaction() as tx:
        tasks.set_server(tx, {"base_url": "https://here"})
    uuid = tasks.get_task(desk.db).uuid
    desk.wipe("task")
    task = tasks.get_task(desk.db)
    assert (task.uuid, task.server, task.era, task.epoch) == (uuid, None, 2, 2)
    assert task.generation > 1


def test_a_task_that_starts_from_scratch_captures_its_metadata(desk: Desk) -> None:
    """As they are now; a partial wipe leaves those that its requests were asked with."""
    desk.add("a")
    now_metadata = {"model": "another"}
    for kind in wipe.KINDS:
        with desk.store.transaction() as tx:
            wipe.begin(tx, kind)
            wipe.finish(tx, kind, metadata=now_metadata, session_id=desk.session_id, now=NOW)
        task = tasks.get_task(desk.db)
        expected = (now_metadata, 2) if kind == "task" else (METADATA, 1)
        assert (task.metadata, task.metadata_version) == expected


def test_a_wiped_task_has_nothing_post_processed(desk: Desk) -> None:
    """Its output begins anew; after a partial wipe the mark tells that the output is another one now."""
    half_done(desk, "a")
    desk.deliver()
    with desk.store.transaction() as tx:
        tasks.set_postprocessed(tx, outbox.mark(tx))
    desk.wipe("requests")
    assert tasks.get_task(desk.db).postprocessed != outbox.mark(desk.db)
    desk.wipe("task")
    assert tasks.get_task(desk.db).postprocessed is None


def test_a_row_s_number_is_not_used_again_after_a_wipe(desk: Desk) -> None:
    """A delivered position must never fit a row of the new life."""
    desk.answered("a", "b")
    desk.hand(rows=True)
    newest = samples.last_row_id(desk.db)
    desk.wipe("task")
    desk.answered("a")
    desk.hand(rows=True)
    assert samples.last_row_id(desk.db) == newest + 1


def test_a_task_can_be_wiped_again_and_again(desk: Desk) -> None:
    """Each time an era goes into the archive."""
    for era in (1, 2, 3):
        desk.answered("a", cost_pico=era)
        desk.wipe("task")
    assert ledger.archived_total(desk.db).spent_pico == 6
    assert tasks.get_task(desk.db).era == 4
