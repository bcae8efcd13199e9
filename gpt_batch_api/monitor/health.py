"""What a check of a task found, in lines that a person can read, and as a document that a script can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpt_batch_api.domain.health import Check, Diagnosis, Health


def health_lines(diagnosis: Diagnosis) -> list[str]:
    """The diagnosis for people: a line for each check, more where more was found."""
    kind = f" ({diagnosis.kind})" if diagnosis.kind else ""
    checks = [line for check in diagnosis.checks for line in _check(check)]
    return [f"Task {diagnosis.prefix}{kind}: {_verdict(diagnosis)}", *checks]


def health_document(diagnosis: Diagnosis) -> dict[str, Any]:
    """The same facts for scripts."""
    return {
        "task": diagnosis.prefix,
        "kind": diagnosis.kind,
        "healthy": diagnosis.healthy,
        "checks": [
            {
                "check": check.name,
                "health": str(check.health),
                "found": list(check.found),
                "mended_by": check.mended_by,
            }
            for check in diagnosis.checks
        ],
    }


def _verdict(diagnosis: Diagnosis) -> str:
    wrong = sum(check.health is Health.WRONG for check in diagnosis.checks)
    if wrong:
        return f"WRONG in {wrong} of {len(diagnosis.checks)} checks"
    waits = any(check.health is Health.NEXT_RUN for check in diagnosis.checks)
    return "healthy; the next run finishes what was left half done" if waits else "healthy"


def _check(check: Check) -> Iterator[str]:
    mark = "WRONG" if check.health is Health.WRONG else str(check.health)
    first, *more = check.found or ("",)
    yield f"  {mark:<9} {check.name:<13} {first}".rstrip()
    for text in more:
        yield f"  {'':<9} {'':<13} {text}"
    if check.mended_by:
        yield f"  {'':<9} {'':<13} → {check.mended_by}"
