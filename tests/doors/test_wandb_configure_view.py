"""The workspace view of wandb: every panel shows figures that exist, and what cannot be set up is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api import wandb_configure_view
from gpt_batch_api.monitor.figures import FIGURES
from gpt_batch_api.monitor.tracking import BATCHES, batch_figures
from gpt_batch_api.monitor.wandb_view import SECTIONS
from gpt_batch_api.store.finished import FinishedBatch

ROOT = Path(__file__).parents[2]
USAGE = {"total_tokens": 2, "input_tokens": 1, "output_tokens": 1}
BATCH = FinishedBatch(
    1,
    "m",
    "completed",
    2,
    9,
    1,
    0,
    0,
    0,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    pushed_at=0.0,
    ended_at=1.0,
    report={"usage": USAGE},
)


def configure(folder: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpt_batch_api.wandb_configure_view", *flags],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_panel_shows_figures_that_are_logged() -> None:
    logged = {figure.name.removesuffix("_pico") for figure in FIGURES} | {BATCHES}
    logged |= {f"batch/{name}" for name in batch_figures(BATCH)}
    panels = [panel for section in SECTIONS for panel in section.panels]
    assert {figure for panel in panels for figure in panel.figures} <= logged
    assert {panel.over for panel in panels} <= logged
    assert all(bool(panel.figures) != bool(panel.pattern) for panel in panels)


def test_the_library_makes_a_view_of_all_panels_without_network() -> None:
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    script = (
        "from gpt_batch_api.monitor.wandb_view import workspace\n"
        "print(workspace(entity='me', project='words', name='mine')._to_model().model_dump_json(by_alias=True))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    view = json.loads(done.stdout)
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    shown: dict[str, list[dict[str, Any]]] = {section["name"]: section["panels"] for section in sections}
    assert {section.name: len(section.panels) for section in SECTIONS} == {
        name: len(panels) for name, panels in shown.items() if panels
    }
    ratio = shown["Batch by batch"][0]["config"]
    assert (ratio["xAxis"], ratio["metrics"]) == ("batch/number", ["batch/completion_ratio"])


@pytest.mark.parametrize("flag", ["--json", "--dry_run"])
def test_the_definition_is_printed_without_the_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert wandb_configure_view.main([flag]) == 0
    output = capsys.readouterr().out
    assert all(panel.title in output for section in SECTIONS for panel in section.panels)
    if flag == "--json":
        assert [section["name"] for section in json.loads(output)] == [section.name for section in SECTIONS]


def test_a_missing_library_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert wandb_configure_view.main([]) == 1
    assert 'pip install "gpt-batch-api[wandb]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"WANDB_BASE_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9 does not answer"),
        ({}, "there is no key (wandb login)"),
    ],
    ids=["no server", "no key"],
)
def test_what_cannot_be_set_up_is_one_line(
    tmp_path: Path, server: Any, variables: dict[str, str], complaint: str
) -> None:
    variables = {"WANDB_BASE_URL": server.url.removesuffix("/v1"), "WANDB_ERROR_REPORTING": "false", **variables}
    done = configure(tmp_path, **variables)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: The view could not be set up: ")
    assert complaint in line
