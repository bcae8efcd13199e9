"""The benchmark measures what it says."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def record(truth: int, **more: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    return {"endpoint": "/v1/chat/completions", "cls": "plain", "request": body, "prompt_tokens": truth, **more}


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.tokens", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_lines_are_compared_with_the_truth(tmp_path: Path) -> None:
    """One exact, one ten per cent off; a line that cannot be judged is left out; both kinds of files."""
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.xz"
    plain.write_text("\n".join(map(json.dumps, [record(8), record(5, judge=False)])))
    packed.write_bytes(lzma.compress(json.dumps(record(10, model="gpt-4o")).encode()))
    rows = {(row["endpoint"], row["cls"]): row for row in json.loads(run(str(plain), str(packed), "--json"))}
    row = rows["/v1/chat/completions", "plain"]
    assert (row["lines"], row["answered"], row["exact_percent"]) == (2, 2, 50.0)
    assert (row["mean_error_percent"], row["median_error_percent"], row["p95_error_percent"]) == (10.0, 10.0, 20.0)
    assert rows["/v1/chat/completions", "TOTAL"]["lines"] == 2


def test_the_table_has_a_line_for_each_row(tmp_path: Path) -> None:
    """Heads, the class, the totals."""
    (tmp_path / "a.jsonl").write_text(json.dumps(record(8)) + "\n")
    lines = run(str(tmp_path / "a.jsonl")).splitlines()
    assert lines[0].split()[:4] == ["endpoint", "cls", "lines", "answered"]
    assert len(lines) == 5
