"""`GPTRequester`: the engine without a task, for jobs whose flow you want to direct yourself.

    with GPTRequester("night_job", task_dir="jobs") as requester:
        requester.add(GPTRequest(key, payload) for key, payload in ...)
        requester.commit()
        requester.batch()
        requester.push()
        requester.wait()          # or, instead of these three: requester.direct()
        with requester.process() as results:
            for result in results:
                ...

Everything that `TaskManager` promises holds here too: what is committed survives any stop, nothing is paid twice, and
results that you left without an exception are never handed out again. Here the sample of a request is its own key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from gpt_batch_api.cli.options import settings_from_config
from gpt_batch_api.domain.errors import SafetyStop, SettingError, UserError
from gpt_batch_api.domain.hooks import Handed, Listener
from gpt_batch_api.domain.request import GPTRequest
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.task.judging import ending, is_asked_again
from gpt_batch_api.task.results import Parser, Result

if TYPE_CHECKING:
    from gpt_batch_api.engine.manual import ManualRun
    from gpt_batch_api.engine.session import Seams
    from gpt_batch_api.store.snapshot import Snapshot

T = TypeVar("T")

__all__ = ["GPTRequest", "GPTRequester", "Result"]


class GPTRequester:
    """The engine without a task. Use it as a context manager: inside, this process owns the job's files."""

    def __init__(
        self,
        prefix: str,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        listeners: Sequence[Listener] = (),
        seams: Seams | None = None,
        **values: Any,
    ) -> None:
        """*prefix* begins the names of the job's files in `task_dir`. Settings as for `TaskManager`.

        Raises SettingError if one is wrong.
        """
        base = settings if isinstance(settings, Settings) else settings_from_config(settings or {})
        self.settings = base.replace(**{**values, "task_prefix": prefix})
        self._workplace = Workplace.of(self.settings, default_prefix=prefix)
        self._listeners = tuple(listeners)
        self._seams = seams
        self._added: list[GPTRequest] = []
        self._given_out = False
        self._parser = Parser(auto_parse=self.settings.requester.auto_parse)
        self._runner: asyncio.Runner | None = None
        self._stack: AsyncExitStack | None = None
        self._run: ManualRun | None = None

    # ------------------------------------------------------------ owning the job

    def __enter__(self) -> GPTRequester:
        from gpt_batch_api.engine.manual import ManualRun
        from gpt_batch_api.monitor.logs import LogLines
        from gpt_batch_api.monitor.tracking import tracking

        if self.settings.general.dryrun:
            raise SettingError(
                "dryrun is on, but a GPTRequester has no plan of its own to show. Leave it out.", "dryrun"
            )
        if self.settings.extra.estimate:
            raise SettingError(
                "estimate is on, but a GPTRequester cannot know what it will be asked. Leave it out, and see "
                "`gpt-batch-api estimate` for what it holds.",
                "estimate",
            )
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        tracker = self._stack.enter_context(tracking(self.settings, self._workplace))
        opening = ManualRun.opened(
            self.settings,
            self._workplace,
            listeners=(LogLines(self.settings), tracker, *self._listeners),
            seams=self._seams,
        )
        try:
            self._run = self._runner.run(self._stack.enter_async_context(opening))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        runner, stack = self._runner, self._stack
        self._runner = self._stack = self._run = None
        if runner is not None:
            try:
                if stack is not None:
                    runner.run(stack.aclose())
            finally:
                runner.close()

    @property
    def _open(self) -> ManualRun:
        if self._run is None:
            raise UserError("This GPTRequester is not open: use it inside `with GPTRequester(...) as requester:`.")
        return self._run

    # ------------------------------------------------------------ asking

    def add(self, requests: GPTRequest | Iterable[GPTRequest]) -> None:
        """Take requests in; they are stored with the next `commit`. Known ones do no harm."""
        self._added += [requests] if isinstance(requests, GPTRequest) else requests

    def commit(self) -> int:
        """Store what was added, durably; how many requests were new.

        Raises PayloadError if one cannot be sent as it is. What was added and is not stored is forgotten then: correct
        it and add it again (requests that are known do no harm).
        """
        before = self.status().asked
        added, self._added = self._added, []
        self._open.take(added)
        return self.status().asked - before

    def batch(self) -> int:
        """Make local batches of all that is queued (up to max_unpushed_batches); how many were made."""
        self.commit()
        return self._open.seal_all()

    def push(self) -> int:
        """Bring local batches to the server as far as all limits allow; how many the server has taken."""
        return self._await(self._open.push_all())

    def direct(self) -> int:
        """Ask all that is queued by direct calls, as far as all limits allow; how many answers came."""
        self.commit()
        return self._await(self._open.call_all())

    def wait(self, *, everything: bool = False) -> int:
        """Wait until there are results to process; with *everything*, until nothing is under way any more.

        Retries are batched and pushed meanwhile. Returns how many results wait to be processed. Raises SafetyStop if
        the run must not go on.
        """
        over = self._await(self._open.wait(everything=everything))
        if over is not None and over.reasons:
            raise SafetyStop(" ".join(over.reasons))
        return self.status().count(RequestState.ANSWERED)

    # ------------------------------------------------------------ answers

    @contextmanager
    def process(self, *, limit: int = 1000) -> Iterator[list[Result]]:
        """Give out up to *limit* results. When the block is left without an exception they count as processed.

        `result.retry(reason)` and `result.fail(reason)` take effect then too. After an exception all of them will be
        given out again. Results that do not fit their model are asked again by themselves and not given out.
        """
        if self._given_out:
            raise UserError("Results are given out already: leave the first process() block before the next.")
        answers = self._open.answers(limit=limit)
        results = [self._parser.parse(answer) for answer in answers]
        pairs = list(zip(answers, results, strict=True))
        self._given_out = True
        try:
            yield [result for answer, result in pairs if not is_asked_again(answer, result)]
        finally:
            self._given_out = False
        ended = [ending(answer, result) for answer, result in pairs]
        self._open.record(answers, Handed(ended=ended, states={}, rows=[], asked=[]))

    def status(self) -> Snapshot:
        """How the job stands."""
        return self._open.snapshot()

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._runner is not None
        return self._runner.run(coroutine)
