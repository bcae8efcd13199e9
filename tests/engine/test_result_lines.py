"""Lines of result files, in every form in which they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt_batch_api.engine.spool import read_in_order, seems_complete

GOOD = b'{"custom_id":"7-0","response":null,"error":null}'
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "line",
    [
        DEEP,
        b'{"custom_id":"5-0","response":' + DEEP + b"}",
        b'{"custom_id":"5-0","response":',
        b'{"custom_id":"5-0\xff"}',
        b'{"custom_id":"05-0"}',
        b'{"custom_id":["5-0"]}',
        b'["custom_id"]',
    ],
    ids=lambda line: f"{line!r:.30}",
)
def test_a_line_that_cannot_be_used_is_told_and_the_others_are_read(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(line + b"\n" + GOOD + b"\n")
    broken: list[bytes] = []
    found = list(read_in_order([path], on_broken=broken.append))
    assert [(one.request_id, one.epoch, one.raw) for one in found] == [(7, 0, GOOD)]
    assert broken == [line + b"\n"]


@pytest.mark.parametrize(
    ("content", "complete"),
    [
        (b'{"custom_id":"8-0"}\n' + GOOD + b"\n", True),
        (b'{"custom_id":"8-0"}\n' + GOOD, True),
        (b'{"custom_id":"8-0"}\n' + GOOD[:-1], False),
        (b'{"custom_id":"8-0"}\n' + GOOD[:-1] + b"\n", True),
        (b'{"custom_id":"8-0"}\n', False),
        (GOOD + b"\n" + GOOD + b"\n", False),
        (GOOD + b"\n" + b'{"x":1}\n', False),
        (b"", False),
    ],
    ids=["all", "no last line end", "cut in a line", "broken line", "one missing", "one twice", "stray", "nothing"],
)
def test_files_seem_complete_if_each_request_has_a_line_and_the_last_line_is_whole(
    tmp_path: Path, content: bytes, complete: bool
) -> None:
    """A broken line inside is the server's own; only what is cut off can be had by fetching again."""
    path, errors = tmp_path / "output.jsonl", tmp_path / "error.jsonl"
    path.write_bytes(content)
    errors.write_bytes(b"")
    assert seems_complete([path, errors], requests=2) is complete
