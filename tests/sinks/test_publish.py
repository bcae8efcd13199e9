"""Files that nobody ever sees half of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from gpt_batch_api.domain.disk import sync_folder
from gpt_batch_api.sinks.publish import remove, replace_file, replace_with


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_put_in_place(tmp_path: Path) -> None:
    replace_with(tmp_path / "a.jsonl", [b"one\n", b"", b"two\n"])
    assert (tmp_path / "a.jsonl").read_bytes() == b"one\ntwo\n"
    assert names(tmp_path) == ["a.jsonl"]


def test_an_old_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"a much longer text than the new one\n")
    replace_with(tmp_path / "a.jsonl", [b"new\n"])
    assert (tmp_path / "a.jsonl").read_bytes() == b"new\n"


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """Whoever reads meanwhile sees the old one."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"old")
    seen: list[bytes] = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b"new", b"er"):
            seen.append(path.read_bytes())
            yield chunk

    replace_with(path, chunks())
    assert seen == [b"old", b"old"]
    assert path.read_bytes() == b"newer"


def test_a_leftover_of_a_kill_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.tmp").write_bytes(b"a long leftover of a process that was killed")
    replace_with(tmp_path / "a.jsonl", [b"new"])
    assert (tmp_path / "a.jsonl").read_bytes() == b"new"
    assert names(tmp_path) == ["a.jsonl"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("bad row"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_on_any_failure_the_temporary_file_is_removed(tmp_path: Path, error: BaseException, old: bytes | None) -> None:
    """And the old file stays as it was."""
    path = tmp_path / "a.jsonl"
    if old is not None:
        path.write_bytes(old)

    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise error

    with pytest.raises(type(error)):
        replace_file(path, write)
    assert names(tmp_path) == (["a.jsonl"] if old else [])
    assert not old or path.read_bytes() == old


def test_if_the_name_is_taken_by_a_folder_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="a"):
        replace_with(tmp_path / "a", [b"new"])
    assert names(tmp_path) == ["a"]


def test_a_missing_folder_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_with(tmp_path / "gone" / "a", [b"new"])


def test_removing_what_is_gone_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    remove(tmp_path / "a")
    remove(tmp_path / "a")
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_durable_stops_nothing(tmp_path: Path) -> None:
    """Not every system can."""
    sync_folder(tmp_path)
    sync_folder(tmp_path / "gone")
