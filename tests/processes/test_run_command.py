"""`gpt-batch-api run` as users type it: real processes, real files, killed for real."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import query, sandbox

ROOT = Path(__file__).parents[2]
SCHEMA = {
    "title": "Rating",
    "type": "object",
    "properties": {"stars": {"type": "integer"}, "reason": {"type": "string"}},
    "required": ["stars", "reason"],
    "additionalProperties": False,
}
PROMPT = "Rate this review: {text}"
SLOW = "timing: {validating_s: 3, requests_per_s: 1000000, minimum_s: 0, finalizing_s: 0}\n"


def environment(server: SandboxProcess | None) -> dict[str, str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return {**variables, **({"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-test"} if server else {})}


class Shell:
    """A folder with an input, in which commands are typed."""

    def __init__(self, folder: Path, server: SandboxProcess | None) -> None:
        self.folder = folder
        self.server = server
        (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")

    def reviews(self, count: int, *, name: str = "in.csv") -> list[dict[str, str]]:
        """Write an input of *count* rows; its rows."""
        rows = [{"id": f"r{number}", "text": f'Review "{number}",\nsecond line'} for number in range(count)]
        with (self.folder / name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["id", "text"])
            writer.writeheader()
            writer.writerows(rows)
        return rows

    def line(self, *more: str, output: str = "out.csv", prompt: str = PROMPT, source: str = "in.csv") -> list[str]:
        own = ["--output", output, "--model", "gpt-4o-mini", "--prompt", prompt, "--remote_update_interval", "0.1"]
        return [sys.executable, "-m", "gpt_batch_api", "run", source, *own, *more]

    def run(self, *more: str, **arguments: str) -> subprocess.CompletedProcess[str]:
        return self.type(self.line(*more, **arguments))

    def type(self, line: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line,
            cwd=self.folder,
            env=environment(self.server),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def start(self, line: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            line, cwd=self.folder, env=environment(self.server), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def rows(self, name: str = "out.csv") -> list[dict[str, Any]]:
        with (self.folder / name).open(encoding="utf-8", newline="") as stream:
            if name.endswith(".csv"):
                return list(csv.DictReader(stream))
            return [json.loads(line) for line in stream]

    def asked(self, prefix: str = "out") -> int:
        """How many requests were ever sent."""
        return int(query(self.folder / "tasks", "SELECT coalesce(sum(requests), 0) FROM ledger", prefix)[0][0])


@pytest.fixture
def shell(server: SandboxProcess, tmp_path: Path) -> Shell:
    return Shell(tmp_path, server)


class TestFormats:
    def test_each_row_has_its_answer_in_order(self, shell: Shell) -> None:
        given = shell.reviews(25)
        done = shell.run("--schema", "schema.json", "--key", "id")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1].startswith("out.csv: 25 rows (25 ok), $")
        rows = shell.rows()
        assert list(rows[0]) == ["id", "text", "stars", "reason", "status", "cost"]
        assert [{"id": row["id"], "text": row["text"]} for row in rows] == given
        assert all(int(row["stars"]) >= 0 and float(row["cost"]) > 0 for row in rows)

    @pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
    def test_formats_go_over_into_each_other(self, shell: Shell, output: str) -> None:
        given = shell.reviews(3)
        (shell.folder / "in.jsonl").write_text("".join(json.dumps({**row, "n": 1}) + "\n" for row in given))
        done = shell.run("--schema", "schema.json", source="in.jsonl", output=output)
        assert done.returncode == 0, done.stdout + done.stderr
        again = shell.run("--columns", "id,n,stars", source=output, output="again.jsonl")
        assert again.returncode == 0, again.stdout + again.stderr
        rows = shell.rows("again.jsonl")
        assert [list(row) for row in rows] == [["key", "id", "n", "stars", "answer", "status", "cost"]] * 3
        assert [(row["id"], row["n"]) for row in rows] == [("r0", 1), ("r1", 1), ("r2", 1)]
        assert all(isinstance(row["stars"], int) for row in rows)

    def test_the_summary_is_a_document_too(self, shell: Shell) -> None:
        shell.reviews(3)
        done = shell.run("--json")
        document = json.loads(done.stdout)
        assert document["rows"] == 3
        assert document["statuses"] == {"ok": 3}
        assert (document["ending"], document["exit_code"], document["failed_file"]) == ("done", 0, None)
        assert document["cost_pico"] == query(shell.folder / "tasks", "SELECT sum(spent_pico) FROM ledger", "out")[0][0]
        assert "complete" in done.stderr

    def test_a_model_in_a_script_is_a_schema_and_so_is_json(self, shell: Shell) -> None:
        shell.reviews(2)
        (shell.folder / "shapes.py").write_text(
            "from pydantic import BaseModel\nclass Rating(BaseModel):\n    stars: int\n"
        )
        bare = '{"type": "object", "properties": {"stars": {"type": "integer"}}}'
        for schema, output in (("shapes.py:Rating", "a.jsonl"), ("shapes:Rating", "b.jsonl"), (bare, "c.jsonl")):
            done = shell.run("--schema", schema, output=output)
            assert done.returncode == 0, done.stdout + done.stderr
            assert all(isinstance(row["stars"], int) for row in shell.rows(output))

    def test_pictures_of_a_column_are_sent(self, shell: Shell) -> None:
        (shell.folder / "a.png").write_bytes(bytes.fromhex(PIXEL))
        (shell.folder / "in.csv").write_text("text,picture\nx,a.png\ny,\n")
        done = shell.run("--image", "picture")
        assert done.returncode == 0, done.stdout + done.stderr
        missing = (shell.folder / "in.csv").read_text() + "z,b.png\n"
        (shell.folder / "in.csv").write_text(missing)
        refused = shell.run("--image", "picture")
        assert refused.returncode == 1
        assert "Line 4, column 'picture': there is no picture b.png" in refused.stderr

    def test_failed_rows_are_told_with_reason_and_payload(self, tmp_path: Path) -> None:
        plan = "timing: {validating_s: 0, requests_per_s: 1000000, minimum_s: 0, finalizing_s: 0}\n"
        with sandbox(tmp_path / "server", plan + "answers: {refusal_rate: 0.5}\n") as server:
            shell = Shell(tmp_path, server)
            shell.reviews(30)
            done = shell.run("--max_retries", "0", "--min_pass_ratio", "0")
        assert done.returncode == 0, done.stdout + done.stderr
        rows = shell.rows()
        failed = [row for row in rows if row["status"] == "failed"]
        assert 0 < len(failed) < len(rows) == 30
        told = shell.rows("out.csv.failed.jsonl")
        assert [row["key"] for row in told] == [row["key"] for row in failed]
        assert {row["reason"] for row in told} == {"refusal"}
        assert told[0]["payload"]["messages"][0]["content"] == PROMPT.replace("{text}", failed[0]["text"])

    def test_held_rows_are_told_until_the_user_decides(self, tmp_path: Path) -> None:
        plan = "timing: {validating_s: 0, requests_per_s: 1000000, minimum_s: 0, finalizing_s: 0}\n"
        with sandbox(tmp_path / "server", plan + "lines: [{fault: status, status: 400, nth: [2]}]\n") as server:
            shell = Shell(tmp_path, server)
            shell.reviews(5)
            done = shell.run("--min_batch_requests", "0")
            assert done.returncode == 1, done.stdout + done.stderr
            assert sorted(row["status"] for row in shell.rows()) == ["held", "ok", "ok", "ok", "ok"]
            assert [row["status"] for row in shell.rows("out.csv.failed.jsonl")] == ["held"]
            done = shell.run("--min_batch_requests", "0", "--process_failed_batches", "1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(row["status"] for row in shell.rows()) == ["failed", "ok", "ok", "ok", "ok"]

    def test_an_input_without_rows_gives_an_output_without_rows(self, shell: Shell) -> None:
        shell.reviews(0)
        done = shell.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert (shell.folder / "out.csv").read_text() == "key,id,text,answer,status,cost\n"


PIXEL = (
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da63fcff1f0003030200efa2a7"
    "5b0000000049454e44ae426082"
)


class TestAgain:
    def test_added_rows_are_asked_and_done_ones_are_not(self, shell: Shell) -> None:
        shell.reviews(10)
        shell.run()
        first = shell.rows()
        shell.reviews(14)
        done = shell.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert shell.rows()[:10] == first
        assert len(shell.rows()) == 14
        assert shell.asked() == 14

    def test_rows_that_come_while_it_runs_are_work_that_is_left(self, tmp_path: Path) -> None:
        with sandbox(tmp_path / "server", SLOW) as server:
            shell = Shell(tmp_path, server)
            shell.reviews(5)
            process = shell.start(shell.line("--min_batch_requests", "1"))
            wait_for(lambda: has_batch(shell, "out", "remote"), process)
            with (tmp_path / "in.csv").open("a") as stream:
                stream.write("late,a late row\n")
            assert process.wait(60) == 3
            assert [row["status"] for row in shell.rows()] == ["ok"] * 5 + ["pending"]
            assert shell.run().returncode == 0
            assert [row["status"] for row in shell.rows()] == ["ok"] * 6

    def test_a_pilot_is_part_of_the_whole(self, shell: Shell) -> None:
        shell.reviews(20)
        assert shell.run("--limit", "5").returncode == 0
        assert len(shell.rows()) == 5
        assert shell.run().returncode == 0
        assert len(shell.rows()) == 20
        assert shell.asked() == 20

    def test_another_prompt_is_refused_with_the_choices(self, shell: Shell) -> None:
        shell.reviews(3)
        shell.run()
        before = (shell.folder / "out.csv").read_bytes()
        done = shell.run(prompt="Judge: {text}")
        assert done.returncode == 1
        assert done.stderr.startswith("error: The task 'out' in tasks was begun with another question: prompt was")
        assert len(done.stderr.splitlines()) == 1
        assert (shell.folder / "out.csv").read_bytes() == before
        assert shell.run("--reinit_meta", prompt="Judge: {text}").returncode == 0
        assert shell.asked() == 3
        assert shell.run("--wipe_task", prompt="Judge: {text}").returncode == 0
        assert shell.asked() == 6

    def test_work_that_is_left_is_pending_and_exit_3(self, shell: Shell) -> None:
        shell.reviews(8)
        done = shell.run("--max_session_requests", "3", "--force_direct")
        assert done.returncode == 3, done.stdout + done.stderr
        assert [row["status"] for row in shell.rows()] == ["ok"] * 3 + ["pending"] * 5
        assert shell.run().returncode == 0
        assert [row["status"] for row in shell.rows()] == ["ok"] * 8

    @pytest.mark.parametrize("flag", ["--dryrun", "--estimate", "--no_run"])
    def test_looking_writes_nothing(self, shell: Shell, flag: str) -> None:
        shell.reviews(3)
        done = shell.run(flag)
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(path.name for path in shell.folder.iterdir() if path.name != "server") == [
            "in.csv",
            "schema.json",
        ]

    def test_what_a_look_finds_is_in_its_document(self, shell: Shell) -> None:
        shell.reviews(3)
        dry, estimated, looked = (self.look(shell, flag) for flag in ("--dryrun", "--estimate", "--no_run"))
        assert (dry["ending"], dry["exit_code"], dry["status"]["requests"]["asked"]) == ("dry run", 0, 3)
        assert (estimated["ending"], estimated["estimate"]["requests"]["left"]) == ("estimated", 3)
        assert (looked["ending"], looked["status"]) == ("looked", {"task": "out", "begun": False})
        shell.run()
        assert self.look(shell, "--no_run")["status"]["complete"]
        assert self.look(shell, "--no_run", "--wipe_task")["ending"] == "done"

    def look(self, shell: Shell, *flags: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(shell.run(*flags, "--json").stdout)
        return found

    def test_a_wipe_without_a_run_takes_the_output_away(self, shell: Shell) -> None:
        shell.reviews(3)
        shell.run()
        assert shell.run("--wipe_task", "--no_run").returncode == 0
        assert not (shell.folder / "out.csv").exists()

    def test_a_file_that_is_not_ours_is_never_overwritten(self, shell: Shell) -> None:
        shell.reviews(3)
        (shell.folder / "out.csv").write_text("mine")
        done = shell.run()
        assert done.returncode == 1
        assert "out.csv exists already, but the task 'out' in tasks is new" in done.stderr
        assert (shell.folder / "out.csv").read_text() == "mine"
        assert not (shell.folder / "tasks").exists()


class TestMistakes:
    """One line, exit 1, nothing sent."""

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (
                ["--prompt", "{texd}"],
                "prompt names the column 'texd', which in.csv does not have. There are: id, text. Did you mean 'text'?",
            ),
            (["--columns", "id,nothing"], "columns names the column 'nothing', which in.csv does not have"),
            (["--key", "nothing"], "key names the column 'nothing', which in.csv does not have"),
            (
                ["--where", "id == one"],
                "'one', which in.csv does not have. There are: id, text. A text stands in quotes: \"text\".",
            ),
            (["--where", "import os"], "The condition 'import os' cannot be understood"),
            (["--image", "nothing"], "image names the column 'nothing', which in.csv does not have"),
            (["--prompt", "the same"], "The prompt names no column"),
            (["--prompt_file", "p.txt"], "Both --prompt and --prompt_file are given"),
            (["--schema", "nothing.json"], "schema is 'nothing.json', which cannot be read"),
            (["--schema", "{broken"], "schema is '{broken', which is no JSON"),
            (["--schema", "nothing:Model"], "schema is 'nothing:Model', but ModuleNotFoundError"),
            (["--output", "out.xlsx"], "The output out.xlsx ends in '.xlsx'"),
            (["--output", "in.csv"], "The output in.csv is the input too"),
            (["--endpoint", "/v1/responses"], "only /v1/chat/completions is supported"),
            (["--limit", "-1"], "limit is -1"),
            (["--temperature", "7"], "temperature is 7"),
            (["--model", "gpt-99"], "Model 'gpt-99' is not in the price lists"),
            (["--encoding", "ascii"], "line 3 (byte 0xc3) is not ascii"),
        ],
    )
    def test_a_wrong_argument(self, shell: Shell, more: list[str], message: str) -> None:
        (shell.folder / "in.csv").write_text("id,text\n1,x\n2,ü\n", encoding="utf-8")
        done = shell.run(*more)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""
        assert not list(shell.folder.glob("tasks/*"))

    def test_a_broken_table_leaves_nothing_behind(self, shell: Shell) -> None:
        """Not even the sandbox of its own."""
        (shell.folder / "in.csv").write_text('id,text\n1,x\n2,"y\n')
        done = shell.run("--sandbox")
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert not list(shell.folder.glob("tasks/*"))

    def test_without_a_model(self, shell: Shell) -> None:
        shell.reviews(1)
        line = shell.line()
        place = line.index("--model")
        done = shell.type([*line[:place], *line[place + 2 :]])
        assert done.returncode == 1
        assert done.stderr.startswith("error: model is not given")

    def test_a_key_that_occurs_twice_is_named_with_both_lines(self, shell: Shell) -> None:
        (shell.folder / "in.csv").write_text("id,text\n1,x\n2,y\n1,z\n")
        done = shell.run("--key", "id")
        assert done.returncode == 1
        assert "The key '1' occurs twice in in.csv: line 2 and line 4" in done.stderr
        assert not list(shell.folder.glob("tasks/*"))


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the process ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_batch(shell: Shell, prefix: str, state: str) -> bool:
    """Whether a batch is in *state*; the store may be just about to be made."""
    store = shell.folder / "tasks" / f"{prefix}_state.db"
    if not store.exists():
        return False
    try:
        return bool(query(store.parent, f"SELECT 1 FROM batch WHERE state = '{state}'", prefix))
    except sqlite3.Error:
        return False


class TestKilled:
    """SIGKILL in the middle, then the same again, with the embedded sandbox: to the full output, paid once."""

    COUNT = 150

    @pytest.fixture
    def alone(self, tmp_path: Path) -> Shell:
        shell = Shell(tmp_path, None)
        (tmp_path / "slow.yaml").write_text(SLOW)
        shell.reviews(self.COUNT)
        return shell

    def paid(self, shell: Shell, prefix: str) -> int:
        """How many answers the sandbox has charged."""
        with sqlite3.connect(shell.folder / "tasks" / f"{prefix}_sandbox.db") as db:
            return int(db.execute("SELECT count(*) FROM ledger").fetchone()[0])

    def kill_when(self, shell: Shell, line: Sequence[str], condition: Any) -> None:
        process = shell.start(line)
        wait_for(condition, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)

    def test_the_shell_line(self, alone: Shell) -> None:
        limits = ["--max_batch_requests", "50", "--min_batch_requests", "1", "--max_remote_batches", "2"]
        line = alone.line("--sandbox", "--sandbox_plan", "slow.yaml", "--schema", "schema.json", "--key", "id", *limits)
        self.kill_when(alone, line, lambda: has_batch(alone, "out", "remote"))
        self.kill_when(alone, line, lambda: has_batch(alone, "out", "closed"))
        assert not (alone.folder / "out.csv").exists()
        done = alone.type(line)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [row["id"] for row in alone.rows()] == [f"r{number}" for number in range(self.COUNT)]
        assert {row["status"] for row in alone.rows()} == {"ok"}
        assert self.paid(alone, "out") == alone.asked() == self.COUNT

    def test_the_six_lines(self, alone: Shell) -> None:
        source = (
            "import gpt_batch_api, pydantic\n"
            "class Rating(pydantic.BaseModel):\n"
            "    stars: int\n"
            'for result in gpt_batch_api.map("in.csv", "Rate: {text}", Rating, name="six", model="gpt-4o-mini", '
            'sandbox=True, sandbox_plan="slow.yaml", min_batch_requests=1):\n'
            "    print(result.item['id'], result.value.stars)\n"
        )
        assert len(source.splitlines()) <= 6
        (alone.folder / "six.py").write_text(source)
        line = [sys.executable, "six.py"]
        self.kill_when(alone, line, lambda: has_batch(alone, "six", "remote"))
        done = alone.type(line)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [text.split()[0] for text in done.stdout.splitlines()] == [f"r{n}" for n in range(self.COUNT)]
        assert self.paid(alone, "six") == alone.asked("six") == self.COUNT

    def test_a_kill_while_the_output_is_written_leaves_the_old_one(self, alone: Shell) -> None:
        line = alone.line("--sandbox", "--force_direct")
        assert alone.type(line).returncode == 0
        before = (alone.folder / "out.csv").read_bytes()
        unfinished = alone.folder / "out.csv.tmp"
        unfinished.write_bytes(before[:1000])  # as a kill leaves it
        (alone.folder / "out.csv.failed.jsonl.tmp").write_bytes(b"{")
        assert alone.type(line).returncode == 0
        assert (alone.folder / "out.csv").read_bytes() == before
        assert not list(alone.folder.glob("out*.tmp"))


def test_a_run_whose_log_nobody_reads_any_more_goes_on_to_its_end(shell: Shell) -> None:
    """As in `gpt-batch-api run … | head -1`."""
    shell.reviews(20)
    with subprocess.Popen(
        shell.line("--max_batch_requests", "2", "--min_batch_requests", "1"),
        cwd=shell.folder,
        env=environment(shell.server),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert {row["status"] for row in shell.rows()} == {"ok"}


def test_the_server_is_the_users_own_choice(shell: Shell) -> None:
    """Without --sandbox and without a key nothing is made up."""
    shell.reviews(1)
    line = shell.line()
    variables = {name: value for name, value in environment(None).items() if not name.startswith("OPENAI")}
    done = subprocess.run(line, cwd=shell.folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stdout + done.stderr
