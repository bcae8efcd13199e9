"""wandb in a process of its own, and the pipe to it: both ends.

Importing wandb costs a second of CPU time, and its host may be slow, silent or gone. So the run never imports it: it
writes lines of JSON to a child process, and what is written is on its way, whatever becomes of the run. The child asks
wandb's host before it imports anything heavy. At the end the run waits for a child that is well; if the host does not
answer it is told so, and does not wait. When its input ends, by a word of the run or by a kill, the child logs what it
has and ends, within a minute whatever wandb does.

From the run: `start`, any number of `figures`, `finish`. From the child: `say` with a level, `leave` if nobody should
wait for it, `done`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from gpt_batch_api.monitor.tracker import Background, Declined, Figures, Table, TrackedRun, Tracker, installed
from gpt_batch_api.sandbox.child import own_environment

logger = logging.getLogger("gpt_batch_api")

PATIENCE_S = 0.5
"""A run that is over does not wait for a host that has not answered after so many seconds."""
LAST_S = 60
"""The child ends at most so many seconds after its run, whatever wandb does."""
MODULE = "gpt_batch_api.monitor.wandb_process"


class Wandb:
    """What the run knows of wandb: the run of its script if there is one, else a child process."""

    name = "wandb"

    def __init__(self, *, asked_for: bool, quiet: bool) -> None:
        self._asked_for = asked_for
        self._quiet = quiet
        self._to: Tracker | None = None

    def start(self, run: TrackedRun) -> str | None:
        if os.environ.get("WANDB_MODE") == "disabled":
            raise Declined
        theirs = getattr(sys.modules.get("wandb"), "run", None)
        if theirs is not None:
            from gpt_batch_api.monitor.wandb_run import ScriptsRun

            self._to = ScriptsRun(theirs)
        elif installed("wandb"):
            self._to = WandbChild(asked_for=self._asked_for, quiet=self._quiet)
        else:
            raise ModuleNotFoundError('it is not installed: pip install "gpt-batch-api[wandb]"')
        return self._to.start(run)

    def log(self, figures: Figures, *, step: int) -> None:
        assert self._to is not None
        self._to.log(figures, step=step)

    def finish(self) -> None:
        assert self._to is not None
        self._to.finish()


class WandbChild:
    """The run's end of the pipe."""

    name = "wandb"

    def __init__(self, *, asked_for: bool, quiet: bool) -> None:
        self._options = {"asked_for": asked_for, "quiet": quiet, "patience_s": PATIENCE_S, "last_s": LAST_S}
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        """Nothing is left to wait for."""
        self._done = False

    def start(self, run: TrackedRun) -> None:
        """Begin the process. What it has to say is logged when it says it."""
        environment = own_environment()
        environment.pop("WANDB_SERVICE", None)  # a process of wandb's that would end with the run
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],  # -P: no module in the present directory must stand in for ours
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl+C is for the run
            env=environment,
        )
        threading.Thread(target=self._listen, args=(self._process,), name="tracker-words", daemon=True).start()
        self._write({"start": {**asdict(run), "folder": run.folder and str(run.folder)}, **self._options})

    def log(self, figures: Figures, *, step: int) -> None:
        if not self._is_over():
            plain = {name: value for name, value in figures.items() if not isinstance(value, Table)}
            tables = {name: asdict(value) for name, value in figures.items() if isinstance(value, Table)}
            self._write({"step": step, "figures": plain, "tables": tables})

    def finish(self) -> None:
        """Wait until the child has logged all, or says that there is nothing to wait for."""
        assert self._process is not None
        assert self._process.stdin is not None
        with self._process.stdin:
            self._write({"finish": True})
            self._over.wait()
        self._is_over()

    def _is_over(self) -> bool:
        if self._over.is_set() and not self._done:
            raise RuntimeError("its process has ended")
        return self._done

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        data = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while data:
                data = data[self._process.stdin.write(data) or 0 :]
        except BrokenPipeError:
            pass  # whatever is wrong, the child's words or their absence will tell

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for word in _messages(process.stdout):
            if "say" in word:
                logger.log(word["level"], "%s", word["say"])
            if "done" in word or "leave" in word:
                self._done = True
                break
        self._over.set()
        process.wait()
        process.stdout.close()


class Words:
    """What the child tells: where the figures are and one complaint, until nobody listens any more."""

    def __init__(self, pipe: IO[bytes], *, quiet: bool) -> None:
        self._pipe = pipe
        self._quiet = quiet
        self._said: set[int] = set()
        self._lock = threading.Lock()

    def say(self, level: int, text: str) -> None:
        """Say something, once for each level."""
        with self._lock:
            self._say(level, text)

    def leave(self, level: int, text: str) -> None:
        """Say it, unless it is known where the figures are, and that nobody should wait."""
        with self._lock:
            if level > logging.INFO or not self._said:
                self._say(level, text)
            self._end({"leave": True})

    def done(self) -> None:
        """Say that all is logged."""
        with self._lock:
            self._end({"done": True})

    def _say(self, level: int, text: str) -> None:
        if level not in self._said and not (self._quiet and level <= logging.INFO):
            self._send({"say": text, "level": level})
        self._said.add(level)

    def _end(self, word: Mapping[str, Any]) -> None:
        self._send(word)
        self._pipe.close()

    def _send(self, word: Mapping[str, Any]) -> None:
        if not self._pipe.closed:
            with contextlib.suppress(BrokenPipeError):  # the run has ended
                self._pipe.write(json.dumps(word).encode() + b"\n")


def main() -> None:
    """The child: hand on what comes, and end when all is logged."""
    source, sink = _own_pipes()
    messages = _messages(source)
    first = next(messages, None)
    if first is None:
        return
    from gpt_batch_api.monitor.wandb_run import WandbTracker

    told = first["start"]
    run = TrackedRun(**{**told, "folder": told["folder"] and Path(told["folder"])})
    words = Words(sink, quiet=first["quiet"])
    tracker = WandbTracker(asked_for=first["asked_for"], patience_s=first["patience_s"])
    background = Background(tracker, run, say=words.say)

    def listen() -> None:
        asked_to_end = _feed(background, messages)
        signal.alarm(first["last_s"])  # it ends the process, whatever holds that up
        background.close()
        while asked_to_end and not background.ended(within_s=0.02):
            if lost := tracker.lost(run):
                words.leave(lost.level, lost.text)
                return

    threading.Thread(target=listen, name="tracker-input", daemon=True).start()
    background.ended(within_s=None)
    signal.alarm(first["last_s"])
    words.done()


def _feed(background: Background, messages: Iterator[dict[str, Any]]) -> bool:
    """Pass on all looks; whether the run has come to an end and says so."""
    for message in messages:
        if "finish" in message:
            return True
        tables = {name: Table(**table) for name, table in message["tables"].items()}
        background.log({**message["figures"], **tables}, step=message["step"])
    return False


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes from and to the run, out of reach of what wandb prints and of the processes that it starts."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    return source, sink


def _messages(source: IO[bytes]) -> Iterator[dict[str, Any]]:
    for line in source:
        if not line.endswith(b"\n"):  # the run was killed in the midst of it
            return
        yield json.loads(line)


if __name__ == "__main__":
    main()
