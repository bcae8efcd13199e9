"""A big job in a storm: killed at random times, a bad network, a server with faults and lists that lag. Then all is well.

A seed decides what the storm is like: the plan of the server, the network's badness, when the process is killed. What
meets what is a matter of timing, so the same seed is the same storm, but not the same story to the last byte.
"""

from __future__ import annotations

import json
import random
import shutil
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.clock import HurriedClock
from gpt_batch_api.sandbox.child import SandboxProcess
from tests.crash import jobs
from tests.crash.bad_network import EXCHANGE_HARMS, Badness, BadNetwork, Harm
from tests.crash.harness import Failed, Job, killed_after, log_of
from tests.crash.trials import Trial
from tests.crash.world import direct_charges, look
from tests.toy import tell

TIME_SCALE = 40.0
"""Simulated seconds in a real one, for server and job alike: a list lag of a minute takes a second and a half."""
LONGEST_LAG_S = 60.0
MOST_KILLS = 10
MOST_HARMED = {**dict.fromkeys(EXCHANGE_HARMS, 0.12), Harm.HANG: 0.03}
"""The greatest share of exchanges that each kind of harm strikes. A hang takes longer than lists are looked at."""


@dataclass(frozen=True)
class Storm:
    """What is tried."""

    seed: int
    words: int

    def repeat(self) -> str:
        """The command that does this again."""
        return f"python -m tests.crash --storms 1 --seed {self.seed} --requests {self.words}"


@dataclass
class StormOutcome:
    """What came of some storms."""

    storms: int = 0
    kills: int = 0
    harms: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, other: StormOutcome) -> None:
        """Count *other* in."""
        self.storms += other.storms
        self.kills += other.kills
        self.harms += other.harms
        self.seconds += other.seconds
        self.failures += other.failures


def weather(chance: random.Random) -> dict[str, Any]:
    """The plan of a server in a storm. What it charges for is what it also sends."""
    bad = chance.uniform(0, 0.04)
    return {
        "seed": chance.randrange(1000),
        "timing": {"time_scale": TIME_SCALE, "requests_per_s": 500},
        "list_lag_s": {
            "files": chance.uniform(0, LONGEST_LAG_S),
            "batches": chance.uniform(0, LONGEST_LAG_S),
        },
        "faults": [
            {"on": "batches.create", "fault": "lose_after", "rate": 0.2},
            {"on": "files.create", "fault": "lose_after", "rate": 0.1},
            {"on": "files.content", "fault": "cut", "rate": 0.2, "after_bytes": chance.randrange(5000)},
            {"on": "files.content", "fault": "short", "rate": 0.2, "after_bytes": 2000},
            {"on": "files.retrieve", "fault": "status", "status": 503, "rate": 0.7},
            {"on": "direct", "fault": "status", "status": 429, "retry_after": 1, "rate": 0.05},
            {"on": "*", "fault": "status", "status": 503, "rate": bad},
            {"on": "*", "fault": "garbage", "rate": bad / 4},
        ],
        "lines": [
            {"fault": "status", "status": 500, "rate": 0.02},
            {"fault": "refusal", "rate": 0.01},
            {"fault": "missing", "rate": 0.005, "charged": False},
            {"fault": "infrastructure", "rate": 0.005},
            {"fault": "doubled", "rate": 0.005},
        ],
        "batches": [
            {"fault": "expire", "rate": 0.1, "after_fraction": 0.5},
            {"fault": "cancel", "rate": 0.1, "after_fraction": 0.3},
            {"fault": "odd_status", "rate": 0.1},
            {"fault": "late_ids", "rate": 0.2, "seconds": LONGEST_LAG_S / 2},
        ],
    }


def badness(chance: random.Random) -> Badness:
    """The network of a storm."""
    return Badness(
        rates={harm: chance.uniform(0, MOST_HARMED[harm]) for harm in EXCHANGE_HARMS},
        longest_stall_s=0.3,
        up_s=chance.uniform(1, 5),
        longest_outage_s=0.5,
        hang_s=jobs.STORM_LAG_WAIT_S / TIME_SCALE + 0.1,
    )


def brave(storm: Storm, base: Path) -> StormOutcome:
    """Run a job through a storm, to its end, and look at the world."""
    began_s = time.monotonic()
    outcome = StormOutcome(storms=1)
    folder = base / f"storm-{storm.seed}"
    try:
        _brave(storm, folder, outcome)
    except Exception as error:
        what = str(error) if isinstance(error, Failed) else "".join(traceback.format_exception(error))
        outcome.failures.append(f"{storm.repeat()}\n  {what:.3000}\n  files: {folder}, log: {log_of(folder / 'tasks')}")
    else:
        shutil.rmtree(folder)
    outcome.seconds = time.monotonic() - began_s
    return outcome


def _brave(storm: Storm, folder: Path, outcome: StormOutcome) -> None:
    chance = random.Random(storm.seed)
    tasks, plan = folder / "tasks", folder / "plan.json"
    tasks.mkdir(parents=True)
    plan.write_text(json.dumps(weather(chance)), encoding="utf-8")
    network_chance, kill_chance = random.Random(chance.random()), random.Random(chance.random())
    clock = HurriedClock(time.time(), TIME_SCALE)
    job: Job = partial(jobs.in_a_storm, words=storm.words, clock=clock)
    with (
        SandboxProcess.start(folder / "sandbox.db", plan=plan) as server,
        BadNetwork(server.url, badness(chance), network_chance).running() as network,
    ):
        for _ in range(kill_chance.randint(1, MOST_KILLS)):
            if not killed_after(job, tasks, network.url, life_s=kill_chance.expovariate(1 / mean_life_s(storm.words))):
                break
            outcome.kills += 1
        killed_after(job, tasks, network.url, life_s=None)
        outcome.harms.update({str(harm): times for harm, times in network.harms.items()})
        tell(server, "/sandbox/plan", {"timing": {"time_scale": TIME_SCALE}})  # fair weather, to look at what there is
        trial = Trial(job, words=storm.words, charged_by_chance=True, in_flight=jobs.STORM_IN_FLIGHT)
        trial.check(look(tasks, server), charged=direct_charges(server), kills=outcome.kills)


def mean_life_s(words: int) -> float:
    """How long a process lives on average: some kills fall into its start, some runs get far."""
    return 0.3 + words / 5000
