"""What the documents say is true: code runs, diagrams and tables come from the source, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.make_diagrams import ARCHITECTURE, TABLES, diagram, with_diagrams
from tests.toy import rows_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def test_the_state_diagrams_come_from_the_table() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert with_diagrams(text) == text, "run python -m scripts.make_diagrams"
    assert all(diagram(name) in text for name in TABLES)


def test_the_readme_begins_with_the_two_commands() -> None:
    """Both are one line; the second is what CI runs."""
    first, second = blocks(ROOT / "README.md", "bash")[:2]
    assert len(first.strip().splitlines()) == len(second.strip().splitlines()) == 1
    assert "--sandbox" in first
    assert "pytest" in second


def test_the_task_in_the_readme_runs(tmp_path: Path) -> None:
    """The page of Python, saved and run as it says."""
    (source,) = blocks(ROOT / "README.md", "python")
    (tmp_path / "reviews.py").write_text(source, encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "reviews.py", "--sandbox"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(row["key"] for row in rows_of(tmp_path / "tasks", "reviews")) == ["r1", "r2"]


def test_the_tasks_in_the_guide_run(tmp_path: Path) -> None:
    """The follow-up example as a script, and the parser of one's own."""
    glossary, parser = blocks(ROOT / "docs" / "tasks.md", "python")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    (tmp_path / "glossary.py").write_text(glossary, encoding="utf-8")
    (tmp_path / "parser.py").write_text(parser, encoding="utf-8")
    for command in (["glossary.py", "--sandbox"], ["parser.py"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(tmp_path / "tasks", "glossary")
    assert sorted(row["word"] for row in rows) == ["harbour", "meadow", "thimble"]
    assert all(row["definition"] and row["example"] for row in rows)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_flag_that_a_document_names_exists(document: Path) -> None:
    """A flag that was renamed must not live on in the documents."""
    from gpt_batch_api.cli.options import add_settings, make_parser
    from gpt_batch_api.wandb_configure_view import make_parser as make_view_parser
    from tests.crash.command import make_parser as make_crash_parser

    parser = make_parser()
    add_settings(parser)
    known = {
        flag
        for each in (parser, make_crash_parser(), make_view_parser())
        for action in each._actions
        for flag in action.option_strings
    }
    known |= {"--version", "--json", "--help", "--db", "--plan", "--port", "--host", "--seed", "--time_scale"}
    known |= {"--until_stdin_closes", "--quiet", "--check", "--speed", "--all", "--input"}
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z_0-9]+(?![\w-])", document.read_text(encoding="utf-8")):
        assert flag in known, f"{document.name} names {flag}"
