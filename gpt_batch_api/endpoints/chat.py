"""Chat completions: `/v1/chat/completions`.

A structured answer counts as success in two steps: here it must be complete JSON; that it fits the task's model is
seen when the model is at hand (`task/results.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_batch_api.domain.errors import PayloadError
from gpt_batch_api.domain.outcome import SUCCESS, Outcome, Usage, Verdict
from gpt_batch_api.domain.request import ResponseSchema
from gpt_batch_api.endpoints import schemas
from gpt_batch_api.endpoints.base import Choice, Reading, Shape, count, printable, read_json, require_count


class ChatCompletions:
    """The endpoint of chat models."""

    path = "/v1/chat/completions"

    def prepare(self, payload: Mapping[str, Any]) -> Shape:
        if not isinstance(payload, Mapping):
            raise PayloadError(f"The payload is {payload!r:.60}, but must be a mapping with 'model' and 'messages'.")
        body = dict(payload)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise PayloadError("The payload names no model: it needs 'model'.")
        messages = body.get("messages")
        if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
            raise PayloadError("The payload has no messages: it needs 'messages', a list with at least one message.")
        if body.get("stream"):
            raise PayloadError("The payload asks for streaming, which batches do not have: leave 'stream' out.")
        body.pop("stream", None)
        schema = self._settle_format(body)
        limits = [require_count(body, name) for name in ("max_completion_tokens", "max_tokens")]
        return Shape(
            body=body,
            model=model,
            max_output_tokens=next((limit for limit in limits if limit is not None), None),
            choices=require_count(body, "n") or 1,
            schema=schema,
        )

    def _settle_format(self, body: dict[str, Any]) -> ResponseSchema | None:
        """Turn a pydantic model into a strict schema; check a schema given as such."""
        wanted = body.get("response_format")
        if wanted is None:
            body.pop("response_format", None)
            return None
        if isinstance(wanted, type):
            schema = schemas.of_model(wanted)
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": schema.name, "strict": True, "schema": json.loads(schema.json)},
            }
            return schema
        if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
            return schemas.of_json_schema(wanted.get("json_schema"))
        if isinstance(wanted, Mapping) and wanted.get("type") in ("text", "json_object"):
            return None
        raise PayloadError(
            f"response_format is {wanted!r:.80}, but must be a pydantic model class or the API's own form."
        )

    def read(self, body: Mapping[str, Any], *, structured: bool) -> Reading:
        return Reading(self._judge(body, structured=structured), self._usage(body))

    def choices(self, body: Mapping[str, Any]) -> tuple[Choice, ...]:
        found = body.get("choices")
        if not isinstance(found, Sequence) or isinstance(found, str):
            return ()
        return tuple(_choice(item) for item in found if isinstance(item, Mapping))

    def _judge(self, body: Mapping[str, Any], *, structured: bool) -> Outcome:
        """The best of all choices decides: rather a complete one than one that was cut off."""
        outcomes = [_judge_choice(choice, structured=structured) for choice in self.choices(body)]
        if not outcomes:
            return Outcome(Verdict.RETRYABLE, "empty_response", "the reply has no choices")
        return max(outcomes, key=lambda outcome: (outcome.ok, outcome == SUCCESS))

    def _usage(self, body: Mapping[str, Any]) -> Usage:
        usage = _mapping(body.get("usage"))
        details_in = _mapping(usage.get("prompt_tokens_details"))
        details_out = _mapping(usage.get("completion_tokens_details"))
        return Usage(
            input_tokens=count(usage.get("prompt_tokens")),
            cached_tokens=count(details_in.get("cached_tokens")),
            cache_write_tokens=count(details_in.get("cache_write_tokens")),
            output_tokens=count(usage.get("completion_tokens")),
            reasoning_tokens=count(details_out.get("reasoning_tokens")),
        )


def _choice(item: Mapping[str, Any]) -> Choice:
    message = _mapping(item.get("message"))
    calls = message.get("tool_calls")
    return Choice(
        text=_text(message.get("content")),
        refusal=_text(message.get("refusal")) or None,
        finish_reason=_text(item.get("finish_reason")) or "",
        tool_calls=tuple(call for call in calls if isinstance(call, dict)) if isinstance(calls, list) else (),
    )


def _text(value: Any) -> str | None:
    return printable(value) if isinstance(value, str) else None


def _judge_choice(choice: Choice, *, structured: bool) -> Outcome:
    if choice.refusal is not None:
        return Outcome(Verdict.RETRYABLE, "refusal", f"the model refused: {choice.refusal:.200}")
    if choice.finish_reason == "content_filter":
        return Outcome(Verdict.RETRYABLE, "content_filter", "the answer was withheld by the content filter")
    if choice.tool_calls:
        return _cut_off("the arguments of a tool call were") if choice.cut_off else SUCCESS
    if not choice.text:
        if choice.cut_off:
            return Outcome(
                Verdict.RETRYABLE,
                "cut_off",
                "all output tokens were used up before the answer began; allow more of them",
            )
        return Outcome(Verdict.RETRYABLE, "empty_response", "the answer is empty")
    if structured and not _is_json(choice.text):
        if choice.cut_off:
            return _cut_off("the answer was")
        return Outcome(Verdict.RETRYABLE, "parse_failure", "the answer is not the JSON that was asked for")
    if choice.cut_off and not structured:
        return Outcome(Verdict.SUCCESS, "cut_off", "the text was cut off at the maximum of output tokens")
    return SUCCESS


def _cut_off(what_was: str) -> Outcome:
    return Outcome(
        Verdict.RETRYABLE, "cut_off", f"{what_was} cut off at the maximum of output tokens; allow more of them"
    )


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    except ValueError:
        return False
    return True


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
