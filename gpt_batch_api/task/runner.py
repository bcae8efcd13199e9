"""Run the task's own code on answers, and collect what it does.

Nothing that the code does takes effect here: states, rows and follow-ups are handed back to be recorded in one
transaction. An exception of the code names the sample and the line, and nothing of the chunk is recorded.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from gpt_batch_api.domain.delivery import Output
from gpt_batch_api.domain.errors import GPTBatchError, TaskCodeError
from gpt_batch_api.domain.hooks import Ended, Handed, ToHand
from gpt_batch_api.domain.request import GPTRequest
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.task.figures import OwnFigures
from gpt_batch_api.task.judging import ending, is_asked_again
from gpt_batch_api.task.outputs import TaskOutputFile
from gpt_batch_api.task.results import Parser, Result
from gpt_batch_api.task.samples import Sample, StateCodec


class UserTask(Protocol):
    """What a user's task has to offer."""

    state_type: type | None

    def generate_requests(self) -> Iterable[GPTRequest]: ...

    def process_result(self, result: Result, sample: Sample) -> None: ...

    def postprocess_output(self, output: TaskOutputFile) -> None: ...


class TaskRunner:
    """Gives the engine what it asks of a task, by running the task's code.

    Rows are checked against the *output* file's type also where nothing is delivered (a dry run).
    """

    def __init__(
        self,
        task: UserTask,
        *,
        output: TaskOutputFile | None,
        delivers: bool = True,
        auto_parse: bool = True,
        postprocess: str = "never",
        figures: OwnFigures | None = None,
    ) -> None:
        self._task = task
        self._postprocess = postprocess
        self._file = output
        self._delivers = delivers
        self._parser = Parser(auto_parse=auto_parse)
        self._figures = figures or OwnFigures()
        self._codec: StateCodec | None = None

    @property
    def output(self) -> Output | None:
        return self._file.output if self._file is not None and self._delivers else None

    def requests(self) -> Iterator[GPTRequest]:
        with self._blaming("generate_requests"):
            yield from self._task.generate_requests()

    def hand(self, answers: Sequence[ToHand], states: Mapping[int, str | None]) -> Handed:
        if self._codec is None:
            self._codec = StateCodec(self._task.state_type)
        chunk = _Chunk(self._codec, states)
        with self._figures.forgotten_on_error():
            for answer in answers:
                with self._blaming("process_result", sample_key=answer.key.sample_key):
                    self._hand_one(answer, chunk)
        return replace(chunk.handed(), figures=self._figures.take())

    def completed(self, *, changed: bool) -> Mapping[str, int | float]:
        if self._file is not None and (
            self._postprocess == "always" or (self._postprocess == "if_written" and changed)
        ):
            with self._blaming("postprocess_output"):
                self._task.postprocess_output(self._file)
        return self._figures.take()

    def _hand_one(self, answer: ToHand, chunk: _Chunk) -> None:
        result = self._parser.parse(answer)
        if is_asked_again(answer, result):
            chunk.take(answer, ending(answer, result), rows=[], asked=[])
            return
        sample, before = chunk.sample(answer)
        self._task.process_result(result, sample)
        ended = ending(answer, result)
        if ended.state is RequestState.QUEUED:
            sample.forget_call(chunk.codec.load(before))
        chunk.take(answer, ended, rows=[self._row(row) for row in sample.take_rows()], asked=sample.take_asked())
        chunk.note_state(answer, sample)

    def _row(self, row: Any) -> str:
        if self._file is None:
            raise TypeError("a row was emitted, but the task has no output file")
        return self._file.dump_row(row)

    @contextmanager
    def _blaming(self, doing: str, *, sample_key: str | None = None) -> Iterator[None]:
        """Turn what the task's code raises into an error that names the sample and the line."""
        try:
            yield
        except GPTBatchError:
            raise
        except Exception as error:
            location = _location(error, of=type(self._task))
            sample = f" for sample {sample_key!r}" if sample_key is not None else ""
            raise TaskCodeError(
                f"{doing} of {type(self._task).__name__} raised {type(error).__name__}{sample} at {location}: {error}. "
                "Nothing of this step was recorded, no paid answer is lost: correct the code and run the same command again.",
                sample_key=sample_key,
                location=location,
            ) from error


class _Chunk:
    """What happens to the samples of one chunk of answers."""

    def __init__(self, codec: StateCodec, stored: Mapping[int, str | None]) -> None:
        self.codec = codec
        self._stored = stored
        self._samples: dict[int, Sample] = {}
        self._texts: dict[int, str | None] = {}
        self._ended: list[Ended] = []
        self._rows: list[tuple[int, int, str]] = []
        self._asked: list[GPTRequest] = []

    def sample(self, answer: ToHand) -> tuple[Sample, str | None]:
        """(the sample of *answer*, the text of its state now); the same sample for all its answers in the chunk."""
        number = answer.sample_id
        if number not in self._samples:
            self._texts[number] = self._stored.get(number)
            self._samples[number] = Sample(answer.key.sample_key, self.codec.load(self._texts[number]))
        return self._samples[number], self._texts[number]

    def take(self, answer: ToHand, ended: Ended, *, rows: Sequence[str], asked: Sequence[GPTRequest]) -> None:
        """Collect what one answer led to."""
        self._ended.append(ended)
        self._rows += ((answer.sample_id, answer.request_id, row) for row in rows)
        self._asked += asked

    def note_state(self, answer: ToHand, sample: Sample) -> None:
        """The state of the sample after one of its answers."""
        text = self.codec.dump(sample.state)
        untouched = self._texts[answer.sample_id] is None and text == self.codec.dump(self.codec.load(None))
        self._texts[answer.sample_id] = None if untouched else text

    def handed(self) -> Handed:
        changed = {number: text for number, text in self._texts.items() if text != self._stored.get(number)}
        return Handed(ended=self._ended, states=changed, rows=self._rows, asked=self._asked)


def _location(error: Exception, *, of: type) -> str:
    """file:line of the task's code where *error* came from."""
    frames = traceback.extract_tb(error.__traceback__)
    try:
        own = inspect.getfile(of)
    except (TypeError, OSError):
        own = ""
    mine = [frame for frame in frames if frame.filename == own] or frames[-1:]
    return f"{mine[-1].filename}:{mine[-1].lineno}" if mine else "an unknown place"
