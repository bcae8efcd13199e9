"""`map`: a whole job in one call.

    for result in gpt_batch_api.map("reviews.csv", "Rate this review: {text}", Verdict, name="reviews", model="gpt-4o-mini"):
        print(result.item["id"], result.value)

Below it is a task like any other, with its files in `task_dir`. Killed at any moment and called again with the same
arguments it goes on; what is answered is not paid again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from gpt_batch_api.domain.errors import GPTBatchError
from gpt_batch_api.table_task import TableTask
from gpt_batch_api.tables.question import Question
from gpt_batch_api.tables.result import Failure, RowResult
from gpt_batch_api.tables.selection import Selection
from gpt_batch_api.tables.sources import open_items
from gpt_batch_api.tables.template import Template
from gpt_batch_api.tables.where import Where
from gpt_batch_api.task_manager import all_done

if TYPE_CHECKING:
    from pydantic import BaseModel

    M = TypeVar("M", bound=BaseModel)

T = TypeVar("T")

__all__ = ["Failure", "MapResults", "RowResult", "amap", "map"]


class MapResults(Generic[T]):
    """The results of a `map`, one for each item, in the order of the items.

    They are read from the store as they are wanted, so a million of them fit into little memory. `complete` says whether
    all is done; if not (a limit was met, for example), what is missing has a failure with the status `pending`, and the
    same call continues.
    """

    def __init__(self, task: TableTask, read: Callable[[Any], T], *, complete: bool) -> None:
        self._task = task
        self._read = read
        self.complete = complete

    def __iter__(self) -> Iterator[RowResult[T]]:
        return self._task.results(self._read)


@overload
def map(items: Any, prompt: Any, schema: type[M], *, name: str, **arguments: Any) -> MapResults[M]: ...
@overload
def map(items: Any, prompt: Any, schema: None = None, *, name: str, **arguments: Any) -> MapResults[str]: ...
@overload
def map(items: Any, prompt: Any, schema: Mapping[str, Any], *, name: str, **arguments: Any) -> MapResults[Any]: ...
def map(items: Any, prompt: Any, schema: Any = None, *, name: str, **arguments: Any) -> MapResults[Any]:
    """Ask one question about each of *items*, and give the results in their order.

    - *items*: a list, a generator, the path of a CSV, JSONL or Parquet file, a pandas or polars frame, a Hugging Face
      data set. An item without columns of its own is the column `item`.
    - *prompt*: a text with columns in braces, `"Rate this: {text}"`, or a function of the item that gives a text or a
      list of messages.
    - *schema*: a pydantic model (values are its instances), a JSON schema (values are dicts), or None (values are texts).
    - *name* begins the names of the job's files in `task_dir`. The same name and question continue the same job;
      another question under the same name is refused.

    Further arguments, by keyword:

    - `system`: a message before the prompt.
    - `key`: the column, or a function of the item, by which an item is known again. Without one that is its number and
      its content: items that change or move are asked anew.
    - `images`: columns with pictures (path, address or data URI).
    - `where`: which items, as a condition on columns (`'stars >= 4 and "refund" in text'`). `limit`: only the first so many.
    - every setting of docs/settings.md, `model` above all.

    Raises GPTBatchError for anything that you, the server or we must mend, KeyboardInterrupt after Ctrl+C.
    """
    task = _make_task(items, prompt, schema, name=name, **arguments)
    return MapResults(task, _reader(task, schema), complete=all_done(task.run_to_end()))


@overload
async def amap(items: Any, prompt: Any, schema: type[M], *, name: str, **arguments: Any) -> MapResults[M]: ...
@overload
async def amap(items: Any, prompt: Any, schema: None = None, *, name: str, **arguments: Any) -> MapResults[str]: ...
@overload
async def amap(
    items: Any, prompt: Any, schema: Mapping[str, Any], *, name: str, **arguments: Any
) -> MapResults[Any]: ...
async def amap(items: Any, prompt: Any, schema: Any = None, *, name: str, **arguments: Any) -> MapResults[Any]:
    """`map` for a running event loop: the job runs in a thread of its own. Cancelled, it stops after its present step."""
    from gpt_batch_api.engine.context import Interruption

    task = _make_task(items, prompt, schema, name=name, **arguments)
    interruption = Interruption()
    running = asyncio.ensure_future(asyncio.to_thread(task.run_to_end, interruption))
    try:
        result = await asyncio.shield(running)
    except asyncio.CancelledError:
        interruption.set()
        with suppress(GPTBatchError):
            await running
        raise
    return MapResults(task, _reader(task, schema), complete=all_done(result))


def _make_task(
    items: Any,
    prompt: str | Callable[[Any], Any],
    schema: type[Any] | Mapping[str, Any] | None,
    *,
    name: str,
    system: str | None = None,
    key: str | Callable[[Any], Any] | None = None,
    images: str | Sequence[str] = (),
    where: str | None = None,
    limit: int | None = None,
    **settings: Any,
) -> TableTask:
    question = Question(
        prompt=Template(prompt) if isinstance(prompt, str) else prompt,
        system=system,
        schema=schema,
        images=(images,) if isinstance(images, str) else tuple(images),
        key=key,
        where=None if where is None else Where(where),
        limit=limit,
    )
    return TableTask(Selection(open_items(items), question), **{**settings, "task_prefix": name})


def _reader(task: TableTask, schema: Any) -> Callable[[Any], Any]:
    """What makes a value of an answer."""
    if isinstance(schema, type) and task.settings.requester.auto_parse:
        model: Any = schema
        return lambda answer: model.model_validate_json(json.dumps(answer))
    return lambda answer: answer
