"""What is tried: each job with what was there before it, what is run after a kill, and how the world must be then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash import jobs
from tests.crash.harness import KILLED, Failed, Job, run
from tests.crash.world import Direct, World

QUICK: dict[str, Any] = {
    "timing": {"validating_s": 0, "requests_per_s": 1000000, "minimum_s": 0, "finalizing_s": 0, "cancelling_s": 0}
}
"""No time passes between creation and completion of a batch."""


@dataclass(frozen=True)
class Begun:
    """A run before the one that is tried, and how it must end."""

    job: Job
    code: int = 0
    kill_at: int | str | None = None


BEGUN_SLOWLY = (Begun(jobs.begin_slowly, 3),)
"""Two batches are under way on the server, and will be for long."""
ENDED = {"completed", "failed", "expired", "cancelled"}
"""How a batch on the server may stand in the end."""
ONE_OF_TWO = (Begun(jobs.one_batch, 3), Begun(jobs.two_batches, KILLED, "before GET content"))
"""One batch is done, the other has ended on the server; a kill came before its answers were fetched."""


@dataclass(frozen=True)
class Trial:
    """A job that is killed at its edges."""

    job: Job
    begun: Sequence[Begun] = ()
    after: Job | None = None
    """What is run after a kill: the same command again, if nothing is given."""
    rules: dict[str, Any] | None = None
    """What the server does wrong."""
    words: int = 8
    outputs: frozenset[str] = frozenset({"toy_output.jsonl"})
    states: Counter[str] | None = None
    """How many requests end how; all succeed, one for each word, if nothing is given."""
    answers: int = 0
    """So many there are at the least, bad ones included; else the server did not do wrong what it should."""
    charged: int | None = None
    """So many answers the server charges for if no process is killed; one for each request, if nothing is given."""
    charged_by_chance: bool = False
    """Nobody knows how many that are: bad answers come at random."""
    good_answers: int = 1
    """A request may have so many good answers: more than one only if the task sends one back."""
    row_is_right: Callable[[dict[str, Any]], bool] = lambda row: row.get("word") == row["key"]
    """Whether a row holds the answer to its own question."""
    wipes: bool = False
    in_flight: int = 0
    """So many direct calls may be in flight at a kill; their replies may be lost, and the calls paid again."""

    @property
    def plan(self) -> dict[str, Any]:
        """The sandbox's plan."""
        return {**QUICK, **(self.rules or {})}

    @property
    def recovery(self) -> Job:
        """What is run after a kill."""
        return self.after or self.job

    def prepare(self, folder: Path, url: str) -> None:
        """Bring about what was there before."""
        folder.mkdir()
        for begun in self.begun:
            code = run(begun.job, folder, url, kill_at=begun.kill_at)
            if code != begun.code:
                raise Failed(f"{begun.job.__name__} ended with {code}, not {begun.code}, before anything was tried")

    def check(self, world: World, *, charged: Direct, kills: int) -> None:
        """Raise Failed if the world is not as if nothing had happened.

        *charged*: what the server charged for direct calls meanwhile.
        """
        wrong = [text for text, holds in self._promises(world, charged, kills).items() if not holds]
        if wrong:
            raise Failed(f"{'; '.join(wrong)}. {world}")

    def _promises(self, world: World, charged: Direct, kills: int) -> dict[str, bool]:
        keys = [f"word-{index:05}" for index in range(self.words)]
        kills += sum(begun.code == KILLED for begun in self.begun)
        lost = sum(unknown.calls for unknown in world.unknown) + world.lost_replies
        billed_pico = world.billed_pico + charged.cost_pico
        states = self.states or Counter(succeeded=self.words)
        paid_again = world.billed_requests + charged.calls - (self.charged or states.total())
        return {
            "rows are missing or doubled": sorted(row["key"] for row in world.rows) == keys,
            "a row holds the answer to another question": all(map(self.row_is_right, world.rows)),
            "output and store hold different rows": _as_set(world.rows) == _as_set(world.stored_rows),
            "the delivered position is not the file's end": all(
                world.folder.get(name) == size for name, size in world.delivered_bytes.items()
            ),
            "requests did not end as they should": world.states == states,
            "the trial tries nothing": world.answers >= self.answers,
            "a batch was paid twice": set(world.batches_by_number.values()) <= {1},
            "a request was answered twice": self.wipes or world.good_answers <= self.good_answers,
            "answers were paid twice": self.wipes or self.charged_by_chance or paid_again <= lost,
            "answers were paid that nobody has": self.wipes
            or world.billed_requests + charged.calls - world.paid_answers <= lost,
            "direct calls were paid again that are not booked as unknown": self.wipes
            or charged.calls - world.paid_direct_answers <= lost,
            "a batch of ours still runs on the server": world.statuses.keys() <= ENDED,
            "something is still reserved": world.reserved_pico == 0,
            "the ledger is not what the server charged": 0
            < billed_pico
            <= world.spent_pico
            <= billed_pico + world.unknown_pico,
            "the ledger is not the sum of the answers": world.spent_since_scratch_pico
            == world.linked_pico + world.unlinked_pico,
            "money was spent that no answer has cost": self.wipes or world.unlinked_pico == world.unknown_pico,
            "more calls are unknown than were in flight": len(world.unknown) <= kills
            and all(unknown.calls <= self.in_flight for unknown in world.unknown),
            "files of ours are left on the server": not world.server_files,
            "the folder holds other files than it should": world.outputs == self.outputs,
            f"the store is damaged: {world.damage}": not world.damage,
        }


def _as_set(rows: list[dict[str, Any]]) -> Counter[tuple[tuple[str, str], ...]]:
    """Rows, whatever their order."""
    return Counter(tuple(sorted((name, str(value)) for name, value in row.items())) for row in rows)


def _has_reason(row: dict[str, Any]) -> bool:
    return bool(row.get("word") == row["key"] and row.get("why") == f"{row['key']}, why")


LINES = {"lines": [{"fault": "status", "status": 500, "nth": 2}, {"fault": "refusal", "nth": 3}]}
"""The second line meets a server error, the third is refused."""
HALF = {"batches": [{"fault": "expire", "nth": 1, "after_fraction": 0.5}]}
SLOW = {"timing": {**QUICK["timing"], "requests_per_s": 0.0001}}
LATE = {
    "timing": {**QUICK["timing"], "time_scale": jobs.LAG_SCALE},
    "list_lag_s": {"files": 40, "batches": 40},
}
"""What is new is in no list for a while; the jobs wait for it for half as long again."""
REFUSED = {"lines": [{"fault": "refusal", "nth": 2}]}

TRIALS = {
    "list": Trial(jobs.two_batches),
    "lagging": Trial(jobs.two_batches_with_lagging_lists, rules=LATE),
    "lagging_then_wipe": Trial(
        jobs.two_batches_with_lagging_lists, after=jobs.wipe_with_lagging_lists, rules=LATE, wipes=True
    ),
    "parts": Trial(jobs.parts, words=4, outputs=frozenset({"toy_output_part001.jsonl", "toy_output_part002.jsonl"})),
    "document": Trial(jobs.document, words=4, outputs=frozenset({"toy_output.json", "count.txt"})),
    "custom": Trial(jobs.custom, words=4, outputs=frozenset({"toy_output.tsv"})),
    "direct": Trial(jobs.direct, in_flight=3),
    "mixed": Trial(jobs.mixed, words=5, in_flight=3),
    "retries": Trial(jobs.retries, words=4, answers=6, charged=5, rules=LINES, in_flight=3),
    "task_retries": Trial(jobs.task_retries, words=4, answers=5, charged=5, good_answers=2, in_flight=3),
    "expiry": Trial(jobs.expiry, words=4, answers=6, rules=HALF),
    "expiry_then_direct": Trial(jobs.expiry_then_direct, words=4, answers=6, rules=HALF, in_flight=3),
    "deadline": Trial(jobs.deadline, BEGUN_SLOWLY, rules=SLOW, in_flight=3),
    "dedupe": Trial(
        jobs.dedupe, words=4, charged=2, row_is_right=lambda row: row["word"] == f"word {int(row['key'][-1]) % 2}"
    ),
    "migration": Trial(
        jobs.migration,
        [*ONE_OF_TWO, Begun(jobs.back_to_first_schema)],
        outputs=frozenset({"toy_output.jsonl", "toy_state.schema1.db"}),
    ),
    "opinions": Trial(
        jobs.opinions,
        words=2,
        states=Counter(succeeded=8),
        row_is_right=lambda row: row["opinion"] == "yes" and row["why"] == row["key"],
        in_flight=3,
    ),
    "reprocess": Trial(
        jobs.reprocess,
        [Begun(jobs.with_a_mistake)],
        words=3,
        answers=6,
        states=Counter(succeeded=6),
        row_is_right=_has_reason,
    ),
    "reprocess_then_run": Trial(
        jobs.reprocess,
        [Begun(jobs.with_a_mistake)],
        after=jobs.run_then_reprocess,
        words=3,
        answers=6,
        states=Counter(succeeded=6),
        row_is_right=_has_reason,
    ),
    "wipe_requests": Trial(jobs.wipe_requests, ONE_OF_TWO, wipes=True),
    "wipe_requests_then_run": Trial(jobs.wipe_requests, ONE_OF_TWO, after=jobs.two_batches, wipes=True),
    "wipe_running": Trial(jobs.wipe_requests_then_direct, BEGUN_SLOWLY, rules=SLOW, wipes=True, in_flight=3),
    "wipe_task_running": Trial(jobs.wipe_task_then_direct, BEGUN_SLOWLY, rules=SLOW, wipes=True, in_flight=3),
    "wipe_by_command": Trial(jobs.wipe_by_command, ONE_OF_TWO, after=jobs.two_batches, wipes=True),
    "wipe_direct": Trial(jobs.wipe_direct, [Begun(jobs.direct, KILLED, 24)], wipes=True, in_flight=3),
    "wipe_failed": Trial(jobs.wipe_failed, [Begun(jobs.without_retries)], rules=REFUSED, words=4, wipes=True),
    "wipe_failed_here": Trial(jobs.wipe_failed_here, [Begun(jobs.without_retries)], rules=REFUSED, words=4, wipes=True),
    "take_back": Trial(
        jobs.take_back,
        [Begun(jobs.three_pairs)],
        after=jobs.wipe_pairs,
        words=3,
        outputs=frozenset({"toy_output_part001.jsonl"}),
        states=Counter(succeeded=8),
        wipes=True,
    ),
    "wipe_task": Trial(jobs.wipe_task, ONE_OF_TWO, wipes=True),
    "wipe_task_then_run": Trial(jobs.wipe_task, ONE_OF_TWO, after=jobs.whole, wipes=True),
}
"""All trials, by name."""
