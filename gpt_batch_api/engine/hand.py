"""Let the task's code see booked answers, a chunk at a time.

Each chunk is one transaction: states of samples, output rows, follow-up requests and the endings of its requests are
recorded together. If the task's code raises, nothing of the chunk is recorded, and a corrected task continues there.
"""

from __future__ import annotations

import json

from gpt_batch_api.domain.events import AnswersHanded, DirectExchange, FiguresLogged, Problem
from gpt_batch_api.domain.hooks import Ended, Handed, ToHand
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.endpoints.base import raw_body
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.intake import Intake, store
from gpt_batch_api.engine.weigh import weigh
from gpt_batch_api.store import replay, requests, responses, samples

CHUNK = 500


def hand(context: Context, intake: Intake) -> None:
    """Hand over one chunk of answers."""
    answers = responses.to_hand(context.db, limit=CHUNK, max_retries=context.retrying.max_retries)
    states = samples.load_states(context.db, {answer.sample_id for answer in answers})
    record(context, intake, answers, context.hooks.hand(answers, states))


def record(context: Context, intake: Intake, answers: list[ToHand], handed: Handed) -> None:
    """Record what the task's code made of *answers*, all of it or nothing."""
    asked = intake.prepare_asked(handed.asked)
    with context.transaction() as tx:
        responses.finish(tx, handed.ended, keep_raw=context.settings.extra.keep_responses)
        samples.save_states(tx, handed.states)
        samples.add_rows(tx, handed.rows)
        store(context, tx, asked, asked_by_task=True)
        if handed.asked:
            replay.show_asked(tx, [request.key for request in handed.asked])
        _tell_problems(context, answers, handed)
        context.tell(_summary(handed, asked=len(asked)))
        if handed.figures:
            context.tell(FiguresLogged(figures=handed.figures))
        weigh(context, tx)
    if asked:
        intake.note_asked()


def _summary(handed: Handed, *, asked: int) -> AnswersHanded:
    ends = [ended.state for ended in handed.ended]
    return AnswersHanded(
        succeeded=ends.count(RequestState.SUCCEEDED),
        failed=ends.count(RequestState.FAILED),
        retried=ends.count(RequestState.QUEUED),
        rows=len(handed.rows),
        asked=asked,
    )


def _tell_problems(context: Context, answers: list[ToHand], handed: Handed) -> None:
    """Tell of what the parser or the task's code found; what the server's answer already told is not repeated."""
    for answer, ended in zip(answers, handed.ended, strict=True):
        if ended.outcome.ok or ended.outcome == answer.outcome:
            continue
        _show(context, answer, ended)
        severity = "error" if ended.state is RequestState.FAILED else "warning"
        context.tell(
            Problem(
                severity=severity,
                batch=None,
                request=str(answer.key),
                reason=ended.outcome.reason,
                message=ended.outcome.message,
            )
        )


def _show(context: Context, answer: ToHand, ended: Ended) -> None:
    """An answer to a direct call that looked good when it came is shown now, if the user wants to see bad ones."""
    wanted = context.settings.requester.direct_verbose
    if not answer.direct or wanted not in ("warn", "error"):
        return
    if wanted == "error" and ended.state is not RequestState.FAILED:
        return
    context.tell(
        DirectExchange(
            request=str(answer.key),
            endpoint=answer.endpoint,
            body=requests.body(context.db, answer.request_id),
            outcome=ended.outcome,
            usage=answer.usage,
            cost_pico=answer.cost_pico,
            reply=None if answer.raw is None else json.dumps(raw_body(answer.raw)).encode(),
        )
    )
