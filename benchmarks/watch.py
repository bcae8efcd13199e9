"""What it costs to watch a big task: CPU of `watch` in a process of its own, and of the live view inside a run.

    python -m benchmarks.watch [--requests 1000000] [--seconds 30]

The store holds that many requests in the middle of a job: half of them done (by batches of 50,000, and by 50 direct calls a
group), some in six batches on the server, the rest queued. Both processes draw on real pseudo-terminals and look once a
second. The figure is the CPU time that they use while they watch, as a share of the time that passes (starting them does
not count), and how long one look takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.monitor.facts import facts_of
from gpt_batch_api.monitor.run_view import RunView
from gpt_batch_api.store import tasks
from gpt_batch_api.store.connection import Store
from gpt_batch_api.store.snapshot import take_from

BATCH, GROUP = 50_000, 50
SETTLE_IN_S = 5.0
"""What the processes need to begin."""


def fill(path: Path, *, requests: int) -> None:
    """A store in the middle of a job. Rows are made by SQL, and counted by the store's own triggers."""
    store = Store.open(path)
    with store.transaction() as tx:
        tasks.create_task(tx, uuid="0000", kind="Benchmark", metadata={}, now=time.time())
        tasks.begin_session(tx, pid=os.getpid(), host="here", settings={}, now=time.time())
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {requests})"
        tx.execute(f"{numbers} INSERT INTO sample (id, key) SELECT i, 'sample-' || i FROM n")
        tx.execute(
            f"{numbers} INSERT INTO request (id, sample_id, purpose, number, epoch, metadata_version, endpoint, model, "
            "payload_hash, size_bytes, input_tokens, sureness, max_output_tokens, output_allowance) "
            "SELECT i, i, '', 0, 1, 1, '/v1/chat/completions', 'gpt-4o-mini', x'00', 500, 100, 'sure', 200, 200 FROM n"
        )
        done = requests // 2
        batch = min(BATCH, max(1, done // 10))
        batches = done // batch
        tx.execute(
            f"{numbers} INSERT INTO batch (id, endpoint, model, file_name, sha256, plan, requests, size_bytes, input_tokens, "
            "output_allowance, expected_output_tokens, cost_pico, expected_cost_pico, sealed_at, session_id) SELECT i, "
            "'/v1/chat/completions', 'gpt-4o-mini', 'b', '', '', ?, 500 * ?, 100 * ?, 200 * ?, 100 * ?, 9, 9, 0, 1 FROM n "
            "WHERE i <= ?",
            (*[batch] * 5, batches + 6),
        )
        tx.execute(
            "UPDATE request SET state = 'batched', batch_id = (id - 1) / ? + 1, line = id WHERE id <= ?",
            (batch, min(requests, batch * (batches + 6))),
        )
        for state in ("pushing", "remote"):
            tx.execute("UPDATE batch SET state = ?, remote_id = 'batch_' || id, pushed_at = ?", (state, time.time()))
        tx.execute(
            "UPDATE batch SET remote_status = 'in_progress', count_total = requests, count_completed = requests / 3"
        )
        tx.execute("UPDATE batch SET state = 'ended', ended_at = pushed_at + 3600 WHERE id <= ?", (batches,))
        tx.execute(
            "UPDATE batch SET state = 'settled', settled_at = 1, used_input_tokens = 1, used_output_tokens = 1, "
            "used_output_allowance = 1, n_succeeded = 1 WHERE id <= ?",
            (batches,),
        )
        tx.execute("UPDATE batch SET state = 'closed' WHERE id <= ?", (batches,))
        for state in ("answered", "succeeded"):
            tx.execute("UPDATE request SET state = ?, batch_id = NULL, line = NULL WHERE id <= ?", (state, done))
        tx.execute(
            f"{numbers} INSERT INTO direct_group (session_id, opened_at, closed_at) SELECT 1, i, i + 1 FROM n WHERE i <= ?",
            (done // GROUP,),
        )
        tx.execute("UPDATE direct_group SET requests = ?", (GROUP,))
        tx.execute(
            f"{numbers} INSERT INTO event (at, session_id, kind, data) "
            "SELECT i, 1, 'AnswersHanded', '{}' FROM n WHERE i <= ?",
            (requests // 100,),
        )
    store.close()


def cpu_s(pid: int) -> float:
    """CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(command: list[str], *, seconds: float) -> float:
    """CPU share of *command* on a pseudo-terminal, after it has settled in."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    threading.Thread(target=_swallow, args=(ours,), daemon=True).start()
    try:
        time.sleep(SETTLE_IN_S)
        before, began = cpu_s(process.pid), time.monotonic()
        time.sleep(seconds)
        return (cpu_s(process.pid) - before) / (time.monotonic() - began)
    finally:
        process.kill()
        process.wait()


def _swallow(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:  # the other side is closed
        pass


def one_look_s(path: Path) -> float:
    """Seconds for a snapshot and its figures, the median of many."""
    times, settings = [], Settings.from_values({})
    for _ in range(50):
        began = time.perf_counter()
        taken = take_from(path)
        assert taken is not None
        facts_of(taken, settings=settings, now=time.time())
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def be_a_run(path: Path) -> None:
    """A process with the live view of a run, and nothing else to do."""
    with RunView(Settings.from_values({}), path, prefix="benchmark"):
        time.sleep(3600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        be_a_run(arguments.run)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark_state.db"
        began = time.monotonic()
        fill(path, requests=arguments.requests)
        print(
            f"store of {arguments.requests:,} requests: {path.stat().st_size / 1e6:,.0f} MB ({time.monotonic() - began:,.0f} s)"
        )
        print(f"one look: {one_look_s(path) * 1000:.2f} ms")
        watch = share(
            [sys.executable, "-m", "gpt_batch_api", "watch", "--task_dir", folder, "--follow"],
            seconds=arguments.seconds,
        )
        view = share([sys.executable, "-m", "benchmarks.watch", "--run", str(path)], seconds=arguments.seconds)
        print(f"watch, a process of its own: {watch:.2%} CPU; live view inside a run: {view:.2%} CPU")


if __name__ == "__main__":
    main()
