"""What the tests of the store stand on: a real store in a folder, and short words for its usual steps."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.delivery import Delivered, Progress
from gpt_batch_api.domain.hooks import Ended, ToHand
from gpt_batch_api.domain.outcome import SUCCESS, Outcome, Usage, Verdict
from gpt_batch_api.domain.request import Load, NewRequest, Prepared, RequestKey, ResponseSchema, hash_of_payload
from gpt_batch_api.domain.states import BatchState, RequestState
from gpt_batch_api.store import batches, ledger, outbox, pushes, requests, responses, samples, tasks, wipe
from gpt_batch_api.store.batches import BatchRow, Report, Settlement
from gpt_batch_api.store.connection import Connection, Store
from gpt_batch_api.store.responses import Answer
from gpt_batch_api.store.wipe import Wiped

CHAT = "/v1/chat/completions"
MODEL = "gpt-4o-mini"
NOW = 1_800_000_000.0
SERVER_NOW = NOW - 7.0
"""The server's clock is not ours."""

METADATA = {"model": MODEL}

RETRYABLE = Outcome(Verdict.RETRYABLE, "server_error", "try again")
FREE = Outcome(Verdict.FREE, "expired", "not its turn")
FATAL = Outcome(Verdict.FATAL, "invalid_request", "never")
REJECTED = Outcome(Verdict.RETRYABLE, "rejected_by_task", "not good enough")

"""For properties: a busy machine is no failure."""

EXPECTED_PICO = 100
"""What each request is expected to cost in these tests."""


def body_of(text: str, **more: Any) -> bytes:
    """A chat payload that asks *text*, as it goes out."""
    payload = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def new_request(
    sample_key: str,
    purpose: str = "",
    number: int = 0,
    *,
    body: bytes | None = None,
    model: str = MODEL,
    meta: Any = None,
    schema: ResponseSchema | None = None,
    input_tokens: int = 7,
    max_output_tokens: int | None = 20,
) -> NewRequest:
    """A request ready to be stored."""
    body = body_of(f"{sample_key}/{purpose}/{number}") if body is None else body
    prepared = Prepared(
        body=body,
        model=model,
        input_tokens=input_tokens,
        sureness="sure",
        max_output_tokens=max_output_tokens,
        schema=schema,
    )
    return NewRequest(
        key=RequestKey(sample_key, purpose, number),
        endpoint=CHAT,
        prepared=prepared,
        payload_hash=hash_of_payload(body),
        meta=meta,
    )


class Desk:
    """A store with a task and a session, and its usual steps in one word each. Every step is one transaction."""

    def __init__(self, store: Store, *, session_id: int) -> None:
        self.store = store
        self.session_id = session_id
        self._numbers = itertools.count(1)

    @classmethod
    def open(cls, path: Path) -> Desk:
        """Open the store at *path*, its task created if it has none, and begin a session."""
        store = Store.open(path)
        with store.transaction() as tx:
            if tasks.load_task(tx) is None:
                tasks.create_task(tx, uuid="0000-uuid", kind="Toy", metadata=METADATA, now=NOW)
            session_id = tasks.begin_session(tx, pid=1, host="here", settings={}, now=NOW)
        return cls(store, session_id=session_id)

    @property
    def db(self) -> Connection:
        return self.store.db

    def one(self, sql: str, *values: object) -> Any:
        """The first value of the first row."""
        return self.db.execute(sql, values).fetchone()[0]

    def table(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows, as tuples."""
        return [tuple(row) for row in self.db.execute(sql, values)]

    # ------------------------------------------------------------ requests and batches

    def add(self, *new: NewRequest | str, asked_by_task: bool = False) -> list[int]:
        """Store requests (a text is the sample key of a plain one); their ids."""
        items = [new_request(item) if isinstance(item, str) else item for item in new]
        with self.store.transaction() as tx:
            requests.add_requests(tx, items, asked_by_task=asked_by_task)
        return [self.request_id(item.key) for item in items]

    def request_id(self, key: RequestKey) -> int:
        return int(
            self.one(
                "SELECT request.id FROM request JOIN sample ON sample.id = sample_id "
                "WHERE key = ? AND purpose = ? AND number = ?",
                key.sample_key,
                key.purpose,
                key.number,
            )
        )

    def seal(self, request_ids: Sequence[int]) -> int:
        """Make a batch of queued requests; its number."""
        size, tokens, allowance = self.db.execute(
            "SELECT sum(size_bytes), sum(input_tokens), sum(output_allowance) FROM request "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(request_ids)),),
        ).fetchone()
        reserved = EXPECTED_PICO * len(request_ids)
        load = Load(len(request_ids), size, tokens, allowance, reserved, allowance // 2, reserved // 2)
        with self.store.transaction() as tx:
            return batches.seal(
                tx,
                endpoint=CHAT,
                model=MODEL,
                request_ids=request_ids,
                load=load,
                file_name="batch.jsonl",
                sha256="0" * 64,
                plan="plan",
                now=NOW,
            )

    def batch(self, batch_id: int) -> BatchRow:
        return batches.get(self.db, batch_id)

    def begin_push(self, batch_id: int, *, server_now: float = SERVER_NOW) -> int:
        """Commit the intent to push; the attempt's id."""
        with self.store.transaction() as tx:
            return pushes.begin(
                tx,
                batches.get(tx, batch_id),
                session_id=self.session_id,
                uploaded=pushes.reusable_file(tx, batch_id),
                nonce=f"upload-{self.session_id}-{next(self._numbers)}",
                now=NOW,
                server_now=server_now,
            )

    def upload(self, push_id: int) -> str:
        """Note that the file of a push lies on the server; its id."""
        file_id = f"file-{push_id}"
        with self.store.transaction() as tx:
            pushes.note_uploaded(tx, pushes.get(tx, push_id), file_id=file_id, server_now=SERVER_NOW)
        return file_id

    def begin_create(self, push_id: int) -> None:
        with self.store.transaction() as tx:
            pushes.begin_create(tx, pushes.get(tx, push_id), nonce=f"create-{push_id}", now=SERVER_NOW)

    def note_created(self, push_id: int) -> None:
        with self.store.transaction() as tx:
            push, remote_id = pushes.get(tx, push_id), f"remote-{push_id}"
            pushes.note_created(tx, push, remote_id=remote_id, status="validating", now=NOW, server_now=SERVER_NOW)

    def lose(self, push_id: int) -> None:
        """What the attempt may have made is not to be found on the server."""
        with self.store.transaction() as tx:
            push = pushes.get(tx, push_id)
            pushes.lose(tx, push, batch=batches.get(tx, push.batch_id), now=NOW, server_now=SERVER_NOW)

    def refuse(self, push_id: int, outcome: str = "no") -> None:
        with self.store.transaction() as tx:
            push = pushes.get(tx, push_id)
            batch = batches.get(tx, push.batch_id)
            pushes.refuse(tx, push, batch=batch, outcome=outcome, not_before=None, now=NOW)

    def push(self, batch_id: int) -> int:
        """Bring a sealed batch to the server without any trouble; the push's id."""
        push_id = self.begin_push(batch_id)
        if pushes.get(self.db, push_id).file_id is None:
            self.upload(push_id)
        self.begin_create(push_id)
        self.note_created(push_id)
        return push_id

    def end(self, batch_id: int, status: str = "completed") -> None:
        """The server says that the batch is over, with two result files."""
        remote_id = self.batch(batch_id).remote_id
        report = Report(status, f"out-{remote_id}", f"err-{remote_id}", 1, 1, 0, document={"status": status})
        with self.store.transaction() as tx:
            batches.note_report(tx, batches.get(tx, batch_id), report, now=NOW, ended=True)

    def settle(
        self, batch_id: int, answers: Sequence[Answer], *, failure: str | None = None, keep_raw: bool = True
    ) -> None:
        """Book answers and money, as the engine does: what a discarded batch cost is unlinked."""
        with self.store.transaction() as tx:
            batch = batches.get(tx, batch_id)
            assert batch.session_id is not None
            cost = sum(answer.cost_pico for answer in answers)
            if not batch.discard:
                responses.record(tx, answers, batch_id=batch_id, keep_raw=keep_raw, now=NOW)
            free = sum(answer.outcome.verdict is Verdict.FREE for answer in answers)
            ledger.book(
                tx,
                "discard" if batch.discard else "settle",
                now=NOW,
                session_id=batch.session_id,
                batch_id=batch_id,
                requests=-free,
                reserved_pico=-ledger.batch_total(tx, batch_id).reserved_pico,
                spent_pico=cost,
                unlinked_pico=cost if batch.discard else 0,
            )
            outcome = Settlement(
                succeeded=sum(answer.outcome.ok for answer in answers),
                held=sum(answer.state is RequestState.HELD for answer in answers),
                free=free,
                used_input_tokens=sum(answer.usage.input_tokens for answer in answers),
                used_output_tokens=sum(answer.usage.output_tokens for answer in answers),
                used_output_allowance=20 * sum(answer.usage.output_tokens > 0 for answer in answers),
                longest_output_tokens=max((answer.usage.output_tokens for answer in answers), default=0),
                cost_pico=cost,
            )
            answered = sum(answer.usage.input_tokens > 0 for answer in answers)
            batches.settle(
                tx,
                batch,
                outcome,
                expected_input_tokens=7 * answered,
                expected_output_tokens=10 * answered,
                failure=failure,
                now=NOW,
            )

    def answered(self, *new: NewRequest | str, cost_pico: int = 30, raw: bytes | None = b"{}") -> list[int]:
        """Requests that went all the way to a booked, good answer; their ids."""
        ids = self.add(*new)
        batch_id = self.seal(ids)
        self.push(batch_id)
        self.end(batch_id)
        self.settle(batch_id, [good(request_id, cost_pico=cost_pico, raw=raw) for request_id in ids])
        return ids

    # ------------------------------------------------------------ the task's code

    def to_hand(self, *, limit: int = 1000, max_retries: int = 2) -> list[ToHand]:
        return responses.to_hand(self.db, limit=limit, max_retries=max_retries)

    def hand(
        self,
        endings: Mapping[int, RequestState] | RequestState = RequestState.SUCCEEDED,
        *,
        rows: bool = False,
        states: Mapping[int, str] | None = None,
        keep_raw: bool = True,
    ) -> list[ToHand]:
        """Show waiting answers to 'the task's code', which ends their requests so; what was shown.

        *endings* is one state for all, or one for each request to be handed. With *rows* each success writes a row.
        """
        waiting = self.to_hand()
        if not isinstance(endings, RequestState):
            waiting = [answer for answer in waiting if answer.request_id in endings]
        ended = []
        for answer in waiting:
            state = endings if isinstance(endings, RequestState) else endings[answer.request_id]
            ended.append(ended_as(answer, state))
        made = [
            (ending_of.sample_id, ending_of.request_id, json.dumps({"request": ending_of.request_id}))
            for ending_of, ending in zip(waiting, ended, strict=True)
            if rows and ending.state is RequestState.SUCCEEDED
        ]
        with self.store.transaction() as tx:
            responses.finish(tx, ended, keep_raw=keep_raw)
            samples.add_rows(tx, made)
            samples.save_states(tx, states or {})
        return waiting

    def deliver(self) -> None:
        """All rows stand in the output file now."""
        generation, newest, count = self.db.execute(
            "SELECT generation, (SELECT coalesce(max(id), 0) FROM output), (SELECT count(*) FROM output) FROM task"
        ).fetchone()
        part = Delivered(0, generation, "toy_output.jsonl", count, 10 * count, 1, newest)
        with self.store.transaction() as tx:
            outbox.note_progress(tx, Progress((part,), replaces_all=True))

    def wipe(self, kind: str) -> Wiped:
        """Begin and finish a wipe of a task of which nothing is on the server."""
        with self.store.transaction() as tx:
            wipe.begin(tx, kind)
            wipe.discard_batches(tx)
        with self.store.transaction() as tx:
            return self.finish_wipe(tx, kind)

    def finish_wipe(self, tx: sqlite3.Connection, kind: str) -> Wiped:
        """The last step of a wipe; a task that starts from scratch captures METADATA."""
        return wipe.finish(tx, kind, metadata=METADATA, session_id=self.session_id, now=NOW)

    # ------------------------------------------------------------ what stands there

    def state_of(self, request_id: int) -> str:
        return str(self.one("SELECT state FROM request WHERE id = ?", request_id))

    def batch_state(self, batch_id: int) -> BatchState:
        return self.batch(batch_id).state

    def sample(self, key: str) -> sqlite3.Row:
        """The row of a sample."""
        row: sqlite3.Row = self.db.execute("SELECT * FROM sample WHERE key = ?", (key,)).fetchone()
        return row

    def sample_id(self, key: str) -> int:
        return int(self.sample(key)["id"])

    def rows(self) -> list[Any]:
        """All output rows, oldest first."""
        return [json.loads(text) for _, text in samples.rows_after(self.db, 0)]


def good(request_id: int, *, cost_pico: int = 30, raw: bytes | None = b"{}") -> Answer:
    """A good answer, to be handed to the task's code."""
    usage = Usage(input_tokens=5, output_tokens=3)
    return Answer(
        request_id, SUCCESS, RequestState.ANSWERED, status_code=200, usage=usage, cost_pico=cost_pico, raw=raw
    )


def fatal(request_id: int, *, raw: bytes | None = b'{"error":1}') -> Answer:
    """An answer that no second try can mend."""
    return Answer(request_id, FATAL, RequestState.HELD, status_code=400, raw=raw)


def expired(request_id: int) -> Answer:
    """No answer: the request did not run, and is asked again."""
    return Answer(request_id, FREE, RequestState.QUEUED, counts_expiry=True)


def retried(request_id: int, *, cost_pico: int = 10) -> Answer:
    """A bad answer: the request is asked again."""
    return Answer(request_id, RETRYABLE, RequestState.QUEUED, counts_attempt=True, status_code=500, cost_pico=cost_pico)


def ended_as(answer: ToHand, state: RequestState) -> Ended:
    """What the task's code made of *answer*."""
    outcome = SUCCESS if state is RequestState.SUCCEEDED else (REJECTED if answer.outcome.ok else answer.outcome)
    return Ended(answer.response_id, answer.request_id, outcome, state)


@contextmanager
def desk_at(path: Path) -> Iterator[Desk]:
    """A desk that is closed at the end."""
    desk = Desk.open(path)
    with closing(desk.store):
        yield desk


def dump(db: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables: equal dumps, equal stores."""
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {name: sorted((tuple(row) for row in db.execute(f"SELECT * FROM {name}")), key=repr) for name in names}


def folder_hashes(folder: Path) -> dict[str, str]:
    """Every file of *folder* by name, with the hash of its bytes."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def statements(db: sqlite3.Connection, seen: list[str]) -> None:
    """From now on write down in *seen* each statement that *db* runs."""
    db.set_trace_callback(seen.append)


def keys_of(texts: Iterable[str]) -> list[RequestKey]:
    return [RequestKey(text) for text in texts]
