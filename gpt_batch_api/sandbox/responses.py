"""`/v1/responses`: judge, count and answer a body. Nothing is stored: a response cannot be fetched or continued."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gpt_batch_api.sandbox import counting, errors
from gpt_batch_api.sandbox.billing import Usage
from gpt_batch_api.sandbox.chance import hexadecimal
from gpt_batch_api.sandbox.chat import text_of, tier
from gpt_batch_api.sandbox.endpoint import (
    Answered,
    Asked,
    Body,
    check_model,
    check_names,
    check_not_streamed,
    check_number,
)
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.formats import Layout, check_function, check_mentions_json, read_layout
from gpt_batch_api.sandbox.models import is_known
from gpt_batch_api.sandbox.speech import Speech, Wish, arguments_for, speak
from gpt_batch_api.sandbox.words import Question

_PARAMETERS = frozenset(
    (
        "access_programs background context_management conversation image include input instructions max_output_tokens "
        "max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key "
        "prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream "
        "stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
    ).split()
)
_LEAST_MAXIMUM = 16
_JSON_NEEDED = (
    "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'."
)


class Responses:
    """The Responses endpoint."""

    path = "/v1/responses"
    operation = "responses.create"

    def missing_in_batch(self, body: Body) -> tuple[str, str] | None:
        return None if body.get("input") or body.get("prompt") else ("Input", "body.input")

    def check(self, body: Body, *, models: Collection[str]) -> None:
        model = check_model(body)
        check_names(body, _PARAMETERS)
        _check_input(body)
        if not is_known(model, models):
            message = f"The requested model '{model}' does not exist."
            raise ApiError(400, message, param="model", code="model_not_found")
        check_not_streamed(body)
        if body.get("background"):
            raise ApiError(400, "The sandbox does not emulate background.", param="background")
        check_number(body, "temperature", least=0, most=2)
        check_number(body, "top_p", least=0, most=1)
        check_number(body, "max_output_tokens", least=_LEAST_MAXIMUM, whole=True)
        layout = _layout(body)
        if layout.as_json and layout.schema is None:
            check_mentions_json(body, part="input", message=_JSON_NEEDED)
        for index, tool in enumerate(body.get("tools") or ()):
            if not isinstance(tool, dict) or tool.get("type") is None:
                raise errors.missing_parameter(f"tools[{index}].type")
            if tool["type"] == "function":
                check_function(tool, param=f"tools[{index}]")

    def count_input(self, body: Body) -> int:
        return counting.count_responses(body)

    def overflow(self, tokens: int, limit: int) -> ApiError:
        message = "Your input exceeds the context window of this model. Please adjust your input and try again."
        return ApiError(400, message, param="input", code="context_length_exceeded")

    def answer(self, asked: Asked) -> Answered:
        identity = (asked.asker.seed, asked.asker.body, asked.asker.who)
        output, speech = _output(asked)
        usage = Usage(
            input=asked.input_tokens,
            output=speech.tokens,
            cached=asked.cached_tokens,
            cache_write=asked.cache_write_tokens,
            reasoning=speech.reasoning_tokens,
        )
        body = asked.body
        document = {
            "id": f"resp_{hexadecimal(48, 'response', *identity)}",
            "object": "response",
            "created_at": int(asked.at),
            "status": "incomplete" if speech.cut else "completed",
            "background": False,
            "error": None,
            "incomplete_details": {"reason": _reason(speech)} if speech.cut else None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "model": asked.model,
            "output": output,
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "reasoning": {"effort": _effort(body), "summary": None},
            "service_tier": tier(body),
            "store": body.get("store", True),
            "temperature": body.get("temperature", 1.0),
            "text": body.get("text") or {"format": {"type": "text"}},
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools") or [],
            "top_p": body.get("top_p", 1.0),
            "truncation": body.get("truncation", "disabled"),
            "usage": _usage_document(usage),
            "user": body.get("user"),
            "metadata": body.get("metadata") or {},
        }
        return Answered(document, usage)


def _check_input(body: Body) -> None:
    given = body.get("input")
    if given is None:
        if body.get("prompt") is None:
            raise errors.missing_parameter("input")
    elif not isinstance(given, str | list):
        raise errors.wrong_type("input", expected="a string or an array of objects", value=given)
    if body.get("previous_response_id") is not None:
        wanted = body["previous_response_id"]
        message = f"Previous response with id '{wanted}' not found."
        raise ApiError(400, message, param="previous_response_id", code="previous_response_not_found")


def _layout(body: Body) -> Layout:
    text = body.get("text")
    layout = text.get("format") if isinstance(text, dict) else None
    return read_layout(layout, param="text.format", inner="", label="response_format")


def _output(asked: Asked) -> tuple[list[dict[str, Any]], Speech]:
    """The mixed items of an answer: reasoning first, then a function call or the message."""
    body = asked.body
    layout = _layout(body)
    wish = Wish(
        question=Question(_last_user_text(body)),
        schema=layout.schema,
        as_json=layout.as_json,
        maximum=body.get("max_output_tokens"),
        effort=_effort(body),
    )
    identity = (asked.asker.seed, asked.asker.body, asked.asker.who)
    function = None if asked.spoilt.calls_nothing else _function_to_call(asked)
    if function is not None:
        call, speech = _call(asked, wish, function)
        return [call], speech
    speech = speak(asked, wish)
    items: list[dict[str, Any]] = []
    if speech.reasoning_tokens:
        items.append({"id": f"rs_{hexadecimal(48, 'thought', *identity)}", "type": "reasoning", "summary": []})
    if speech.text != "":
        part: dict[str, Any] = {"type": "refusal", "refusal": speech.refusal}
        if speech.text is not None:
            part = {"type": "output_text", "annotations": [], "logprobs": [], "text": speech.text}
        status = "incomplete" if speech.cut else "completed"
        message_id = f"msg_{hexadecimal(48, 'message', *identity)}"
        items.append({"id": message_id, "type": "message", "status": status, "role": "assistant", "content": [part]})
    return items, speech


def _call(asked: Asked, wish: Wish, function: dict[str, Any]) -> tuple[dict[str, Any], Speech]:
    arguments = arguments_for(asked, Wish(question=wish.question, schema=function.get("parameters")))
    tokens = counting.count_text(arguments, asked.model) + counting.count_text(function["name"], asked.model)
    key = hexadecimal(48, "call", asked.asker.body, asked.asker.who)
    item = {
        "id": f"fc_{key}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{key[:24]}",
        "name": function["name"],
        "arguments": arguments,
    }
    return item, Speech(arguments, None, False, tokens, 0)


def _function_to_call(asked: Asked) -> dict[str, Any] | None:
    body = asked.body
    tools: list[dict[str, Any]] = [tool for tool in body.get("tools") or () if tool.get("type") == "function"]
    choice = body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        return next((tool for tool in tools if tool["name"] == choice.get("name")), tools[0])
    last = body["input"][-1] if isinstance(body.get("input"), list) and body["input"] else {}
    answers_tool = isinstance(last, dict) and last.get("type") == "function_call_output"
    if choice == "required" or (not answers_tool and asked.asker.draw("call") < 0.5):
        return asked.asker.pick(tools, "function")
    return None


def _last_user_text(body: Body) -> str:
    given = body.get("input")
    if isinstance(given, str):
        return given
    items = [item for item in given or () if isinstance(item, dict)]
    last = next((item for item in reversed(items) if item.get("role") == "user"), None)
    return text_of(last.get("content")) if last else ""


def _reason(speech: Speech) -> str:
    return "content_filter" if speech.filtered else "max_output_tokens"


def _effort(body: Body) -> str | None:
    reasoning = body.get("reasoning")
    return reasoning.get("effort") if isinstance(reasoning, dict) else None


def _usage_document(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
