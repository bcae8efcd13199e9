"""`gpt-batch-api wipe`."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from gpt_batch_api.cli.asking import agreed
from gpt_batch_api.cli.options import add_chosen_settings, settings_from_args
from gpt_batch_api.cli.tasks import add_task_arguments, one_workplace
from gpt_batch_api.domain.ending import Ending
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.workplace import Workplace

if TYPE_CHECKING:
    from gpt_batch_api.store.wipe import Loss


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "CAUTION: forget part of a task. What would be lost is told first; it is done with --yes, or when you say so. The "
        "task's code is not needed: answers that are to be shown to it again wait for the next run. The server is asked "
        "only if something of the task is on it."
    )
    parser.add_argument(
        "what",
        choices=("requests", "failed", "task"),
        help="requests: what is under way; failed: that, and failed samples; task: everything, output files too",
    )
    add_task_arguments(parser, one=True)
    add_chosen_settings(
        parser,
        {
            "general": ("openai_api_key", "openai_organization", "openai_project", "client_base_url", "sandbox",
                        "sandbox_plan"),
            "requester": ("lock_timeout", "lock_poll_interval", "lock_status_interval", "remote_update_interval"),
            "extra": ("list_lag_wait", "yes"),
        },
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.engine.wipe_alone import preview
    from gpt_batch_api.monitor.wiping import loss_document, loss_lines
    from gpt_batch_api.utils import configure_logging

    place = one_workplace(arguments)
    settings = settings_from_args(arguments)
    loss = preview(place, arguments.what, now=time.time())
    if arguments.json:
        ending = _wipe(settings.replace(verbosity="quiet"), place, loss) if settings.extra.yes else Ending.DONE
        done = settings.extra.yes and ending is Ending.DONE
        print(json.dumps(loss_document(loss, prefix=place.prefix, done=done), indent=2))
        return ending.exit_code
    configure_logging()
    print("\n".join(loss_lines(loss, prefix=place.prefix)))
    if not agreed("Forget this?", yes=settings.extra.yes, tell=print):
        return 0
    ending = _wipe(settings, place, loss)
    print("Stopped. The next run finishes the wipe." if ending is Ending.INTERRUPTED else "Done.")
    return ending.exit_code


def _wipe(settings: Settings, place: Workplace, loss: Loss) -> Ending:
    from gpt_batch_api.engine.interrupt import interruptible, run_interruptible
    from gpt_batch_api.engine.wipe_alone import run_wipe
    from gpt_batch_api.monitor.logs import LogLines

    if loss.on_server and loss.sandboxed and not settings.given("client_base_url"):
        settings = settings.replace(sandbox=True)  # nobody else can reach the task's own sandbox
    listeners = () if settings.extra.verbosity == "quiet" else (LogLines(settings),)
    with interruptible() as interruption:
        result = run_interruptible(run_wipe(settings, place, loss, interruption=interruption, listeners=listeners))
    return result.over.ending
