"""How good `estimate` is after a pilot: does its interval hold what the rest truly costs?

    python -m benchmarks.estimate [--seeds 20] [--pilot 200] [--requests 5000] [--json]

For each seed a task with requests of three kinds (a structured answer, a short and a long text), inputs of different
lengths, follow-up questions, refusals and answers that are cut off runs its pilot, is estimated with --estimate, and then
runs to its end against the same sandbox, whose ledger says what the rest cost.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import tempfile
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import GPTRequest, Result, Sample, TaskManager

PLAN = """
seed: {seed}
timing: {{validating_s: 0, requests_per_s: 1000000, minimum_s: 0, finalizing_s: 0}}
answers: {{answer_tokens: 60, refusal_rate: 0.03, length_rate: 0.01}}
"""
WORDS = "river winter table music letter garden paper bridge forest silver kitchen market doctor village".split()


class Finding(BaseModel):
    """The structured kind of answer."""

    topic: str
    remarks: list[str]
    is_urgent: bool


class Mixed(TaskManager):
    """Three kinds of requests by turns; of some samples a follow-up is asked."""

    name = "estimate"
    defaults = {"model": "gpt-4o-mini"}  # noqa: RUF012
    count = 5000
    seed = 0

    def generate_requests(self) -> Iterable[GPTRequest]:
        for index in range(self.count):
            yield GPTRequest(f"sample-{index}", self.payload(index))

    def payload(self, index: int) -> dict[str, Any]:
        chance = random.Random(f"{self.seed}/{index}")
        text = " ".join(chance.choice(WORDS) for _ in range(int(chance.lognormvariate(4, 0.6))))
        shape: dict[str, Any] = (
            {"response_format": Finding, "max_completion_tokens": 400},
            {"max_completion_tokens": 150},
            {"max_completion_tokens": 1000},
        )[chance.choices((0, 1, 2), (5, 3, 2))[0]]
        return {**self.meta, **shape, "messages": [{"role": "user", "content": f'Read "{text[:60]}": {text}'}]}

    def process_result(self, result: Result, sample: Sample) -> None:
        if result.ok and not result.purpose and random.Random(f"{self.seed}/{sample.key}").random() < 0.08:
            sample.ask(GPTRequest(sample.key, self.payload(10**6 + int(sample.key[7:])), purpose="more"))


@dataclass(frozen=True)
class Trial:
    """One seed: what was foretold, in dollars, and what was true."""

    seed: int
    low: float
    expected: float
    high: float
    true: float

    @property
    def holds(self) -> bool:
        return self.low <= self.true <= self.high


def trial(seed: int, *, pilot: int, requests: int) -> Trial:
    """Pilot, estimate, and the rest."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(PLAN.format(seed=seed), encoding="utf-8")
        with SandboxProcess.start(Path(folder) / "sandbox.db", plan=plan) as sandbox:
            settings: dict[str, Any] = {
                "client_base_url": sandbox.url,
                "openai_api_key": "sandbox",
                "task_dir": Path(folder) / "tasks",
                "remote_update_interval": 0.05,
                "list_lag_wait": 0.5,
                "min_batch_requests": 1,
                "verbosity": "quiet",
                "min_pass_ratio": 0.0,
            }
            Mixed.count, Mixed.seed = requests, seed
            Mixed(**settings, max_session_requests=pilot, max_batch_requests=pilot).run_to_end()
            before = billed_pico(sandbox)
            found = Mixed(**settings, estimate=True).run_to_end().estimate
            assert found is not None
            Mixed(**settings).run_to_end()
            true = billed_pico(sandbox) - before
    cost = found.rest.cost_pico[Road.BATCH]
    return Trial(seed, *(pico / 1e12 for pico in (cost.low, cost.expected, cost.high, true)))


def billed_pico(sandbox: SandboxProcess) -> int:
    """What the sandbox has billed so far."""
    with urllib.request.urlopen(sandbox.url.removesuffix("/v1") + "/sandbox/ledger") as reply:
        cost: int = json.loads(reply.read())["total"]["cost_pico"]
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--pilot", type=int, default=200)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args()
    logging.disable()
    trials = []
    if not options.json:
        print("seed       low  expected      high      true   off  held")
    for seed in range(options.seeds):
        one = trial(seed, pilot=options.pilot, requests=options.requests)
        trials.append(one)
        if not options.json:
            off = 100 * (one.expected / one.true - 1)
            print(
                f"{seed:4} {one.low:9.5f} {one.expected:9.5f} {one.high:9.5f} {one.true:9.5f} {off:+5.1f}%"
                f"  {'yes' if one.holds else 'NO'}",
                flush=True,
            )
    if options.json:
        print(json.dumps([{**asdict(one), "holds": one.holds} for one in trials], indent=1))
    else:
        print(f"{sum(one.holds for one in trials)} of {len(trials)} intervals held the true cost")


if __name__ == "__main__":
    main()
