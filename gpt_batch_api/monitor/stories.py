"""The story of a request, in lines that a person can read, and as a document that a script can.

No word is left out; what nobody can read (pictures, files, vectors) is shown as its size, as in `exchange`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from gpt_batch_api.domain.outcome import Outcome
from gpt_batch_api.domain.states import FINAL_REQUEST_STATES
from gpt_batch_api.domain.words import count, moment
from gpt_batch_api.endpoints.base import raw_body
from gpt_batch_api.monitor.exchange import answer_text, request_text, without_bytes
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.store.stories import RequestFacts, Story, Try


def facts_line(facts: RequestFacts) -> str:
    """One request in one line."""
    reason = f" ({facts.reason})" if facts.reason else ""
    batch = f", in batch {facts.batch_id}" if facts.batch_id is not None else ""
    return (
        f"{facts.key}  {facts.state}{reason}{batch}, {count(facts.tries, 'answer')}, {dollars(facts.cost_pico)}, "
        f"{facts.model}"
    )


def facts_document(facts: RequestFacts) -> dict[str, Any]:
    """The same for scripts. Money in whole picodollars."""
    return {
        "sample": facts.key.sample_key,
        "purpose": facts.key.purpose,
        "number": facts.key.number,
        "state": str(facts.state),
        "reason": facts.reason,
        "endpoint": facts.endpoint,
        "model": facts.model,
        "follow_up": facts.asked_by_task,
        "attempt": facts.attempt,
        "answers": facts.tries,
        "batch": facts.batch_id,
        "input_tokens": facts.input_tokens,
        "max_output_tokens": facts.max_output_tokens,
        "cost_pico": facts.cost_pico,
    }


def story_text(story: Story, *, colour: bool) -> str:
    """The whole story for people: what was asked, each answer and what became of it, and the sample."""
    return "\n".join(_parts(story, colour))


def story_document(story: Story) -> dict[str, Any]:
    """The same for scripts."""
    return {
        **facts_document(story.facts),
        "meta": story.meta,
        "payload": without_bytes(json.loads(story.payload)),
        "tries": [_try_document(answer) for answer in story.tries],
        "sample_status": story.sample_status,
        "sample_state": None if story.sample_state is None else json.loads(story.sample_state),
        "sample_rows": [json.loads(row) for row in story.rows],
    }


def _parts(story: Story, colour: bool) -> Iterator[str]:
    facts = story.facts
    yield request_text(str(facts.key), json.loads(story.payload), endpoint=facts.endpoint, colour=colour)
    if story.meta is not None:
        yield f"meta: {json.dumps(story.meta, ensure_ascii=False)}"
    for answer in story.tries:
        yield answer_text(
            f"{facts.key}, answer {answer.number}",
            raw_body(answer.raw) or None,
            endpoint=facts.endpoint,
            outcome=answer.outcome,
            usage=answer.usage,
            cost_pico=answer.cost_pico,
            took_s=None,
            colour=colour,
        )
        yield f"attempt {answer.attempt}, {_road(answer)}, {moment(answer.received_at)}"
        yield f"task: {_verdict(answer, story)}"
    yield facts_line(facts)
    if story.batch is not None:
        number, state, remote_id = story.batch
        yield f"waits for batch {number}, which is {state}" + (f" as {remote_id}" if remote_id else "")
    yield f"sample {facts.key.sample_key!r}: {story.sample_status}, {count(len(story.rows), 'output row')}"
    if story.sample_state is not None:
        yield f"  state {story.sample_state}"
    for row in story.rows:
        yield f"  row   {row}"


def _road(answer: Try) -> str:
    if answer.batch_id is not None:
        return f"batch {answer.batch_id}" + (f" ({answer.remote_id})" if answer.remote_id else "")
    return (
        f"direct call, group {answer.group_id}" if answer.road == "direct" else "copy of an identical request's answer"
    )


def _verdict(answer: Try, story: Story) -> str:
    """What the task made of an answer, or why it has not seen it."""
    if answer.shown is not None:
        return _words(answer.shown)
    if answer.waits:
        return "has not seen it yet"
    if answer.number == story.facts.tries and story.facts.state in FINAL_REQUEST_STATES:
        return "does not ask for it any more (kept for a later reprocess)"
    return "never sees it"


def _words(outcome: Outcome) -> str:
    reason = "" if outcome.reason in ("", "ok") else f": {outcome.reason}"
    return f"{outcome.verdict}{reason}" + (f" ({outcome.message})" if outcome.message else "")


def _try_document(answer: Try) -> dict[str, Any]:
    return {
        "answer": answer.number,
        "attempt": answer.attempt,
        "road": answer.road,
        "batch": answer.batch_id,
        "remote_id": answer.remote_id,
        "direct_group": answer.group_id,
        "received_at": answer.received_at,
        "status_code": answer.status_code,
        "verdict": _outcome_document(answer.outcome),
        "task_verdict": None if answer.shown is None else _outcome_document(answer.shown),
        "waits_for_task": answer.waits,
        "usage": asdict(answer.usage),
        "cost_pico": answer.cost_pico,
        "response": None if answer.raw is None else without_bytes(json.loads(answer.raw)),
    }


def _outcome_document(outcome: Outcome) -> dict[str, str]:
    return {"verdict": str(outcome.verdict), "reason": outcome.reason, "message": outcome.message}
