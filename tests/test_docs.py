"""What the documents say is true: code runs, diagrams and tables come from the source, links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path

import pytest

from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.pricing.catalogue import Catalogue
from gpt_batch_api.pricing.cost import expected_cost_pico
from scripts import make_commands_docs
from scripts.make_diagrams import ARCHITECTURE, TABLES, diagram, with_diagrams
from scripts.make_monitoring_docs import MONITORING, table, with_table
from scripts.make_reference import REFERENCE_FILE, reference_text
from tests.toy import rows_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGES_TO_FOLLOW = sorted([ROOT / "docs" / "tutorial.md", *(ROOT / "docs" / "howto").glob("*.md")])
"""Pages whose blocks are a story: what is a file is written, what is a command is typed, from top to bottom."""


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def test_the_state_diagrams_come_from_the_table() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert with_diagrams(text) == text, "run python -m scripts.make_diagrams"
    assert all(diagram(name) in text for name in TABLES)


def test_the_reference_comes_from_the_code() -> None:
    """Every public name, as it is called and described now."""
    assert REFERENCE_FILE.read_text(encoding="utf-8") == reference_text(), "run python -m scripts.make_reference"
    assert all(f"\n### `{name}`\n" in reference_text() for name in ("map", "amap", "TaskManager", "configure_logging"))


def test_the_table_of_figures_comes_from_the_source() -> None:
    text = MONITORING.read_text(encoding="utf-8")
    assert with_table(text) == text, "run python -m scripts.make_monitoring_docs"
    assert table() in text


def test_the_readme_begins_with_the_two_commands() -> None:
    """Both are one line; the second is what CI runs."""
    first, second = blocks(ROOT / "README.md", "bash")[:2]
    assert len(first.strip().splitlines()) == len(second.strip().splitlines()) == 1
    assert "--sandbox" in first
    assert "pytest" in second


def test_the_six_lines_and_the_line_of_shell_in_the_readme_run(tmp_path: Path) -> None:
    """With the table that it says to copy."""
    shutil.copy(ROOT / "examples" / "hydra_app" / "reviews.csv", tmp_path)
    (six,) = blocks(ROOT / "README.md", "python")
    (line,) = blocks(ROOT / "README.md", "sh")
    assert len([line for line in six.splitlines() if line]) <= 6
    environment = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    said = []
    for command in ([sys.executable, "-c", six], ["bash", "-c", line]):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert [text.split()[0] for text in said[0].splitlines()] == ["r1", "r2", "r3"]
    assert (tmp_path / "rated.csv").read_text().splitlines()[0] == "key,id,text,answer,status,cost"


def test_the_cost_in_the_readme_is_what_the_price_list_says() -> None:
    """A price that changes changes the page."""
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = re.search(
        r"([\d,]+) rows of (\d+) tokens in and (\d+) out come to \$([\d.]+) with ([\w-]+), instead of \$([\d.]+)", text
    )
    assert said
    rows, tokens_in, tokens_out = (int(said[number].replace(",", "")) for number in (1, 2, 3))
    prices = Catalogue.load().prices(said[5])
    for road, cost in ((Road.BATCH, said[4]), (Road.DIRECT, said[6])):
        pico = rows * expected_cost_pico(input_tokens=tokens_in, output_tokens=tokens_out, prices=prices, road=road)
        assert pico == Decimal(cost).scaleb(12), road


def test_the_tasks_in_the_guide_run(tmp_path: Path) -> None:
    """A page, the follow-up example, and the parser of one's own."""
    page, glossary, parser = blocks(ROOT / "docs" / "tasks.md", "python")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    (tmp_path / "reviews.py").write_text(page, encoding="utf-8")
    (tmp_path / "glossary.py").write_text(glossary, encoding="utf-8")
    (tmp_path / "parser.py").write_text(parser, encoding="utf-8")
    for command in (["reviews.py", "--sandbox"], ["glossary.py", "--sandbox"], ["parser.py"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(row["key"] for row in rows_of(tmp_path / "tasks", "reviews")) == ["r1", "r2"]
    rows = rows_of(tmp_path / "tasks", "glossary")
    assert sorted(row["word"] for row in rows) == ["harbour", "meadow", "thimble"]
    assert all(row["definition"] and row["example"] for row in rows)


@pytest.mark.parametrize("page", PAGES_TO_FOLLOW, ids=lambda path: path.stem)
def test_a_page_can_be_followed_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    """Every file and every command of it, in a fresh folder. What is JSON was printed by the commands before it."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?:^<!-- file: (\S+) -->\n)?^```(\w+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": str(ROOT),
    }
    said = ""
    for name, language, block in found:
        if name:
            (tmp_path / name).write_text(block, encoding="utf-8")
            continue
        assert language in ("bash", "python", "json"), f"{page.name} has a block of {language} that is no file"
        commands = {"bash": ["bash", "-euo", "pipefail", "-c", block], "python": [sys.executable, "-c", block]}
        if language in commands:
            done = subprocess.run(
                commands[language], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
            said = done.stdout
        else:
            assert block in said, f"{block} is not what the commands before it print:\n{said}"


@pytest.mark.parametrize("form", [0, 1], ids=["a call", "a class"])
def test_the_self_check_of_the_guide_passes_for_the_page_of_the_guide(form: int, tmp_path: Path) -> None:
    """Both forms of the test, as a user would run them."""
    page = blocks(ROOT / "docs" / "tasks.md", "python")[0]
    (tmp_path / "reviews.py").write_text(page, encoding="utf-8")
    test = blocks(ROOT / "docs" / "testing.md", "python")[form]
    (tmp_path / "test_reviews.py").write_text(test, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{(1, 4)[form]} passed" in done.stdout


def test_the_commands_on_their_page_run(tmp_path: Path) -> None:
    """All of them, one after the other, beside the task that the page shows."""
    page = make_commands_docs.FILE
    (source,) = blocks(page, "python")
    (tmp_path / "words.py").write_text(source, encoding="utf-8")
    (tmp_path / "gpt-batch-api").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gpt_batch_api "$@"\n')
    (tmp_path / "gpt-batch-api").chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin"
    lines = "\n".join(blocks(page, "bash"))
    done = subprocess.run(
        ["bash", "-e", "-c", lines],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.search(r"((?:^    .*\n)+)\nRows, states", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert shown is not None
    assert textwrap.dedent(shown[1]) in done.stdout
    assert all(len(row["definition"]) > 3 for row in rows_of(tmp_path / "tasks", "words"))
    assert len((tmp_path / "words.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_the_reference_of_commands_comes_from_the_parsers() -> None:
    text = make_commands_docs.FILE.read_text(encoding="utf-8")
    assert make_commands_docs.with_reference(text) == text, "run python -m scripts.make_commands_docs"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_flag_that_a_document_names_exists(document: Path) -> None:
    """A flag that was renamed must not live on in the documents."""
    from gpt_batch_api.cli.main import COMMANDS
    from gpt_batch_api.cli.main import make_parser as make_command_parser
    from gpt_batch_api.cli.options import add_settings, make_parser
    from gpt_batch_api.wandb_configure_view import make_parser as make_view_parser
    from tests.crash.command import make_parser as make_crash_parser

    parser = make_parser()
    add_settings(parser)
    parsers = [parser, make_crash_parser(), make_view_parser(), *map(make_command_parser, COMMANDS)]
    known = {flag for each in parsers for action in each._actions for flag in action.option_strings}
    known |= {"--version", "--quiet", "--check", "--speed", "--all", "--input"}
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z_0-9]+(?![\w-])", document.read_text(encoding="utf-8")):
        assert flag in known, f"{document.name} names {flag}"


def test_the_line_and_the_calls_over_tables_run(tmp_path: Path) -> None:
    """docs/run.md and docs/map.md, as they stand."""
    (tmp_path / "reviews.csv").write_text('id,text\nr1,"Great coffee, friendly staff."\nr2,Cold soup.\n')
    (tmp_path / "rating.json").write_text(blocks(ROOT / "docs" / "run.md", "json")[0], encoding="utf-8")
    (line,) = blocks(ROOT / "docs" / "run.md", "bash")
    environment = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    commands = [["bash", "-c", line]]
    six, *others = blocks(ROOT / "docs" / "map.md", "python")
    assert len([line for line in six.splitlines() if line]) <= 6
    commands += [[sys.executable, "-c", source] for source in (six, *others)]
    said = []
    for command in commands:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert (tmp_path / "rated.csv").read_text().splitlines()[0] == "key,id,text,stars,reason,status,cost"
    assert [text.split()[0] for text in said[1].splitlines()] == ["r1", "r2"]
    assert said[2].startswith("complete\nharbour →")
