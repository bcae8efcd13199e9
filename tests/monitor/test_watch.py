"""`gpt-batch-api watch`: the view of a run in another process; and all views say the same."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.cli.main import main
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.engine.lock import held_by
from gpt_batch_api.monitor.facts import facts_of, settings_of
from gpt_batch_api.monitor.report import status_document, status_lines
from gpt_batch_api.monitor.summary import summary_lines
from gpt_batch_api.monitor.view import Rates, log_line, view_lines
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store import snapshot
from tests.monitor.recount import recounted
from tests.monitor.terminal import ROOT, terminal
from tests.monitor.test_facts import FORETOLD
from tests.monitor.test_terminal import STUCK_PLAN, job, stands, view_of
from tests.store.rig import NOW, Desk, desk_at, fatal
from tests.store.test_snapshot import scene
from tests.toy import ToyTask, sandbox, settings_for

WATCH = ("-m", "gpt_batch_api", "watch")


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path / "stuck", STUCK_PLAN) as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path / "toy_state.db") as desk:
        yield desk


def looks(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["watch", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


class TestARunInAnotherProcess:
    def test_it_is_shown_with_who_works_on_it(self, stuck: SandboxProcess, tasks: Path) -> None:
        """Until it is stopped; then the watcher says that nobody works on it, and Ctrl+C ends the watching."""
        with terminal(*job(stuck, tasks), columns=120, rows=40) as run:
            run.until(lambda: stands(run, "2 on the server"))
            with terminal(*WATCH, "--task_dir", str(tasks), columns=120, rows=40) as watch:
                watch.until(lambda: stands(watch, "2 on the server"))
                assert f"process {run.process.pid} on" in view_of(watch)[0]
                assert "of 60 done" in watch.text
                run.process.send_signal(signal.SIGINT)
                assert run.end() == 130
                watch.until(lambda: stands(watch, "nobody works on it"))
                watch.process.send_signal(signal.SIGINT)
                assert watch.end() == 130
                assert stands(watch, "2 on the server"), "the last view stays"

    def test_a_killed_run_is_no_run(
        self, stuck: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with terminal(*job(stuck, tasks), columns=120, rows=40) as run:
            run.until(lambda: stands(run, "2 on the server"))
            (look,) = looks(capsys, "--task_dir", str(tasks), "--once")
            assert f"process {run.process.pid} on" in look["running"]
            run.process.kill()
            run.process.wait()
            (look,) = looks(capsys, "--task_dir", str(tasks), "--once")
            assert look["running"] is None

    def test_it_ends_by_itself_when_all_is_done(self, server: SandboxProcess, tasks: Path) -> None:
        """In a pipe: plain lines."""
        ToyTask(settings_for(server, tasks)).run()
        done = subprocess.run(
            [sys.executable, *WATCH, "--task_dir", str(tasks)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert re.fullmatch(
            r"\[[0-9:]{8}\] toy: nobody works on it\. Progress: 8 of 8 requests done \(100\.0%\); .*\.\n", done.stdout
        )

    def test_it_follows_if_wanted(self, server: SandboxProcess, tasks: Path) -> None:
        ToyTask(settings_for(server, tasks)).run()
        with terminal(*WATCH, "--task_dir", str(tasks), "--follow", "--interval", "0.1") as watch:
            watch.until(lambda: stands(watch, "complete"))
            watch.process.send_signal(signal.SIGINT)
            assert watch.end() == 130

    def test_a_watcher_leaves_the_lock_alone_where_nobody_should_hold_it(
        self, server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A run that begins meanwhile never finds the task taken by somebody who only looks."""
        ToyTask(settings_for(server, tasks)).run()
        lock = tasks / "toy.lock"
        lock.unlink(missing_ok=True)
        lock.mkdir()  # to open it would raise
        assert looks(capsys, "--task_dir", str(tasks), "--once")[0]["running"] is None
        with pytest.raises(OSError, match="directory"):
            held_by(lock)

    def test_all_tasks_of_a_folder_are_watched(
        self, server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for prefix in ("one", "two"):
            ToyTask(settings_for(server, tasks), task_prefix=prefix).run()
        assert [look["task"] for look in looks(capsys, "--task_dir", str(tasks))] == ["one", "two"]

    def test_an_interval_must_be_one(self, tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["watch", "--task_dir", str(tasks), "--interval", "0"]) == 1
        assert "0 must be at least 0.1" in capsys.readouterr().err


class TestAllViewsSayTheSame:
    """Every figure in every view is the store's: the rows are counted anew, one by one."""

    @pytest.fixture
    def figures(self, desk: Desk) -> dict[str, Any]:
        """A task with something of everything; its rows recounted."""
        scene(desk)
        more = desk.answered(*(f"more-{index}" for index in range(40)), cost_pico=7_000_000_000)
        bad = desk.add(*(f"bad-{index}" for index in range(5)))
        batch_id = desk.seal(bad)
        desk.push(batch_id)
        desk.end(batch_id)
        desk.settle(batch_id, [fatal(request_id) for request_id in bad], failure="five are bad")
        desk.hand({**dict.fromkeys(more[:30], RequestState.SUCCEEDED), more[0]: RequestState.FAILED}, rows=True)
        desk.deliver()
        with desk.store.transaction() as tx:
            tx.execute("UPDATE batch SET count_total = requests, count_completed = 1 WHERE state = 'remote'")
        return recounted(desk.db)

    def test_in_lines(self, desk: Desk, figures: dict[str, Any]) -> None:
        taken = snapshot.take(desk.db)
        facts = facts_of(taken, settings=settings_of(taken), now=NOW + 60)
        view = "\n".join(line.plain for line in view_lines(facts, Rates(), prefix="toy", width=100, height=99))
        summary = "\n".join(summary_lines(facts, prefix="toy"))
        status = "\n".join(status_lines(facts, prefix="toy"))
        line = log_line(facts, Rates())
        done = figures["requests/succeeded"] + figures["requests/failed"]
        spent, reserved = dollars(figures["money/spent_pico"]), dollars(figures["money/reserved_pico"])
        share = f"{done / figures['requests/total']:.1%}"
        said = (
            (f"{done} of {figures['requests/total']} done ({share})", [view]),
            (f"{done} of {figures['requests/total']} requests done ({share})", [line]),
            (f"{figures['requests/total']} asked = {figures['requests/succeeded']} succeeded + ", [summary, status]),
            (f"{figures['requests/failed']} failed + {figures['requests/held']} held", [summary, status]),
            (f"+ {figures['requests/under_way']} under way", [summary, status]),
            (f"{figures['requests/queued']} queued, {figures['requests/batched']} in batches", [view, status]),
            (f"{figures['samples/total']}: {figures['samples/pending']} pending, ", [summary, status]),
            (f"{figures['failed/rejected_by_task']} rejected_by_task", [view, summary, status]),
            (f"{figures['held/invalid_request']} invalid_request", [view, summary, status]),
            (f"{figures['requests/held']} held", [line]),
            (f"{figures['batches/local']} local, {figures['batches/remote']} on the server, ", [view, status]),
            (f"{figures['batches/finished']} finished", [view, status]),
            (f"{figures['batches/remote_completed']} of {figures['batches/remote_requests']} done", [view]),
            (f"{spent} spent", [view, summary, status, line]),
            (f"{reserved} reserved", [view, summary, status, line]),
            (f"{figures['tokens/input']:,} input", [view, summary, status]),
            (f"{figures['tokens/output']:,} completion", [view, summary, status]),
            (f"(predicted {figures['tokens/input_predicted']:,})", [summary, status]),
            (f"max {figures['tokens/longest_output']} completion tokens", [summary, status]),
            (f"ratio {figures['tokens/completion_ratio']:.3f}", [view, summary, status]),
            (f"{figures['output/rows']} row", [summary, status]),
            (f"task: {figures['pushed/task_requests']} of 10,000,000 requests", [status]),
        )
        for words, views in said:
            for shown in views:
                assert words in shown, f"{words!r} is not in\n{shown}"

    def test_in_documents(
        self, desk: Desk, figures: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """`watch --json` and `status --json` have every figure, exact."""
        (look,) = looks(capsys, "--task_dir", str(tmp_path), "--task_prefix", "toy", "--once")
        assert main(["status", "--task_dir", str(tmp_path), "--task_prefix", "toy", "--json"]) == 0
        status = json.loads(capsys.readouterr().out)
        for found in (look["figures"], status["figures"]):
            told = {name: value for name, value in found.items() if not name.startswith(FORETOLD)}
            assert told == pytest.approx(figures, rel=1e-12)
        assert status["requests"]["succeeded"] == figures["requests/succeeded"]
        taken = snapshot.take(desk.db)
        facts = facts_of(taken, settings=settings_of(taken), now=NOW)
        assert status_document(facts, prefix="toy")["money"]["spent_pico"] == figures["money/spent_pico"]


def test_ten_thousand_equal_problems_are_a_handful_of_lines_in_every_view(desk: Desk) -> None:
    """They are counted by reason."""
    ids = desk.add(*(f"s-{index}" for index in range(10_000)))
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [fatal(request_id) for request_id in ids], failure="all of them are bad")
    taken = snapshot.take(desk.db)
    facts = facts_of(taken, settings=settings_of(taken), now=NOW)
    views = {
        "view": [line.plain for line in view_lines(facts, Rates(), prefix="toy", width=100, height=99)],
        "summary": summary_lines(facts, prefix="toy"),
        "status": status_lines(facts, prefix="toy"),
    }
    for name, lines in views.items():
        assert any("10,000 invalid_request" in line for line in lines), name
        assert len(lines) <= 16, name
