"""Chat completions: what an answer looks like, what is refused, what is counted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import ANSWER_SCHEMA, KEY, PRICES, Rig, body, request, structured


def ask(rig: Rig, text: str = 'Say "hello" to the world.', **more: Any) -> ChatCompletion:
    answer: ChatCompletion = rig.client.chat.completions.create(**body(text, **more))
    return answer


def said(answer: ChatCompletion) -> str:
    content = answer.choices[0].message.content
    assert content is not None
    return content


def refused(rig: Rig, wanted: Any, *, status: int = 400) -> dict[str, Any]:
    reply = rig.http.post("/v1/chat/completions", json=wanted, headers={"authorization": f"Bearer {KEY}"})
    assert reply.status_code == status, reply.text
    error: dict[str, Any] = reply.json()["error"]
    return error


def character_prompt(character: str) -> str:
    return f'Describe this. Character: "{character}" (U+{ord(character):04X}), please.'


def test_an_answer_has_the_form_of_the_api(rig: Rig) -> None:
    """With all details of usage."""
    answer = ask(rig, "Hello")
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model, answer.service_tier) == ("chat.completion", "gpt-4o-mini", "default")
    assert answer.created == int(rig.clock.now())
    [choice] = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.refusal, choice.message.annotations) == ("assistant", None, [])
    assert answer.usage is not None
    used = answer.usage.model_dump()
    output = used["completion_tokens"]
    assert used == {
        "prompt_tokens": 8,
        "completion_tokens": output,
        "total_tokens": 8 + output,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "audio_tokens": 0,
            "text_tokens": 8,
            "image_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "text_tokens": output,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def test_the_asynchronous_client_works_too(rig: Rig) -> None:
    """Files, batches and answers, with `AsyncOpenAI`."""

    async def job() -> None:
        transport = openai.DefaultAsyncHttpxClient(verify=False)
        async with openai.AsyncOpenAI(base_url=rig.url, api_key=KEY, http_client=transport) as client:
            answers = await asyncio.gather(
                *(client.chat.completions.create(**body(f"Number {number}")) for number in range(20))
            )
            assert len({answer.id for answer in answers}) == 20
            content = json.dumps(request("a")).encode()
            uploaded = await client.files.create(file=("in.jsonl", content), purpose="batch")
            batch = await client.batches.create(
                input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            await asyncio.to_thread(rig.advance, 60)
            batch = await client.batches.retrieve(batch.id)
            assert batch.output_file_id is not None
            assert (await client.files.content(batch.output_file_id)).content
            assert [listed.id async for listed in client.batches.list()] == [batch.id]

    asyncio.run(job())


@pytest.mark.parametrize("character", ["é", "ƒ", '"', " ", "\\", "{", "1", "Ω", "'", "я", "\u2028"])
def test_an_answer_about_a_quoted_character_satisfies_the_demo(rig: Rig, character: str) -> None:
    """The character exactly, a listed type, a description, and a sentence that contains it at least twice."""
    answer = ask(rig, character_prompt(character), response_format=structured(), max_completion_tokens=128)
    assert answer.choices[0].finish_reason == "stop"
    record = json.loads(said(answer))
    assert list(record) == list(ANSWER_SCHEMA["properties"])
    assert record["character"] == character
    assert record["type"] in ANSWER_SCHEMA["properties"]["type"]["enum"]
    assert record["description"]
    assert record["sample_sentence"].count(character) >= 2


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5-nano"])
@pytest.mark.parametrize(
    "quoted",
    [
        "I can't believe that you did this to me after all these years together!",
        "五十音図の文字" * 20,
        "🙂" * 40,
        "x" * 500,
    ],
)
def test_a_document_of_four_fields_fits_into_128_tokens(rig: Rig, model: str, quoted: str) -> None:
    """Whatever is quoted, and however much the model would like to think."""
    more = {"response_format": structured(), "max_completion_tokens": 128, "model": model}
    answer = ask(rig, f'Classify "{quoted}" now.', **more)
    assert answer.choices[0].finish_reason == "stop"
    assert json.loads(said(answer))["character"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 128


def test_an_answer_is_a_function_of_the_body_and_how_often_it_was_asked(make_rig: MakeRig) -> None:
    """The same question in the same turn has the same answer in another sandbox; in another turn another."""
    rig = make_rig(answers={"answer_tokens": 30})
    once, twice = ask(rig), ask(rig)
    assert said(once) != said(twice)
    assert once.id != twice.id


def test_sandboxes_of_a_seed_agree_and_others_differ(make_rig: MakeRig) -> None:
    """Replacing the plan's seed changes the answers; asking as often with the old seed repeats them."""
    rig = make_rig(seed=1)
    lines = [request(f"r{number}") for number in range(5)]
    contents = []
    for seed in (1, 2, 1):
        rig.plan(seed=seed)
        batch = rig.finish(rig.submit(lines))
        found = {line["custom_id"]: line["response"]["body"]["choices"] for line in rig.lines(batch.output_file_id)}
        contents.append(found)
    assert contents[0] == contents[2]
    assert contents[0] != contents[1]


def test_opinions_agree_mostly_but_not_always(rig: Rig) -> None:
    """Asked again and again, one value of an enum has a clear majority, and others occur."""
    asked = [ask(rig, 'What is "happy"?', response_format=structured()) for _ in range(60)]
    opinions = Counter(json.loads(said(answer))["type"] for answer in asked)
    assert opinions.most_common(1)[0][1] > 36
    assert len(opinions) > 1


def test_a_maximum_that_is_too_small_cuts_the_answer_off(rig: Rig) -> None:
    """At exactly so many tokens, with finish_reason length."""
    answer = ask(rig, response_format=structured(), max_completion_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    with pytest.raises(json.JSONDecodeError):
        json.loads(said(answer))


def test_free_texts_have_about_the_planned_length(make_rig: MakeRig) -> None:
    """`answer_tokens` is their mean."""
    rig = make_rig(answers={"answer_tokens": 100})
    lengths = []
    for number in range(30):
        answer = ask(rig, f"Question {number}")
        assert answer.usage is not None
        lengths.append(answer.usage.completion_tokens)
    assert 80 < sum(lengths) / len(lengths) < 120


def test_reasoning_models_think_and_say_so(rig: Rig) -> None:
    """Reasoning tokens are part of the completion tokens; no effort, no thought."""
    answers = [ask(rig, f"Question {number}", model="gpt-5-nano") for number in range(8)]
    thoughts = []
    for answer in answers:
        assert answer.usage is not None
        assert answer.usage.completion_tokens_details is not None
        thought = answer.usage.completion_tokens_details.reasoning_tokens
        assert thought is not None
        assert thought < answer.usage.completion_tokens
        thoughts.append(thought)
    assert max(thoughts) > 0
    quick = ask(rig, model="gpt-5-nano", reasoning_effort="minimal")
    assert quick.usage is not None
    assert quick.usage.completion_tokens_details is not None
    assert quick.usage.completion_tokens_details.reasoning_tokens == 0


def test_several_choices_differ_and_are_all_counted(rig: Rig) -> None:
    """`n` answers; completion tokens are their sum."""
    one, several = ask(rig), ask(rig, n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in several.choices}) == 3
    assert one.usage is not None
    assert several.usage is not None
    assert several.usage.prompt_tokens == one.usage.prompt_tokens
    assert several.usage.completion_tokens > one.usage.completion_tokens


def function(name: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "strict": True, "parameters": parameters}}


def test_a_forced_function_is_called_with_valid_arguments(rig: Rig) -> None:
    """Content is null, arguments are a JSON string."""
    choice = {"type": "function", "function": {"name": "weather"}}
    answer = ask(rig, 'Weather in "Rome"?', tools=[function("time"), function("weather")], tool_choice=choice)
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    [call] = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] == "Rome"
    assert 1 <= arguments["days"] <= 7


def test_a_required_tool_is_called_and_none_is_not(rig: Rig) -> None:
    """`required` calls one, `none` never."""
    tools = [function("weather")]
    assert ask(rig, tools=tools, tool_choice="required").choices[0].message.tool_calls
    for number in range(5):
        assert ask(rig, f"Question {number}", tools=tools, tool_choice="none").choices[0].message.content


def test_json_mode_answers_with_json(rig: Rig) -> None:
    """If the messages speak of JSON, as the API demands."""
    answer = ask(rig, "Answer in JSON.", response_format={"type": "json_object"})
    assert isinstance(json.loads(said(answer)), dict)
    error = refused(rig, body("Answer.", response_format={"type": "json_object"}))
    assert "must contain the word 'json'" in error["message"]


def test_refusals_come_at_the_planned_rate(make_rig: MakeRig) -> None:
    """A refusal has a text of its own, no content, and stops normally."""
    rig = make_rig(answers={"refusal_rate": 1})
    message = ask(rig, response_format=structured()).choices[0].message
    assert message.content is None
    assert message.refusal


def test_broken_json_comes_at_the_planned_rate(make_rig: MakeRig) -> None:
    """A structured answer that ends in the middle although it says stop."""
    rig = make_rig(answers={"broken_json_rate": 1})
    answer = ask(rig, response_format=structured())
    assert answer.choices[0].finish_reason == "stop"
    with pytest.raises(json.JSONDecodeError):
        json.loads(said(answer))


def test_a_reasoning_model_can_think_until_nothing_is_left(make_rig: MakeRig) -> None:
    """Empty content, finish_reason length, all of the maximum charged."""
    rig = make_rig(answers={"length_rate": 1})
    answer = ask(rig, model="gpt-5-nano", max_completion_tokens=300)
    assert (answer.choices[0].finish_reason, answer.choices[0].message.content) == ("length", "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 300


@pytest.mark.parametrize("structure", [None, structured()])
@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5-nano"])
def test_answers_can_always_use_the_maximum(make_rig: MakeRig, model: str, structure: Any) -> None:
    """For tests of the worst case: exactly the maximum is used, and documents are still whole."""
    rig = make_rig(answers={"always_maximum": True})
    more = {} if structure is None else {"response_format": structure}
    answer = ask(rig, model=model, max_completion_tokens=200, **more)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 200
    assert answer.choices[0].finish_reason == "stop"
    if structure is not None:
        json.loads(said(answer))


def test_long_prompts_can_come_from_the_cache(make_rig: MakeRig) -> None:
    """In steps of 128 tokens, from 1,024 on; cached tokens are part of the prompt's."""
    rig = make_rig(answers={"cache_rate": 1})
    long, short = ask(rig, "word " * 1500), ask(rig, "word " * 900)
    cached = []
    for answer in (long, short):
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        cached.append(answer.usage.prompt_tokens_details.cached_tokens)
    assert cached == [1408, 0]


def test_cache_writes_are_reported_by_models_that_charge_for_them(make_rig: MakeRig) -> None:
    """By others not."""
    rig = make_rig(answers={"cache_write_rate": 1})
    written = []
    for model in ("gpt-6-luna", "gpt-4o-mini"):
        answer = ask(rig, "word " * 1500, model=model)
        assert answer.usage is not None
        written.append(answer.usage.model_dump()["prompt_tokens_details"]["cache_write_tokens"])
    assert written == [1408, 0]


def test_an_unknown_model_is_not_found(rig: Rig) -> None:
    """As the API says it."""
    assert refused(rig, body(model="gpt-none"), status=404) == {
        "message": "The model `gpt-none` does not exist or you do not have access to it.",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }


def test_a_plan_can_add_models(make_rig: MakeRig) -> None:
    """They cost nothing."""
    rig = make_rig(extra_models=["my-model"])
    assert ask(rig, model="my-model").model == "my-model"
    assert rig.ledger()["total"]["cost_pico"] == 0


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": ...}, None, None),
        ({"messages": ...}, "missing_required_parameter", "messages"),
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, *2 * ("messages[0].content[0].type",)),
        ({"temperature": 2.5}, "decimal_above_max_value", "temperature"),
        ({"temperature": -1}, "integer_below_min_value", "temperature"),
        ({"top_logprobs": 21}, "integer_above_max_value", "top_logprobs"),
        ({"max_completion_tokens": 0}, "integer_below_min_value", "max_completion_tokens"),
        ({"max_completion_tokens": "5"}, "invalid_type", "max_completion_tokens"),
        ({"model": "gpt-5-nano", "max_tokens": 5}, "unsupported_parameter", "max_tokens"),
        ({"surprise": 1}, "unknown_parameter", "surprise"),
        ({"stream": True}, "unsupported_value", "stream"),
        ({"tools": [{}]}, "missing_required_parameter", "tools[0].type"),
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        ({"response_format": structured(name="a b")}, "invalid_value", "response_format.json_schema.name"),
    ],
)
def test_a_wrong_body_is_refused(rig: Rig, change: dict[str, Any], code: str | None, param: str | None) -> None:
    """With the place and the kind of the mistake; nothing is charged."""
    wanted = {key: value for key, value in {**body(), **change}.items() if value is not ...}
    error = refused(rig, wanted)
    if code == param and code is not None:
        code = "missing_required_parameter"
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert rig.ledger()["total"]["requests"] == 0


def test_a_body_that_is_not_json_is_refused(rig: Rig) -> None:
    """With the API's hint."""
    reply = rig.http.post("/v1/chat/completions", content=b"{", headers={"authorization": f"Bearer {KEY}"})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith("We could not parse the JSON body of your request.")


def test_pictures_are_accepted_and_counted_roughly(rig: Rig) -> None:
    """A picture costs some hundred tokens, with low detail fewer; what is no URL is refused."""

    def with_picture(detail: str, url: str = "data:image/png;base64,AAAA") -> dict[str, Any]:
        picture = {"type": "image_url", "image_url": {"url": url, "detail": detail}}
        return body(messages=[{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}])

    tokens = []
    for detail in ("high", "low"):
        answer = rig.client.chat.completions.create(**with_picture(detail))
        assert answer.usage is not None
        tokens.append(answer.usage.prompt_tokens)
    assert tokens[0] > tokens[1] > 80
    assert refused(rig, with_picture("high", url="picture.png"))["code"] == "invalid_image_url"


@pytest.mark.parametrize(("spare", "fits"), [(1, True), (0, True), (-1, False)])
def test_the_context_window_is_exact(make_rig: MakeRig, spare: int, fits: bool) -> None:
    """A prompt of just the limit passes, one token more does not."""
    rig = make_rig(limits={"context_tokens": 8 + spare})
    if fits:
        ask(rig, "Hello")
        return
    assert refused(rig, body("Hello")) == {
        "message": (
            "This model's maximum context length is 7 tokens. However, your messages resulted in 8 tokens. "
            "Please reduce the length of the messages."
        ),
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }


def test_a_bad_schema_fails_each_line_not_the_batch(rig: Rig) -> None:
    """As a 400 in the error file."""
    bad = structured({"type": "object", "oneOf": [], "properties": {}, "additionalProperties": False, "required": []})
    batch = rig.finish(rig.submit([request("good"), request("bad", response_format=bad)]))
    assert batch.status == "completed"
    [line] = rig.lines(batch.error_file_id)
    assert line["response"]["body"]["error"] == {
        "message": "Invalid schema for response_format 'Answer': In context=(), 'oneOf' is not permitted.",
        "type": "invalid_request_error",
        "param": "response_format",
        "code": None,
    }


def test_models_are_listed_and_described(rig: Rig) -> None:
    """The catalogue's, and the embedding models; a snapshot is known with its model."""
    names = [model.id for model in rig.client.models.list()]
    assert set(PRICES) < set(names)
    assert "text-embedding-3-small" in names
    assert rig.client.models.retrieve("gpt-4o-mini-2024-07-18").id == "gpt-4o-mini-2024-07-18"
    with pytest.raises(openai.NotFoundError) as caught:
        rig.client.models.retrieve("gpt-none")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
