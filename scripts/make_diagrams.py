"""Write the state diagrams of ARCHITECTURE.md from the table of legal moves.

python -m scripts.make_diagrams
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from gpt_batch_api.domain.states import BATCH_MOVES, PUSH_MOVES, REQUEST_MOVES

ARCHITECTURE = Path(__file__).parents[1] / "ARCHITECTURE.md"
TABLES: dict[str, Mapping[StrEnum, frozenset[StrEnum]]] = {
    "request": {state: frozenset(moves) for state, moves in REQUEST_MOVES.items()},
    "batch": {state: frozenset(moves) for state, moves in BATCH_MOVES.items()},
    "push": {state: frozenset(moves) for state, moves in PUSH_MOVES.items()},
}


def diagram(name: str) -> str:
    """The Mermaid text of one table."""
    table = TABLES[name]
    first, finals = next(iter(table)), [state for state, moves in table.items() if not moves]
    order = list(table)
    arrows = [
        f"    {before} --> {after}" for before, moves in table.items() for after in sorted(moves, key=order.index)
    ]
    return "\n".join(
        ["stateDiagram-v2", f"    [*] --> {first}", *arrows, *(f"    {state} --> [*]" for state in finals)]
    )


def with_diagrams(text: str) -> str:
    """*text* with the diagram after each `<!-- states: NAME -->` made anew."""

    def replaced(match: re.Match[str]) -> str:
        return f"<!-- states: {match.group(1)} -->\n```mermaid\n{diagram(match.group(1))}\n```"

    return re.sub(r"<!-- states: (\w+) -->\n```mermaid\n.*?```", replaced, text, flags=re.DOTALL)


def main() -> None:
    ARCHITECTURE.write_text(with_diagrams(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
