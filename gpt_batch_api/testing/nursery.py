"""A process that has imported what a run needs, and forks a new one for each job: quick, but as real as any other.

It listens on a socket in the file system. Who wants a job done connects, sends it as JSON, and is told how the process
ended. The nursery has no threads, and ends when its standard input does, so it never outlives whoever started it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from gpt_batch_api.data import load_encoding
from gpt_batch_api.testing.child import do_job

WARM = ("openai", "gpt_batch_api.engine.session", "gpt_batch_api.monitor.report")
VOCABULARY = "o200k_base"
"""Of most models; reading it takes a second."""


def main() -> int:
    """Serve until standard input ends. The only argument is where to listen."""
    for name in WARM:
        importlib.import_module(name)
    load_encoding(VOCABULARY)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                return 0
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _keep(connection)
            connection.close()


def _keep(connection: socket.socket) -> NoReturn:
    """Let a process of its own do the job, and tell how it ended (negative: the signal that killed it).

    If nobody is there any more to be told, the process is ended: without its sandbox it would wait for ever.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection, connection.makefile("rb") as stream:
        job = json.loads(stream.readline())
        over, working = os.pipe()
        process = os.fork()
        if process == 0:
            connection.close()
            os.close(over)
            _work(job)
        os.close(working)  # now `over` ends when the process does
        ready, _, _ = select.select([over, connection.fileno()], [], [])
        if over not in ready:
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        with contextlib.suppress(OSError):
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _work(job: dict[str, object]) -> NoReturn:
    """Be the process that does the job."""
    log = os.open(str(job["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    silence = os.open(os.devnull, os.O_RDONLY)
    for stream, target in ((0, silence), (1, log), (2, log)):
        os.dup2(target, stream)
    time.tzset()
    code = 1
    try:
        do_job(job, Path(str(job["result"])))
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    raise SystemExit(main())
