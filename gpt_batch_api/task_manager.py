"""`TaskManager`: what you subclass to run a job, and the words you need for it.

See the class for what to override, and `task_manager_demo.py` for two complete tasks.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from gpt_batch_api.cli.options import add_settings, make_parser, settings_from_args, settings_from_config
from gpt_batch_api.domain.clock import SystemClock
from gpt_batch_api.domain.ending import STOPPED_AT_ONCE, Ending, Over
from gpt_batch_api.domain.errors import GPTBatchError, InternalError, SafetyStop, UserError
from gpt_batch_api.domain.events import Event, RunBegan
from gpt_batch_api.domain.request import GPTRequest
from gpt_batch_api.domain.selection import Selection
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.task.figures import OwnFigures
from gpt_batch_api.task.opinions import Majority, OpinionPoll
from gpt_batch_api.task.outputs import DataclassListOutputFile, DataclassOutputFile, TaskOutputFile
from gpt_batch_api.task.results import Result
from gpt_batch_api.task.samples import Sample

if TYPE_CHECKING:
    from gpt_batch_api.domain.hooks import Listener, TaskHooks
    from gpt_batch_api.engine.context import Interruption
    from gpt_batch_api.engine.session import Job, RunResult, Seams
    from gpt_batch_api.planning.reprocess import Preview

__all__ = [
    "DataclassListOutputFile",
    "DataclassOutputFile",
    "GPTRequest",
    "Majority",
    "OpinionPoll",
    "Result",
    "Sample",
    "TaskManager",
    "TaskOutputFile",
]

logger = logging.getLogger("gpt_batch_api")


class TaskManager:
    """A job: for each sample one or more requests, each answer processed into output rows.

    Subclass it, override two methods, and run it. Kill it whenever you like; the same command continues.

    **What to override**

    - `generate_requests()`: yield a `GPTRequest` for all that you want answered, lazily. Yield everything, every time:
      what is known already is passed by.
    - `process_result(result, sample)`: look at one final answer. Write output rows with `sample.emit(row)`, keep notes
      in `sample.state`, ask a follow-up with `sample.ask(request)`, send a bad answer back with `result.retry(reason)`,
      give it up with `result.fail(reason)`. If `result.ok` is false, the request has failed for good.
    - `name`: the default prefix of the task's files. `defaults`: the task's metadata with their default values.
      `output_file`: the class of the output (JSON lines if you do not say). `state_type`: the type of `sample.state`.
    - Optional hooks: `metadata()`, `output_header()`, `validate()`, `on_enter()`, `on_exit()`, `postprocess_output()`.

    There is no undo code, no wipe code and no bookkeeping to write: states and rows belong to samples, and everything
    that one answer leads to is recorded together or not at all.

    **Where arguments come from**

    Every setting (docs/settings.md) can be given as a keyword here, on the command line, by environment variable, or in
    a hydra/YAML configuration. `run_command_line()` is a complete `main()` for a script; to mix in arguments of your
    own, build a parser with `cli.options.make_parser` and `add_settings`, and pass `settings_from_args(...)` in. With
    hydra, compose `config/gpt_batch_api.yaml` and pass the node. Values in `defaults` are *metadata*: captured when the
    task is created and fixed from then on, until `--reinit_meta`. Read them from `self.meta`.

    **Which properties your design must have**

    - *Sample keys* are stable and unique texts: the same sample has the same key in every run.
    - A *request* is known by (sample key, purpose, number). The same one has the same payload in every run; a different
      question needs another key, purpose or number.
    - *Sample state* is a small JSON document (or dataclass) about one sample: only what later answers of the same sample
      need. It must follow from the sample's answers alone, so that replaying them rebuilds it.
    - *Output rows* belong to one sample and are complete in themselves. Emit each row once, when it is final; rows are
      never changed afterwards, only taken back together with their sample by a wipe or a reprocess.
    - *Request metadata* (`meta`) is small JSON that comes back with the answer: what you need to process it and cannot
      read off the answer or the sample key.
    - `process_result` depends on nothing but the result, the sample and fixed inputs: answers come in any order.
    """

    name: ClassVar[str | None] = None
    defaults: ClassVar[Mapping[str, Any]] = {}
    output_file: ClassVar[type[TaskOutputFile] | None] = DataclassListOutputFile
    state_type: type | None = None

    def __init__(
        self,
        settings: Settings | Mapping[str, Any] | Any = None,
        *,
        listeners: Sequence[Listener] = (),
        seams: Seams | None = None,
        **values: Any,
    ) -> None:
        """Take settings as made by `settings_from_args`, a hydra/YAML node, or as keywords (`max_retries=5`).

        Raises SettingError if one is wrong or two contradict each other.
        """
        base = settings if isinstance(settings, Settings) else settings_from_config(settings or {})
        self.settings = base.replace(**values) if values else base
        self.meta: Mapping[str, Any] = {}
        self._listeners = tuple(listeners)
        self._seams = seams
        self._entered = False
        self._began = False
        self._figures = OwnFigures()

    # ------------------------------------------------------------ to override

    def metadata(self) -> Mapping[str, Any]:
        """The task's metadata, captured when it is created: `defaults`, with settings of the same name over them."""
        given = {name: self.settings.value(name) for name in self.defaults if self._is_setting(name)}
        return {**self.defaults, **{name: value for name, value in given.items() if value is not None}}

    def generate_requests(self) -> Iterable[GPTRequest]:
        """Yield all requests of the task, lazily."""
        raise NotImplementedError(f"{type(self).__name__} must override generate_requests().")

    def process_result(self, result: Result, sample: Sample) -> None:
        """Look at one final answer of a sample."""
        raise NotImplementedError(f"{type(self).__name__} must override process_result().")

    def output_header(self) -> Mapping[str, Any]:
        """The fields of a `DataclassOutputFile` besides its rows."""
        return {}

    def validate(self) -> None:
        """Check the task's inputs before anything is done; raise an exception if something is missing."""

    def on_enter(self) -> None:
        """Called when the run begins: `self.meta` is known, nothing is asked yet."""

    def on_exit(self) -> None:
        """Called when the run ends, however it ends."""

    def postprocess_output(self, output: TaskOutputFile) -> None:
        """Called when the task is complete (see the setting `postprocess_output`); the files are final."""

    # ------------------------------------------------------------ to call

    @property
    def workplace(self) -> Workplace:
        """Where the task's files lie."""
        name = self.name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()
        return Workplace.of(self.settings, default_prefix=name)

    @property
    def output(self) -> TaskOutputFile | None:
        """The task's output file."""
        if self.output_file is None:
            return None
        place = self.workplace
        return self.output_file(place.folder / f"{place.prefix}_output", header=self.output_header())

    @property
    def only_looks(self) -> bool:
        """Nothing is to be run, wiped or captured: the status is enough, and needs neither lock nor server."""
        settings = self.settings
        wipes = settings.requester.wipe_requests or settings.requester.wipe_task or settings.task.wipe_failed
        return not (settings.task.run or wipes or settings.task.reinit_meta or self._works_on_copy)

    def run(self) -> bool:
        """Run the task as far as it goes; whether everything is done.

        Raises GPTBatchError for anything that the user, the server or we must mend, KeyboardInterrupt after Ctrl+C.
        """
        return all_done(self.run_to_end())

    def run_to_end(self, interruption: Interruption | None = None) -> RunResult:
        """Run the task; how it ended and why, and how the task stands now. Raises GPTBatchError.

        Signals stop it, in the main thread; elsewhere *interruption* can.
        """
        from gpt_batch_api.engine.interrupt import interruptible, run_interruptible
        from gpt_batch_api.monitor.tracking import tracking

        if self.settings.extra.reprocess:
            from gpt_batch_api.cli.reprocess import show_and_apply

            self._check_input()
            return show_and_apply(self, Selection(), tell=logger.info)
        if self.only_looks:
            result = self._look()
        else:
            with interruptible() as signals, tracking(self.settings, self.workplace) as tracker:
                try:
                    result = run_interruptible(self._run(interruption or signals, tracker))
                except GPTBatchError:
                    self._tell_summary_after_error()
                    raise
        self._tell_end(result)
        return result

    def preview_reprocess(self, selection: Selection = Selection()) -> Preview:
        """What `reprocess` would change. Reads only; may be called while the task runs elsewhere."""
        from gpt_batch_api.engine.context import Interruption
        from gpt_batch_api.engine.reprocess import preview

        with self._left_at_end():
            return preview(self._job(self._all_listeners(), Interruption()), selection)

    def reprocess(self, selection: Selection = Selection()) -> RunResult:
        """Show stored answers to the task's present code once more, and make states, rows and follow-ups of the samples
        anew. Nothing is asked of the server; what the code asks anew, the next run asks. Raises GPTBatchError."""
        from gpt_batch_api.engine.interrupt import interruptible, run_interruptible
        from gpt_batch_api.engine.reprocess import run_reprocess

        with self._left_at_end(), interruptible() as interruption:
            return run_interruptible(run_reprocess(self._job(self._all_listeners(), interruption), selection))

    def main(self) -> int:
        """Run the task for a script: errors become one line on the log. Returns the exit code.

        0 done, 3 work left, 1 stopped or error, 130 interrupted.
        """
        return exit_code(lambda: self.run_to_end().over.ending.exit_code)

    @classmethod
    def run_command_line(cls, argv: Sequence[str] | None = None) -> int:
        """A complete `main()` for a script with one task: parse arguments, configure logging, run. The exit code."""

        def run() -> int:
            parser = make_parser(description=(cls.__doc__ or "").strip().partition("\n")[0] or None)
            add_settings(parser, exclude=("task",))
            settings = settings_from_args(parser.parse_args(argv))
            return cls(settings).main()

        from gpt_batch_api.utils import configure_logging

        configure_logging()
        return exit_code(run)

    def log_figures(self, **figures: int | float) -> None:
        """Show figures of your own beside those of the run, in wandb for instance: `self.log_figures(accuracy=0.93)`.

        Called in `process_result`, they are recorded and shown together with what it did, or not at all; called
        elsewhere, with the next answers or at the end. Each name keeps its latest value.
        """
        self._figures.log(figures)

    def status(self) -> list[str]:
        """The task's status in lines for people. Reads only; may be called while the task runs elsewhere."""
        from gpt_batch_api.monitor.report import status_lines

        return self._told(self._look(), status_lines)

    # ------------------------------------------------------------ below

    @property
    def _works_on_copy(self) -> bool:
        """Whether the task itself stays as it is: a dry run, an estimate."""
        return self.settings.general.dryrun or self.settings.extra.estimate

    def _look(self) -> RunResult:
        from gpt_batch_api.engine.session import RunResult
        from gpt_batch_api.store.snapshot import take_from

        return RunResult(Over(Ending.DONE), take_from(self.workplace.store))

    def _told(self, result: RunResult, lines: Callable[..., list[str]]) -> list[str]:
        """How the task stands, in *lines* of the monitor."""
        from gpt_batch_api.monitor.facts import facts_of

        place = self.workplace
        if result.snapshot is None:
            return [f"Task {place.prefix} in {place.folder}: not begun"]
        clock = SystemClock() if self._seams is None else self._seams.clock
        return lines(facts_of(result.snapshot, settings=self.settings, now=clock.now()), prefix=place.prefix)

    def _log_told(self, result: RunResult, lines: Callable[..., list[str]]) -> None:
        for line in self._told(result, lines):
            logger.info("%s", line)

    def _check_input(self) -> None:
        """Raise UserError for whatever can be seen to be wrong before the task has a store."""

    async def _run(self, interruption: Interruption, tracker: Listener) -> RunResult:
        from gpt_batch_api.engine.dry import run_dry, run_estimate
        from gpt_batch_api.engine.session import run_task
        from gpt_batch_api.monitor.run_view import RunView

        self._began = False
        self._check_input()
        dry, estimates = self.settings.general.dryrun, self.settings.extra.estimate
        run = run_estimate if estimates else run_dry if dry else run_task
        prefix = "(estimate) " if estimates else "(dry run) " if dry else ""
        view = None if prefix else RunView(self.settings, self.workplace.store, prefix=self.workplace.prefix)
        with self._left_at_end(), view or nullcontext():
            shown = (tracker,) if view is None else (view, tracker)
            listeners = self._all_listeners(
                prefix, self._note_beginning, *shown, beside_view=view is not None and view.is_live
            )
            return await run(self._job(listeners, interruption))

    def _job(self, listeners: Sequence[Listener], interruption: Interruption) -> Job:
        from gpt_batch_api.engine.session import Job, Seams, TaskPlan

        plan = TaskPlan(
            kind=type(self).__name__,
            metadata=_as_json(self.metadata()),
            make_hooks=self._make_hooks,
            given=frozenset(name for name in self.defaults if self._is_setting(name) and self.settings.given(name)),
        )
        seams = self._seams or Seams()
        return Job(self.settings, self.workplace, plan, listeners=listeners, interruption=interruption, seams=seams)

    def _all_listeners(self, prefix: str = "", *others: Listener, beside_view: bool = False) -> tuple[Listener, ...]:
        from gpt_batch_api.monitor.logs import LogLines

        return (LogLines(self.settings, prefix=prefix, beside_view=beside_view), *others, *self._listeners)

    @contextmanager
    def _left_at_end(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._entered:
                self._entered = False
                self.on_exit()

    def _make_hooks(self, metadata: Mapping[str, Any]) -> TaskHooks:
        from gpt_batch_api.task.runner import TaskRunner

        self.meta = metadata
        self.validate()
        self._entered = True
        self.on_enter()
        return TaskRunner(
            self,
            output=self.output,
            delivers=not self._works_on_copy,
            auto_parse=self.settings.requester.auto_parse,
            postprocess=self.settings.task.postprocess_output,
            figures=self._figures,
        )

    def _is_setting(self, name: str) -> bool:
        try:
            self.settings.value(name)
        except GPTBatchError:
            return False
        return True

    def _tell_summary_after_error(self) -> None:
        """Say what a run has done before it ended with an error, if it had begun and there is anything to say."""
        from gpt_batch_api.monitor.summary import summary_lines

        if not self._began or self._works_on_copy or self.settings.extra.verbosity == "quiet":
            return
        with suppress(GPTBatchError):  # it may be the store that is in trouble
            found = self._look()
            if found.snapshot is not None and found.snapshot.asked:
                self._log_told(found, summary_lines)

    def _note_beginning(self, event: Event) -> None:
        self._began = self._began or isinstance(event, RunBegan)

    def _tell_end(self, result: RunResult) -> None:
        over = result.over
        if result.estimate is not None:
            from gpt_batch_api.monitor.estimates import estimate_lines

            for line in estimate_lines(result.estimate, prefix=self.workplace.prefix):
                logger.info("%s", line)
            return
        if not self.settings.task.run or self.settings.extra.verbosity != "quiet":
            from gpt_batch_api.monitor.report import status_lines
            from gpt_batch_api.monitor.summary import summary_lines

            whole = not self.settings.task.run or self.settings.extra.verbosity == "verbose"
            self._log_told(result, status_lines if whole else summary_lines)
        if over.ending is Ending.WORK_LEFT:
            logger.info("Work is left: %s. The same command continues.", "; ".join(over.reasons))
        elif over.ending is Ending.INTERRUPTED:
            logger.info("Stopped. Batches on the server go on meanwhile; the same command continues.")
        elif over.ending is Ending.STOPPED:
            logger.error("%s", " ".join(over.reasons))


def all_done(result: RunResult) -> bool:
    """Whether the run has left nothing to do. Raises if it was stopped or interrupted."""
    if result.over.ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    if result.over.ending is Ending.STOPPED:
        raise SafetyStop(" ".join(result.over.reasons))
    return result.snapshot is not None and result.snapshot.task.complete


def _as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as they will come back from the store. Raises UserError if they are no JSON."""
    try:
        document: dict[str, Any] = json.loads(json.dumps(dict(metadata)))
    except (TypeError, ValueError) as error:
        raise UserError(f"The task's metadata must be plain JSON values: {error}.") from error
    return document


def exit_code(call: Any) -> int:
    """Run *call* for a script: expected errors become one line, Ctrl+C exit code 130."""
    try:
        code: int = call()
    except InternalError:
        logger.exception("A promise of this library does not hold. Please report this; what is committed is safe.")
        return 1
    except GPTBatchError as error:
        if logging.getLogger().handlers:
            logger.error("%s", error)
        else:
            sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        logger.info(STOPPED_AT_ONCE)
        return 130
    return code
