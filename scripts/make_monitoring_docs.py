"""Write the table of figures of docs/monitoring.md from the table in `monitor/figures.py`.

python -m scripts.make_monitoring_docs
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from gpt_batch_api.monitor.figures import FAMILIES, FIGURES

MONITORING = Path(__file__).parents[1] / "docs" / "monitoring.md"


def table() -> str:
    """All figures, in the order of the source."""
    return "\n".join(["| figure | unit | meaning |", "|---|---|---|", *_rows()])


def _rows() -> Iterator[str]:
    for figure in FIGURES:
        yield f"| `{figure.name}` | {figure.unit} | {figure.meaning} |"
    for family in FAMILIES:
        yield f"| `{family.prefix}{family.kind}` | {family.unit} | {family.meaning} |"


def with_table(text: str) -> str:
    """*text* with the table between its two marks made anew."""
    return re.sub(
        r"(<!-- figures -->\n).*?(\n<!-- end of figures -->)",
        lambda match: f"{match.group(1)}{table()}{match.group(2)}",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    MONITORING.write_text(with_table(MONITORING.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
