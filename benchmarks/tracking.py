"""What logging to wandb costs a run: without it, offline, and with a server that cannot be reached.

    python -m benchmarks.tracking [REQUESTS ...]        (default: 200 10000)

Each run is a process of its own (`benchmarks.job`'s requests in batches of 500); seconds are those of the whole process,
from its start to its exit. CPU is that of the process, and of wandb's processes if they ended before it. The next run begins
when they all have ended, on systems with /proc.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.job import PLAN, Reading
from gpt_batch_api.sandbox.child import SandboxProcess

CHILD = "--child"
FLAGS = ("--min_batch_requests=1", "--remote_update_interval=0.1", "--max_batch_requests=500", "--verbosity=quiet")


def run(count: int, folder: Path, url: str, *flags: str, **variables: str) -> tuple[float, float]:
    """Seconds and CPU seconds of one run."""
    folder.mkdir()
    environment = {
        **os.environ,
        "OPENAI_API_KEY": "sk-test",
        "WANDB_DIR": str(folder),
        "WANDB_ERROR_REPORTING": "false",
    }
    command = [sys.executable, "-m", "benchmarks.tracking", CHILD, str(count), "--task_dir=tasks", *FLAGS, *flags]
    before, begin = os.times(), time.monotonic()
    subprocess.run(
        [*command, f"--client_base_url={url}"],
        cwd=folder,
        env={**environment, "PYTHONPATH": os.getcwd(), "HOME": str(folder), **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    seconds, after = time.monotonic() - begin, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    while goes_on(folder):
        time.sleep(0.1)
    return seconds, cpu_s


def goes_on(home: Path) -> bool:
    """Whether a process of this home is still there: wandb's may still be writing."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"HOME={home}\0".encode() in (process / "environ").read_bytes():
                return True
    return False


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or [200, 10_000]
    with tempfile.TemporaryDirectory() as name, socket.socket() as silent, socket.socket() as refusing:
        folder = Path(name)
        (folder / "plan.yaml").write_text(PLAN)
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        refusing.bind(("127.0.0.1", 0))
        key = {"WANDB_API_KEY": "k" * 40}
        ways: dict[str, tuple[str, dict[str, str]]] = {
            "--no_wandb": ("--no_wandb", {}),
            "--wandb, no key: offline": ("--wandb", {}),
            "host refuses": ("--wandb", {**key, "WANDB_BASE_URL": f"http://127.0.0.1:{refusing.getsockname()[1]}"}),
            "host never answers": ("--wandb", {**key, "WANDB_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}),
        }
        with SandboxProcess.start(folder / "sandbox.db", plan=folder / "plan.yaml") as server:
            for count in counts:
                for number, (way, (flag, variables)) in enumerate(ways.items()):
                    seconds, cpu_s = run(count, folder / f"{count}-{number}", server.url, flag, **variables)
                    print(f"{count:9,} requests  {way:26} {seconds:6.1f} s  {cpu_s:6.1f} s CPU", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        Reading.count = int(sys.argv[2])
        raise SystemExit(Reading.run_command_line(sys.argv[3:]))
    main()
