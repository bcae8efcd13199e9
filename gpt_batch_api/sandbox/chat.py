"""`/v1/chat/completions`: judge, count and answer a body."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gpt_batch_api.sandbox import counting, errors
from gpt_batch_api.sandbox.billing import Usage
from gpt_batch_api.sandbox.chance import name
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
from gpt_batch_api.sandbox.models import is_harmony, is_known
from gpt_batch_api.sandbox.speech import Speech, Wish, arguments_for, speak
from gpt_batch_api.sandbox.words import Question

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_PARAMETERS = frozenset(
    (
        "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages "
        "metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key "
        "prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed "
        "service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity "
        "web_search_options"
    ).split()
)
_JSON_NEEDED = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."


class Chat:
    """The Chat Completions endpoint."""

    path = "/v1/chat/completions"
    operation = "chat.create"

    def missing_in_batch(self, body: Body) -> tuple[str, str] | None:
        return None if body.get("messages") else ("Messages", "body.messages")

    def check(self, body: Body, *, models: Collection[str]) -> None:
        model = check_model(body)
        check_names(body, _PARAMETERS)
        _check_messages(body.get("messages"))
        if not is_known(model, models):
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise ApiError(404, message, code="model_not_found")
        check_not_streamed(body)
        _check_numbers(body, model)
        layout = _layout(body)
        if layout.as_json and layout.schema is None:
            check_mentions_json(body, part="messages", message=_JSON_NEEDED)
        for index, tool in enumerate(body.get("tools") or ()):
            _check_tool(tool, param=f"tools[{index}]")

    def count_input(self, body: Body) -> int:
        return counting.count_chat(body)

    def overflow(self, tokens: int, limit: int) -> ApiError:
        message = (
            f"This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} "
            "tokens. Please reduce the length of the messages."
        )
        return ApiError(400, message, param="messages", code="context_length_exceeded")

    def answer(self, asked: Asked) -> Answered:
        body = asked.body
        choices, speeches = [], []
        for index in range(body.get("n") or 1):
            choice, speech = _choice(asked, index)
            choices.append(choice)
            speeches.append(speech)
        usage = Usage(
            input=asked.input_tokens,
            output=sum(speech.tokens for speech in speeches),
            cached=asked.cached_tokens,
            cache_write=asked.cache_write_tokens,
            reasoning=sum(speech.reasoning_tokens for speech in speeches),
        )
        document = {
            "id": f"chatcmpl-{name(29, 'chat', asked.asker.seed, asked.asker.body, asked.asker.who)}",
            "object": "chat.completion",
            "created": int(asked.at),
            "model": asked.model,
            "choices": choices,
            "usage": _usage_document(usage),
            "service_tier": tier(body),
            "system_fingerprint": None,
        }
        return Answered(document, usage)


def tier(body: Mapping[str, Any]) -> str:
    """The service tier that an answer names."""
    asked = body.get("service_tier")
    return asked if asked in ("flex", "priority") else "default"


def _check_messages(messages: Any) -> None:
    if messages is None:
        raise errors.missing_parameter("messages")
    if not isinstance(messages, list):
        raise errors.wrong_type("messages", expected="an array of objects", value=messages)
    if not messages:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise ApiError(400, message, param="messages", code="empty_array")
    for index, message in enumerate(messages):
        _check_message(message, param=f"messages[{index}]")


def _check_message(message: Any, *, param: str) -> None:
    if not isinstance(message, dict):
        raise errors.wrong_type(param, expected="an object", value=message)
    role, content = message.get("role"), message.get("content")
    if role is None:
        raise errors.missing_parameter(f"{param}.role")
    if role not in _ROLES:
        raise errors.wrong_value(f"{param}.role", value=role, allowed=_ROLES)
    if content is None:
        if role == "assistant":
            return
        raise errors.wrong_type(f"{param}.content", expected="a string", value=None)
    if not isinstance(content, str | list):
        raise errors.wrong_type(f"{param}.content", expected="a string or an array of objects", value=content)
    for index, part in enumerate(content if isinstance(content, list) else ()):
        _check_part(part, param=f"{param}.content[{index}]")


def _check_part(part: Any, *, param: str) -> None:
    if not isinstance(part, dict):
        raise errors.wrong_type(param, expected="an object", value=part)
    if part.get("type") is None:
        raise errors.missing_parameter(f"{param}.type")
    if part["type"] == "text" and not isinstance(part.get("text"), str):
        raise errors.missing_parameter(f"{param}.text")
    if part["type"] == "image_url":
        picture = part.get("image_url")
        url = picture.get("url") if isinstance(picture, dict) else None
        if not isinstance(url, str):
            raise errors.wrong_type(f"{param}.image_url.url", expected="a base64-encoded data URL", value=url)
        if not url.startswith(("data:image/", "http://", "https://")):
            message = f"Failed to download image from {url[:80]}. Image URL is invalid."
            raise ApiError(400, message, code="invalid_image_url")


def _check_numbers(body: Body, model: str) -> None:
    check_number(body, "temperature", least=0, most=2)
    check_number(body, "top_p", least=0, most=1)
    check_number(body, "frequency_penalty", least=-2, most=2)
    check_number(body, "presence_penalty", least=-2, most=2)
    check_number(body, "n", least=1, most=128, whole=True)
    check_number(body, "top_logprobs", least=0, most=20, whole=True)
    check_number(body, "max_completion_tokens", least=1, whole=True)
    check_number(body, "max_tokens", least=1, whole=True)
    if body.get("max_tokens") is not None and is_harmony(model):
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        raise ApiError(400, message, param="max_tokens", code="unsupported_parameter")


def _check_tool(tool: Any, *, param: str) -> None:
    if not isinstance(tool, dict) or tool.get("type") is None:
        raise errors.missing_parameter(f"{param}.type")
    if tool["type"] == "function":
        check_function(tool.get("function"), param=f"{param}.function")


def _layout(body: Body) -> Layout:
    return read_layout(
        body.get("response_format"), param="response_format", inner="json_schema", label="response_format"
    )


def _choice(asked: Asked, index: int) -> tuple[dict[str, Any], Speech]:
    body = asked.body
    layout = _layout(body)
    wish = Wish(
        question=Question(_last_user_text(body["messages"])),
        schema=layout.schema,
        as_json=layout.as_json,
        maximum=body.get("max_completion_tokens") or body.get("max_tokens"),
        effort=body.get("reasoning_effort"),
    )
    function = None if asked.spoilt.calls_nothing else _function_to_call(asked, index)
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    if function is not None:
        arguments = arguments_for(asked, Wish(question=wish.question, schema=function.get("parameters")), index)
        call_id = f"call_{name(24, 'call', asked.asker.body, asked.asker.who, index)}"
        call = {"name": function["name"], "arguments": arguments}
        message["tool_calls"] = [{"id": call_id, "type": "function", "function": call}]
        tokens = counting.count_text(arguments, asked.model) + counting.count_text(function["name"], asked.model)
        speech, finish = Speech(arguments, None, False, tokens, 0), "tool_calls"
    else:
        speech = speak(asked, wish, index)
        message["content"], message["refusal"] = speech.text, speech.refusal
        finish = "content_filter" if speech.filtered else "length" if speech.cut else "stop"
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}, speech


def _function_to_call(asked: Asked, index: int) -> dict[str, Any] | None:
    """The function that the answer calls: the forced one, any if one is required, sometimes one otherwise."""
    body = asked.body
    tools: list[dict[str, Any]] = [
        tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"
    ]
    choice = body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        forced = (choice.get("function") or {}).get("name")
        return next((tool for tool in tools if tool["name"] == forced), tools[0])
    answers_tool = body["messages"][-1].get("role") in ("tool", "function")
    if choice == "required" or (not answers_tool and asked.asker.draw("call", index) < 0.5):
        return asked.asker.pick(tools, "function", index)
    return None


def _last_user_text(messages: list[dict[str, Any]]) -> str:
    last = next((message for message in reversed(messages) if message["role"] == "user"), messages[-1])
    return text_of(last.get("content"))


def text_of(content: Any) -> str:
    """The text in a message's content, whatever its form."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _usage_document(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_write,
            "audio_tokens": 0,
            "text_tokens": usage.input,
            "image_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "text_tokens": usage.output - usage.reasoning,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
