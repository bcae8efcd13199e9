"""A random life of a task: legal steps in any order, played against the store and against plain Python at once.

After each step both must tell the same story: every request once and in one state, all counts and sums right, every
answer handed over once and in order, and money that is explained to the last picodollar.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpt_batch_api.domain.hooks import Ended
from gpt_batch_api.domain.outcome import SUCCESS, Outcome, Source, Verdict
from gpt_batch_api.domain.request import RequestKey
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import batches, ledger, pushes, requests, responses, samples, snapshot, tasks, wipe
from gpt_batch_api.store.batches import Report
from gpt_batch_api.store.checkup import broken_rules
from gpt_batch_api.store.responses import Answer
from tests.store.rig import EXPECTED_PICO, FATAL, FREE, NOW, REJECTED, RETRYABLE, Desk, new_request

INPUT_TOKENS = 7
KEYS = [RequestKey(f"s{sample}", purpose, number) for sample, purpose, number in product(range(4), ("", "p"), range(2))]
FINAL = ("succeeded", "failed")
OPEN = ("queued", "batched", "sending", "held")
MISSING = Outcome(Verdict.RETRYABLE, "missing", "nothing came")


@dataclass
class Try:
    """One booked answer."""

    request: Asked
    number: int
    batch: int
    cost: int
    outcome: Outcome
    raw: bool
    handed: int | None
    task_verdict: str | None = None


@dataclass
class Asked:
    """One request, as plain Python remembers it."""

    id: int
    key: RequestKey
    state: str = "queued"
    attempt: int = 1
    tries: int = 0
    expiries: int = 0
    batch: int | None = None


@dataclass
class Batch:
    """One batch."""

    id: int
    session: int | None = None
    state: str = "sealed"
    requests: int = 0
    discard: bool = False
    failure_open: bool = False
    passed: int | None = None
    reserved: int = 0
    booked_requests: int = 0
    booked_tokens: int = 0


@dataclass
class Push:
    """One attempt to bring a batch to the server."""

    batch: int
    state: str
    file: str | None = None
    orphan: bool = False


@dataclass
class File:
    """One file on the server."""

    batch: int
    is_input: bool
    deleted: bool = False


@dataclass
class Sample:
    """One sample: its own state, and the numbers of its rows."""

    state: str | None = None
    rows: list[int] = field(default_factory=list)


@dataclass
class Account:
    """What one session has booked in one era."""

    requests: int = 0
    input_tokens: int = 0
    reserved: int = 0
    spent: int = 0
    unlinked: int = 0


class Life(RuleBasedStateMachine):
    """Plays the steps. `desk` is the store, everything else plain Python."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "life_state.db"
        self.desk = Desk.open(self.path)
        self.asked: dict[RequestKey, Asked] = {}
        self.samples: dict[str, Sample] = {}
        self.tries: list[Try] = []
        self.batches: dict[int, Batch] = {}
        self.pushes: dict[int, Push] = {}
        self.files: dict[str, File] = {}
        self.accounts: dict[tuple[int, int], Account] = {}
        self.era = self.epoch = self.generation = self.metadata_version = 1
        self.delivered: int | None = None
        self.last_row = 0
        self.last_batch = 0
        self.names: set[tuple[int, int]] = set()

    def teardown(self) -> None:
        self.desk.store.close()
        self._folder.cleanup()

    @initialize(data=st.data(), keys=st.sets(st.sampled_from(KEYS), min_size=4))
    def begin(self, data: st.DataObject, keys: set[RequestKey]) -> None:
        """Nobody learns much from an empty store."""
        self.ask_for(sorted(keys))
        self.go_through_with(data)
        self.settle_one(self.in_state("ended")[0], data)

    # ------------------------------------------------------------ helpers of the model

    def in_state(self, *states: str) -> list[Batch]:
        return [batch for batch in self.batches.values() if batch.state in states]

    def queue(self) -> list[Asked]:
        return sorted((one for one in self.asked.values() if one.state == "queued"), key=lambda one: one.id)

    def of_batch(self, batch_id: int) -> list[Asked]:
        return sorted((one for one in self.asked.values() if one.batch == batch_id), key=lambda one: one.id)

    def to_hand(self) -> list[Try]:
        return [one for one in self.tries if one.handed == 0]

    def open_pushes(self, *states: str) -> list[int]:
        return [push_id for push_id, push in self.pushes.items() if push.state in states]

    def orphans(self) -> list[int]:
        return [push_id for push_id, push in self.pushes.items() if push.orphan]

    def reusable(self, batch: Batch) -> str | None:
        """The file of the newest attempt whose file still lies on the server."""
        used = [push.file for push in self.pushes.values() if push.batch == batch.id and push.file is not None]
        return next((file_id for file_id in reversed(used) if not self.files[file_id].deleted), None)

    def account(self, session: int | None) -> Account:
        assert session is not None
        return self.accounts.setdefault((self.era, session), Account())

    def remember(self, keys: Iterable[RequestKey]) -> None:
        """New requests are queued; each has a name that never was before."""
        keys = list(keys)
        for key in keys:
            request_id = self.desk.request_id(key)
            self.asked[key] = Asked(request_id, key)
            self.samples.setdefault(key.sample_key, Sample())
            name = (request_id, self.epoch)
            assert name not in self.names
            self.names.add(name)

    def release(self, batch: Batch) -> None:
        account = self.account(batch.session)
        account.requests -= batch.booked_requests
        account.input_tokens -= batch.booked_tokens
        account.reserved -= batch.reserved
        batch.reserved = batch.booked_requests = batch.booked_tokens = 0
        batch.session = None

    def unbatch(self, batch: Batch) -> None:
        for one in self.of_batch(batch.id):
            one.state, one.batch = "queued", None

    # ------------------------------------------------------------ asked, sealed, dissolved

    @precondition(lambda self: len(self.asked) < len(KEYS) and len(self.queue()) < 6)
    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=5, unique=True))
    def ask(self, keys: list[RequestKey]) -> None:
        """The generator yields everything, every time; what is known is passed by."""
        self.ask_for(keys)

    def ask_for(self, keys: list[RequestKey]) -> None:
        known = requests.find_known(self.desk.db, keys)
        assert set(known) == {key for key in keys if key in self.asked}
        fresh = [key for key in keys if key not in known]
        self.desk.add(*(new_request(key.sample_key, key.purpose, key.number) for key in fresh))
        self.remember(fresh)

    @precondition(lambda self: self.queue())
    @rule(data=st.data())
    def seal(self, data: st.DataObject) -> None:
        self.seal_some(data)

    def seal_some(self, data: st.DataObject) -> Batch:
        queue = self.queue()
        chosen = queue[: data.draw(st.integers(1, len(queue)), label="requests")]
        batch_id = self.desk.seal([one.id for one in chosen])
        assert batch_id == self.last_batch + 1
        self.last_batch = batch_id
        self.batches[batch_id] = Batch(batch_id, requests=len(chosen))
        for one in chosen:
            one.state, one.batch = "batched", batch_id
        return self.batches[batch_id]

    @precondition(lambda self: self.queue())
    @rule(data=st.data())
    def go_through(self, data: st.DataObject) -> None:
        """Queued, sealed, pushed and worked on without any trouble."""
        self.go_through_with(data)

    def go_through_with(self, data: st.DataObject) -> None:
        batch = self.seal_some(data)
        push_id = self.begin_push_of(batch)
        if self.pushes[push_id].state == "uploading":
            self.upload_one(push_id)
        self.begin_create_one(push_id)
        self.create_one(push_id)
        self.end_one(batch)

    def dissolve_one(self, batch: Batch) -> None:
        with self.desk.store.transaction() as tx:
            batches.dissolve(tx, batches.get(tx, batch.id), now=NOW)
        batch.state = "dissolved"
        self.unbatch(batch)

    # ------------------------------------------------------------ pushed

    @precondition(lambda self: self.in_state("sealed", "pushing"))
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """One small step with a batch that is not on the server yet."""
        after = {
            "uploading": (self.upload_one, self.lose_the_reply, self.lose_one, self.refuse_one),
            "uploaded": (self.begin_create_one, self.begin_create_one, self.refuse_one),
            "creating": (self.create_one, self.lose_the_reply, self.lose_one, self.refuse_one),
        }
        steps: list[Callable[[], object]] = [
            partial(step, push_id) for push_id, push in self.pushes.items() for step in after.get(push.state, ())
        ]
        for batch in self.in_state("sealed"):
            steps += (
                partial(self.begin_push_of, batch),
                partial(self.begin_push_of, batch),
                partial(self.dissolve_one, batch),
            )
        data.draw(st.sampled_from(steps), label="step")()

    def begin_push_of(self, batch: Batch) -> int:
        file_id = self.reusable(batch)
        push_id = self.desk.begin_push(batch.id)
        self.pushes[push_id] = Push(batch.id, "uploaded" if file_id else "uploading", file_id)
        batch.state, batch.session = "pushing", self.desk.session_id
        batch.reserved = EXPECTED_PICO * batch.requests
        batch.booked_requests, batch.booked_tokens = batch.requests, INPUT_TOKENS * batch.requests
        account = self.account(batch.session)
        account.requests += batch.requests
        account.input_tokens += batch.booked_tokens
        account.reserved += batch.reserved
        return push_id

    def upload_one(self, push_id: int) -> None:
        file_id = self.desk.upload(push_id)
        push = self.pushes[push_id]
        push.state, push.file = "uploaded", file_id
        self.files[file_id] = File(push.batch, is_input=True)

    def begin_create_one(self, push_id: int) -> None:
        self.desk.begin_create(push_id)
        self.pushes[push_id].state = "creating"

    def create_one(self, push_id: int) -> None:
        self.desk.note_created(push_id)
        self.pushes[push_id].state = "created"
        self.batches[self.pushes[push_id].batch].state = "remote"

    def lose_the_reply(self, push_id: int) -> None:
        """It will be looked for; nothing else is known."""
        with self.desk.store.transaction() as tx:
            pushes.look_later(tx, pushes.get(tx, push_id), at=NOW)

    def lose_one(self, push_id: int) -> None:
        """It was looked for in vain: given up. A lost upload may yet turn up."""
        self.desk.lose(push_id)
        push = self.pushes[push_id]
        push.orphan = push.state == "uploading"
        self.take_back(push, "lost")

    def refuse_one(self, push_id: int) -> None:
        self.desk.refuse(push_id)
        self.take_back(self.pushes[push_id], "refused")

    def take_back(self, push: Push, state: str) -> None:
        push.state = state
        self.batches[push.batch].state = "sealed"
        self.release(self.batches[push.batch])

    @precondition(lambda self: self.orphans())
    @rule(data=st.data())
    def look_for_an_orphan(self, data: st.DataObject) -> None:
        self.end_orphan(data.draw(st.sampled_from(self.orphans())), found=data.draw(st.booleans(), label="found"))

    def end_orphan(self, push_id: int, *, found: bool) -> None:
        """It turns up: under a new name, or, if the server only did not find it for a while, under its own."""
        push = self.pushes[push_id]
        file_id = (push.file or f"late-{push_id}") if found else None
        with self.desk.store.transaction() as tx:
            (orphan,) = (each for each in pushes.orphans(tx) if each.push_id == push_id)
            pushes.end_orphan(tx, orphan, file_id=file_id)
        push.orphan, push.file = False, file_id
        if file_id is not None:
            self.files[file_id] = File(push.batch, is_input=True)

    # ------------------------------------------------------------ on the server, settled

    @precondition(lambda self: self.in_state("remote", "ended"))
    @rule(data=st.data())
    def hear_from_the_server(self, data: st.DataObject) -> None:
        """It is at work, it has ended, or it could not take the batch."""
        steps: list[Callable[[], object]] = []
        for batch in self.in_state("remote"):
            steps += (partial(self.report, batch), partial(self.end_one, batch), partial(self.end_one, batch))
        for batch in self.in_state("ended"):
            steps += (partial(self.go_again, batch), partial(self.go_again_with_another_file, batch))
        data.draw(st.sampled_from(steps), label="step")()

    def report(self, batch: Batch) -> None:
        with self.desk.store.transaction() as tx:
            found = Report("in_progress", total=3, completed=1, failed=0)
            batches.note_report(tx, batches.get(tx, batch.id), found, now=NOW, ended=False)

    def end_one(self, batch: Batch) -> None:
        self.desk.end(batch.id)
        batch.state = "ended"
        row = self.desk.batch(batch.id)
        for file_id in (row.output_file_id, row.error_file_id):
            assert file_id is not None
            self.files[file_id] = File(batch.id, is_input=False)

    def go_again(self, batch: Batch) -> None:
        """Token limit: nothing of it ran."""
        self.seal_again(batch, lost_file=None)

    def go_again_with_another_file(self, batch: Batch) -> None:
        """The server did not find its file: nothing of it ran."""
        self.seal_again(batch, lost_file=self.reusable(batch))

    def seal_again(self, batch: Batch, *, lost_file: str | None) -> None:
        with self.desk.store.transaction() as tx:
            row = batches.get(tx, batch.id)
            if lost_file is not None:
                batches.supersede_file(tx, lost_file)
            pushes.release(tx, row, now=NOW, note="nothing of it ran")
            batches.seal_again(tx, row, not_before=None)
        batch.state = "sealed"
        self.release(batch)
        if lost_file is not None:
            self.files[lost_file].deleted = True
            next(push for push in self.pushes.values() if push.file == lost_file).orphan = True

    @precondition(lambda self: self.in_state("ended"))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(self.in_state("ended")))
        self.settle_one(batch, data)

    def settle_one(self, batch: Batch, data: st.DataObject) -> None:
        """Mixed answers; of a discarded batch only the money is booked."""
        answers = [self.draw_answer(one, data) for one in self.of_batch(batch.id)]
        held = any(answer.state is RequestState.HELD for answer in answers) and not batch.discard
        keep_raw = data.draw(st.booleans(), label="keep_raw")
        self.desk.settle(batch.id, answers, failure="some are bad" if held else None, keep_raw=keep_raw)
        cost = sum(answer.cost_pico for answer in answers)
        free = sum(answer.outcome is FREE for answer in answers)
        account = self.account(batch.session)
        account.requests -= free
        account.reserved -= batch.reserved
        account.spent += cost
        account.unlinked += cost if batch.discard else 0
        batch.booked_requests -= free
        batch.state, batch.reserved, batch.failure_open = "settled", 0, held
        if not batch.discard:
            for one, answer in zip(self.of_batch(batch.id), answers, strict=True):
                self.book(one, answer, batch=batch.id, keep_raw=keep_raw)

    def draw_answer(self, one: Asked, data: st.DataObject) -> Answer:
        kind = data.draw(st.sampled_from(("good", "good", "retried", "expired", "fatal", "missing")), label="answer")
        cost = data.draw(st.integers(0, 50), label="cost")
        if kind == "good":
            return Answer(one.id, SUCCESS, RequestState.ANSWERED, cost_pico=cost, raw=b"{}")
        if kind == "retried":
            return Answer(one.id, RETRYABLE, RequestState.QUEUED, counts_attempt=True, cost_pico=cost, raw=b"{}")
        if kind == "expired":
            return Answer(one.id, FREE, RequestState.QUEUED, counts_expiry=True)
        if kind == "fatal":
            return Answer(one.id, FATAL, RequestState.HELD, raw=b"{}")
        return Answer(one.id, MISSING, RequestState.ANSWERED)

    def book(self, one: Asked, answer: Answer, *, batch: int, keep_raw: bool) -> None:
        one.state, one.batch = str(answer.state), None
        one.tries += 1
        one.attempt += answer.counts_attempt
        one.expiries += answer.counts_expiry
        handed = 0 if answer.state is RequestState.ANSWERED else None
        raw = answer.raw is not None and (keep_raw or handed == 0)
        self.tries.append(Try(one, one.tries, batch, answer.cost_pico, answer.outcome, raw, handed))

    @precondition(lambda self: any(batch.failure_open for batch in self.batches.values()))
    @rule(data=st.data(), retry=st.booleans())
    def decide(self, data: st.DataObject, retry: bool) -> None:
        """The user force-processes a failed batch."""
        batch = data.draw(st.sampled_from([batch for batch in self.batches.values() if batch.failure_open]))
        with self.desk.store.transaction() as tx:
            held = responses.held_of(tx, Source("batch", batch.id), limit=1000)
            responses.release_held(tx, held, retry=retry, now=NOW)
            batches.decide_failure(tx, batch.id)
        batch.failure_open = False
        for item in held:
            one = self.asked[item.key]
            assert one.state == "held"
            one.state = "queued" if retry else "answered"
            one.attempt += retry
            if not retry:
                self.last_try(one).handed = 0

    def sweep(self) -> None:
        """All that is not needed on the server is deleted, and settled batches are closed."""
        doomed = dict(batches.files_to_delete(self.desk.db)) | dict(batches.superseded_files(self.desk.db))
        assert doomed == {
            file_id: file.batch for file_id, file in self.files.items() if not file.deleted and self.is_useless(file_id)
        }
        with self.desk.store.transaction() as tx:
            batches.mark_deleted(tx, doomed)
        for file_id in doomed:
            self.files[file_id].deleted = True
        closable = [batch.id for batch in batches.closable(self.desk.db)]
        assert closable == [batch.id for batch in self.in_state("settled")]
        for batch_id in closable:
            with self.desk.store.transaction() as tx:
                batches.close(tx, batch_id, now=NOW)
            self.batches[batch_id].state = "closed"

    def is_useless(self, file_id: str) -> bool:
        """Its batch is over, or is under way with another file."""
        file = self.files[file_id]
        state = self.batches[file.batch].state
        if state in ("settled", "closed", "dissolved"):
            return True
        going = [push.file for push in self.pushes.values() if push.batch == file.batch and push.state != "lost"]
        return state != "sealed" and file.is_input and going[-1] not in (None, file_id)

    def weigh(self) -> None:
        """Each settled batch once, when the task's code has seen all its answers."""
        waiting = {one.batch for one in self.to_hand()}
        ready = [
            batch.id
            for batch in self.in_state("settled", "closed")
            if batch.passed is None and not batch.discard and batch.id not in waiting
        ]
        assert [batch_id for batch_id, _, _ in batches.unweighed(self.desk.db)] == ready
        for batch_id in ready:
            good = sum(one.batch == batch_id and one.task_verdict == "success" for one in self.tries)
            assert responses.succeeded_of(self.desk.db, Source("batch", batch_id)) == good
            self.batches[batch_id].passed = int(good > 0)
            with self.desk.store.transaction() as tx:
                batches.note_passed(tx, batch_id, passed=good > 0)

    # ------------------------------------------------------------ the task's code

    def last_try(self, one: Asked) -> Try:
        return next(each for each in self.tries if each.request is one and each.number == one.tries)

    @precondition(lambda self: self.to_hand())
    @rule(data=st.data(), keep_raw=st.booleans(), interrupted=st.booleans())
    def hand(self, data: st.DataObject, keep_raw: bool, interrupted: bool) -> None:
        """A chunk of answers: endings, rows, states and follow-ups in one transaction, or, interrupted, none of it."""
        self.hand_some(data, keep_raw=keep_raw, interrupted=interrupted)

    @precondition(lambda self: self.in_state("ended") or self.to_hand())
    @rule(data=st.data(), keep_raw=st.booleans())
    def get_things_done(self, data: st.DataObject, keep_raw: bool) -> None:
        """All that has ended is settled, and all answers are handed over."""
        for batch in self.in_state("ended"):
            self.settle_one(batch, data)
        while self.to_hand():
            self.hand_some(data, keep_raw=keep_raw, interrupted=False)

    def hand_some(self, data: st.DataObject, *, keep_raw: bool, interrupted: bool) -> None:
        limit = data.draw(st.integers(1, 6), label="limit")
        chunk = self.to_hand()[:limit]
        shown = self.desk.to_hand(limit=limit)
        assert [answer.request_id for answer in shown] == [one.request.id for one in chunk]
        endings = [self.draw_ending(one, data) for one in chunk]
        rows = [
            (answer.sample_id, answer.request_id, "{}")
            for answer, end in zip(shown, endings, strict=True)
            if end == "succeeded"
        ]
        states = {answer.sample_id: data.draw(st.sampled_from(('"x"', '"y"', None))) for answer in shown[:1]}
        asked = [
            key for key in data.draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True)) if key not in self.asked
        ]
        with suppress(KeyboardInterrupt), self.desk.store.transaction() as tx:
            ended = [
                Ended(answer.response_id, answer.request_id, self.task_outcome(one, end), RequestState(end))
                for answer, one, end in zip(shown, chunk, endings, strict=True)
            ]
            responses.finish(tx, ended, keep_raw=keep_raw)
            samples.add_rows(tx, rows)
            samples.save_states(tx, states)
            requests.add_requests(
                tx, [new_request(key.sample_key, key.purpose, key.number) for key in asked], asked_by_task=True
            )
            if interrupted:
                raise KeyboardInterrupt
        if interrupted:
            return
        for one, end in zip(chunk, endings, strict=True):
            one.handed, one.task_verdict = 1, str(self.task_outcome(one, end).verdict)
            one.raw = one.raw and keep_raw
            one.request.state = end
            one.request.attempt += end == "queued"
        for one, end in zip(chunk, endings, strict=True):
            if end == "succeeded":
                self.last_row += 1
                self.samples[one.request.key.sample_key].rows.append(self.last_row)
        for answer in shown[:1]:
            self.samples[answer.key.sample_key].state = states[answer.sample_id]
        self.remember(asked)

    def draw_ending(self, one: Try, data: st.DataObject) -> str:
        choices = ("succeeded", "succeeded", "failed", "queued") if one.outcome.ok else ("failed",)
        return data.draw(st.sampled_from(choices), label="ending")

    def task_outcome(self, one: Try, ending: str) -> Outcome:
        if ending == "succeeded":
            return SUCCESS
        return REJECTED if one.outcome.ok else one.outcome

    def deliver(self) -> None:
        self.desk.deliver()
        self.delivered = max((row for sample in self.samples.values() for row in sample.rows), default=0)

    # ------------------------------------------------------------ processes

    @rule(data=st.data())
    def do_something_else(self, data: st.DataObject) -> None:
        data.draw(
            st.sampled_from((self.deliver, self.sweep, self.weigh, self.restart, self.be_interrupted)), label="what"
        )()

    def restart(self) -> None:
        """The process ends, another one takes the task up, and finds every open attempt as it was."""
        self.desk.store.close()
        self.desk = Desk.open(self.path)

    def be_interrupted(self) -> None:
        """A step that does not come to its end has not begun."""
        with suppress(KeyboardInterrupt), self.desk.store.transaction() as tx:
            batch_id = tasks.take_batch_number(tx)
            ledger.book(tx, "reserve", now=NOW, session_id=self.desk.session_id, requests=1, reserved_pico=1)
            tx.execute("UPDATE request SET state = 'sending' WHERE state = 'queued'")
            tx.execute("UPDATE task SET epoch = epoch + ?", (batch_id,))
            raise KeyboardInterrupt

    # ------------------------------------------------------------ wiped

    @precondition(lambda self: len(self.tries) >= 6)
    @rule(data=st.data(), kind=st.sampled_from(("requests", "requests", "requests", "failed", "failed", "task")))
    def wipe(self, data: st.DataObject, kind: str) -> None:
        """The server is cleaned as the engine does it, then the store forgets."""
        with self.desk.store.transaction() as tx:
            wipe.begin(tx, kind)
            wipe.discard_batches(tx)
        self.epoch += 1
        for batch in self.in_state("pushing", "remote", "ended"):
            batch.discard = True
        for batch in self.batches.values():
            batch.failure_open = False
        for push_id in self.open_pushes("uploading", "uploaded", "creating"):
            self.resolve_one(push_id, found=data.draw(st.booleans(), label="found"))
        for push_id in self.orphans():
            self.end_orphan(push_id, found=data.draw(st.booleans(), label="found late"))
        for batch in self.in_state("sealed"):
            self.dissolve_one(batch)
        for batch in self.in_state("remote"):
            if data.draw(st.booleans(), label="unknown to the server"):
                self.give_up(batch)
            else:
                self.end_one(batch)
        for batch in self.in_state("ended"):
            self.settle_one(batch, data)
        with self.desk.store.transaction() as tx:
            done = self.desk.finish_wipe(tx, kind)
        if kind == "task":
            self.forget_task()
        else:
            assert self.forget(kind) == (done.requests, done.samples, done.rows, done.to_replay)

    def resolve_one(self, push_id: int, *, found: bool) -> None:
        """What a look at the server makes of an open attempt."""
        state = self.pushes[push_id].state
        if state == "creating" and found:
            self.create_one(push_id)
        elif state == "uploaded":
            self.refuse_one(push_id)
        elif found:
            self.upload_one(push_id)
            self.refuse_one(push_id)
        else:
            self.lose_one(push_id)

    def give_up(self, batch: Batch) -> None:
        with self.desk.store.transaction() as tx:
            batches.give_up(tx, batches.get(tx, batch.id), now=NOW)
        account = self.account(batch.session)
        account.reserved -= batch.reserved
        account.spent += batch.reserved
        account.unlinked += batch.reserved
        batch.state, batch.reserved = "settled", 0

    def forget_task(self) -> None:
        self.asked, self.samples, self.tries, self.batches, self.pushes, self.files = {}, {}, [], {}, {}, {}
        self.era += 1
        self.generation += 2  # the rows go, and the metadata are captured anew
        self.metadata_version += 1
        self.delivered = None

    def forget(self, kind: str) -> tuple[int, int, int, int]:
        """What DECISIONS says of a wipe: (requests, samples, rows, answers to replay)."""
        requests_gone = rows_gone = replayed = 0
        touched = [key for key in self.samples if self.is_touched(key, kind)]
        taken_back = [row for key in touched for row in self.samples[key].rows]
        if self.delivered is not None and any(row <= self.delivered for row in taken_back):
            self.generation += 1
        for sample_key in touched:
            whole = self.is_forgotten_wholly(sample_key, kind)
            rows_gone += len(self.samples[sample_key].rows)
            self.samples[sample_key] = Sample()
            for one in self.of_sample(sample_key):
                if whole or one.state in OPEN:
                    self.forget_request(one)
                    requests_gone += 1
                elif one.state in FINAL:
                    one.state = "answered"
                    self.last_try(one).handed, self.last_try(one).task_verdict = 0, None
                    replayed += 1
            if not self.of_sample(sample_key):
                del self.samples[sample_key]
        return requests_gone, len(touched), rows_gone, replayed

    def of_sample(self, sample_key: str) -> list[Asked]:
        return [one for one in self.asked.values() if one.key.sample_key == sample_key]

    def is_touched(self, sample_key: str, kind: str) -> bool:
        states = {one.state for one in self.of_sample(sample_key)}
        return bool(states & set(OPEN)) or (kind == "failed" and "failed" in states)

    def is_forgotten_wholly(self, sample_key: str, kind: str) -> bool:
        """A failed request in a wipe of failed ones; or an answer that would be replayed, but was not kept."""
        done = [one for one in self.of_sample(sample_key) if one.state in FINAL]
        if kind == "failed" and any(one.state == "failed" for one in done):
            return True
        return any(self.last_try(one).outcome.ok and not self.last_try(one).raw for one in done)

    def forget_request(self, one: Asked) -> None:
        del self.asked[one.key]
        lost = [each for each in self.tries if each.request is one]
        for each in lost:
            batch = self.batches[each.batch]
            batch.passed = 1 if batch.passed is None else batch.passed
        self.tries = [each for each in self.tries if each.request is not one]
        self.account(self.desk.session_id).unlinked += sum(each.cost for each in lost)

    # ------------------------------------------------------------ both tell the same story

    @invariant()
    def every_request_is_where_it_belongs(self) -> None:
        found = self.desk.table("SELECT id, state, attempt, tries, expiries, batch_id FROM request ORDER BY id")
        expected = [(one.id, one.state, one.attempt, one.tries, one.expiries, one.batch) for one in self.asked.values()]
        assert found == sorted(expected)
        assert set(requests.find_known(self.desk.db, KEYS)) == set(self.asked)

    @invariant()
    def asked_is_succeeded_failed_held_and_under_way(self) -> None:
        taken = snapshot.take(self.desk.db)
        states = Counter(one.state for one in self.asked.values())
        assert {str(state): load.requests for state, load in taken.states.items() if load.requests} == dict(states)
        final = states["succeeded"] + states["failed"] + states["held"]
        assert taken.asked == len(self.asked) == final + taken.under_way

    @invariant()
    def tallies_equal_a_recount(self) -> None:
        measures = "sum(size_bytes), sum(input_tokens), sum(output_allowance)"
        recount = self.desk.table(
            f"SELECT state, endpoint, model, count(*), {measures} FROM request GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        assert self.desk.table("SELECT * FROM tally WHERE requests > 0 ORDER BY 1, 2, 3") == recount
        empty = self.desk.table("SELECT size_bytes, input_tokens, output_allowance FROM tally WHERE requests = 0")
        assert set(empty) <= {(0, 0, 0)}

    @invariant()
    def spending_equals_a_recount(self) -> None:
        """By model, road, attempt and outcome; together it is what the answers cost."""
        recount = self.desk.table(
            "SELECT model, iif(response.batch_id IS NOT NULL, 'batch', iif(group_id IS NOT NULL, 'direct', 'copy')), "
            "response.attempt, "
            "coalesce(task_verdict, verdict), coalesce(task_reason, response.reason), count(*), "
            "sum(response.input_tokens), sum(response.output_tokens), sum(cost_pico), sum(cached_tokens), "
            "sum(cache_write_tokens), sum(reasoning_tokens) "
            "FROM response JOIN request ON request.id = request_id GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"
        )
        assert self.desk.table("SELECT * FROM spending WHERE answers > 0 ORDER BY 1, 2, 3, 4, 5") == recount
        empty = self.desk.table(
            "SELECT input_tokens, output_tokens, cost_pico, cached_tokens, cache_write_tokens, reasoning_tokens "
            "FROM spending WHERE answers = 0"
        )
        assert set(empty) <= {(0,) * 6}

    @invariant()
    def bad_ends_and_settled_sums_equal_a_recount(self) -> None:
        assert list(broken_rules(self.desk.db, "counts")) == []

    @invariant()
    def samples_have_the_right_status(self) -> None:
        expected = []
        for key, sample in self.samples.items():
            states = Counter(one.state for one in self.of_sample(key))
            succeeded, failed = states["succeeded"], states["failed"]
            under_way = sum(states.values()) - succeeded - failed
            if under_way:
                status = "pending"
            elif not failed:
                status = "succeeded"
            else:
                status = "mixed" if succeeded else "failed"
            expected.append((key, sample.state, under_way, succeeded, failed, status))
        assert self.desk.table("SELECT key, state, open, succeeded, failed, status FROM sample ORDER BY key") == sorted(
            expected, key=lambda row: row[0]
        )
        told = {status: count for status, count in snapshot.take(self.desk.db).samples.items() if count}
        assert told == dict(Counter(row[-1] for row in expected))

    @invariant()
    def answers_wait_in_order_and_are_handed_once(self) -> None:
        found = self.desk.table(
            "SELECT request_id, try, cost_pico, verdict, handed, task_verdict, "
            "EXISTS (SELECT 1 FROM raw_response WHERE response_id = id) FROM response ORDER BY id"
        )
        assert found == [
            (one.request.id, one.number, one.cost, str(one.outcome.verdict), one.handed, one.task_verdict, int(one.raw))
            for one in self.tries
        ]
        shown = self.desk.to_hand()
        assert [(answer.request_id, answer.key) for answer in shown] == [
            (one.request.id, one.request.key) for one in self.to_hand()
        ]
        assert responses.any_to_hand(self.desk.db) == bool(shown)

    @invariant()
    def what_is_handed_to_the_task_can_be_read(self) -> None:
        """A good answer without its text could not be parsed."""
        for answer in self.desk.to_hand():
            assert answer.raw is not None or not answer.outcome.ok

    @invariant()
    def an_account_is_the_sum_of_its_lines(self) -> None:
        sums = "sum(requests), sum(input_tokens), sum(reserved_pico), sum(spent_pico), sum(unlinked_pico)"
        recount = self.desk.table(f"SELECT era, session_id, {sums} FROM ledger GROUP BY 1, 2 ORDER BY 1, 2")
        assert self.desk.table("SELECT * FROM account ORDER BY era, session_id") == recount
        expected = {key: vars(account) for key, account in self.accounts.items() if any(vars(account).values())}
        found = {tuple(row[:2]): dict(zip(vars(Account()), row[2:], strict=True)) for row in recount if any(row[2:])}
        assert found == expected

    @invariant()
    def spent_is_the_cost_of_the_answers_and_what_is_unlinked(self) -> None:
        booked = ledger.task_total(self.desk.db)
        assert booked.spent_pico == sum(one.cost for one in self.tries) + booked.unlinked_pico
        assert booked.reserved_pico == sum(batch.reserved for batch in self.batches.values())

    @invariant()
    def batches_are_in_their_states(self) -> None:
        found = self.desk.table("SELECT id, state, discard, failure_open, passed, session_id FROM batch ORDER BY id")
        expected = [
            (batch.id, batch.state, int(batch.discard), int(batch.failure_open), batch.passed, batch.session)
            for batch in self.batches.values()
        ]
        assert found == sorted(expected, key=lambda row: row[0])
        alive = {batch.id for batch in self.in_state("sealed", "pushing", "remote", "ended")}
        assert {one.batch for one in self.asked.values() if one.batch is not None} <= alive | {
            batch.id for batch in self.in_state("settled", "closed") if batch.discard
        }

    @invariant()
    def a_batch_has_one_open_push_while_it_is_pushed(self) -> None:
        opened = [push.batch_id for push in pushes.open_pushes(self.desk.db)]
        assert sorted(opened) == sorted(batch.id for batch in self.in_state("pushing"))
        found = self.desk.table("SELECT id, batch_id, state, file_id, orphan FROM push ORDER BY id")
        assert found == [(push_id, *vars(push).values()) for push_id, push in self.pushes.items()]

    @invariant()
    def files_on_the_server_are_known(self) -> None:
        found = self.desk.table("SELECT file_id, batch_id, role = 'input', deleted FROM server_file")
        assert {row[0]: row[1:] for row in found} == {
            file_id: tuple(map(int, vars(file).values())) for file_id, file in self.files.items()
        }
        assert batches.count_server_files(self.desk.db) == sum(not file.deleted for file in self.files.values())

    @invariant()
    def rows_are_those_that_were_made(self) -> None:
        expected = sorted(row for sample in self.samples.values() for row in sample.rows)
        assert [row for row, _ in samples.rows_after(self.desk.db, 0)] == expected
        task = tasks.get_task(self.desk.db)
        assert (task.era, task.epoch, task.generation, task.wiping) == (self.era, self.epoch, self.generation, None)
        assert task.metadata_version == self.metadata_version

    @invariant()
    def no_reference_dangles(self) -> None:
        assert self.desk.table("PRAGMA foreign_key_check") == []


TestARandomLife: Any = Life.TestCase
TestARandomLife.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    suppress_health_check=list(HealthCheck),
    # To shorten a failing life takes minutes: add Phase.shrink when you look into one.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    report_multiple_bugs=False,
)
