"""What a whole job costs: CPU, memory and disk per request, at two sizes, so that growth is seen.

    python -m benchmarks.job [REQUESTS ...]        (default: 2000 20000)

Each size runs in a process of its own against a sandbox server in another one. Requests have about 300 input tokens.
CPU seconds and peak memory are those of the process that runs the task, without the server's; *growth* is what the
process gained between the first generated request and the end of the run.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import GPTRequest, Result, Sample, TaskManager

PLAN = "timing: {validating_s: 0, requests_per_s: 1000000, minimum_s: 0, finalizing_s: 0}\n"
WORDS = (
    "river winter yellow table music answer letter garden window paper bridge station forest morning silver kitchen "
    "island market doctor summer village teacher season planet engine ocean valley castle corner shadow"
).split()
WORDS_PER_REQUEST = 265


class Reading(TaskManager):
    """One request of about 300 tokens a sample, a short text as the answer."""

    name = "benchmark"
    defaults = {"model": "gpt-4o-mini", "max_completion_tokens": 200}  # noqa: RUF012
    count = 0
    first_rss = 0

    def generate_requests(self) -> Iterable[GPTRequest]:
        for index in range(self.count):
            yield GPTRequest(f"sample-{index}", self.payload(index))
            if index == 0:
                self.first_rss = peak_memory_mb()

    def payload(self, index: int) -> dict[str, Any]:
        chance = random.Random(index)
        text = " ".join(chance.choice(WORDS) for _ in range(WORDS_PER_REQUEST))
        return {
            **self.meta,
            "messages": [
                {"role": "system", "content": "Summarise the text in one sentence of at most twenty words."},
                {"role": "user", "content": text},
            ],
        }

    def process_result(self, result: Result, sample: Sample) -> None:
        if result.ok:
            sample.emit({"key": sample.key, "summary": result.value})


def peak_memory_mb() -> int:
    """Peak resident memory of this process so far, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6


def written_mb() -> float:
    """Bytes that this process has sent to the disk, in MB."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1]) / 1e6
    return 0.0


def measure(count: int, url: str, folder: Path) -> dict[str, Any]:
    """Run one job in this process and say what it took."""
    Reading.count = count
    task = Reading(
        task_dir=folder,
        client_base_url=url,
        openai_api_key="sk-benchmark",
        remote_update_interval=0.5,
        verbosity="quiet",
    )
    begin, cpu = time.monotonic(), time.process_time()
    if not task.run():
        sys.exit("the job did not finish")
    rows = sum(1 for _ in (folder / "benchmark_output.jsonl").open())
    if rows != count:
        sys.exit(f"{rows} rows of {count}")
    files = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    return {
        "requests": count,
        "seconds": round(time.monotonic() - begin, 1),
        "cpu_s_per_1000": round((time.process_time() - cpu) / count * 1000, 3),
        "peak_memory_mb": peak_memory_mb(),
        "growth_mb": peak_memory_mb() - task.first_rss,
        "written_mb": round(written_mb(), 1),
        "left_on_disk_mb": round(files, 1),
    }


def run_apart(count: int) -> dict[str, Any]:
    """Measure one size in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(PLAN)
        tasks = Path(folder) / "tasks"
        tasks.mkdir()
        with SandboxProcess.start(Path(folder) / "sandbox.db", plan=plan) as sandbox:
            command = [sys.executable, "-m", "benchmarks.job", "--child", str(count), sandbox.url, str(tasks)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("requests", nargs="*", type=int, default=[2000, 20000])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        count, url, folder = arguments.child
        print(json.dumps(measure(int(count), url, Path(folder))))
        return
    results = [run_apart(count) for count in arguments.requests]
    for name in results[0]:
        print(f"{name:18}" + "".join(f"{result[name]:>14,}" for result in results))


if __name__ == "__main__":
    main()
