"""Flags that say which requests or samples are meant."""

from __future__ import annotations

import argparse
import datetime

from gpt_batch_api.domain.selection import Selection
from gpt_batch_api.domain.states import RequestState


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a `Selection`; given together, all must hold."""
    group = parser.add_argument_group("which", "Given together, all must hold; none: everything.")
    group.add_argument("--key", metavar="KEY", help="this sample key; 'BEGIN*' for all that begin so")
    group.add_argument(
        "--state",
        metavar="STATE",
        action="append",
        choices=[str(state) for state in RequestState],
        default=[],
        help=f"requests in this state (may be repeated): {', '.join(RequestState)}",
    )
    group.add_argument("--reason", metavar="WORD", help="held, failed or answered for this reason: refusal, cut_off …")
    group.add_argument("--batch", metavar="NUM", type=int, help="in this batch, or answered by it")
    for name, what in (("since", "at or after"), ("until", "before")):
        group.add_argument(
            f"--{name}", metavar="TIME", type=moment, help=f"answered {what} this time: 2026-12-01, 2026-12-01T06:00"
        )


def selection_from(arguments: argparse.Namespace) -> Selection:
    """What was typed."""
    return Selection(
        key=arguments.key,
        states=frozenset(map(RequestState, arguments.state)),
        reason=arguments.reason,
        batch=arguments.batch,
        since=arguments.since,
        until=arguments.until,
    )


def moment(text: str) -> float:
    """Seconds since 1970 of a day or a time; local, unless it names a zone."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-12-01 or 2026-12-01T06:00") from error
