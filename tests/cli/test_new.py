"""`gpt-batch-api new`: what it writes runs at once, passes its own test, and is clean in the eyes of linters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_batch_api.cli.main import main
from tests.toy import rows_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_shell(*command: str) -> str:
    """Run Python in a process of its own, which must succeed; what it said."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that says why nothing is written."""
    before = sorted(path.name for path in Path().iterdir())
    assert main(["new", *arguments]) == 1
    assert sorted(path.name for path in Path().iterdir()) == before
    return capsys.readouterr().err


@pytest.mark.parametrize("active", [True, False], ids=["active", "not active"])
def test_the_next_two_lines_can_be_typed_as_they_stand(
    active: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the environment of this Python is not the active one."""
    (Path("bin") / "python").parent.mkdir()
    (Path("bin") / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(Path("bin", "python").absolute()))
    monkeypatch.setenv("PATH", str(Path("bin").absolute()) if active else "/nowhere")
    assert main(["new", "my_reviews"]) == 0
    python = "python" if active else "bin/python"
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"  {python} my_reviews.py --sandbox",
        f"  {python} -m pytest test_my_reviews.py",
    ]


def test_a_new_task_runs_at_once(here: Path) -> None:
    """As the first of the two lines says."""
    assert main(["new", "my_reviews"]) == 0
    in_shell("my_reviews.py", "--sandbox")
    rows = rows_of(here / "tasks", "my_reviews")
    assert sorted(row["key"] for row in rows) == ["coffee", "soup", "train"]
    assert all(row["label"] in ("positive", "negative", "neutral") and row["reason"] for row in rows)


def test_the_test_of_a_new_task_passes() -> None:
    """As the second of them says."""
    main(["new", "my_reviews"])
    assert "1 passed" in in_shell("-m", "pytest", "-q", "test_my_reviews.py")


def test_a_task_about_a_table_asks_about_each_row(here: Path) -> None:
    """By its key, with the other columns in the prompt; also from another folder."""
    (here / "data").mkdir()
    (here / "data" / "films.csv").write_text(
        '\ufeffid,title,"a ""quoted"", column"\nf1,Brazil,"two\nlines"\n\nf2,Amélie,\n', encoding="utf-8"
    )
    main(["new", "films", "--from", "data/films.csv"])
    (here / "elsewhere").mkdir()
    in_shell("films.py", "--sandbox", "--task_dir", "elsewhere")
    assert sorted(row["key"] for row in rows_of(here / "elsewhere", "films")) == ["f1", "f2"]
    page = (here / "films.py").read_text(encoding="utf-8")
    assert '    "title",\n    \'a "quoted", column\',\n)' in page


def test_rows_without_a_name_are_known_by_their_number(here: Path) -> None:
    """The page says what that means."""
    (here / "votes.tsv").write_text("text\tmood\nyes\tup\nyes\tdown\n", encoding="utf-8")
    main(["new", "votes", "--from", "votes.tsv"])
    in_shell("votes.py", "--sandbox")
    assert sorted(row["key"] for row in rows_of(here / "tasks", "votes")) == ["0000001", "0000002"]
    assert "none may move" in (here / "votes.py").read_text(encoding="utf-8")


def test_the_column_of_the_key_can_be_named(here: Path) -> None:
    """A table of names only asks about them."""
    (here / "a.csv").write_text("kind,name\nx,one\nx,two\n", encoding="utf-8")
    main(["new", "a_task", "--from", "a.csv", "--key", "name"])
    assert 'GPTRequest(row["name"], ' in (here / "a_task.py").read_text(encoding="utf-8")


def test_what_is_written_is_clean(here: Path) -> None:
    """For ruff, as it comes and with this project's rules, and for mypy in its strict mode."""
    (here / "data.csv").write_text("id,a long title of a column,it's\n1,2,3\n", encoding="utf-8")
    (here / "data.tsv").write_text("mood\tmood of the day\nup\tup\nup\tup\n", encoding="utf-8")
    main(["new", "plain"])
    main(["new", "by_key", "--from", "data.csv"])
    main(["new", "by_number", "--from", "data.tsv"])
    in_shell("-m", "ruff", "check", "--isolated", "--select", "E,F,W,I,B,C4,N,PIE,PT,RET,RUF,SIM,UP", ".")
    in_shell("-m", "ruff", "format", "--isolated", "--check", ".")
    in_shell("-m", "ruff", "format", "--config", str(ROOT / "pyproject.toml"), "--check", ".")
    in_shell("-m", "mypy", "--strict", *map(str, here.glob("*.py")))


@pytest.mark.parametrize("taken", ["my_task.py", "test_my_task.py"])
def test_nothing_is_overwritten(here: Path, taken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the page nor its test."""
    (here / taken).write_text("mine\n", encoding="utf-8")
    assert refused(capsys, "my_task") == (
        f"error: {taken} exists already, and is not overwritten. Choose another name, or move it away.\n"
    )
    assert (here / taken).read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize("name", ["My", "my-task", "test_it", "class", "1st", "a/b", ""])
def test_a_name_that_no_module_can_have_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, name).startswith(f"error: The name is {name!r}, but must be small letters")


def test_a_name_that_would_hide_a_module_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A json.py in the folder of a script breaks whatever imports json."""
    assert "There is a module 'json' already, which json.py would hide." in refused(capsys, "json")


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (b"", (), "data.csv is empty. Its first line must name the columns."),
        (b"a,b,a\n", (), "data.csv has a column 'a' that is empty or there twice."),
        (b"a,,b\n", (), "data.csv has a column '' that is empty or there twice."),
        (b"a,b\n1,2\n", ("--key", "c"), "data.csv has no column 'c'. There are a, b."),
        (b"a,b\n1,2\n1,3\n", ("--key", "a"), "does not name the rows of data.csv: in line 3 it is '1' again."),
        (b"a,b\n1,2\n3\n", ("--key", "b"), "does not name the rows of data.csv: in line 3 it is empty."),
        (b"a,b\n\xff,2\n", (), "data.csv is not in UTF-8: invalid start byte at byte "),
        (b'a,b\n"1,2\n', (), "data.csv is no table: "),
    ],
)
def test_a_table_that_is_no_good_is_refused(
    here: Path, content: bytes, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line that says what is wrong and where."""
    (here / "data.csv").write_bytes(content)
    assert said in refused(capsys, "my_task", "--from", "data.csv", *arguments)


def test_a_file_that_is_not_there_or_no_table_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is written."""
    assert "nowhere.csv cannot be read: No such file" in refused(capsys, "my_task", "--from", "nowhere.csv")
    assert "reads only files that end in .csv or .tsv" in refused(capsys, "my_task", "--from", "data.xlsx")
    assert "which is not given" in refused(capsys, "my_task", "--key", "a")
