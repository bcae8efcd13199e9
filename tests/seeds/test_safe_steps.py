"""The safe steps for a new task, as users are told to type them, on the demo task `char_codes`.

Each test begins where the step before it ended. The provider is a quick sandbox, named by environment variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager_demo import main, printable_characters
from tests.toy import ask, batches_of, files_of, query

MODELARGS = (
    "--model gpt-4o-mini-2024-07-18 --cost_input_direct_mtoken 0.150 --cost_input_cached_mtoken 0.075 "
    "--cost_input_batch_mtoken 0.075 --cost_output_direct_mtoken 0.600 --cost_output_batch_mtoken 0.300"
).split()
PREFIX = "char_codes"
ALL = len(list(printable_characters()))

Command = Callable[[str], int]


@pytest.fixture
def run(server: SandboxProcess, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`python -m gpt_batch_api.task_manager_demo --task char_codes "${MODELARGS[@]}" …`; the exit code."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    always = ["--task", PREFIX, *MODELARGS, "--task_dir", str(tasks), "--remote_update_interval", "0.05"]
    return lambda line: main([*always, *line.split()])


def states(tasks: Path) -> dict[str, int]:
    return dict(query(tasks, "SELECT state, count(*) FROM request GROUP BY state", PREFIX))


def local_batch_sizes(tasks: Path) -> list[int]:
    rows = query(tasks, "SELECT requests FROM batch WHERE state = 'sealed' ORDER BY id", PREFIX)
    return [requests for (requests,) in rows]


def output_rows(tasks: Path) -> int:
    path = tasks / f"{PREFIX}_output.json"
    return len(json.loads(path.read_text(encoding="utf-8"))["characters"]) if path.exists() else 0


def remote(server: SandboxProcess, tasks: Path) -> list[int]:
    """Sizes of the task's batches on the server, oldest first."""
    return [batch["request_counts"]["total"] for batch in reversed(batches_of(server, tasks, PREFIX))]


def test_step_a_generates_a_batch_without_executing_it(run: Command, server: SandboxProcess, tasks: Path) -> None:
    """A) Initialise new task and generate a batch of 100 requests without actually executing the batch."""
    assert run("--max_session_requests 0 --max_batch_requests 100 --max_unpushed_batches 1") == 3
    assert local_batch_sizes(tasks) == [100]
    assert states(tasks) == {"batched": 100}
    assert remote(server, tasks) == []
    (file,) = tasks.glob("char_codes_batch1_*.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 100
    assert {line["url"] for line in lines} == {"/v1/chat/completions"}


def direct_calls(server: SandboxProcess) -> int:
    """How many direct calls the server has charged, for all tasks."""
    return int(ask(server, "/sandbox/ledger")["roads"].get("direct", {"requests": 0})["requests"])


def prints(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_step_b_shows_10_requests_without_executing_them(
    run: Command, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """B) Show 10 verbose examples of generated requests without actually executing them (after step A)."""
    run("--max_session_requests 0 --max_batch_requests 100 --max_unpushed_batches 1")
    before, calls = prints(tasks), ask(server, "/sandbox/state")["calls"]
    log.clear()
    assert run("--force_direct --direct_verbose always --max_session_requests 10 --dryrun") == 0
    assert len([record for record in log.records if "json_schema" in record.message]) == 10
    assert "10 requests would be sent by direct calls now" in log.text
    assert prints(tasks) == before
    assert ask(server, "/sandbox/state")["calls"] == calls


def test_step_c_shows_10_requests_and_responses(
    run: Command, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """C) Show 10 verbose examples of generated requests and responses using the direct API (after A and B)."""
    run("--max_session_requests 0 --max_batch_requests 100 --max_unpushed_batches 1")
    before = direct_calls(server)
    log.clear()
    assert run("--force_direct --direct_verbose always --max_session_requests 10") == 3
    exchanges = [record.message for record in log.records if "json_schema" in record.message]
    assert len(exchanges) == direct_calls(server) - before == 10
    assert all("completion" in text or "output" in text for text in exchanges)
    assert remote(server, tasks) == []
    assert query(tasks, "SELECT count(*) FROM response", PREFIX) == [(10,)]


def test_step_d_executes_100_requests_and_shows_those_that_had_trouble(
    run: Command, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """D) Execute 100 requests using the direct API, and show those examples verbosely that had a warning or error."""
    before = direct_calls(server)
    assert run("--force_direct --direct_verbose warn --max_session_requests 100") == 3
    assert direct_calls(server) - before == 100
    bad = query(
        tasks,
        "SELECT count(*) FROM response WHERE verdict <> 'success' OR coalesce(task_verdict, 'success') <> 'success'",
        PREFIX,
    )[0][0]
    assert len([record for record in log.records if "json_schema" in record.message]) == bad
    assert remote(server, tasks) == []


def test_step_e_executes_250_requests_and_tells_what_to_tune(
    run: Command, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """E) Execute 250 requests using the batch API, also after step A; search the output for the three phrases."""
    run("--max_session_requests 0 --max_batch_requests 100 --max_unpushed_batches 1")
    assert run("--max_batch_requests 250 --max_session_requests 250") == 3
    assert sum(remote(server, tasks)) == 250
    assert output_rows(tasks) == 250
    per_batch = [text for text in log.messages if text.startswith("Batch ") and "completed" in text]
    assert all(re.search(r"max \d+ tokens", text) and re.search(r"completion ratio 0\.\d+", text) for text in per_batch)
    overall = [text for text in log.messages if re.search(r"max \d+ completion tokens", text)]
    assert overall
    assert "completion ratio 0." in overall[-1]


def test_step_f_executes_fresh_requests_for_one_dollar(run: Command, server: SandboxProcess, tasks: Path) -> None:
    """F) First process what is on the remote, then wipe ongoing requests and execute a budget's worth of fresh ones."""
    run("--max_batch_requests 50 --max_session_requests 100")
    done = output_rows(tasks)
    assert done == 100
    assert run("--assumed_completion_ratio 0.35 --only_process") == 3
    before = query(tasks, "SELECT sum(spent_pico) FROM ledger", PREFIX)[0][0]
    assert run("--wipe_requests --assumed_completion_ratio 0.35 --max_batch_cost 0.01 --max_session_cost 0.01") == 3
    spent = query(tasks, "SELECT sum(spent_pico) FROM ledger", PREFIX)[0][0] - before
    assert 0.005e12 < spent <= 0.01e12, "the budget was passed, or hardly used"
    assert output_rows(tasks) > done, "finished results are kept"


def test_only_process_sends_nothing_new(run: Command, server: SandboxProcess, tasks: Path) -> None:
    """F) …if there are any unfinished batches busy on the remote."""
    assert run("--once --max_batch_requests 60 --max_session_requests 60 --max_unpushed_batches 2") == 3
    generated = sum(states(tasks).values())
    assert run("--only_process") == 3
    assert remote(server, tasks) == [60]
    assert output_rows(tasks) == 60
    assert sum(states(tasks).values()) == generated
    assert files_of(server, tasks, PREFIX) == []


def test_step_g_resets_the_task_to_scratch(run: Command, server: SandboxProcess, tasks: Path) -> None:
    """G) Reset the entire task to scratch and throw away any results obtained so far."""
    run("--max_batch_requests 100 --max_session_requests 100")
    spent = query(tasks, "SELECT sum(spent_pico) FROM ledger", PREFIX)
    assert run("--wipe_task --no_run --assumed_completion_ratio 0.35") == 0
    assert states(tasks) == {}
    assert query(tasks, "SELECT count(*) FROM sample", PREFIX) == [(0,)]
    assert not (tasks / "char_codes_output.json").exists()
    assert list(tasks.glob("char_codes_batch*")) == []
    assert query(tasks, "SELECT sum(spent_pico) FROM ledger", PREFIX) == spent, "money spent is never forgotten"


def test_step_h_runs_to_completion_within_the_queue_limit(run: Command, server: SandboxProcess, tasks: Path) -> None:
    """H) Run the task normally to completion, respecting a batch queue limit of tokens at a time."""
    assert run("--assumed_completion_ratio 0.35 --max_remote_ktokens 60") == 0
    assert output_rows(tasks) == ALL
    assert states(tasks) == {"succeeded": ALL}
    largest = query(tasks, "SELECT max(input_tokens), count(*) FROM batch", PREFIX)[0]
    assert largest[0] <= 60_000 / 1.05
    assert largest[1] >= 4
    assert files_of(server, tasks, PREFIX) == []
    expected = {f"U+{ord(character):04X}" for _, character in printable_characters()}
    document = json.loads((tasks / "char_codes_output.json").read_text(encoding="utf-8"))
    assert {row["codepoint"] for row in document["characters"]} == expected
    assert all(row["sample_sentence"].count(row["character"]) >= 2 for row in document["characters"])


def test_the_status_is_shown_without_executing_anything(
    run: Command, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """Get the current status of a task without actually executing task steps."""
    run("--max_batch_requests 100 --max_session_requests 100 --max_unpushed_batches 2")
    calls = ask(server, "/sandbox/state")["calls"]
    log.clear()
    assert run("--assumed_completion_ratio 0.35 --max_remote_ktokens 5000 --no_run") == 0
    assert ask(server, "/sandbox/state")["calls"] == calls, "the status asked the server"
    assert "Task char_codes (CharCodesTask): not complete" in log.text
    assert "asked = 100 succeeded + 0 failed + 0 held + " in log.text
    assert "money      $0." in log.text


def test_the_whole_page_in_one_go(
    run: Command, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """All safe steps, one after the other, on one task."""
    # A) Initialise new task and generate a batch of 100 requests without actually executing the batch
    assert run("--max_session_requests 0 --max_batch_requests 100 --max_unpushed_batches 1") == 3
    assert (local_batch_sizes(tasks), remote(server, tasks)) == ([100], [])
    # B) Show 10 verbose examples of generated requests without actually executing them
    before = prints(tasks)
    assert run("--force_direct --direct_verbose always --max_session_requests 10 --dryrun") == 0
    assert prints(tasks) == before
    # C) Show 10 verbose examples of generated requests and responses using the direct API
    calls = direct_calls(server)
    assert run("--force_direct --direct_verbose always --max_session_requests 10") == 3
    assert direct_calls(server) - calls == 10
    # D) Execute 100 requests using the direct API, and show those examples verbosely that had a warning or error
    assert run("--force_direct --direct_verbose warn --max_session_requests 100") == 3
    assert direct_calls(server) - calls == 110
    # E) Execute 250 requests using the batch API
    assert run("--max_batch_requests 250 --max_session_requests 250") == 3
    assert remote(server, tasks) == [250]
    for words in (r"max [0-9,]+ completion tokens", r"max [0-9,]+ tokens", r"completion ratio 0\.\d+"):
        assert re.search(words, log.text), words
    # F) Execute 1 USD worth of fresh requests using the batch API and an assumed completion ratio of 0.35
    assert run("--assumed_completion_ratio 0.35 --only_process") == 3
    assert remote(server, tasks) == [250]
    assert run("--wipe_requests --assumed_completion_ratio 0.35 --max_batch_cost 1.00 --max_session_cost 1.00") in (
        0,
        3,
    )
    (most,) = query(tasks, "SELECT max(cost_pico) FROM batch", PREFIX)[0]
    assert most <= 10**12
    assert output_rows(tasks) > 0
    # G) Reset the entire task to scratch and throw away any results obtained so far
    assert run("--wipe_task --no_run --assumed_completion_ratio 0.35") == 0
    assert states(tasks) == {}
    assert output_rows(tasks) == 0
    # H) Run the task normally to completion, respecting a batch queue limit of 5,000,000 tokens at a time
    assert run("--assumed_completion_ratio 0.35 --max_remote_ktokens 5000") == 0
    assert output_rows(tasks) == ALL
    assert files_of(server, tasks, PREFIX) == []
    # Get the current status of a task without actually executing task steps
    log.clear()
    assert run("--assumed_completion_ratio 0.35 --max_remote_ktokens 5000 --no_run") == 0
    assert f"{ALL:,} succeeded" in log.text
    assert "complete" in log.text
