"""`gpt-batch-api inspect`."""

from __future__ import annotations

import argparse
import json
import sys

from gpt_batch_api.cli.selecting import add_selection, selection_from
from gpt_batch_api.cli.tasks import add_task_arguments, looked_at, one_workplace

LIMIT = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show requests of a task, also while it runs: a line for each, or the whole story of one: what was asked, each "
        "answer with its road, verdict and cost, and what became of its sample."
    )
    add_task_arguments(parser, one=True)
    parser.add_argument("--limit", metavar="NUM", type=int, default=LIMIT, help=f"show at most so many ({LIMIT})")
    parser.add_argument("--full", action="store_true", help="show whole stories, also of more than one request")
    add_selection(parser)


def run(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.monitor.stories import facts_document, facts_line, story_document, story_text
    from gpt_batch_api.store import stories

    place, selection = one_workplace(arguments), selection_from(arguments)
    with looked_at(place) as db:
        matching = stories.count(db, selection)
        full = arguments.full or matching == 1
        found = stories.facts(db, selection, limit=max(0, arguments.limit))
        if arguments.json:
            documents = [story_document(stories.story(db, facts)) if full else facts_document(facts) for facts in found]
            print(json.dumps({"task": place.prefix, "matching": matching, "requests": documents}, indent=2))
            return 0
        for facts in found:
            print(story_text(stories.story(db, facts), colour=sys.stdout.isatty()) if full else facts_line(facts))
    if matching > arguments.limit:
        print(f"… {matching - max(0, arguments.limit):,} more; show them with a higher --limit")
    elif not matching:
        print("No request fits.")
    return 0
