"""Run a sandbox as a child process that ends with its parent, however the parent ends.

The child's standard input is a pipe that only this process holds open; when it closes, by `close`, by an exit or by a
kill, the child ends. Light to import: the server's libraries are loaded in the child only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

_START_S, _END_S = 40.0, 5.0
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class SandboxFailed(RuntimeError):
    """The sandbox did not start; the text contains what it said."""


class SandboxProcess:
    """A running sandbox.

    `url` is the base URL for a client, `uuid` names its database, `list_lag_s` is how long its lists are behind by its plan.
    """

    def __init__(self, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self._process = process
        self._complaints = complaints
        self.url = ""
        self.uuid = ""
        self.list_lag_s = 0.0

    @classmethod
    def start(
        cls,
        db: Path,
        *,
        plan: str | Path | None = None,
        seed: int | None = None,
        time_scale: float | None = None,
        timeout_s: float = _START_S,
    ) -> SandboxProcess:
        """Start a sandbox on the file *db* and wait until it listens."""
        # -P: a folder of the package's name in the present directory must not stand in for it.
        command = [sys.executable, "-P", "-m", "gpt_batch_api.sandbox", "--until_stdin_closes"]
        command += ["--db", str(Path(db).absolute())]
        for option, value in (("--plan", plan), ("--seed", seed), ("--time_scale", time_scale)):
            if value is not None:
                command += [option, str(value)]
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,
            env=own_environment(),
        )
        sandbox = cls(process, complaints)
        try:
            sandbox._wait_until_listening(timeout_s)
        except BaseException:
            sandbox.close()
            raise
        return sandbox

    @property
    def pid(self) -> int:
        """The process number of the child."""
        return self._process.pid

    def close(self) -> None:
        """End the child; its database stays. Closing twice does no harm."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._complaints.close()

    def __enter__(self) -> SandboxProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_until_listening(self, timeout_s: float) -> None:
        line = self._first_line(time.monotonic() + timeout_s)
        try:
            told = json.loads(line)
            self.url, self.uuid, self.list_lag_s = told["url"], told["sandbox"], told["list_lag_s"]
        except (ValueError, KeyError, TypeError):
            raise SandboxFailed(self._what_went_wrong(timeout_s)) from None

    def _first_line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        source, line = self._process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([source], [], [], left)[0]:
                break
            more = os.read(source, 4096)
            if not more:
                break
            line += more
        return line

    def _what_went_wrong(self, timeout_s: float) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._complaints.seek(0)
        said = self._complaints.read().decode("utf-8", "replace").strip()
        status = self._process.returncode
        ended = f"did not start within {timeout_s:g} s" if status is None else f"ended with status {status}"
        return f"The sandbox {ended}: {said or 'it said nothing.'}"


def own_environment() -> dict[str, str]:
    """This process's environment, but the child finds the same package as we did."""
    others = os.environ.get("PYTHONPATH")
    path = os.pathsep.join((str(_PACKAGE_ROOT), others)) if others else str(_PACKAGE_ROOT)
    return {**os.environ, "PYTHONPATH": path}
