"""`TableTask`: one question about each row of a table. `map` and `gpt-batch-api run` are made of it.

It is an ordinary task: each row is a sample, known by its key, with one request. So everything that a task promises
holds for it, and every command on tasks works on it. Its own output, `<prefix>_output.jsonl`, grows in the order of the
answers while it runs; `results` gives them in the order of the rows, read from the store a page at a time.

The input is read once before anything is done, so that whatever is wrong with it costs nothing; then again to ask, and
again for the results. What can be read only once (a generator) is kept on disk as it passes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.errors import GPTBatchError, SettingError, UserError
from gpt_batch_api.domain.outcome import Usage
from gpt_batch_api.domain.request import ResponseSchema
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.endpoints import schemas
from gpt_batch_api.endpoints.base import read_json
from gpt_batch_api.store.key_book import KeyBook
from gpt_batch_api.store.snapshot import take_from
from gpt_batch_api.store.standings import Standing, look_up, payload_of
from gpt_batch_api.tables.images import image_path, image_url, is_address
from gpt_batch_api.tables.keys import Key, row_key
from gpt_batch_api.tables.result import Failure, RowResult
from gpt_batch_api.tables.row import Row, Source
from gpt_batch_api.tables.spool import Spool
from gpt_batch_api.tables.template import Template
from gpt_batch_api.tables.values import ColumnKind, as_plain, common_kind, kind_of
from gpt_batch_api.tables.where import Where
from gpt_batch_api.task_manager import GPTRequest, Result, Sample, TaskManager

logger = logging.getLogger("gpt_batch_api")

Prompt = Template | Callable[[Any], Any]

_PAGE = 500
_SENT = ("model", "temperature", "top_p", "max_completion_tokens")
_FOREIGN = ("opinions_min", "opinions_max", "confidence")
_TOLD = {
    RequestState.FAILED: "failed",
    RequestState.HELD: "held",
}


@dataclass(frozen=True)
class Question:
    """What is asked about each row, and about which rows."""

    prompt: Prompt
    """A template, or a function of the item that gives a text or a list of messages."""
    system: str | None = None
    schema: type | Mapping[str, Any] | None = None
    """A pydantic model, a JSON schema, or None for an answer of plain text."""
    images: tuple[str, ...] = ()
    """Columns with pictures."""
    key: Key = None
    where: Where | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise SettingError(f"limit is {self.limit}, but must be at least 0.", "limit")

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that a request is made of; None: only the prompt function knows."""
        return (*self.prompt.columns, *self.images) if isinstance(self.prompt, Template) else None

    def named_columns(self) -> Iterator[tuple[str, str]]:
        """(who names it, column) of all that must be there."""
        yield from (("prompt", name) for name in (self.prompt.columns if isinstance(self.prompt, Template) else ()))
        yield from (("image", name) for name in self.images)
        yield from (("where", name) for name in (self.where.columns if self.where else ()))
        if isinstance(self.key, str):
            yield "key", self.key


class TableTask(TaskManager):
    """Asks one question about each row of a table."""

    name = "table"

    def __init__(
        self, source: Source, question: Question, *settings: Any, columns: Sequence[str] = (), **values: Any
    ) -> None:
        """*columns* of the source must be there too, for whatever reason of the caller. The rest as for TaskManager."""
        super().__init__(*settings, **values)
        self._source = source
        self._question = question
        self._needed = [*question.named_columns(), *(("columns", name) for name in columns)]
        self._spool: Spool | None = None
        self._passing: Iterator[tuple[str, Row]] | None = None
        self.kinds: dict[str, Any] = {}
        """What each column of a file holds, as in `Source.kinds`; known once a run has begun."""

    # ------------------------------------------------------------ the task

    def metadata(self) -> Mapping[str, Any]:
        script = self.settings.script
        if script.model is None:
            raise SettingError("model is not given: say which model answers, --model gpt-4o-mini for example.", "model")
        for name in _FOREIGN:
            if self.settings.given(name):
                raise SettingError(f"{name} is for tasks that ask for several opinions. Leave it out.", name)
        question = self._question
        schema = self.response_schema
        return {
            **{name: self.settings.value(name) for name in _SENT},
            "prompt": question.prompt.text if isinstance(question.prompt, Template) else _name(question.prompt),
            "system": question.system,
            "schema": None if schema is None else {"name": schema.name, "schema": json.loads(schema.json)},
            "images": list(question.images),
            "key": _name(question.key) if callable(question.key) else question.key,
        }

    @cached_property
    def response_schema(self) -> ResponseSchema | None:
        """What answers have to look like, checked; None: they are plain text. Raises SchemaError."""
        schema = self._question.schema
        if schema is None:
            return None
        if isinstance(schema, type):
            return schemas.of_model(schema)
        return schemas.of_json_schema(_json_schema(schema))

    def validate(self) -> None:
        self._refuse_another_question()
        if self._question.columns == ():
            raise UserError(
                f"The prompt names no column, so that all rows would ask the same.{self._there_are(self._source.columns)} "
                "A column is written {name}."
            )
        if self._source.repeatable:
            self._check_input()

    def generate_requests(self) -> Iterable[GPTRequest]:
        self._passing = self._keyed()
        self._spool = None if self._source.repeatable else Spool()
        for key, row in self._passing:
            if self._spool is not None:
                self._check_columns(row.cells)
                self._spool.add(key, row)
            yield GPTRequest(key, partial(self._payload, row) if self._asks_by_content else self._payload(row))

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

    # ------------------------------------------------------------ rows

    def _keyed(self, look: Callable[[Row], None] | None = None) -> Iterator[tuple[str, Row]]:
        """(key, row) of all rows that are asked about. *look* sees every row that is read."""
        question = self._question
        rows = self._source.rows() if look is None else _looked_at(self._source.rows(), look)
        chosen = (row for row in rows if question.where is None or question.where.keeps(row.cells))
        with closing(KeyBook()) as book:
            for row in islice(chosen, question.limit):
                key = row_key(row, question.key, columns=question.columns)
                if question.key is not None and (before := book.note(key, row.place)):
                    raise UserError(
                        f"The key {key!r} occurs twice in {self._source.name}: {before} and {row.place}. Keys must be "
                        "unique: take another key, or none."
                    )
                yield key, row

    def _all_rows(self) -> Iterator[tuple[str, Row]]:
        """The same again, also where the source could be read only once."""
        if self._spool is None or self._passing is None:
            yield from self._keyed()
            return
        yield from self._spool
        for key, row in self._passing:
            self._spool.add(key, row)
            yield key, row

    @property
    def _asks_by_content(self) -> bool:
        """Whether payloads are made for new rows only: the key tells the content, or pictures would be read each time.

        Otherwise the payload is made in every run and compared with what was asked under the same key.
        """
        question = self._question
        return bool(question.images) or (question.key is None and isinstance(question.prompt, Template))

    # ------------------------------------------------------------ payloads

    def _payload(self, row: Row) -> dict[str, Any]:
        payload = {name: self.meta[name] for name in _SENT if self.meta[name] is not None}
        messages = self._messages(row)
        if self.meta["system"]:
            messages = [{"role": "system", "content": self.meta["system"]}, *messages]
        payload["messages"] = messages
        schema = self._question.schema
        if schema is not None:
            payload["response_format"] = (
                schema
                if isinstance(schema, type)
                else {"type": "json_schema", "json_schema": dict(_json_schema(schema))}
            )
        return payload

    def _messages(self, row: Row) -> list[Any]:
        prompt = self._question.prompt
        if isinstance(prompt, Template):
            text = self._filled(prompt, row)
        else:
            made = self._called(prompt, row)
            if isinstance(made, list | tuple):
                return list(made)
            if not isinstance(made, str):
                raise UserError(
                    f"{_name(prompt)} gives {made!r:.60} for {row.place}, but must give a text or a list of messages."
                )
            text = made
        return [{"role": "user", "content": self._with_images(text, row) if self._question.images else text}]

    def _filled(self, prompt: Template, row: Row) -> str:
        try:
            return prompt.fill(row.cells)
        except TypeError as error:
            raise UserError(f"{row.place.capitalize()} cannot be put into the prompt: {error}.") from error

    def _called(self, prompt: Callable[[Any], Any], row: Row) -> Any:
        try:
            return prompt(row.item)
        except GPTBatchError:
            raise
        except Exception as error:
            raise UserError(
                f"{_name(prompt)} raised {type(error).__name__} for {row.place}: {error}. No paid answer is lost: correct "
                "it and run again."
            ) from error

    def _with_images(self, text: str, row: Row) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
        for name, cell in self._pictures(row):
            url = image_url(cell, folder=self._source.folder, where=f"{row.place.capitalize()}, column {name!r}")
            parts.append({"type": "image_url", "image_url": {"url": url}})
        return parts

    def _pictures(self, row: Row) -> Iterator[tuple[str, Any]]:
        """(column, cell) of the pictures of a row; an empty cell is none."""
        cells = ((name, row.cells.get(name)) for name in self._question.images)
        return ((name, cell) for name, cell in cells if cell)

    # ------------------------------------------------------------ checks

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

    def _check_input(self) -> None:
        """Read all rows once: columns, keys and pictures are there. Nothing has been asked yet."""
        source = self._source
        if source.columns is not None:
            self._check_columns(source.columns)
            self.kinds = dict(source.kinds)
        kinds: dict[str, set[ColumnKind]] = {}

        def look(row: Row) -> None:
            for name, value in row.cells.items():
                kinds.setdefault(name, set()).add(_kind(value))

        known = _Known(self.workplace.store) if self._may_have_moved else None
        rows = self._keyed(look if source.columns is None else None)
        while page := list(islice(rows, _PAGE)):
            if known is not None:
                known.note([key for key, _ in page])
            for _, row in page:
                self._check_pictures(row)
        if known is not None and known.gone and known.new:
            logger.warning(
                "%s rows that were asked about have changed, moved or gone, and %s rows are new: those are asked, and paid. If "
                "rows have only moved, stop here and use --dedupe (an answer to the same question is used again); to be free "
                "to move them, begin with --key.",
                f"{known.gone:,}",
                f"{known.new:,}",
            )
        if source.columns is None and kinds:
            self._check_columns(kinds)
            self.kinds = {name: common_kind(found) for name, found in kinds.items()}

    def _check_pictures(self, row: Row) -> None:
        for name, cell in self._pictures(row):
            if isinstance(cell, str) and not is_address(cell):
                image_path(cell, folder=self._source.folder, where=f"{row.place.capitalize()}, column {name!r}")

    @property
    def _may_have_moved(self) -> bool:
        """Whether a row that stands elsewhere now would count as a new one, unnoticed."""
        question, settings = self._question, self.settings
        chooses = question.where is not None or question.limit is not None
        looks_or_wipes = settings.general.dryrun or settings.extra.estimate or settings.requester.wipe_task
        return question.key is None and not (chooses or looks_or_wipes or settings.extra.dedupe)

    def _check_columns(self, there: Iterable[str]) -> None:
        names = set(there)
        for what, column in self._needed:
            if column in names:
                continue
            close = get_close_matches(column, names, n=1)
            wish = f" Did you mean {close[0]!r}?" if close else ""
            hints = {"prompt": " A literal brace is written twice: {{.", "where": ' A text stands in quotes: "text".'}
            raise UserError(
                f"{self._source.name.capitalize() if self._source.name.startswith('the ') else self._source.name} has no "
                f"column {column!r}, which {what} names.{self._there_are(there)}{wish}{hints.get(what, '')}"
            )

    @staticmethod
    def _there_are(columns: Iterable[str] | None) -> str:
        return f" There are: {', '.join(columns)}." if columns is not None else ""


class _Known:
    """How many of the input's rows the task knows, and how many of the task's rows the input has."""

    def __init__(self, store: Path) -> None:
        self._store = store
        taken = take_from(store)
        self._before = 0 if taken is None else sum(taken.samples.values())
        self._met = 0
        self.new = 0

    def note(self, keys: list[str]) -> None:
        """Count some rows of the input."""
        met = len(look_up(self._store, keys)) if self._before else 0
        self._met += met
        self.new += len(keys) - met

    @property
    def gone(self) -> int:
        """How many rows of the task the input does not have, once all have been counted."""
        return self._before - self._met


def _looked_at(rows: Iterator[Row], look: Callable[[Row], None]) -> Iterator[Row]:
    for row in rows:
        look(row)
        yield row


def _result(key: str, row: Row, standing: Standing | None, read: Callable[[Any], Any]) -> RowResult[Any]:
    if standing is not None and standing.row is not None:
        made = json.loads(standing.row)
        return RowResult(
            number=row.number,
            key=key,
            item=row.item,
            value=read(made["answer"]),
            failure=None,
            usage=standing.usage,
            cost_pico=standing.cost_pico,
            cut_off=made["status"] == "cut_off",
        )
    if standing is None:
        failure = Failure("pending", "not_asked", "it was not asked about yet", 0)
        return RowResult(row.number, key, row.item, None, failure, Usage(), 0)
    reason, message = standing.reason, standing.message
    if standing.state not in _TOLD:
        reason, message = "not_answered", "its answer is still to come"
    failure = Failure(_TOLD.get(standing.state, "pending"), reason, message, standing.attempts)
    return RowResult(row.number, key, row.item, None, failure, standing.usage, standing.cost_pico)


def _json_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """*schema* as the API names it: with a name, and strict. It may have that around it already.

    A bare JSON schema is completed: all properties are required, and no others are allowed.
    """
    if schema.get("type") == "json_schema":
        schema = schema.get("json_schema") or {}
    if "schema" in schema:
        return {"name": "answer", "strict": True, **schema}
    title = "".join(letter if letter.isalnum() else "_" for letter in str(schema.get("title", "")))
    return {
        "name": title if schemas.NAME.fullmatch(title) else "answer",
        "strict": True,
        "schema": schemas.completed(schema),
    }


def _kind(value: Any) -> ColumnKind:
    try:
        return kind_of(as_plain(value))
    except TypeError:
        return ColumnKind.JSON


def _name(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__qualname__', type(function).__name__)}()"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:45]}…{text[-12:]}"
