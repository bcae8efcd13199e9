"""`python -m gpt_batch_api.tokens_test`: predictions beside what a server counts."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from gpt_batch_api import tokens_test
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.tokens.images import image_size
from gpt_batch_api.tokens_test import COLORS, Case, Finding, Match, cases, is_good, main, match, png_uri, show

FOUND = Finding("text", "/v1/chat/completions", "m", 17, "exact", 17, Match.EQUAL, counts=True)


def run(server: SandboxProcess, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["--client_base_url", server.url, "--openai_api_key", "sk-test", *arguments])
    return code, capsys.readouterr().out


def test_all_that_the_sandbox_counts_exactly_is_predicted_exactly(
    server: SandboxProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts, roles, names, parts, turns, schemas, embeddings; chat completions and Responses, by every model."""
    code, said = run(server, capsys, "--json")
    found = json.loads(said)
    assert code == 0
    assert {one["endpoint"] for one in found} == {"/v1/chat/completions", "/v1/responses", "/v1/embeddings"}
    assert {one["match"] for one in found if one["counts"]} == {"equal"}
    assert sum(one["counts"] for one in found) >= 25
    assert all("roughly" in one["note"] for one in found if not one["counts"])


def test_models_can_be_chosen(server: SandboxProcess, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(server, capsys, "--model", "gpt-4.1", "--embedding_model", "")
    assert code == 0
    assert " gpt-4.1 " in said
    assert "gpt-4o-mini" not in said
    assert "embeddings" not in said
    assert said.splitlines()[-1].startswith("21 requests: 12 equal, 9 not judged")


def test_the_embedded_sandbox_needs_no_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_test, "cases", lambda *_: [next(cases(["gpt-4o-mini"], None))])
    assert main(["--sandbox"]) == 0
    assert capsys.readouterr().out.endswith("1 requests: 1 equal\n")


def test_without_a_key_it_says_what_to_do(log: pytest.LogCaptureFixture) -> None:
    assert main([]) == 1
    assert "There is no API key: set OPENAI_API_KEY" in log.text


def test_a_model_that_the_server_does_not_have_is_a_failure(
    server: SandboxProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(server, capsys, "--model", "nobody-1", "--embedding_model", "")
    assert code == 1
    assert "failed (HTTP 404: model_not_found: The model `nobody-1` does not exist" in said


def test_a_server_that_is_not_there_is_one_line(log: pytest.LogCaptureFixture) -> None:
    assert main(["--client_base_url", "http://127.0.0.1:9/v1", "--openai_api_key", "k"]) == 1
    assert log.messages == ["The server does not answer: no connection to 127.0.0.1:9 (Connection refused)"]


@pytest.mark.parametrize(
    ("predicted", "true", "fits"),
    [
        (100, 100, Match.EQUAL),
        (103, 100, Match.CLOSE),
        (104, 100, Match.OFF),
        (1030, 1000, Match.CLOSE),
        (1031, 1000, Match.OFF),
        (10, None, Match.FAILED),
    ],
)
def test_close_is_three_tokens_or_three_percent(predicted: int, true: int | None, fits: Match) -> None:
    assert match(predicted, true) is fits


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"match": Match.CLOSE}, True),
        ({"match": Match.OFF}, False),
        ({"match": Match.FAILED}, False),
        ({"match": Match.OFF, "counts": False}, True),
    ],
)
def test_only_what_is_judged_and_off_makes_it_fail(change: dict[str, Any], good: bool) -> None:
    assert is_good([FOUND, replace(FOUND, **change)]) == good


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_equal_is_green_close_yellow_and_off_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    show([replace(FOUND, match=kind) for kind in (Match.EQUAL, Match.CLOSE, Match.OFF)], stream=stream)
    lines = stream.getvalue().splitlines()[1:4]
    assert ["\033[32mequal" in lines[0], "\033[33mclose" in lines[1], "\033[31moff" in lines[2]] == [True] * 3
    assert len(set(COLORS.values())) == 3


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    show([FOUND], stream=stream)
    assert "\033" not in stream.getvalue()


def test_every_request_is_one_of_a_kind() -> None:
    """No case twice, and all kinds that the estimator tells apart."""
    asked: list[Case] = list(cases(["gpt-4o-mini"], "text-embedding-3-small"))
    assert len({(case.endpoint, case.name) for case in asked}) == len(asked)
    names = {case.name for case in asked}
    assert {"text", "parts", "tool", "tool result", "response schema", "several turns", "large picture"} <= names


def test_pictures_are_of_the_size_that_they_say() -> None:
    assert image_size(png_uri(1500, 900)) == (1500, 900)
