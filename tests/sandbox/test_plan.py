"""Plan files: every key is read, every mistake is one clear line, the packaged plans work."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import openai
import pytest

from gpt_batch_api.sandbox.faults import matching_calls
from gpt_batch_api.sandbox.operations import OPERATIONS
from gpt_batch_api.sandbox.plan import Plan
from gpt_batch_api.sandbox.plan_file import (
    PlanError,
    dump_plan,
    load_plan,
    parse_plan,
    plan_digest,
    plan_names,
    with_overrides,
)
from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import Rig, requests

WHOLE = """
seed: 7
timing: {validating_s: 1, requests_per_s: 2, minimum_s: 3, maximum_s: 4, finalizing_s: 5, cancelling_s: 6,
         completion_window_s: 7, time_scale: 8}
limits: {batch_requests: 1, batch_bytes: 2, upload_bytes: 3, batches_per_hour: 4, context_tokens: 5}
enqueued_token_limit: {gpt-4o-mini: 90000}
list_lag_s: 30
retrieve_lag_s: {files: 1}
answers: {answer_tokens: 9, refusal_rate: 0.1, length_rate: 0.2, broken_json_rate: 0.3, cache_rate: 0.4,
          cache_write_rate: 0.5, always_maximum: true}
rate_limits: {requests_per_minute: 1, tokens_per_minute: 2, retry_after: false}
latency_s: 0.5
latency_spread_s: 0.25
flex_unavailable_rate: 0.6
billing_error: insufficient_quota
unknown_file: fail
extra_models: [my-model]
faults:
  - {on: files.*, fault: status, status: 503, code: c, type: t, message: m, retry_after: 2, rate: 0.1, nth: [1, 3], times: 2}
  - {on: files.content, fault: cut, after_bytes: 10, nth: 4}
  - {on: chat.create, fault: stall, seconds: 3, match: text}
lines:
  - {fault: missing, rate: 0.5, charged: false}
batches:
  - {fault: expire, after_fraction: 0.25, times: 1}
"""


def mistake(document: Any) -> str:
    with pytest.raises(PlanError) as caught:
        parse_plan(document, source="my.yaml")
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_every_key_can_be_set(tmp_path: Path) -> None:
    """A file with all of them differs from the defaults everywhere; `on` is a key, not a truth value."""
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE)
    plan, calm = load_plan(path), Plan()
    for field in fields(Plan):
        assert getattr(plan, field.name) != getattr(calm, field.name), field.name
    for name in ("timing", "limits", "answers", "rate_limits"):
        for field in fields(getattr(plan, name)):
            assert getattr(getattr(plan, name), field.name) != getattr(getattr(calm, name), field.name) or (
                name,
                field.name,
            ) in {("timing", "validating_s")}
    assert [rule.on for rule in plan.faults] == ["files.*", "files.content", "chat.create"]
    assert plan.faults[0].nth == (1, 3)
    assert plan.faults[1].nth == (4,)
    assert (plan.list_lag_s.files, plan.list_lag_s.batches) == (30, 30)
    assert (plan.retrieve_lag_s.files, plan.retrieve_lag_s.batches) == (1, 0)
    assert (plan.enqueued_limit("gpt-4o-mini"), plan.enqueued_limit("other")) == (90_000, None)


def test_json_is_read_too_and_a_dumped_plan_is_the_same(tmp_path: Path) -> None:
    """YAML contains JSON; dumping and reading loses nothing."""
    first = tmp_path / "whole.yaml"
    first.write_text(WHOLE)
    plan = load_plan(first)
    second = tmp_path / "whole.json"
    second.write_text(dump_plan(plan))
    assert load_plan(second) == plan
    assert parse_plan(json.loads(json.dumps(asdict(plan)))) == plan
    assert plan_digest(plan) != plan_digest(Plan())


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"sed": 1}, "my.yaml: sed: unknown key; known are seed, timing, limits,"),
        ({"timing": {"validating": 1}}, "my.yaml: timing.validating: unknown key; known are validating_s,"),
        ({"faults": [{"on": "x", "fualt": "cut"}]}, "my.yaml: faults[0].fualt: unknown key; known are "),
        (
            {"faults": [{"on": "x", "fault": "cutt"}]},
            "my.yaml: faults[0].fault: 'cutt' is unknown; known are lose_before,",
        ),
        ({"faults": [{"fault": "cut"}]}, "my.yaml: faults[0]: missing 'on'."),
        (
            {"faults": [{"on": "x", "fault": "cut", "nth": ["a"]}]},
            "my.yaml: faults[0].nth[0]: expected a whole number, got 'a'.",
        ),
        ({"answers": {"refusal_rate": 1.5}}, "my.yaml: answers.refusal_rate: 1.5 is too large; at most 1."),
        ({"lines": [{"fault": "missing", "rate": -0.5}]}, "my.yaml: lines[0].rate: -0.5 is too small; at least 0."),
        ({"timing": {"time_scale": 0}}, "my.yaml: timing.time_scale: 0.0 is too small; at least 1e-09."),
        ({"timing": 5}, "my.yaml: timing: expected a mapping of keys to values, got 5."),
        ({"seed": "one"}, "my.yaml: seed: expected a whole number, got 'one'."),
        ({"seed": float("inf")}, "my.yaml: seed: expected a whole number, got inf."),
        ({"answers": {"always_maximum": 1}}, "my.yaml: answers.always_maximum: expected true or false, got 1."),
        ({"enqueued_token_limit": {"m": "x"}}, "my.yaml: enqueued_token_limit.m: expected a whole number, got 'x'."),
        (["a"], "my.yaml: expected a mapping of keys to values, got ['a']."),
    ],
)
def test_a_mistake_is_one_line_with_its_place(document: Any, text: str) -> None:
    """What, where, and what is possible."""
    assert mistake(document).startswith(text)


def test_a_rule_for_an_unknown_operation_is_a_mistake() -> None:
    """It would never strike."""
    assert mistake({"faults": [{"on": "file.create", "fault": "cut"}]}).startswith(
        "my.yaml: faults[0].on: 'file.create' is no operation; known are files.create,"
    )


def test_a_fault_of_answers_for_an_operation_that_gives_none_is_a_mistake() -> None:
    """It would never strike either."""
    assert mistake({"faults": [{"on": "files.*", "fault": "refusal"}]}) == (
        "my.yaml: faults[0].fault: 'refusal' is a fault of answers, and 'files.*' gives none; use it on chat.create, "
        "responses.create, embeddings.create or direct."
    )
    for place in ("direct", "*", "chat.create"):
        parse_plan({"faults": [{"on": place, "fault": "refusal"}]})


def test_a_file_that_is_no_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    """As is a file that is not there."""
    path = tmp_path / "bad.yaml"
    path.write_text("seed: 1\ntiming: {a: b\n")
    with pytest.raises(PlanError, match=r"^bad\.yaml, line \d+: "):
        load_plan(path)
    with pytest.raises(
        PlanError, match=r"There is no sandbox plan 'nowhere': give a file, or one of calm, rough, storm\."
    ):
        load_plan("nowhere")


def test_seed_and_speed_can_be_overridden() -> None:
    """From the command line."""
    plan = with_overrides(Plan(), seed=5, time_scale=60)
    assert (plan.seed, plan.timing.time_scale) == (5, 60)
    with pytest.raises(PlanError):
        with_overrides(Plan(), time_scale=0)


@pytest.mark.parametrize("name", plan_names())
def test_packaged_plans_are_read_and_their_rules_can_strike(name: str) -> None:
    """Each rule about calls names an operation that exists."""
    plan = load_plan(name)
    struck = {position for operation in OPERATIONS for position in matching_calls(plan, operation, "")}
    assert struck == set(range(len(plan.faults)))


def test_calm_is_the_default() -> None:
    """And has no faults."""
    assert load_plan("calm") == Plan()


def test_a_plan_can_be_replaced_and_read_at_run_time(rig: Rig) -> None:
    """By a document or by a name; a mistake leaves the old one."""
    rig.plan(seed=3)
    assert rig.http.get("/sandbox/plan").json()["seed"] == 3
    assert rig.http.post("/sandbox/plan", json={"sed": 3}).status_code == 400
    assert rig.http.get("/sandbox/plan").json()["seed"] == 3
    assert rig.http.post("/sandbox/plan", json="storm").json() == json.loads(dump_plan(load_plan("storm")))


def patiently(call: Any, *, tries: int = 40) -> Any:
    """What a stubborn client does: try again, whatever happens."""
    for _ in range(tries):
        try:
            return call()
        except (openai.APIError, json.JSONDecodeError):
            continue
        except Exception as error:
            if type(error).__module__.startswith("httpx2"):
                continue
            raise
    raise AssertionError("never worked")


@pytest.mark.parametrize("name", ["rough", "storm"])
def test_a_stubborn_client_gets_through_bad_weather(make_rig: MakeRig, name: str) -> None:
    """Under each packaged plan everything ends, and answers are found in the end."""
    rig = make_rig()
    rig.http.post("/sandbox/plan", json=name).raise_for_status()
    waiting = {request["custom_id"]: request for request in requests(120)}
    for _ in range(12):
        uploaded = patiently(lambda: rig.upload(list(waiting.values())))
        rig.advance(30)
        created = patiently(lambda: rig.create(uploaded.id))  # noqa: B023
        rig.advance(3600)
        batch = patiently(lambda: rig.client.batches.retrieve(created.id))  # noqa: B023
        assert batch.status in ("failed", "completed", "expired")
        for raw in patiently(lambda: rig.raw_lines(batch.output_file_id)):  # noqa: B023
            try:
                waiting.pop(json.loads(raw)["custom_id"], None)
            except json.JSONDecodeError:
                continue
        if not waiting:
            break
    assert not waiting
