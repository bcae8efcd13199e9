"""What `gpt-batch-api run` takes for a long CSV file: peak memory and time, of the job and of the same line again.

    python -m benchmarks.run_csv [ROWS]        (default: 100000)

The command runs in a process of its own against a sandbox server in another one; figures are those of the command's
process. Rows have about 300 input tokens and a structured answer.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.job import PLAN, WORDS, WORDS_PER_REQUEST
from gpt_batch_api.sandbox.child import SandboxProcess

SCHEMA = {
    "title": "Rating",
    "type": "object",
    "properties": {"stars": {"type": "integer"}, "mood": {"type": "string", "enum": ["good", "bad"]}},
    "required": ["stars", "mood"],
    "additionalProperties": False,
}


def write_input(path: Path, rows: int) -> None:
    """A CSV file with an id and a text of some 265 words a row."""
    chance = random.Random(1)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text"])
        for number in range(rows):
            writer.writerow([f"row-{number}", " ".join(chance.choices(WORDS, k=WORDS_PER_REQUEST))])


def measure(what: str, folder: Path, url: str, rows: int) -> None:
    """Run the line once, and print what it took."""
    line = "-m gpt_batch_api run in.csv --output out.csv --columns id --schema schema.json --model gpt-4o-mini".split()
    line += ["--prompt", "Rate: {text}", "--key", "id", "--max_completion_tokens", "200", "--verbosity", "quiet"]
    environment = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-benchmark"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, *line, "--remote_update_interval", "0.5"], cwd=folder, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the job ended with exit code {process.returncode}")
    with (folder / "out.csv").open(encoding="utf-8", newline="") as stream:
        ids = [row["id"] for row in csv.DictReader(stream) if row["status"] == "ok"]
    if ids != [f"row-{number}" for number in range(rows)]:
        sys.exit("the output is not what it should be")
    print(
        f"{what:16} {rows:,} rows: {time.monotonic() - begin:,.0f} s, of which CPU {used.ru_utime + used.ru_stime:,.0f} s; "
        f"peak memory {used.ru_maxrss * 1024 / 1e6:,.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="?", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_input(folder / "in.csv", rows)
        (folder / "schema.json").write_text(json.dumps(SCHEMA))
        (folder / "plan.yaml").write_text(PLAN)
        with SandboxProcess.start(folder / "sandbox.db", plan=folder / "plan.yaml") as sandbox:
            measure("the job", folder, sandbox.url, rows)
            measure("the same again", folder, sandbox.url, rows)


if __name__ == "__main__":
    main()
