"""The safe steps as one page: every command as it is written there, one after the other, on one task.

The generic command `python ...` is the demo task `char_codes`, run by a shell in an empty folder as a user would. A quick
sandbox server, named by environment variables, stands in for the provider, so everything it saw belongs to the page.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager_demo import printable_characters
from tests.toy import ask, query, sandbox

MODELARGS = (
    "MODELARGS=(--model gpt-4o-mini-2024-07-18 --cost_input_direct_mtoken 0.150 --cost_input_cached_mtoken 0.075 "
    "--cost_input_batch_mtoken 0.075 --cost_output_direct_mtoken 0.600 --cost_output_batch_mtoken 0.300)"
)
GENERIC = f"{shlex.quote(sys.executable)} -m gpt_batch_api.task_manager_demo --task char_codes"
PREFIX = "char_codes"
ROOT = Path(__file__).parents[2]
CHARACTERS = {f"U+{ord(character):04X}": (block, character) for block, character in printable_characters()}
KEYS = list(CHARACTERS)

DONE, WORK_LEFT = 0, 3
"""Exit codes."""

PLAN = """
timing: {validating_s: 0, requests_per_s: 1000000, minimum_s: 0, finalizing_s: 0, cancelling_s: 0}
enqueued_token_limit: 5000000
faults:
  - {on: direct, fault: refusal, match: "(U+0041 ", times: 1}
  - {on: direct, fault: length, match: "(U+0042 ", times: 1}
  - {on: direct, fault: wrong_json, match: "(U+0043 ", times: 1}
  - {on: direct, fault: status, status: 500, match: "(U+0044 ", times: 1}
"""
"""A quick server with the queue limit of step H. Four requests go wrong once if they are asked by direct calls."""

TROUBLED = ["U+0041", "U+0042", "U+0043", "U+0044"]


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    text: str

    @property
    def requests(self) -> list[str]:
        """The requests that were shown in full."""
        return re.findall(r"^── Request '(.+?)'", self.text, re.MULTILINE)

    @property
    def answers(self) -> list[str]:
        """The answers that were shown in full."""
        return re.findall(r"^── Answer '(.+?)'", self.text, re.MULTILINE)


@dataclass
class Desk:
    """A folder with a shell in it, and the server that it talks to."""

    folder: Path
    server: SandboxProcess

    def type(self, line: str) -> Said:
        """Run a line of the page."""
        done = subprocess.run(
            ["bash", "-c", f"{MODELARGS}\n{line.replace('python ...', GENERIC)}"],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OPENAI_BASE_URL": self.server.url,
                "OPENAI_API_KEY": "sk-test",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=100,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return Said(done.returncode, done.stdout)

    @property
    def tasks(self) -> Path:
        return self.folder / "tasks"

    def store(self, sql: str) -> list[tuple[Any, ...]]:
        return query(self.tasks, sql, PREFIX)

    def states(self) -> dict[str, int]:
        """How many requests are in which state."""
        return dict(self.store("SELECT state, count(*) FROM request GROUP BY state"))

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the output."""
        path = self.tasks / "char_codes_output.json"
        return list(json.loads(path.read_text(encoding="utf-8"))["characters"]) if path.exists() else []

    def prints(self) -> dict[str, bytes | None]:
        """Every file and folder, with all bytes."""
        return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(self.folder.rglob("*"))}

    def calls(self) -> dict[str, int]:
        """How often each operation of the server was called."""
        return dict(ask(self.server, "/sandbox/state")["calls"])

    def direct_calls(self) -> int:
        return self.calls().get("chat.create", 0)

    def ledger(self) -> dict[str, Any]:
        """What the server has charged, by road."""
        return dict(ask(self.server, "/sandbox/ledger")["roads"])

    def charged(self, road: str) -> int:
        """How many requests the server has charged that came by this road."""
        return int(self.ledger().get(road, {"requests": 0})["requests"])

    def charges(self) -> list[dict[str, Any]]:
        """The rows of the server's ledger."""
        return list(ask(self.server, "/sandbox/ledger?rows=1&limit=10000")["rows"])

    def charged_pico(self) -> int:
        return sum(int(road["cost_pico"]) for road in self.ledger().values())

    def spent_pico(self) -> int:
        """What the task says that it has spent, also before it was wiped."""
        return int(self.store("SELECT coalesce(sum(spent_pico), 0) FROM ledger")[0][0])

    def batches(self) -> list[int]:
        """The sizes of all batches that the server ever got, oldest first."""
        batches = ask(self.server, "/v1/batches?limit=100")["data"]
        return [batch["request_counts"]["total"] for batch in reversed(batches)]

    def files(self) -> list[str]:
        """All files that are on the server now."""
        return [file["filename"] for file in ask(self.server, "/v1/files")["data"]]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "work"
    folder.mkdir()
    with sandbox(tmp_path / "server", PLAN) as server:
        yield Desk(folder, server)


def test_the_safe_steps_when_trying_out_a_new_custom_task(desk: Desk) -> None:
    # List all available command line arguments
    said = desk.type("python ... --help")
    assert said.code == DONE
    for argument in (
        "model cost_input_direct_mtoken cost_input_cached_mtoken cost_input_batch_mtoken cost_output_direct_mtoken "
        "cost_output_batch_mtoken max_session_requests max_batch_requests max_unpushed_batches force_direct "
        "direct_verbose dryrun assumed_completion_ratio only_process wipe_requests max_batch_cost max_session_cost "
        "wipe_task max_remote_ktokens"
    ).split():
        assert re.search(rf"--{argument}\b", said.text), argument
    assert re.search(r"--(no_|\[no_\])run\b", said.text)
    assert (desk.prints(), desk.calls()) == ({}, {})

    # A) Initialise new task and generate a batch of 100 requests without actually executing the batch
    said = desk.type(
        'python ... "${MODELARGS[@]}" --max_session_requests 0 --max_batch_requests 100 --max_unpushed_batches 1'
    )
    assert said.code == WORK_LEFT, said.text
    assert desk.store("SELECT state, requests FROM batch") == [("sealed", 100)]
    assert desk.states() == {"batched": 100}
    (file,) = desk.tasks.glob("*.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 100
    assert (desk.batches(), desk.files(), desk.ledger(), desk.direct_calls()) == ([], [], {}, 0)

    # B) Show 10 verbose examples of generated requests without actually executing them
    # (requires that some batches have already been generated and saved to disk)
    before = (desk.prints(), desk.calls())
    said = desk.type(
        'python ... "${MODELARGS[@]}" --force_direct --direct_verbose always --max_session_requests 10 --dryrun'
    )
    assert said.code == DONE, said.text
    assert (said.requests, said.answers) == (KEYS[:10], [])
    for key in said.requests:
        assert f'Describe this character: "{CHARACTERS[key][1]}" ({key} ' in said.text
    assert said.text.count("You are an expert on Unicode") == said.text.count('"name": "CharInfo"') == 10
    assert (desk.prints(), desk.calls()) == before
    examples = said.requests

    # C) Show 10 verbose examples of generated requests and responses using the direct API
    said = desk.type('python ... "${MODELARGS[@]}" --force_direct --direct_verbose always --max_session_requests 10')
    assert said.code == WORK_LEFT, said.text
    assert sorted(said.requests) == sorted(said.answers) == sorted(examples)
    for key in said.requests:
        assert f'Describe this character: "{CHARACTERS[key][1]}" ({key} ' in said.text
    assert said.text.count('"sample_sentence": "') == 10, "the answers are not shown in full"
    assert desk.direct_calls() == desk.charged("direct") == 10
    assert (desk.batches(), desk.charged("batch")) == ([], 0)
    assert sorted(row["codepoint"] for row in desk.rows()) == sorted(examples)

    # D) Execute 100 requests using the direct API, and show those examples verbosely that had a warning or error
    said = desk.type('python ... "${MODELARGS[@]}" --force_direct --direct_verbose warn --max_session_requests 100')
    assert said.code == WORK_LEFT, said.text
    assert desk.direct_calls() == 110
    assert desk.charged("direct") == 109, "all but the call that got an error 500"
    assert sorted(said.requests) == sorted(said.answers) == TROUBLED
    assert (desk.batches(), desk.charged("batch")) == ([], 0)
    assert len(desk.rows()) == 110 - len(TROUBLED)

    # E) Execute 250 requests using the batch API
    said = desk.type('python ... "${MODELARGS[@]}" --max_batch_requests 250 --max_session_requests 250')
    assert said.code == WORK_LEFT, said.text
    assert desk.batches() == [250]
    assert (desk.direct_calls(), desk.charged("batch")) == (110, 250)
    assert len(desk.rows()) == 110 - len(TROUBLED) + 250
    assert said.requests == []
    # <-- Search the command outputs for 'max # completion tokens' (overall metrics) and 'max # tokens' (per batch)…
    longest = max(row["output"] for row in desk.charges())
    longest_of_batch = max(row["output"] for row in desk.charges() if row["road"] == "batch")
    overall = [line for line in said.text.splitlines() if re.search(r"max [0-9,]+ completion tokens", line)]
    per_batch = [line for line in said.text.splitlines() if re.search(r"max [0-9,]+ tokens", line)]
    assert len(overall) == len(per_batch) == 1, said.text
    assert f"max {longest} completion tokens" in overall[0]
    assert f"max {longest_of_batch} tokens" in per_batch[0]
    # <-- Search the command outputs for 'completion ratio' (overall metrics and per batch)…
    assert re.search(r"completion ratio 0\.\d+", overall[0])
    assert re.search(r"completion ratio 0\.\d+", per_batch[0])

    # F) Execute 1 USD worth of fresh (thus wipe ongoing) requests using the batch API and an assumed completion ratio
    # of 0.35
    kept, charged = desk.rows(), desk.charged_pico()
    said = desk.type('python ... "${MODELARGS[@]}" --assumed_completion_ratio 0.35 --only_process')
    assert said.code == WORK_LEFT, said.text
    assert (desk.batches(), desk.direct_calls(), desk.charged_pico()) == ([250], 110, charged)
    assert desk.rows() == kept
    said = desk.type(
        'python ... --wipe_requests "${MODELARGS[@]}" --assumed_completion_ratio 0.35 '
        "--max_batch_cost 1.00 --max_session_cost 1.00"
    )
    assert said.code == DONE, f"a dollar is enough for all that was left\n{said.text}"
    assert "Wiped" in said.text
    assert desk.direct_calls() == 110
    assert sum(desk.batches()) == 250 + len(KEYS) - len(kept)
    assert desk.store("SELECT count(*) FROM batch WHERE cost_pico > 1000000000000") == [(0,)]
    assert 0 < desk.charged_pico() - charged <= 10**12
    (reserved,) = desk.store(
        "SELECT sum(reserved_pico) FROM ledger WHERE kind = 'reserve' AND session_id = (SELECT max(id) FROM session)"
    )[0]
    assert 0 < reserved <= 10**12
    assert desk.rows()[: len(kept)] == kept, "finished results are kept"
    assert "completion ratio 0." in said.text

    # G) Reset the entire task to scratch and throw away any results obtained so far
    calls = (desk.batches(), desk.direct_calls())
    said = desk.type('python ... --wipe_task --no_run "${MODELARGS[@]}" --assumed_completion_ratio 0.35')
    assert said.code == DONE, said.text
    assert desk.states() == {}
    assert desk.store("SELECT (SELECT count(*) FROM sample), (SELECT count(*) FROM response)") == [(0, 0)]
    assert {path.name for path in desk.tasks.iterdir() if "state.db" not in path.name} <= {"char_codes.lock"}
    assert desk.files() == []
    assert (desk.batches(), desk.direct_calls()) == calls

    # H) Run the task normally to completion, respecting a batch queue limit of 5,000,000 tokens (= 5000 ktokens) at a
    # time (refer to the OpenAI tier rate limits)
    said = desk.type('python ... "${MODELARGS[@]}" --assumed_completion_ratio 0.35 --max_remote_ktokens 5000')
    assert said.code == DONE, said.text
    assert desk.states() == {"succeeded": len(KEYS)}
    rows = {row["codepoint"]: row for row in desk.rows()}
    assert len(rows) == len(desk.rows()) == len(KEYS)
    for key, (block, character) in CHARACTERS.items():
        row = rows[key]
        assert (row["block"], row["character"]) == (block, character)
        assert row["name"] == unicodedata.name(character, "unnamed")
        assert row["sample_sentence"].count(character) >= 2
    assert desk.store("SELECT count(*) FROM batch WHERE input_tokens > 5000000") == [(0,)]
    assert "token_limit_exceeded" not in said.text
    assert desk.files() == []

    # Get the current status of a task without actually executing task steps
    asked = desk.calls()
    said = desk.type('python ... "${MODELARGS[@]}" --assumed_completion_ratio 0.35 --max_remote_ktokens 5000 --no_run')
    assert said.code == DONE, said.text
    assert "Task char_codes (CharCodesTask): complete" in said.text
    assert f"{len(KEYS):,} asked = {len(KEYS):,} succeeded + 0 failed + 0 held + 0 under way" in said.text
    assert desk.calls() == asked
    assert desk.rows() == list(rows.values())

    # All the money of the page is in the books
    assert desk.spent_pico() == desk.charged_pico()


def test_20_requests_by_direct_calls_shown_verbosely(desk: Desk) -> None:
    """--force_direct --direct_verbose always --max_session_requests 20

    Force only the direct API to be used for 20 requests, and print the requests and responses verbosely for debugging
    purposes (when combined with --dryrun only prints the requests that would have been made).
    """
    line = 'python ... "${MODELARGS[@]}" --force_direct --direct_verbose always --max_session_requests 20'

    said = desk.type(f"{line} --dryrun")
    assert said.code == DONE, said.text
    assert (said.requests, said.answers) == (KEYS[:20], [])
    assert (desk.prints(), desk.calls()) == ({}, {}), "a dry run of a new task leaves nothing"

    said = desk.type(line)
    assert said.code == WORK_LEFT, said.text
    assert sorted(said.requests) == sorted(said.answers) == KEYS[:20]
    assert desk.direct_calls() == desk.charged("direct") == 20
    assert desk.batches() == []
    assert sorted(row["codepoint"] for row in desk.rows()) == KEYS[:20]

    before = (desk.prints(), desk.calls())
    said = desk.type(f"{line} --dryrun")
    assert said.code == DONE, said.text
    assert (said.requests, said.answers) == (KEYS[20:40], [])
    assert (desk.prints(), desk.calls()) == before

    said = desk.type(line)
    assert said.code == WORK_LEFT, said.text
    assert len(said.requests) == len(said.answers) == 20
    assert desk.direct_calls() == 40
    assert desk.batches() == []
    assert desk.spent_pico() == desk.charged_pico()
