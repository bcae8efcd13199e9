"""`TableTask`: one question about each row of a table. `map` and `gpt-batch-api run` are made of it.

It is an ordinary task: each row is a sample, known by its key, with one request. So everything that a task promises
holds for it, and every command on tasks works on it. Its own output, `<prefix>_output.jsonl`, grows in the order of the
answers while it runs; `results` gives them in the order of the rows, read from the store a page at a time.

The input is read once before anything is done, so that whatever is wrong with it costs and leaves nothing; then again to ask, and
again for the results. What can be read only once (a generator) is kept on disk as it passes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.errors import SettingError, UserError
from gpt_batch_api.domain.outcome import Usage
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.endpoints.base import get_endpoint, read_json
from gpt_batch_api.engine.session import load_catalogue
from gpt_batch_api.store.snapshot import take_from
from gpt_batch_api.store.standings import Standing, look_up, payload_of
from gpt_batch_api.tables.result import Failure, RowResult
from gpt_batch_api.tables.row import Row
from gpt_batch_api.tables.selection import Keyed, Selection
from gpt_batch_api.tables.spool import Spool
from gpt_batch_api.task_manager import GPTRequest, Result, Sample, TaskManager

logger = logging.getLogger("gpt_batch_api")

_PAGE = 500
_SENT = ("model", "temperature", "top_p", "max_completion_tokens")
_FOREIGN = ("opinions_min", "opinions_max", "confidence")


class TableTask(TaskManager):
    """Asks one question about each row of a table."""

    name = "table"

    def __init__(self, selection: Selection, settings: Any = None, **values: Any) -> None:
        """Settings as for TaskManager."""
        super().__init__(settings, **values)
        self._selection = selection
        self._question = selection.question
        self._spool: Spool | None = None
        self._passing: Iterator[Keyed] | None = None
        self._moved: _Moved | None = None

    # ------------------------------------------------------------ the task

    def metadata(self) -> Mapping[str, Any]:
        if self.settings.script.model is None:
            raise SettingError("model is not given: say which model answers, --model gpt-4o-mini for example.", "model")
        for name in _FOREIGN:
            if self.settings.given(name):
                raise SettingError(f"{name} is for tasks that ask for several opinions. Leave it out.", name)
        return {**{name: self.settings.value(name) for name in _SENT}, **self._question.in_words()}

    def validate(self) -> None:
        self._refuse_another_question()
        moved, self._moved = self._moved, None
        if moved is not None:
            moved.warn()

    def _check_input(self) -> None:
        self.metadata()
        if self.settings.task.run and not self.settings.extra.reprocess:
            get_endpoint(self.settings.general.endpoint)
            load_catalogue(self.settings).prices(str(self.settings.script.model))
        source = self._selection.source
        if self._question.columns == ():
            there = "" if source.columns is None else f" There are: {', '.join(source.columns)}."
            raise UserError(
                f"The prompt names no column, so that all rows would ask the same.{there} A column is written {{name}}."
            )
        if source.repeatable:
            self._moved = _Moved(self.workplace.store) if self._may_have_moved else None
            self._selection.check(self._moved.note if self._moved else lambda key: None)

    def generate_requests(self) -> Iterable[GPTRequest]:
        self._passing = self._selection.rows()
        self._spool = None if self._selection.source.repeatable else Spool()
        for key, row in self._passing:
            if self._spool is not None:
                self._selection.check_columns(row.cells)
                self._spool.add(key, row)
            yield GPTRequest(key, partial(self._payload, row) if self._is_lazy else self._payload(row))

    def process_result(self, result: Result, sample: Sample) -> None:
        if not result.ok:
            failure = {"reason": result.reason, "message": result.message}
            sample.emit({"key": sample.key, "status": "failed", **failure})
            return
        text = result.text or ""
        answer = text if self.meta["schema"] is None else read_json(text)
        sample.emit({"key": sample.key, "status": result.reason, "answer": answer})

    # ------------------------------------------------------------ results

    def results(self, read: Callable[[Any], Any] = lambda answer: answer) -> Iterator[RowResult[Any]]:
        """What became of each row, in the order of the rows. *read* makes a value of an answer (text or JSON)."""
        rows = self._all_rows()
        while page := list(islice(rows, _PAGE)):
            found = look_up(self.workplace.store, [key for key, _ in page])
            for key, row in page:
                yield _result(key, row, found.get(key), read)

    def payload_of(self, key: str) -> bytes:
        """What was asked about the row of a key, as JSON."""
        return payload_of(self.workplace.store, look_up(self.workplace.store, [key])[key].request_id)

    def _all_rows(self) -> Iterator[Keyed]:
        """The rows again, also where they could be read only once."""
        if self._spool is None or self._passing is None:
            yield from self._selection.rows()
            return
        yield from self._spool
        for key, row in self._passing:
            self._spool.add(key, row)
            yield key, row

    # ------------------------------------------------------------ below

    def _payload(self, row: Row) -> dict[str, Any]:
        payload = {name: self.meta[name] for name in _SENT if self.meta[name] is not None}
        payload["messages"] = self._question.messages(row, folder=self._selection.source.folder)
        if self._question.schema is not None:
            payload["response_format"] = self._question.response_format
        return payload

    @property
    def _is_lazy(self) -> bool:
        """Whether payloads are made for new rows only. Otherwise each is compared with what was asked under its key.

        Pictures would have to be read again for that.
        """
        return self._question.key_tells_payload or bool(self._question.images)

    def _refuse_another_question(self) -> None:
        """The task goes on with the question that it was begun with, or not at all."""
        now = json.loads(json.dumps(self.metadata()))
        changed = [name for name, value in now.items() if self.meta.get(name) != value]
        if not changed:
            return
        told = "; ".join(f"{name} was {_short(self.meta.get(name))} and is {_short(now[name])} now" for name in changed)
        place = self.workplace
        raise UserError(
            f"The task {place.prefix!r} in {place.folder} was begun with another question: {told}. Go back to that, or choose: "
            "another --task_prefix (in Python: name) begins a second task, all rows are asked and paid anew; --reinit_meta "
            "keeps the answers that there are and asks only the rest the new way; --wipe_task forgets everything."
        )

    @property
    def _may_have_moved(self) -> bool:
        """Whether a row that stands elsewhere now would count as a new one, unnoticed."""
        question, settings = self._question, self.settings
        chooses = question.where is not None or question.limit is not None
        looks_or_wipes = settings.general.dryrun or settings.extra.estimate or settings.requester.wipe_task
        return question.key is None and not (chooses or looks_or_wipes or settings.extra.dedupe)


class _Moved:
    """How many of the input's rows the task does not know, and how many of the task's rows the input does not have."""

    def __init__(self, store: Path) -> None:
        self._store = store
        taken = take_from(store)
        self._gone = 0 if taken is None else sum(taken.samples.values())
        self._has_begun = self._gone > 0
        self._new = 0
        self._page: list[str] = []

    def note(self, key: str) -> None:
        """Count a row of the input."""
        if self._has_begun:
            self._page.append(key)
            if len(self._page) == _PAGE:
                self._count()

    def warn(self) -> None:
        """Tell the user, once all are counted, what would be paid again."""
        self._count()
        if self._gone and self._new:
            logger.warning(
                "%s rows that were asked about have changed, moved or gone, and %s rows are new: those are asked, and paid. If "
                "rows have only moved, stop here and use --dedupe (an answer to the same question is used again); to be free "
                "to move them, begin with --key.",
                f"{self._gone:,}",
                f"{self._new:,}",
            )

    def _count(self) -> None:
        met = len(look_up(self._store, self._page))
        self._gone -= met
        self._new += len(self._page) - met
        self._page.clear()


_WITHOUT_VALUE = {RequestState.FAILED: "failed", RequestState.HELD: "held"}


def _result(key: str, row: Row, standing: Standing | None, read: Callable[[Any], Any]) -> RowResult[Any]:
    if standing is None:
        failure = Failure("pending", "not_asked", "it was not asked about yet", 0)
        return RowResult(row.number, key, row.item, None, failure, Usage(), 0)
    if standing.row is not None:
        made = json.loads(standing.row)
        cut_off = made["status"] == "cut_off"
        value = read(made["answer"])
        return RowResult(row.number, key, row.item, value, None, standing.usage, standing.cost_pico, cut_off)
    if standing.state in _WITHOUT_VALUE:
        status = _WITHOUT_VALUE[standing.state]
        failure = Failure(status, standing.reason, standing.message, standing.attempts)
    else:
        failure = Failure("pending", "not_answered", "its answer is still to come", standing.attempts)
    return RowResult(row.number, key, row.item, None, failure, standing.usage, standing.cost_pico)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:45]}…{text[-12:]}"
