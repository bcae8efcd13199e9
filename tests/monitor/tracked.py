"""A process that runs the toy task with the flags of its command line, as a user's script would.

    python -m tests.monitor.tracked --task_dir DIR --client_base_url URL --wandb …

`TRACKED` names what the script does besides: see `WAYS`. With `IN_TIME` the end waits no longer for wandb than it does for
users. `LAST_S` is how long the process of wandb may go on after it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path

from gpt_batch_api.gpt_requester import GPTRequest, GPTRequester
from gpt_batch_api.monitor import tracker, wandb_process
from gpt_batch_api.task_manager import Result, Sample
from gpt_batch_api.utils import add_settings, configure_logging, make_parser, settings_from_args
from tests.monitor.wandb_files import read_run
from tests.toy import ToyTask

WAYS = {
    "logs": "the task logs figures of its own",
    "kills": "the process is killed in the midst of the third batch, once something is logged",
    "kills_at_once": "the process is killed in the midst of the third batch, whatever is logged by then",
    "interrupts": "the whole group of processes gets a Ctrl+C in the midst of the third batch",
    "breaks": "the task's code raises in the third batch, after it has logged a figure",
    "own_run": "the script has a wandb run of its own",
    "requester": "the script is no task, but a GPTRequester",
    "without": "wandb is not installed",
    "tells_modules": "the script tells at its end which trackers were imported",
}
WAY = os.environ.get("TRACKED", "")
BATCH = 10


class Tracked(ToyTask):
    """The toy task with 40 words, to be asked in batches of ten."""

    count = 4 * BATCH

    def process_result(self, result: Result, sample: Sample) -> None:
        super().process_result(result, sample)
        number = int(sample.key.removeprefix("word-"))
        if WAY == "logs":
            self.log_figures(share=(number + 1) / self.count, seen=number + 1)
        if WAY == "breaks" and number >= 2 * BATCH:
            self.log_figures(wrong=1)
            raise RuntimeError("a mistake")
        if number == 2 * BATCH + 3:
            if WAY == "kills":
                wait_for_first_look()
            if WAY in ("kills", "kills_at_once"):
                os.kill(os.getpid(), signal.SIGKILL)
            if WAY == "interrupts":
                os.killpg(os.getpgrp(), signal.SIGINT)


def wait_for_first_look(timeout_s: float = 60) -> None:
    """Wait until wandb's own process has written something down, or sent it to its server if there is one."""
    deadline = time.monotonic() + timeout_s
    while not (sent() if "WANDB_API_KEY" in os.environ else written()):
        assert time.monotonic() < deadline, "nothing was logged"
        time.sleep(0.05)


def written() -> bool:
    return any(read_run(folder).rows for folder in Path(os.environ["WANDB_DIR"]).glob("wandb/*run-*"))


def sent() -> bool:
    """Ask the stand-in of the tests (`wandb_server`)."""
    with urllib.request.urlopen(os.environ["WANDB_BASE_URL"]) as reply:
        return bool(json.loads(reply.read())["rows"])


def run_requester() -> int:
    """Ask three things by hand."""
    parser = make_parser()
    add_settings(parser)
    configure_logging()
    task = Tracked()
    task.meta = dict(Tracked.defaults)
    with GPTRequester("toy", settings_from_args(parser.parse_args())) as requester:
        requester.add(GPTRequest(key, task.payload(key)) for key in ("a", "b", "c"))
        requester.direct()
        with requester.process() as results:
            return 0 if len(results) == 3 else 1


def main() -> int:
    if "IN_TIME" not in os.environ:
        tracker.END_WAIT_S = 60.0  # a busy machine takes long to begin, and these runs are short
        wandb_process.PATIENCE_S = 20.0
    if "LAST_S" in os.environ:
        wandb_process.LAST_S = int(os.environ["LAST_S"])
    if WAY == "without":
        sys.modules["wandb"] = None  # type: ignore[assignment]
    if WAY == "requester":
        code = run_requester()
    elif WAY != "own_run":
        code = Tracked.run_command_line()
    else:
        import wandb

        with wandb.init(project="theirs", settings=wandb.Settings(silent=True, console="off")) as run:
            run.log({"before": 1})
            code = Tracked.run_command_line()
            run.log({"after": 1})
    if WAY == "tells_modules":
        sys.stdout.write(f"imported: {sorted({'wandb', 'trackio'} & set(sys.modules))}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
