"""CPU seconds until `--help` has answered: nothing heavy may be imported for it.

    python -m benchmarks.startup [RUNS]        (default: 5)

Prints the median of some runs for each command, beside a bare `python -c pass` and `import pydantic` of the same run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import pydantic": ["-c", "import pydantic"],
    "gpt-batch-api --help": ["-m", "gpt_batch_api", "--help"],
    "task_manager_demo --help": ["-m", "gpt_batch_api.task_manager_demo", "--help"],
}


def cpu_s(arguments: list[str]) -> float:
    """User and system time of one run, in seconds."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for name, arguments in COMMANDS.items():
        print(f"{name:28} {statistics.median(cpu_s(arguments) for _ in range(runs)):6.3f} s CPU")


if __name__ == "__main__":
    main()
