"""A workspace of wandb that shows what matters: our own definition, and how wandb-workspaces makes a view of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gpt_batch_api.monitor.tracking import BATCHES, OWN
from gpt_batch_api.monitor.wandb_run import X_AXIS

BATCH_AXIS = "batch/number"


@dataclass(frozen=True)
class Panel:
    """One panel: `lines` of figures over time (or over batches), one `number`, or the `table` of batches."""

    title: str
    figures: tuple[str, ...]
    kind: str = "lines"
    over: str = X_AXIS
    pattern: str | None = None
    """Shows all figures whose names match, instead of those that are named."""


@dataclass(frozen=True)
class Section:
    """Panels that belong together."""

    name: str
    panels: tuple[Panel, ...]


def _number(title: str, figure: str) -> Panel:
    return Panel(title, (figure,), kind="number")


def _by_batch(title: str, *figures: str) -> Panel:
    return Panel(title, tuple(f"batch/{figure}" for figure in figures), over=BATCH_AXIS)


SECTIONS = (
    Section(
        "At a glance",
        (
            _number("Share of requests done", "requests/done_share"),
            _number("Seconds left", "eta/total_s"),
            _number("Dollars spent", "money/spent"),
            _number("Requests succeeded", "requests/succeeded"),
            _number("Requests failed", "requests/failed"),
            _number("Output rows", "output/rows"),
        ),
    ),
    Section(
        "Progress",
        (
            Panel(
                "Requests by state",
                tuple(
                    f"requests/{state}"
                    for state in ("succeeded", "failed", "held", "answered", "sending", "batched", "twin", "queued")
                ),
                kind="stack",
            ),
            Panel(
                "Samples by status",
                tuple(f"samples/{status}" for status in ("succeeded", "mixed", "failed", "pending")),
                kind="stack",
            ),
            Panel("Output rows", ("output/rows",)),
            Panel("Pushed by the task and by this run", ("pushed/task_requests", "pushed/session_requests")),
            Panel("Seconds left", ("eta/total_s", "eta/server_s", "eta/waiting_s", "eta/direct_s")),
            Panel("Figures of the task's own", (), pattern=f"^{OWN}.*"),
        ),
    ),
    Section(
        "Batches under way",
        (
            Panel("Batches", ("batches/local", "batches/remote", "batches/finished", "batches/failed")),
            Panel(
                "Requests on the server",
                ("batches/remote_requests", "batches/remote_completed", "batches/remote_failed"),
            ),
            Panel("Bytes", ("batches/local_bytes", "batches/remote_bytes")),
            Panel(
                "Input tokens on the server, and their limit",
                ("batches/remote_input_tokens", "limits/remote_input_tokens"),
            ),
        ),
    ),
    Section(
        "Money",
        (
            Panel(
                "Spent and reserved, and the limit of this run",
                ("money/spent", "money/reserved", "limits/session_cost"),
            ),
            Panel("Predicted and true cost", ("money/predicted", "money/true")),
            Panel("Spent in vain", ("money/bad", "money/retries", "money/unlinked")),
            Panel("Sent by this run", ("money/session_spent", "money/session_reserved")),
        ),
    ),
    Section(
        "Answers",
        (
            Panel("Answers", ("answers/good", "answers/retries", "answers/not_run")),
            Panel("No good, by reason", (), pattern="^answers/bad/.*"),
            Panel("Pass ratio", ("answers/pass_ratio",)),
            Panel("Tokens", ("tokens/input", "tokens/output")),
            Panel("Completion ratio", ("tokens/completion_ratio",)),
            Panel("Longest completion", ("tokens/longest_output",)),
        ),
    ),
    Section(
        "Batch by batch",
        (
            _by_batch("Completion ratio", "completion_ratio"),
            _by_batch("Longest completion", "longest_output_tokens"),
            _by_batch("Predicted and true cost", "predicted_cost", "cost"),
            _by_batch("Predicted and true input tokens", "predicted_input_tokens", "input_tokens", "cached_tokens"),
            _by_batch(
                "Predicted and true output tokens", "predicted_output_tokens", "output_tokens", "reasoning_tokens"
            ),
            _by_batch("Pass ratio", "pass_ratio"),
            _by_batch("Not succeeded", "retried", "failed", "held", "not_run"),
            _by_batch("Hours on the server", "hours"),
            Panel("All batches", (BATCHES,), kind="table"),
        ),
    ),
)


def definition() -> list[dict[str, Any]]:
    """The view as plain JSON."""
    return [asdict(section) for section in SECTIONS]


def lines() -> Iterator[str]:
    """The view for people to read."""
    for section in SECTIONS:
        yield section.name
        for panel in section.panels:
            yield f"  {panel.title}: {panel.pattern or ', '.join(panel.figures)}"


def workspace(*, entity: str, project: str, name: str) -> Any:
    """The view as an object of wandb-workspaces, which can save it. Needs that library, but no network."""
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(name=section.name, panels=[_panel(panel) for panel in section.panels], is_open=True)
            for section in SECTIONS
        ],
        settings=ws.WorkspaceSettings(x_axis=X_AXIS),
    )


def _panel(panel: Panel) -> Any:
    import wandb_workspaces.reports.v2 as wr

    if panel.kind == "number":
        return wr.ScalarChart(title=panel.title, metric=panel.figures[0])
    if panel.kind == "table":
        return wr.WeavePanelSummaryTable(table_name=panel.figures[0])
    return wr.LinePlot(
        title=panel.title,
        x=panel.over,
        y=list(panel.figures),
        metric_regex=panel.pattern,
        plot_type="stacked-area" if panel.kind == "stack" else "line",
    )
