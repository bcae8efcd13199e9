"""Lines of result files, in every form in which they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt_batch_api.engine.spool import read_in_order

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
