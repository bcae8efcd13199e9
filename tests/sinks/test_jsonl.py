"""JSON lines: appended, cut back after a kill, split into parts, built anew when rows are taken back."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from gpt_batch_api.domain.delivery import Delivered, Progress
from gpt_batch_api.domain.errors import OutputError
from gpt_batch_api.sinks.jsonl import JsonLines, Parts
from gpt_batch_api.sinks.publish import TEMPORARY
from tests.sinks.rig import Store, deliver, deliver_until_killed, lines_of, row, rows

SIZE = len(row(1)) + 1
"""Bytes of a line with a number of one digit."""

BY_TWO = Parts(max_entries=2)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "words_output"


def files(output: JsonLines) -> list[str]:
    return [path.name for path in output.files()]


def all_files(base: Path) -> list[str]:
    return sorted(path.name for path in base.parent.iterdir())


class TestAppending:
    """Rows are appended as they come; delivered lines never change."""

    def test_rows_become_lines(self, base: Path) -> None:
        output, store = JsonLines(base), Store().add('{"a":"é"}', '{"a":"\u2028"}')
        deliver(output, store)
        assert (base.parent / "words_output.jsonl").read_bytes() == '{"a":"é"}\n{"a":"\u2028"}\n'.encode()
        assert output.files() == [base.parent / "words_output.jsonl"]

    def test_the_position_tells_rows_bytes_checksum_and_the_newest_row(self, base: Path) -> None:
        store = Store(last=41).add(*rows(1, 3))
        (progress,) = deliver(JsonLines(base), store)
        text = ("\n".join(rows(1, 3)) + "\n").encode()
        assert progress == Progress(
            (
                Delivered(
                    part=1,
                    generation=1,
                    file_name="words_output.jsonl",
                    rows=3,
                    size_bytes=len(text),
                    crc32=zlib.crc32(text),
                    last_output=44,
                ),
            )
        )

    def test_new_rows_follow_the_old_ones(self, base: Path) -> None:
        output, store = JsonLines(base), Store()
        for number in range(1, 6):
            deliver(output, store.add(row(number)))
        assert lines_of(*output.files()) == rows(1, 5)
        assert store.delivered[0].rows == 5

    def test_rows_are_delivered_as_they_come(self, base: Path) -> None:
        """Whoever looks into the file during a run sees them."""
        assert JsonLines(base).continuous

    def test_without_rows_there_is_no_file(self, base: Path) -> None:
        assert deliver(JsonLines(base), Store()) == []
        assert all_files(base) == []

    @pytest.mark.parametrize("parts", [Parts(), BY_TWO])
    def test_nothing_is_written_when_nothing_is_new(self, base: Path, parts: Parts) -> None:
        """Not even the time of the last change."""
        output, store = JsonLines(base, parts=parts), Store().add(*rows(1, 5))
        deliver(output, store)
        before = [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in output.files()]
        assert deliver(output, store) == []
        assert [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in output.files()] == before

    def test_a_long_delivery_is_committed_in_steps(self, base: Path) -> None:
        """So that little is written again after a kill; no row is lost or moved between two steps."""
        many = [row(number, width=1_000_000) for number in range(40)]
        output, store = JsonLines(base), Store().add(*many)
        steps = deliver(output, store)
        assert len(steps) > 1
        assert lines_of(*output.files()) == many
        assert [part.last_output for step in steps for part in step.parts] == sorted(
            {part.last_output for step in steps for part in step.parts}
        )
        assert store.delivered[0].rows == 40

    def test_files_of_others_are_left_alone(self, base: Path) -> None:
        """Names that begin alike, and copies that a user made."""
        others = ["words_output_old.jsonl", "words_output2.jsonl", "words_output.json", "words_output_part001.txt"]
        for name in others:
            (base.parent / name).write_text("mine\n", encoding="utf-8")
        output, store = JsonLines(base), Store().add(*rows(1, 3))
        deliver(output, store)
        store.take_back(1)
        deliver(output, store)
        output.remove()
        assert all_files(base) == sorted(others)


class TestParts:
    """A new part begins when the next row would pass a limit."""

    @pytest.mark.parametrize("number", range(8))
    def test_parts_by_entries(self, base: Path, number: int) -> None:
        """Every part but the last is full, in order, nothing lost, nothing twice: in one delivery."""
        output, store = JsonLines(base, parts=Parts(max_entries=3)), Store().add(*rows(1, number))
        deliver(output, store)
        assert lines_of(*output.files()) == rows(1, number)
        assert [part.rows for part in store.delivered] == [3] * (number // 3) + [number % 3] * (number % 3 > 0)
        assert files(output) == [f"words_output_part{part:03}.jsonl" for part in range(1, -(-number // 3) + 1)]

    @pytest.mark.parametrize("number", range(8))
    def test_parts_are_the_same_however_the_rows_come(self, base: Path, number: int) -> None:
        output, store = JsonLines(base, parts=Parts(max_entries=3)), Store()
        for one in range(1, number + 1):
            deliver(output, store.add(row(one)))
        assert lines_of(*output.files()) == rows(1, number)
        assert [part.rows for part in store.delivered] == [3] * (number // 3) + [number % 3] * (number % 3 > 0)

    @pytest.mark.parametrize(
        ("max_bytes", "expected"),
        [
            (2 * SIZE - 1, [1, 1, 1, 1, 1]),
            (2 * SIZE, [2, 2, 1]),
            (2 * SIZE + 1, [2, 2, 1]),
            (3 * SIZE - 1, [2, 2, 1]),
            (3 * SIZE, [3, 2]),
            (5 * SIZE, [5]),
        ],
    )
    def test_a_part_may_reach_its_bytes_and_not_pass_them(
        self, base: Path, max_bytes: int, expected: list[int]
    ) -> None:
        output, store = JsonLines(base, parts=Parts(max_bytes=max_bytes)), Store().add(*rows(1, 5))
        deliver(output, store)
        assert [part.rows for part in store.delivered] == expected
        assert lines_of(*output.files()) == rows(1, 5)
        assert all(path.stat().st_size <= max_bytes for path in output.files())

    def test_a_row_larger_than_a_part_has_one_to_itself(self, base: Path) -> None:
        """It must go somewhere."""
        three = [row(1), row(2, width=100), row(3)]
        output, store = JsonLines(base, parts=Parts(max_bytes=SIZE)), Store().add(*three)
        deliver(output, store)
        assert [part.rows for part in store.delivered] == [1, 1, 1]
        assert lines_of(*output.files()) == three

    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            (Parts(max_entries=2, max_bytes=10 * SIZE), [2, 2, 1]),
            (Parts(max_entries=10, max_bytes=3 * SIZE), [3, 2]),
        ],
    )
    def test_the_limit_that_is_reached_first_counts(self, base: Path, parts: Parts, expected: list[int]) -> None:
        store = Store().add(*rows(1, 5))
        deliver(JsonLines(base, parts=parts), store)
        assert [part.rows for part in store.delivered] == expected

    @pytest.mark.parametrize(
        ("parts", "part", "line", "full"),
        [
            (Parts(), (10**6, 10**12), 10, False),
            (Parts(max_entries=3), (2, 100), 10, False),
            (Parts(max_entries=3), (3, 100), 10, True),
            (Parts(max_entries=3), (4, 100), 10, True),
            (Parts(max_bytes=100), (2, 89), 10, False),
            (Parts(max_bytes=100), (2, 90), 10, False),
            (Parts(max_bytes=100), (2, 91), 10, True),
            (Parts(max_bytes=100), (0, 0), 1000, False),
            (Parts(max_entries=1, max_bytes=1), (0, 0), 1000, False),
        ],
    )
    def test_when_a_part_is_full(self, parts: Parts, part: tuple[int, int], line: int, full: bool) -> None:
        """An empty part never is."""
        delivered = Delivered(1, 0, "x", rows=part[0], size_bytes=part[1], crc32=0, last_output=0)
        assert parts.is_full(delivered, b"x" * line) == full

    @pytest.mark.parametrize(
        ("number", "name"),
        [(1, "words_output_part001.jsonl"), (999, "words_output_part999.jsonl"), (1000, "words_output_part1000.jsonl")],
    )
    def test_parts_are_numbered(self, base: Path, number: int, name: str) -> None:
        assert JsonLines(base, parts=BY_TWO).part_path(number).name == name

    def test_files_come_in_the_order_of_their_parts(self, base: Path) -> None:
        """Also beyond part 999, whose name no longer sorts by itself."""
        output = JsonLines(base, parts=BY_TWO)
        expected = [output.part_path(number) for number in (1, 2, 999, 1000, 1001)]
        for path in reversed(expected):
            path.touch()
        assert list(output.files()) == expected

    def test_a_base_with_wildcards_finds_its_own_parts_only(self, tmp_path: Path) -> None:
        (tmp_path / "ab_part001.jsonl").touch()
        output, store = JsonLines(tmp_path / "a[b]*", parts=BY_TWO), Store().add(*rows(1, 3))
        deliver(output, store)
        assert files(output) == ["a[b]*_part001.jsonl", "a[b]*_part002.jsonl"]

    def test_a_copy_that_the_user_made_of_a_part_is_left_alone(self, base: Path) -> None:
        copies = ["words_output_part001_checked.jsonl", "words_output_part0012.copy.jsonl"]
        for name in copies:
            (base.parent / name).write_text("mine\n", encoding="utf-8")
        output, store = JsonLines(base, parts=BY_TWO), Store().add(*rows(1, 5))
        deliver(output, store)
        store.take_back(1)
        deliver(output, store)
        output.remove()
        assert all_files(base) == sorted(copies)


class TestKilled:
    """After a kill whatever lies behind the committed position is cut off and delivered again."""

    @pytest.mark.parametrize("tail", [b"x", b'{"i":9}\n', b'{"i":', b"\n\n", b"\xff" * 5000])
    def test_a_tail_is_cut_back(self, base: Path, tail: bytes) -> None:
        output, store = JsonLines(base), Store().add(*rows(1, 3))
        deliver(output, store)
        with output.part_path(1).open("ab") as stream:
            stream.write(tail)
        restarted = JsonLines(base)
        restarted.check(store.delivered)
        deliver(restarted, store.add(row(4)))
        assert lines_of(*restarted.files()) == rows(1, 4)

    @pytest.mark.parametrize("tail", [b"x", b'{"i":9}\n', b"\xff" * 5000])
    def test_a_tail_is_cut_back_though_no_row_waits(self, base: Path, tail: bytes) -> None:
        """And how much that was is told."""
        output, store = JsonLines(base), Store().add(*rows(1, 3))
        deliver(output, store)
        with output.part_path(1).open("ab") as stream:
            stream.write(tail)
        assert deliver(JsonLines(base), store) == [Progress(cut_bytes=len(tail))]
        assert lines_of(*output.files()) == rows(1, 3)
        assert deliver(JsonLines(base), store) == []

    @pytest.mark.parametrize("parts", [Parts(), BY_TWO])
    @pytest.mark.parametrize("number", [2, 3])
    def test_rows_written_and_taken_back_before_they_were_committed_are_gone(
        self, base: Path, parts: Parts, number: int
    ) -> None:
        """Though the output has no new generation then: none of them was delivered."""
        output, store = JsonLines(base, parts=parts), Store().add(*rows(1, number))
        deliver(output, store)
        deliver_until_killed(JsonLines(base, parts=parts), store.add(row(8)))
        assert lines_of(*output.files()) == [*rows(1, number), row(8)]
        store.take_back(number)
        assert store.generation == 1
        deliver(JsonLines(base, parts=parts), store.add(row(9)))
        assert lines_of(*output.files()) == [*rows(1, number), row(9)]
        assert all_files(base) == [part.file_name for part in store.delivered]

    @pytest.mark.parametrize("parts", [Parts(), BY_TWO])
    def test_rows_written_and_not_committed_are_not_doubled(self, base: Path, parts: Parts) -> None:
        output, store = JsonLines(base, parts=parts), Store().add(*rows(1, 3))
        deliver(output, store)
        for _ in range(3):
            deliver_until_killed(JsonLines(base, parts=parts), store.add(row(store.last + 1)))
        restarted = JsonLines(base, parts=parts)
        restarted.check(store.delivered)
        deliver(restarted, store)
        assert lines_of(*restarted.files()) == rows(1, 6)

    @pytest.mark.parametrize("commits", range(4))
    def test_a_kill_between_two_parts_loses_and_doubles_nothing(self, base: Path, commits: int) -> None:
        store = Store().add(*rows(1, 8))
        deliver_until_killed(JsonLines(base, parts=BY_TWO), store, commits=commits)
        restarted = JsonLines(base, parts=BY_TWO)
        restarted.check(store.delivered)
        deliver(restarted, store)
        assert lines_of(*restarted.files()) == rows(1, 8)
        assert [part.rows for part in store.delivered] == [2, 2, 2, 2]

    def test_a_first_delivery_that_was_never_committed_begins_anew(self, base: Path) -> None:
        store = Store().add(*rows(1, 3))
        deliver_until_killed(JsonLines(base), store, rows=2)
        assert store.delivered == []
        deliver(JsonLines(base), store)
        assert lines_of(base.with_name("words_output.jsonl")) == rows(1, 3)

    @pytest.mark.parametrize("parts", [Parts(), BY_TWO])
    @pytest.mark.parametrize("keep", [0, 1, 3])
    def test_rows_of_a_first_delivery_that_was_never_committed_can_be_taken_back(
        self, base: Path, parts: Parts, keep: int
    ) -> None:
        """No file holds them then, though no position speaks of one."""
        store = Store().add(*rows(1, 3))
        deliver_until_killed(JsonLines(base, parts=parts), store)
        store.take_back(keep)
        deliver(JsonLines(base, parts=parts), store)
        assert lines_of(*JsonLines(base, parts=parts).files()) == rows(1, keep)


class TestRebuilt:
    """If rows were taken back, or a file is gone, the files are built anew beside the old ones and replace them."""

    @pytest.mark.parametrize("keep", range(5))
    @pytest.mark.parametrize("parts", [Parts(), BY_TWO])
    def test_rows_taken_back_are_gone(self, base: Path, parts: Parts, keep: int) -> None:
        """And so are parts that are not needed any more."""
        output, store = JsonLines(base, parts=parts), Store().add(*rows(1, 5))
        deliver(output, store)
        store.take_back(keep)
        (progress,) = deliver(output, store)
        assert progress.replaces_all
        assert lines_of(*output.files()) == rows(1, keep)
        assert sum(part.rows for part in store.delivered) == keep
        assert all_files(base) == files(output)

    def test_new_rows_follow_those_that_stayed(self, base: Path) -> None:
        output, store = JsonLines(base, parts=BY_TWO), Store().add(*rows(1, 5))
        deliver(output, store)
        store.take_back(3)
        deliver(output, store.add("7", "8", "9"))
        deliver(output, store.add("10"))
        assert lines_of(*output.files()) == [*rows(1, 3), "7", "8", "9", "10"]
        assert {part.generation for part in store.delivered} == {2}

    @pytest.mark.parametrize("gone", [1, 2, 3])
    def test_a_missing_file_is_made_anew(self, base: Path, gone: int) -> None:
        """With all parts as they were."""
        output, store = JsonLines(base, parts=BY_TWO), Store().add(*rows(1, 5))
        deliver(output, store)
        before = list(store.delivered)
        output.part_path(gone).unlink()
        output.check(store.delivered)
        deliver(output, store)
        assert lines_of(*output.files()) == rows(1, 5)
        assert store.delivered == before

    @pytest.mark.parametrize("parts", [Parts(), BY_TWO])
    @pytest.mark.parametrize("keep", [0, 1, 3, 5])
    def test_a_kill_after_the_files_were_replaced_is_no_edit_by_hand(self, base: Path, parts: Parts, keep: int) -> None:
        """The files are new already, the committed position is still the old one: the next run finishes it."""
        store = Store().add(*rows(1, 5))
        deliver(JsonLines(base, parts=parts), store)
        store.take_back(keep)
        store.add("7")
        deliver_until_killed(JsonLines(base, parts=parts), store)
        restarted = JsonLines(base, parts=parts)
        restarted.check(store.delivered)
        deliver(restarted, store)
        assert lines_of(*restarted.files()) == [*rows(1, keep), "7"]

    @pytest.mark.parametrize("replaced", range(4))
    def test_a_kill_between_two_replacements_is_no_edit_by_hand(self, base: Path, replaced: int) -> None:
        """Some parts are new already, the others still lie beside the old ones."""
        store, output = Store().add(*rows(1, 7)), JsonLines(base, parts=BY_TWO)
        deliver(output, store)
        old = {part: output.part_path(part).read_bytes() for part in range(1, 5)}
        store.take_out([0])
        deliver_until_killed(output, store)
        for part in range(replaced + 1, 4):
            path = output.part_path(part)
            path.with_name(path.name + TEMPORARY).write_bytes(path.read_bytes())
            path.write_bytes(old[part])
        restarted = JsonLines(base, parts=BY_TWO)
        restarted.check(store.delivered)
        deliver(restarted, store)
        assert lines_of(*restarted.files()) == rows(2, 7)
        assert all_files(base) == files(restarted)

    def test_a_kill_while_the_new_files_are_written_leaves_the_old_ones(self, base: Path) -> None:
        store = Store().add(*rows(1, 5))
        deliver(JsonLines(base, parts=BY_TWO), store)
        store.take_back(4)
        deliver_until_killed(JsonLines(base, parts=BY_TWO), store, rows=3)
        restarted = JsonLines(base, parts=BY_TWO)
        restarted.check(store.delivered)
        assert lines_of(*restarted.files()) == rows(1, 5)
        deliver(restarted, store)
        assert lines_of(*restarted.files()) == rows(1, 4)

    def test_nothing_is_left_behind_by_a_rebuild_that_was_killed(self, base: Path) -> None:
        """Though the next one needs fewer parts."""
        store = Store().add(*rows(1, 7))
        deliver(JsonLines(base, parts=BY_TWO), store)
        store.take_back(6)
        deliver_until_killed(JsonLines(base, parts=BY_TWO), store, rows=5)
        store.take_back(1)
        deliver(JsonLines(base, parts=BY_TWO), store)
        assert all_files(base) == ["words_output_part001.jsonl"]

    def test_removing_leaves_nothing_of_a_rebuild_that_was_killed(self, base: Path) -> None:
        store = Store().add(*rows(1, 7))
        deliver(JsonLines(base, parts=BY_TWO), store)
        store.take_back(6)
        deliver_until_killed(JsonLines(base, parts=BY_TWO), store, rows=5)
        JsonLines(base, parts=BY_TWO).remove()
        assert all_files(base) == []

    @pytest.mark.parametrize(("before", "after"), [(Parts(), BY_TWO), (BY_TWO, Parts())], ids=["cut", "joined"])
    def test_files_of_another_form_are_replaced(self, base: Path, before: Parts, after: Parts) -> None:
        """The task asks for parts now, or no longer: the rows stand in the new files only."""
        store = Store().add(*rows(1, 5))
        deliver(JsonLines(base, parts=before), store)
        output = JsonLines(base, parts=after)
        output.check(store.delivered)
        deliver(output, store)
        assert lines_of(*output.files()) == rows(1, 5)
        assert all_files(base) == files(output)


class TestEditedByHand:
    """A file that was changed is not appended to: the user is told."""

    @pytest.mark.parametrize("parts", [Parts(), BY_TWO])
    @pytest.mark.parametrize(
        "edit",
        [
            lambda text: text.replace(b'"i":1', b'"i":7'),
            lambda text: text[:-1],
            lambda text: b"",
            lambda text: b"\n" + text,
            lambda text: text.replace(b"\n", b"\r\n"),
        ],
        ids=["changed", "shorter", "emptied", "longer", "line ends"],
    )
    def test_a_changed_file_is_refused(self, base: Path, parts: Parts, edit: object) -> None:
        assert callable(edit)
        output, store = JsonLines(base, parts=parts), Store().add(*rows(1, 4))
        deliver(output, store)
        path = output.part_path(1)
        path.write_bytes(edit(path.read_bytes()))
        with pytest.raises(OutputError) as caught:
            output.check(store.delivered)
        assert str(caught.value) == (
            f"The output file {path.name} was changed by hand after it was delivered. "
            "Move it away: it will be built anew from the store."
        )

    def test_moving_it_away_helps(self, base: Path) -> None:
        """As the error says."""
        output, store = JsonLines(base), Store().add(*rows(1, 4))
        deliver(output, store)
        output.part_path(1).write_text("mine\n", encoding="utf-8")
        output.part_path(1).rename(base.parent / "mine.txt")
        output.check(store.delivered)
        deliver(output, store)
        assert lines_of(output.part_path(1)) == rows(1, 4)

    def test_a_file_that_is_as_it_was_passes(self, base: Path) -> None:
        output, store = JsonLines(base, parts=BY_TWO), Store().add(*rows(1, 5))
        deliver(output, store)
        output.check(store.delivered)
        output.check([])

    def test_a_file_cut_while_the_run_goes_on_is_never_filled_up_with_nothing(self, base: Path) -> None:
        """The user empties it to save room: refused, or built anew, but no bytes that nobody wrote."""
        output, store = JsonLines(base), Store().add(*rows(1, 4))
        deliver(output, store)
        output.part_path(1).write_bytes(b"")
        store.add(row(5))
        try:
            deliver(output, store)
        except OutputError:
            return
        assert lines_of(output.part_path(1)) == rows(1, 5)
