"""What the server, the network and the result files can do wrong, and what becomes of a run then."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt_batch_api.domain.errors import AccountError, ServerError, UserError
from gpt_batch_api.engine import push, search, settle, sweep
from gpt_batch_api.sandbox.child import SandboxProcess
from tests.tokens.helpers import picture, png
from tests.toy import (
    QUICK_PLAN,
    ToyTask,
    ask,
    batches_of,
    files_of,
    let_time_pass,
    query,
    rows_of,
    sandbox,
    settings_for,
    tell,
)


def check_all_well(server: SandboxProcess, tasks: Path, *, rows: int = 8) -> None:
    """Every row once, the books equal the server's, nothing left there."""
    assert sorted(row["key"] for row in rows_of(tasks)) == [f"word-{index:05}" for index in range(rows)]
    ours = query(tasks, "SELECT sum(spent_pico), sum(reserved_pico) FROM ledger")[0]
    billed = ask(server, "/sandbox/ledger")["batches"]
    assert ours == (
        sum(billed.get(batch["id"], {"cost_pico": 0})["cost_pico"] for batch in batches_of(server, tasks)),
        0,
    )
    assert files_of(server, tasks) == []


def output_of(server: SandboxProcess, tasks: Path) -> bytes:
    """What is in the output file of the task's only batch."""
    (batch,) = batches_of(server, tasks)
    address = f"{server.url}/files/{batch['output_file_id']}/content"
    request = urllib.request.Request(address, headers={"Authorization": "Bearer sk-test"})
    with urllib.request.urlopen(request) as reply:
        return bytes(reply.read())


class TestLostReplies:
    """A call whose reply is lost is looked for on the server, and only then, if at all, made again."""

    def test_a_batch_that_was_created_is_adopted(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        with weather("faults: [{on: batches.create, fault: lose_after, nth: [1]}]") as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 1, "paid twice"
        assert "the reply was lost while creating" in log.text
        assert "found on the server again" in log.text

    @pytest.mark.parametrize("fault", ["lose_before", "status, status: 500", "garbage"])
    def test_a_batch_is_created_anew_only_if_it_cannot_be_there(self, weather: Any, tasks: Path, fault: str) -> None:
        with weather(f"faults: [{{on: batches.create, fault: {fault}, nth: [1]}}]") as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 1
        outcomes = query(tasks, "SELECT state FROM push ORDER BY id")
        assert outcomes in ([("lost",), ("created",)], [("created",)])

    def test_a_batch_the_list_shows_late_is_waited_for(self, weather: Any, tasks: Path) -> None:
        """The list may lag: paying again at once would pay twice."""
        with weather(
            "list_lag_s: {batches: 0.6}\nfaults: [{on: batches.create, fault: lose_after, nth: [1]}]"
        ) as server:
            assert ToyTask(settings_for(server, tasks), list_lag_wait=5).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 1, "paid twice"

    def test_an_uploaded_file_is_adopted(self, weather: Any, tasks: Path) -> None:
        with weather("faults: [{on: files.create, fault: lose_after, nth: [1]}]") as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
        files = query(tasks, "SELECT state, outcome, file_id FROM push ORDER BY id")
        assert [row[:2] for row in files] == [("refused", "found uploaded"), ("created", None)]
        assert files[0][2] == files[1][2], "uploaded twice"

    def test_a_file_the_list_shows_late_is_uploaded_again_and_swept(self, weather: Any, tasks: Path) -> None:
        """Uploading twice costs nothing; the file that turns up later is ours and is deleted."""
        with weather("list_lag_s: {files: 2}\nfaults: [{on: files.create, fault: lose_after, nth: [1]}]") as server:
            assert ToyTask(settings_for(server, tasks), list_lag_wait=6).run()
            check_all_well(server, tasks)
            assert ask(server, "/v1/files")["data"] == []
        assert query(tasks, "SELECT count(*) FROM push") == [(2,)]

    def test_files_of_others_are_never_touched(self, weather: Any, tasks: Path) -> None:
        with weather("") as server:
            import openai

            with openai.OpenAI(base_url=server.url, api_key="sk-other") as client:
                client.files.create(file=("toy_batch1_other.jsonl", b"{}\n"), purpose="batch")
            assert ToyTask(settings_for(server, tasks)).run()
            assert [file["filename"] for file in ask(server, "/v1/files")["data"]] == ["toy_batch1_other.jsonl"]


class TestWhoTheServerIs:
    """A task keeps to its server. The sandbox says its name in each reply, and any of them may be lost."""

    @pytest.mark.parametrize(
        ("road", "lost"),
        [("batch", [1]), ("batch", [2]), ("batch", [1, 3]), ("direct", [1]), ("direct", [2]), ("direct", [1, 2])],
    )
    def test_a_first_reply_that_is_lost_does_not_keep_later_runs_out(
        self, weather: Any, tasks: Path, road: str, lost: list[int]
    ) -> None:
        """Each run asks for the list of batches first, to hear who answers; before it pushes a batch, it must know."""
        with weather(f"faults: [{{on: batches.list, fault: lose_before, nth: {lost}}}]") as server:
            for most, code in ((3, 3), (3, 3), (8, 0)):
                settings = settings_for(server, tasks, force_direct=road == "direct", max_session_requests=most)
                assert ToyTask(settings).main() == code
                assert json.loads(query(tasks, "SELECT server FROM task")[0][0])["sandbox"] == server.uuid
            assert len(rows_of(tasks)) == 8


class TestUnreachable:
    """While the server is out of reach everything waits, nothing is lost, and nobody needs to restart."""

    def test_a_run_goes_on_when_the_server_is_back(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        away = "fault: status, status: 503"
        plan = (
            f"faults: [{{on: batches.retrieve, {away}, times: 5}}, {{on: batches.list, {away}, nth: [2, 3, 4, 5, 6]}}]"
        )
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
        assert "The server cannot be reached: HTTP 503" in log.text
        assert "nothing is lost" in log.text

    def test_a_rate_limited_creation_goes_again(self, weather: Any, tasks: Path) -> None:
        with weather(
            "faults: [{on: batches.create, fault: status, status: 429, retry_after: 0.1, nth: [1]}]"
        ) as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 1
        assert query(tasks, "SELECT state FROM push ORDER BY id") == [("refused",), ("created",)]
        assert query(tasks, "SELECT count(DISTINCT file_id) FROM push") == [(1,)], "the same file is used again"

    def test_a_refused_creation_stops_the_run_with_the_servers_words(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        plan = "faults: [{on: batches.create, fault: status, status: 400, message: no such thing, nth: [1]}]"
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks)).main() == 1
            assert "The server refused to take batch 1: " in log.text
            assert "no such thing" in log.text
            assert query(tasks, "SELECT reserved_pico FROM account") == [(0,)]
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)


GONE = {"on": "files.content", "fault": "status", "status": 404, "message": "No such File object"}


class TestDownloads:
    @pytest.mark.parametrize("after_bytes", [0, 1, 700])
    def test_a_cut_download_is_continued(self, weather: Any, tasks: Path, after_bytes: int) -> None:
        plan = f"faults: [{{on: files.content, fault: cut, after_bytes: {after_bytes}, nth: [1, 2]}}]"
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)

    @pytest.mark.parametrize("times", [1, 3, 6])
    def test_a_page_that_came_in_place_of_the_file_is_no_answer(self, weather: Any, tasks: Path, times: int) -> None:
        """A proxy on the way may send a page of its own, with status 200: the answers are not missing, nor paid again."""
        with weather(f"faults: [{{on: files.content, fault: garbage, times: {times}}}]") as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 1, "paid twice"

    @pytest.mark.parametrize("after_bytes", [900, 3000], ids=["in a line", "in another"])
    def test_a_file_that_came_short_without_a_sign_is_fetched_again(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture, after_bytes: int
    ) -> None:
        """Its length fits the one that was announced; only the size that the server knows tells that answers are missing."""
        plan = f"faults: [{{on: files.content, fault: short, after_bytes: {after_bytes}, times: 2}}]"
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks, list_lag_wait=9)).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 1, "paid twice"
        assert f"Of the output file of batch 1 came {after_bytes:,} bytes, and the server says that it has " in log.text
        assert "It is fetched again, for up to 9 s" in log.text
        assert query(tasks, "SELECT max(tries) FROM request") == [(1,)]

    def test_a_file_cut_at_the_end_of_a_line_is_fetched_again(self, tmp_path: Path, tasks: Path) -> None:
        """All its lines are good; some are not there."""
        with sandbox(tmp_path / "server", "timing: {requests_per_s: 0.01}") as server:
            assert ToyTask(settings_for(server, tasks), once=True).main() == 3
            let_time_pass(server, 1000)
            two_lines = b"".join(output_of(server, tasks).splitlines(keepends=True)[:2])
            short = {"on": "files.content", "fault": "short", "after_bytes": len(two_lines), "times": 1}
            tell(server, "/sandbox/plan", {"faults": [short]})
            assert ToyTask(settings_for(server, tasks, list_lag_wait=9)).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 1, "paid twice"

    def test_a_file_that_stays_short_is_held_not_paid_again(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        """What came is delivered; whether to ask for the rest again is the user's decision. The file stays on the server."""
        with weather("faults: [{on: files.content, fault: short, after_bytes: 3000}]") as server:
            assert ToyTask(settings_for(server, tasks)).main() == 1
            assert len(batches_of(server, tasks)) == 1
            held = query(tasks, "SELECT count(*) FROM request WHERE state = 'held' AND reason = 'results_cut_short'")[
                0
            ][0]
            assert 0 < held < 8
            assert len(rows_of(tasks)) == 8 - held, "good rows are delivered at once"
            (left,) = files_of(server, tasks)
            assert left.endswith("_output.jsonl")
            assert "is left on the server" in log.text
            billed = ask(server, "/sandbox/ledger")["total"]["cost_pico"]
            assert query(tasks, "SELECT sum(spent_pico), sum(reserved_pico) FROM ledger") == [(billed, 0)]

            tell(server, "/sandbox/plan", yaml.safe_load(QUICK_PLAN))
            settings = settings_for(server, tasks, process_failed_batches=1, retry_fatal_requests=True)
            assert ToyTask(settings).run()
            assert len(rows_of(tasks)) == 8

    @pytest.mark.parametrize("status", [401, 500], ids=["refusing the key", "failing"])
    def test_a_server_that_cannot_be_asked_now_may_still_tell_a_size(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture, status: int
    ) -> None:
        """To take trouble for "no size is told" would be to pay for the missing answers again."""
        plan = (
            "faults: [{on: files.content, fault: short, after_bytes: 3000, times: 1}, "
            f"{{on: files.retrieve, fault: status, status: {status}}}]"
        )
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 1, "paid twice"
        assert "came 3,000 bytes, and the server cannot be asked how many it has; answers are missing." in log.text
        assert query(tasks, "SELECT max(tries) FROM request") == [(1,)]

    @pytest.mark.parametrize("status", [401, 404], ids=["refusing the key", "knowing no such file"])
    def test_what_a_server_told_once_is_not_forgotten(self, weather: Any, tasks: Path, status: int) -> None:
        """It tells the size once and not from then on: the file is known to be cut short all the same."""
        plan = (
            "faults: [{on: files.content, fault: short, after_bytes: 3000}, "
            "{on: files.retrieve, fault: stall, seconds: 0, times: 1}, "
            f"{{on: files.retrieve, fault: status, status: {status}}}]"
        )
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks, list_lag_wait=0.2)).main() == 1
            assert len(batches_of(server, tasks)) == 1, "paid twice"
        assert query(tasks, "SELECT DISTINCT reason FROM request WHERE state = 'held'") == [("results_cut_short",)]

    def test_slow_looks_do_not_use_up_all_others(self, weather: Any, tasks: Path) -> None:
        """However long each takes, the file is fetched ten times before its missing answers are given up."""
        plan = (
            "faults: [{on: files.content, fault: short, after_bytes: 3000, times: 9}, "
            "{on: files.retrieve, fault: stall, seconds: 0.5, times: 2}]"
        )
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks, list_lag_wait=0.3)).run()
            check_all_well(server, tasks)

    @pytest.mark.parametrize(
        ("status", "list_lag_wait"), [(404, 600), (401, 0.2)], ids=["says so at once", "refuses to say all that time"]
    )
    def test_from_a_server_that_tells_no_sizes_missing_answers_are_asked_for_again(
        self, weather: Any, tasks: Path, status: int, list_lag_wait: float
    ) -> None:
        """Whether the file is whole is not known then."""
        plan = f"faults: [{{on: files.retrieve, fault: status, status: {status}}}]\nlines: [{{fault: missing, nth: 3}}]"
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks, list_lag_wait=list_lag_wait)).run()
            assert len(rows_of(tasks)) == 8
            assert files_of(server, tasks) == []

    def test_a_file_with_all_answers_is_not_asked_about(self, weather: Any, tasks: Path) -> None:
        """No call more than is needed, and a server that tells wrong sizes does no harm."""
        with weather("") as server:
            assert ToyTask(settings_for(server, tasks)).run()
            assert ask(server, "/sandbox/calls?operation=files.retrieve")["calls"] == []

    def test_a_result_file_that_is_not_shown_yet_is_looked_for_again(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        """What was made just now may be unknown to some of the server's parts for a while."""
        with weather(f"faults: {json.dumps([{**GONE, 'times': 3}])}") as server:
            assert ToyTask(settings_for(server, tasks, list_lag_wait=60)).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 1, "paid twice"
        assert "The output file of batch 1 is not on the server, or not shown yet. It is looked for again" in log.text
        assert query(tasks, "SELECT max(tries) FROM request") == [(1,)]

    def test_an_error_file_that_is_not_there_keeps_nobody_waiting_if_all_answers_are(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        """Some servers name one although nothing failed."""
        plan = f"batches: [{{fault: empty_error_file}}]\nfaults: {json.dumps([{**GONE, 'nth': [2]}])}"
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks, list_lag_wait=600)).run()
            assert len(rows_of(tasks)) == 8
            assert [call["status"] for call in ask(server, "/sandbox/calls?operation=files.content")["calls"]] == [
                200,
                404,
            ]
        assert "looked for again" not in log.text

    def test_a_result_file_that_vanished_is_held_not_paid_again(
        self, tmp_path: Path, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        """Long after its batch has ended nobody waits for it longer than some looks take."""
        with sandbox(tmp_path / "server", "timing: {requests_per_s: 0.01}") as server:
            assert ToyTask(settings_for(server, tasks), once=True).main() == 3
            let_time_pass(server, 3000)
            tell(server, "/sandbox/plan", {"faults": [GONE]})
            assert ToyTask(settings_for(server, tasks, list_lag_wait=600)).main() == 1
            assert len(batches_of(server, tasks)) == 1
            assert files_of(server, tasks), "it may turn up again"
        assert query(tasks, "SELECT state, reason, count(*) FROM request GROUP BY 1, 2") == [
            ("held", "results_vanished", 8)
        ]
        assert "the result file is gone from the server" in log.text
        assert "The output file of batch 1 is still not there. It is left on the server" in log.text

    def test_what_came_of_a_file_that_then_vanished_is_not_left_on_disk(self, weather: Any, tasks: Path) -> None:
        cut = {"on": "files.content", "fault": "cut", "after_bytes": 700, "times": 1}
        with weather(f"faults: {json.dumps([cut, GONE])}") as server:
            assert ToyTask(settings_for(server, tasks)).main() == 1
        assert query(tasks, "SELECT DISTINCT reason FROM request") == [("results_vanished",)]
        assert not [path.name for path in tasks.iterdir() if "spool" in path.name]

    def test_an_error_file_that_is_not_there_does_not_hide_an_output_file_that_is_cut_short(
        self, weather: Any, tasks: Path
    ) -> None:
        short = {"on": "files.content", "fault": "short", "after_bytes": 3000, "nth": [1]}
        plan = f"batches: [{{fault: empty_error_file}}]\nfaults: {json.dumps([short, {**GONE, 'nth': [2]}])}"
        with weather(plan) as server:
            assert ToyTask(settings_for(server, tasks, list_lag_wait=60)).run()
            assert len(rows_of(tasks)) == 8
            assert len(batches_of(server, tasks)) == 1, "paid twice"

    @pytest.mark.parametrize("batch_size", [8, 2], ids=["asked singly", "listed"])
    def test_a_batch_that_has_ended_may_name_its_files_late(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture, batch_size: int
    ) -> None:
        """Its answers are not missing, and must not be paid again."""
        with weather("batches: [{fault: late_ids, seconds: 3}]") as server:
            settings = settings_for(server, tasks, list_lag_wait=60, remote_update_interval=0.3)
            assert ToyTask(settings, max_batch_requests=batch_size).run()
            check_all_well(server, tasks)
            assert len(batches_of(server, tasks)) == 8 // batch_size, "paid twice"
        assert log.text.count("The server says that batch 1 is completed, and does not say yet in which file") == 1

    def test_answers_whose_file_is_never_named_are_held_not_paid_again(self, weather: Any, tasks: Path) -> None:
        with weather("batches: [{fault: late_ids, seconds: 100000}]") as server:
            assert ToyTask(settings_for(server, tasks)).main() == 1
            assert len(batches_of(server, tasks)) == 1
            billed = ask(server, "/sandbox/ledger")["total"]["cost_pico"]
        assert query(tasks, "SELECT DISTINCT state, reason FROM request") == [("held", "results_vanished")]
        assert query(tasks, "SELECT sum(spent_pico), sum(reserved_pico) FROM ledger") == [(billed, 0)]

    def test_a_file_that_cannot_be_fetched_keeps_no_other_batch_waiting(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        """It is asked for again, and everything else goes on: the server itself is there."""
        fails = {"on": "files.content", "fault": "status", "status": 500, "nth": [1, 2, 3, 4, 5]}
        with weather(f"faults: {json.dumps([fails])}") as server:
            assert ToyTask(settings_for(server, tasks), max_batch_requests=2).run()
            check_all_well(server, tasks)
        settled = [
            batch for (batch,) in query(tasks, "SELECT batch_id FROM event WHERE kind = 'BatchSettled' ORDER BY id")
        ]
        assert sorted(settled) == [1, 2, 3, 4]
        assert settled[0] != 1
        assert log.text.count("The results of batch 1 do not come: HTTP 500: ") == 1

    def test_a_file_that_is_refused_for_long_ends_the_run_in_the_servers_words(
        self, weather: Any, tasks: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After that of all others; nothing is lost."""
        monkeypatch.setattr(search, "FIRST_PAUSE_S", 0.01)
        monkeypatch.setattr(search, "LONGEST_PAUSE_S", 0.01)
        refuses = {
            "on": "files.content",
            "fault": "status",
            "status": 400,
            "message": "not this one",
            "nth": [1, *range(5, 99)],
        }
        with weather(f"faults: {json.dumps([refuses])}") as server:
            with pytest.raises(ServerError, match="not this one"):
                ToyTask(settings_for(server, tasks), max_batch_requests=2).run()
            assert len(rows_of(tasks)) == 6
            tell(server, "/sandbox/plan", yaml.safe_load(QUICK_PLAN))
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)

    def test_a_batch_that_cannot_be_asked_about_hides_no_other(
        self, tmp_path: Path, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        with sandbox(tmp_path / "server", "timing: {requests_per_s: 0.01}") as server:
            assert ToyTask(settings_for(server, tasks), max_batch_requests=4, once=True).main() == 3
            let_time_pass(server, 3000)
            first = [*range(1, 6), *range(7, 12)]  # each of its looks takes five tries
            fails = {"on": "batches.retrieve", "fault": "status", "status": 500, "nth": first}
            tell(server, "/sandbox/plan", {"faults": [fails]})
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
        ended = [batch for (batch,) in query(tasks, "SELECT batch_id FROM event WHERE kind = 'BatchEnded' ORDER BY id")]
        assert ended == [2, 1]
        assert log.text.count("Batch 1 cannot be asked about: HTTP 500: ") == 1


class TestDeleting:
    """Files that nothing needs any more are deleted; that never holds anything up."""

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sweep, "FIRST_PAUSE_S", 0.01)

    def test_a_server_that_fails_to_delete_is_asked_again_while_the_job_goes_on(
        self, weather: Any, tasks: Path
    ) -> None:
        with weather("faults: [{on: files.delete, fault: status, status: 500, times: 15}]") as server:
            assert ToyTask(settings_for(server, tasks), max_batch_requests=4, max_remote_batches=1).run()
            check_all_well(server, tasks)

    def test_a_server_that_never_deletes_costs_nothing_but_a_warning(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweep, "MOST_FAILURES", 1)
        with weather("faults: [{on: files.delete, fault: status, status: 501}]") as server:
            assert ToyTask(settings_for(server, tasks), max_batch_requests=4, max_remote_batches=1).run()
            assert len(rows_of(tasks)) == 8
            assert len(files_of(server, tasks)) == 4
            assert ToyTask(settings_for(server, tasks), wipe_requests=True, run=False).main() == 0, (
                "nor does a wipe wait"
            )
        assert log.text.count("The server does not delete file ") == 4
        assert " (HTTP 501: " in log.text


@pytest.mark.parametrize(
    "plan",
    [
        "retrieve_lag_s: {files: 100000, batches: 0}",
        "batches: [{fault: fail, code: invalid_request, message: Cannot find file}]",
    ],
    ids=["refused at once", "failing later"],
)
def test_a_file_that_is_never_found_there_is_not_uploaded_for_ever(
    weather: Any, tasks: Path, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    """After some uploads it is the user's turn."""
    monkeypatch.setattr(push, "MISSING_FILE_WAIT_S", -1.0)
    monkeypatch.setattr(push, "MOST_UPLOADS", 2)
    monkeypatch.setattr(settle, "MOST_UPLOADS", 2)
    with weather(plan) as server:
        assert ToyTask(settings_for(server, tasks)).main() == 1
        assert len(ask(server, "/sandbox/calls?operation=files.create")["calls"]) in (2, 3)
        assert "Cannot find file" in log.text
        assert query(tasks, "SELECT sum(spent_pico), sum(reserved_pico) FROM ledger") == [(0, 0)]


class TestResultLines:
    """Lines come in any order, twice, broken, for nobody, or not at all."""

    @pytest.mark.parametrize(
        "fault", ["missing", "doubled", "broken", "unknown_id", "infrastructure", "timeout", "refusal"]
    )
    def test_every_row_comes_all_the_same(self, weather: Any, tasks: Path, fault: str) -> None:
        with weather(f"lines: [{{fault: {fault}, nth: [2, 5]}}]") as server:
            assert ToyTask(settings_for(server, tasks)).run()
            assert len(rows_of(tasks)) == 8
            assert files_of(server, tasks) == []

    @pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
    def test_a_row_that_may_succeed_later_is_asked_again(self, weather: Any, tasks: Path, status: int) -> None:
        with weather(f"lines: [{{fault: status, status: {status}, nth: [3]}}]") as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
        assert query(tasks, "SELECT count(*) FROM request WHERE attempt = 2") == [(1,)]

    def test_a_row_that_concerns_the_account_pauses_the_run(self, weather: Any, tasks: Path) -> None:
        """No attempt is used up; when the bill is paid, the same command goes on."""
        plan = "lines: [{fault: status, status: 429, code: insufficient_quota, message: pay first, nth: [3]}]"
        with weather(plan) as server:
            with pytest.raises(AccountError, match="pay first"):
                ToyTask(settings_for(server, tasks)).run()
            assert query(tasks, "SELECT max(attempt) FROM request") == [(1,)]
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)


class TestBatches:
    def test_expired_requests_are_asked_again_for_free(self, weather: Any, tasks: Path) -> None:
        with weather("batches: [{fault: expire, nth: [1], after_fraction: 0.5}]") as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)
        assert query(tasks, "SELECT count(*), max(attempt) FROM request WHERE expiries = 1") == [(4, 1)]
        assert query(tasks, "SELECT sum(requests) FROM ledger") == [(8,)], "what did not run counts against no limit"

    def test_a_request_that_expires_too_often_goes_by_a_direct_call(self, weather: Any, tasks: Path) -> None:
        with weather("batches: [{fault: expire, after_fraction: 0}]") as server:
            assert ToyTask(settings_for(server, tasks), max_expiries=2).run()
            assert len(batches_of(server, tasks)) == 2
            assert len(rows_of(tasks)) == 8
        assert query(tasks, "SELECT DISTINCT state, attempt, expiries FROM request") == [("succeeded", 1, 2)]
        assert query(tasks, "SELECT count(*) FROM response WHERE group_id IS NOT NULL") == [(8,)]

    def test_a_request_that_expires_too_often_fails_if_it_may_not_go_direct(self, weather: Any, tasks: Path) -> None:
        with weather("batches: [{fault: expire, after_fraction: 0}]") as server:
            assert ToyTask(settings_for(server, tasks), max_expiries=2, min_batch_requests=0).run()
            assert len(batches_of(server, tasks)) == 3
        assert query(tasks, "SELECT DISTINCT state, reason, expiries FROM request") == [("failed", "expired", 2)]

    def test_a_batch_cancelled_by_somebody_else_goes_again(self, weather: Any, tasks: Path) -> None:
        with weather("batches: [{fault: cancel, nth: [1], after_fraction: 0.25}]") as server:
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)

    def test_statuses_never_heard_of_and_missing_counts_are_survived(self, weather: Any, tasks: Path) -> None:
        with weather("batches: [{fault: odd_status, nth: [1]}, {fault: no_counts, nth: [2]}]") as server:
            assert ToyTask(settings_for(server, tasks), max_batch_requests=4).run()
            check_all_well(server, tasks)

    def test_a_full_server_queue_is_waited_for_and_its_limit_learnt(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        """token_limit_exceeded is no failure: the batch goes again with the same file."""
        message = "Enqueued token limit reached for M in organization org-x. Limit: 2,000,000 enqueued tokens."
        with weather(
            f"batches: [{{fault: fail, nth: [2], code: token_limit_exceeded, message: '{message}'}}]"
        ) as server:
            task = ToyTask(settings_for(server, tasks), max_batch_requests=4, remote_update_interval=0.05)
            assert task.run()
            check_all_well(server, tasks)
            assert sorted(batch["status"] for batch in batches_of(server, tasks)) == [
                "completed",
                "completed",
                "failed",
            ]
        assert query(tasks, "SELECT model, enqueued_tokens FROM model_limit") == [("gpt-4o-mini", 2_000_000)]
        assert query(tasks, "SELECT count(*), count(DISTINCT file_id) FROM push WHERE batch_id = 2") == [(2, 1)]
        assert "Learnt: 2,000,000 enqueued tokens for gpt-4o-mini" in log.text

    def test_a_batch_larger_than_the_servers_limit_is_split(self, weather: Any, tasks: Path) -> None:
        """Waiting would not help: no batch of that size will ever pass."""
        with weather("enqueued_token_limit: 300\n") as server:
            assert ToyTask(settings_for(server, tasks), remote_update_interval=0.05).run()
            check_all_well(server, tasks)
            assert len([batch for batch in batches_of(server, tasks) if batch["status"] == "completed"]) > 1
        assert query(tasks, "SELECT enqueued_tokens FROM model_limit") == [(300,)]

    def test_a_batch_that_is_heavier_for_the_server_than_for_us_is_split_until_it_is_admitted(
        self, weather: Any, tasks: Path
    ) -> None:
        """Each picture counts 255 tokens here and 765 there: by our count the batch would fit."""

        class Pictures(ToyTask):
            defaults = {"model": "gpt-4o", "max_completion_tokens": 100}  # noqa: RUF012

            def payload(self, key: str) -> dict[str, Any]:
                parts = [{"type": "text", "text": f'Tell me about "{key}".'}, picture(png(512, 512))]
                return {**super().payload(key), "messages": [{"role": "user", "content": parts}]}

        with weather("enqueued_token_limit: 3000\n") as server:
            assert Pictures(settings_for(server, tasks), remote_update_interval=0.05).run()
            check_all_well(server, tasks)
            completed = [batch for batch in batches_of(server, tasks) if batch["status"] == "completed"]
            assert [batch["request_counts"]["total"] for batch in completed] == [2, 2, 2, 2]
        assert query(tasks, "SELECT max(input_tokens) * 1.05 < 3000 FROM batch WHERE state = 'dissolved'") == [(1,)]

    def test_a_batch_that_failed_validation_names_line_sample_and_field(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        class UnknownModel(ToyTask):
            count = 2

        free = {
            f"cost_{kind}_mtoken": 0
            for kind in ("input_direct", "input_cached", "input_batch", "output_direct", "output_batch")
        }
        with weather("") as server:
            task = UnknownModel(settings_for(server, tasks, model="no-such-model", **free))
            assert task.main() == 1
        assert "'word-00000': model_not_found: line 1: " in log.text
        assert "(field body.model)" in log.text
        assert query(tasks, "SELECT state, count(*) FROM request GROUP BY 1") == [("held", 2)]
        assert query(tasks, "SELECT sum(spent_pico), sum(reserved_pico) FROM ledger") == [(0, 0)]

    def test_a_billing_stop_keeps_everything(self, weather: Any, tasks: Path) -> None:
        fault = (
            "{fault: fail, nth: [1], code: billing_hard_limit_reached, message: Billing hard limit has been reached}"
        )
        plan = f"batches: [{fault}]"
        with weather(plan) as server:
            with pytest.raises(AccountError, match="Billing hard limit has been reached"):
                ToyTask(settings_for(server, tasks)).run()
            assert query(tasks, "SELECT reserved_pico FROM account") == [(0,)]
            assert ToyTask(settings_for(server, tasks)).run()
            check_all_well(server, tasks)


def test_once_does_what_can_be_done_and_leaves(weather: Any, tasks: Path) -> None:
    """For cron: exit 3 while work is left, 0 when all is done."""
    with weather("") as server:
        from gpt_batch_api.domain.ending import Ending

        endings = []
        for _ in range(5):
            over = ToyTask(settings_for(server, tasks), once=True, max_batch_requests=4).run_to_end()
            endings.append(over.over.ending)
            if over.over.ending is Ending.DONE:
                break
        assert endings[-1] is Ending.DONE
        check_all_well(server, tasks)


def test_a_storm_ends_with_every_row_accounted_for(weather: Any, tasks: Path) -> None:
    """Many things going wrong at once, until done: delivered, failed or held, and the books equal the server's."""
    plan = """
faults:
  - {on: files.create, fault: lose_after, rate: 0.2}
  - {on: batches.create, fault: lose_after, rate: 0.3}
  - {on: batches.retrieve, fault: status, status: 502, rate: 0.2}
  - {on: files.content, fault: cut, rate: 0.3, after_bytes: 900}
  - {on: files.delete, fault: lose_after, rate: 0.3}
lines:
  - {fault: missing, rate: 0.05}
  - {fault: doubled, rate: 0.05}
  - {fault: broken, rate: 0.05}
  - {fault: status, status: 500, rate: 0.05}
batches:
  - {fault: expire, nth: [2], after_fraction: 0.5}
"""

    class Many(ToyTask):
        count = 120

    with weather(plan) as server:
        task = Many(
            settings_for(server, tasks), max_batch_requests=20, max_retries=8, max_pass_failures=99, min_pass_ratio=0
        )
        assert task.run()
        assert len(rows_of(tasks)) == 120
        assert len({row["key"] for row in rows_of(tasks)}) == 120
        assert files_of(server, tasks) == []
        numbers = [
            batch["metadata"]["gpt_batch_api_batch"]
            for batch in batches_of(server, tasks)
            if batch["status"] != "failed"
        ]
        assert len(numbers) == len(set(numbers)), "a batch was paid twice"
        broken = query(tasks, "SELECT count(*) FROM response WHERE reason = 'missing'")[0][0]
        ours = query(tasks, "SELECT sum(spent_pico) FROM ledger")[0][0]
        billed = ask(server, "/sandbox/ledger")["batches"]
        theirs = sum(billed.get(batch["id"], {"cost_pico": 0})["cost_pico"] for batch in batches_of(server, tasks))
        assert ours == theirs if not broken else ours <= theirs


def test_many_batches_are_asked_for_with_one_call(weather: Any, tasks: Path) -> None:
    """From three batches on, the list is cheaper than asking for each."""
    with weather("") as server:
        task = ToyTask(
            settings_for(server, tasks), max_batch_requests=1, max_unpushed_batches=8, remote_update_interval=0.05
        )
        assert task.run()
        check_all_well(server, tasks)
    with sandbox(tasks.parent / "stuck", "timing: {validating_s: 1000000}\n") as stuck:
        ToyTask(
            settings_for(stuck, tasks, task_prefix="stuck"),
            max_batch_requests=1,
            max_unpushed_batches=8,
            once=True,
        ).run()
        before = ask(stuck, "/sandbox/state")["calls"]
        ToyTask(
            settings_for(stuck, tasks, task_prefix="stuck", remote_update_interval=100), max_batch_requests=1, once=True
        ).run()
        after = ask(stuck, "/sandbox/state")["calls"]
    asked = {name: after.get(name, 0) - before.get(name, 0) for name in ("batches.list", "batches.retrieve")}
    assert asked["batches.retrieve"] == 0
    assert 1 <= asked["batches.list"] <= 2, "one to poll, one to see which server it is"


def test_the_embedded_sandbox_tells_how_long_to_look_for_a_lost_batch(
    tasks: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """By whatever plan; a real server's ten minutes would be of no use."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        QUICK_PLAN + "list_lag_s: {files: 0, batches: 1.5}\n"
        "faults: [{on: batches.create, fault: lose_before, times: 1}]\n"
    )
    began_s = time.monotonic()
    assert ToyTask(task_dir=tasks, sandbox=True, sandbox_plan=str(plan), min_batch_requests=1).run()
    assert "the reply was lost while creating" in log.text
    assert 3.0 <= time.monotonic() - began_s < 100


def test_the_embedded_sandbox_tells_of_a_bad_plan_in_one_line(tasks: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("timings: {}\n")
    with pytest.raises(UserError, match="timings") as caught:
        ToyTask(task_dir=tasks, sandbox=True, sandbox_plan=str(plan)).run()
    assert "\n" not in str(caught.value)


def test_one_bad_row_among_a_thousand_holds_only_itself(
    weather: Any, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """999 are delivered at once; the one waits for the user with the server's words; the user decides; the task is done."""

    class Thousand(ToyTask):
        count = 1000

    plan = "lines: [{fault: status, status: 400, message: This word is not allowed., match: word-00500}]"
    with weather(plan) as server:
        assert Thousand(settings_for(server, tasks)).main() == 1
        assert len(rows_of(tasks)) == 999
        assert query(tasks, "SELECT state, count(*) FROM request GROUP BY 1") == [("held", 1), ("succeeded", 999)]
        assert "This word is not allowed." in log.messages[-1]
        assert "--process_failed_batches 1" in log.messages[-1]
        assert Thousand(settings_for(server, tasks), process_failed_batches=1).run()
        assert files_of(server, tasks) == []
    assert len(rows_of(tasks)) == 999
    assert query(tasks, "SELECT state, count(*) FROM request GROUP BY 1") == [("failed", 1), ("succeeded", 999)]
