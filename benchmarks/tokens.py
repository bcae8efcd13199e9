"""How good the token estimates are, measured on recorded exchanges, and what they cost.

    python -m benchmarks.tokens FILE... [--json]     accuracy, by endpoint and class
    python -m benchmarks.tokens --speed [--json]     CPU time against the bare tokeniser

A recording is one JSON object a line (.jsonl or .jsonl.xz) with `endpoint`, `cls`, `request` and the true
`prompt_tokens`. Lines with `"judge": false` are left out: their prompt has parts that no client can see.
"""

from __future__ import annotations

import argparse
import json
import lzma
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpt_batch_api.data import load_encoding
from gpt_batch_api.tokens.estimate import TokenEstimator

_SPEED_REQUESTS = 2000
_SPEED_ROUNDS = 5


@dataclass(frozen=True)
class Line:
    """One recorded exchange and what was estimated for it; None if the estimator raised."""

    endpoint: str
    cls: str
    truth: int
    estimate: int | None
    sureness: str

    @property
    def error(self) -> float:
        """Relative to the truth."""
        return abs((self.estimate or 0) - self.truth) / max(self.truth, 1)


@dataclass(frozen=True)
class Row:
    """The accuracy over some lines. Errors are relative, in per cent."""

    endpoint: str
    cls: str
    lines: int
    answered: int
    exact_percent: float
    mean_error_percent: float
    median_error_percent: float
    p95_error_percent: float


@dataclass(frozen=True)
class Speed:
    """CPU time for one request, estimated and merely tokenised."""

    kind: str
    estimate_us: float
    tokenise_us: float
    ratio: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokens", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="recordings, .jsonl or .jsonl.xz")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--speed", action="store_true", help="measure CPU time instead of accuracy")
    options = parser.parse_args()
    if not options.speed and not options.files:
        parser.error("give recordings to measure accuracy, or --speed")
    found = _speeds() if options.speed else _rows([line for path in options.files for line in _measured(path)])
    if options.json:
        print(json.dumps([asdict(row) for row in found], indent=1))
    else:
        _print_table([asdict(row) for row in found])


def _measured(path: Path) -> Iterator[Line]:
    """Estimate every line of *path* that can be judged."""
    estimator = TokenEstimator()
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
        for text in file:
            record = json.loads(text)
            if record.get("judge", True):
                yield _line(record, estimator)


def _line(record: Mapping[str, Any], estimator: TokenEstimator) -> Line:
    body = record["request"]
    if not body.get("model") and record.get("model"):
        body = {**body, "model": record["model"]}
    try:
        counted = estimator.count(endpoint=record["endpoint"], body=body)
    except Exception:  # the very thing that is measured here
        return Line(record["endpoint"], record["cls"], record["prompt_tokens"], None, "")
    return Line(record["endpoint"], record["cls"], record["prompt_tokens"], counted.tokens, counted.sureness)


def _rows(lines: list[Line]) -> list[Row]:
    """A row for each class, one for each endpoint, and one for each degree of sureness."""
    rows: list[Row] = []
    for endpoint in sorted({line.endpoint for line in lines}):
        here = [line for line in lines if line.endpoint == endpoint]
        classes = sorted({line.cls for line in here})
        rows += [_row(endpoint, cls, [line for line in here if line.cls == cls]) for cls in classes]
        rows.append(_row(endpoint, "TOTAL", here))
    degrees = sorted({line.sureness for line in lines})
    rows += [_row("all", f"said {degree}", [line for line in lines if line.sureness == degree]) for degree in degrees]
    return [*rows, _row("all", "TOTAL", lines)]


def _row(endpoint: str, cls: str, lines: list[Line]) -> Row:
    errors = sorted(100 * line.error for line in lines)
    return Row(
        endpoint=endpoint,
        cls=cls,
        lines=len(lines),
        answered=sum(line.estimate is not None for line in lines),
        exact_percent=round(100 * sum(line.estimate == line.truth for line in lines) / max(len(lines), 1), 2),
        mean_error_percent=round(statistics.fmean(errors), 3) if errors else 0.0,
        median_error_percent=round(statistics.median(errors), 3) if errors else 0.0,
        p95_error_percent=round(_quantile(errors, 0.95), 3),
    )


def _quantile(ordered: list[float], share: float) -> float:
    """The smallest of *ordered* that at least *share* of them do not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _speeds() -> list[Speed]:
    """Estimate requests of about 300 tokens, and tokenise the same text without any estimation."""
    return [_speed(kind, _requests(kind)) for kind in ("plain", "turns", "schema", "tools")]


def _speed(kind: str, bodies: list[dict[str, Any]]) -> Speed:
    estimator, encoding = TokenEstimator(), load_encoding("o200k_base")
    texts = [_prompt_text(body) for body in bodies]
    estimate_s, tokenise_s = [], []
    for _ in range(_SPEED_ROUNDS):
        start = time.process_time()
        for text in texts:
            encoding.encode_ordinary(text)
        middle = time.process_time()
        for body in bodies:
            estimator.count(endpoint="/v1/chat/completions", body=body)
        tokenise_s.append(middle - start)
        estimate_s.append(time.process_time() - middle)
    estimate_us, tokenise_us = (1e6 * min(times) / len(bodies) for times in (estimate_s, tokenise_s))
    return Speed(kind, round(estimate_us, 1), round(tokenise_us, 1), round(estimate_us / tokenise_us, 2))


def _prompt_text(body: Mapping[str, Any]) -> str:
    """All that is sent, as one text: messages, and the JSON of tools and schema."""
    texts = [message["content"] for message in body["messages"]]
    return "\n".join([*texts, *(json.dumps(body[key]) for key in ("response_format", "tools") if key in body)])


def _requests(kind: str) -> list[dict[str, Any]]:
    return [
        {"model": "gpt-4o-mini", "messages": _messages(number, turns=kind == "turns"), **_extras(kind)}
        for number in range(_SPEED_REQUESTS)
    ]


def _messages(number: int, *, turns: bool) -> list[dict[str, Any]]:
    """A shared system message and about 250 tokens of user text, in one message or in a talk of twenty."""
    notes = [f"Observation {number * 37 + place}: the harbour was calm at dawn." for place in range(20)]
    system = {"role": "system", "content": "Classify the mood of each observation. Answer in one short sentence."}
    if not turns:
        return [system, {"role": "user", "content": " ".join(notes)}]
    roles = ("user", "assistant")
    return [system, *({"role": roles[place % 2], "content": note} for place, note in enumerate(notes))]


def _extras(kind: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "mood": {"type": "string", "enum": ["calm", "tense", "cheerful"], "description": "The mood"},
            "certainty": {"type": "number", "description": "From 0 to 1"},
        },
        "required": ["mood", "certainty"],
        "additionalProperties": False,
    }
    if kind == "schema":
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "Mood", "schema": schema}}}
    if kind == "tools":
        return {"tools": [{"type": "function", "function": {"name": "note_mood", "parameters": schema}}]}
    return {}


def _print_table(rows: list[dict[str, Any]]) -> None:
    heads = list(rows[0])
    cells = [[str(row[head]) for head in heads] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for line in [heads, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
