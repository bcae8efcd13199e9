"""A small world in which steps have effects, good or bad as luck has it.

It knows nothing of stores and servers: batches are lists of numbers, and what a step leads to is drawn from `Luck`.
When luck has run out everything goes well, so every story comes to an end if the steps are chosen well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from gpt_batch_api.domain.ending import Over
from gpt_batch_api.domain.outcome import Source
from gpt_batch_api.planning.admission import Hold
from gpt_batch_api.planning.next_step import (
    DecideFailure,
    Deliver,
    Doubtful,
    FindOrphans,
    Generate,
    Generator,
    Hand,
    Pile,
    Poll,
    Push,
    Resolve,
    Seal,
    Sealed,
    Settle,
    Situation,
    Step,
    Sweep,
    Wait,
)

CHAT = "/v1/chat/completions"
POLL_S = 10.0
POSTPONED_S = 60.0
AWAY_S = 2.0
LOOK_S = 1.0
ORPHAN_LOOK_S = 5.0
LAG_S = 25.0
"""So long after it was sent a file may still be missing in the server's list."""
MAX_TRIES = 3


class Luck:
    """What the dice show; 0, the best, once all are thrown."""

    def __init__(self, dice: Iterable[int]) -> None:
        self._dice = list(dice)

    def throw(self, sides: int) -> int:
        """A number below *sides*; 0 is best."""
        return self._dice.pop(0) % sides if self._dice else 0


@dataclass(frozen=True)
class Rules:
    """The settings of a run."""

    batch_size: int = 3
    max_unpushed: int = 2
    max_remote: int = 2
    max_session: int = 10**9
    enqueued: tuple[tuple[str, int], ...] = ()
    """How many requests of a model the server admits at once. The run learns it from a refusal."""
    stuck: str = ""
    """Batches of this model never end."""
    min_batch: int = 1
    failures_allowed: int = 0
    max_bad: int = 10**9
    """So many bad batches in a row stop the run."""
    once: bool = False
    only_process: bool = False


@dataclass
class Job:
    """A batch on its way."""

    requests: list[int]
    model: str
    not_before: float = 0.0
    ends_at: float = 0.0
    look_at: float = 0.0
    creating: bool = False
    """Of a push in doubt: the reply to the creation of the batch was lost, not that to the upload."""


@dataclass
class Orphan:
    """A lost upload. Its file is on the server's list from `listed_at` on; None: it never got there."""

    sent_at: float
    listed_at: float | None


@dataclass
class World:
    """Everything there is, and what each step makes of it."""

    to_generate: list[str]
    """The model of each request that the generator will yield."""
    luck: Luck
    rules: Rules = field(default_factory=Rules)
    now: float = 0.0
    models: dict[int, str] = field(default_factory=dict)
    """All requests ever asked."""
    tries: dict[int, int] = field(default_factory=dict)
    queue: list[int] = field(default_factory=list)
    batches: dict[int, Job] = field(default_factory=dict)
    sealed: list[int] = field(default_factory=list)
    doubtful: list[int] = field(default_factory=list)
    """Pushes whose reply was lost (a push has the number of its batch)."""
    orphans: list[Orphan] = field(default_factory=list)
    look_for_orphans_at: float = 0.0
    learnt: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """The model of each batch that the server refused because too much of it was enqueued."""
    remote: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    to_hand: list[int] = field(default_factory=list)
    results: list[int] = field(default_factory=list)
    """The final results, in the order in which the task got them."""
    rows_waiting: int = 0
    rows_delivered: int = 0
    leftovers: int = 0
    sent: int = 0
    decided: int = 0
    bad: int = 0
    poll_at: float = 0.0
    back_at: float = 0.0

    # ------------------------------------------------------------ look

    def situation(self) -> Situation:
        return Situation(
            ended=tuple(self.ended),
            answers_to_hand=bool(self.to_hand),
            rows_to_deliver=self.rows_waiting > 0,
            files_to_sweep=self.leftovers > 0,
            doubtful=tuple(Doubtful(id, self.batches[id].look_at - self.now) for id in self.doubtful),
            failed_batches=tuple(Source("batch", id) for id in self.failed),
            failures_allowed=self.rules.failures_allowed - self.decided,
            safety_stop="too many bad batches" if self.bad >= self.rules.max_bad else None,
            remote_batches=len(self.remote),
            poll_due_s=self.poll_at - self.now,
            sealed=tuple(
                Sealed(
                    id, self.batches[id].model, self._holds(self.batches[id]), self.batches[id].not_before - self.now
                )
                for id in self.sealed
            ),
            piles=tuple(
                Pile(CHAT, model, len(ids), len(ids) >= self.rules.batch_size) for model, ids in self._piles().items()
            ),
            held_requests=len(self.held),
            generator=self._generator(),
            max_unpushed_batches=self.rules.max_unpushed,
            min_batch_requests=self.rules.min_batch,
            orphan_due_s=max(0.0, self.look_for_orphans_at - self.now) if self.orphans else None,
            server_back_s=self.back_at - self.now,
            once=self.rules.once,
        )

    def _generator(self) -> Generator:
        if self.rules.only_process:
            return Generator.OFF
        return Generator.OPEN if self.to_generate else Generator.EXHAUSTED

    def _piles(self) -> dict[str, list[int]]:
        piles: dict[str, list[int]] = {}
        for id in self.queue:
            piles.setdefault(self.models[id], []).append(id)
        return piles

    def _holds(self, job: Job) -> tuple[Hold, ...]:
        holds = []
        there = len(self.doubtful) + len(self.remote)
        if there >= self.rules.max_remote:
            holds.append(Hold("max_remote_batches", 1, there, self.rules.max_remote, clears=True))
        if self.sent + len(job.requests) > self.rules.max_session:
            holds.append(
                Hold("max_session_requests", len(job.requests), self.sent, self.rules.max_session, clears=False)
            )
        admitted, enqueued = self.learnt.get(job.model), self._enqueued(job.model)
        if admitted is not None and enqueued and enqueued + len(job.requests) > admitted:
            name = f"the server's limit for {job.model}"
            holds.append(Hold(name, len(job.requests), enqueued, admitted, clears=True, of_model=True))
        return tuple(holds)

    def _enqueued(self, model: str) -> int:
        """How many requests of *model* are on the server, as far as anyone can tell."""
        jobs = (self.batches[id] for id in (*self.doubtful, *self.remote))
        return sum(len(job.requests) for job in jobs if job.model == model)

    def files_left(self) -> int:
        """Files that are on the server for nothing, known or not."""
        return self.leftovers + sum(orphan.listed_at is not None for orphan in self.orphans)

    def facts(self) -> str:
        """All that is so, the time aside."""
        return repr({name: value for name, value in vars(self).items() if name not in ("now", "luck", "rules")})

    def unfinished(self) -> list[int]:
        """Requests without a final result, those not yet generated aside."""
        final = set(self.results)
        return [id for id in self.models if id not in final]

    # ------------------------------------------------------------ act

    def do(self, step: Step) -> None:
        match step:
            case Over():
                raise AssertionError("nothing is done after the end")
            case Wait(delay_s):
                self.now += delay_s
            case Settle(id):
                self._settle(id)
            case Hand():
                self._hand()
            case Deliver():
                self.rows_delivered, self.rows_waiting = self.rows_delivered + self.rows_waiting, 0
            case Sweep():
                if self._reached():
                    self.leftovers = 0
            case Resolve(id):
                self._resolve(id)
            case FindOrphans():
                self._find_orphans()
            case DecideFailure(source):
                self._decide(source.id)
            case Poll():
                self._poll()
            case Push(id):
                self._push(id)
            case Seal(_, model):
                self._seal(model)
            case Generate():
                self._add(self.to_generate.pop(0))

    def _add(self, model: str) -> None:
        id = len(self.models) + 1
        self.models[id], self.tries[id] = model, 1
        self.queue.append(id)

    def _reached(self) -> bool:
        """Whether the server can be reached now."""
        if self.luck.throw(5) == 4:
            self.back_at = self.now + AWAY_S
            return False
        return True

    def _seal(self, model: str) -> None:
        chosen = self._piles()[model][: self.rules.batch_size]
        self.queue = [id for id in self.queue if id not in chosen]
        number = len(self.batches) + 1
        self.batches[number] = Job(chosen, model)
        self.sealed.append(number)

    def _push(self, id: int) -> None:
        """Upload and create in one go."""
        if not self._reached():
            return
        self.sealed.remove(id)
        self.sent += len(self.batches[id].requests)
        match self.luck.throw(6):
            case 4:  # the reply to the upload was lost
                self._is_doubtful(id, creating=False)
            case 5:  # the connection broke between upload and creation
                self._back_to_local(id)
                self.back_at = self.now + AWAY_S
            case _:
                self._create(id)

    def _create(self, id: int) -> None:
        model = self.batches[id].model
        admitted = dict(self.rules.enqueued).get(model)
        if admitted is not None and self._enqueued(model) + len(self.batches[id].requests) > admitted:
            self.learnt[model] = admitted
            self.refused.append(model)
            self._back_to_local(id, postponed_s=POSTPONED_S)
            return
        match self.luck.throw(4):
            case 0 | 1:
                self._is_remote(id)
            case 2:  # the reply was lost
                self._is_doubtful(id, creating=True)
            case _:  # the server could not take it
                self._back_to_local(id, postponed_s=POSTPONED_S)

    def _is_doubtful(self, id: int, *, creating: bool) -> None:
        self.doubtful.append(id)
        self.batches[id].creating = creating
        self.batches[id].look_at = self.now + LOOK_S

    def _is_remote(self, id: int) -> None:
        self.remote.append(id)
        stuck = self.batches[id].model == self.rules.stuck
        self.batches[id].ends_at = math.inf if stuck else self.now + POLL_S * self.luck.throw(4)

    def _back_to_local(self, id: int, *, postponed_s: float = 0.0) -> None:
        self.sent -= len(self.batches[id].requests)
        self.batches[id].not_before = self.now + postponed_s
        self.sealed.append(id)

    def _resolve(self, id: int) -> None:
        """What was created is adopted; what was not goes out anew, as any other batch does."""
        if not self._reached():
            return
        match self.luck.throw(3):
            case 0:  # found
                self.doubtful.remove(id)
                if self.batches[id].creating:
                    self._is_remote(id)
                else:
                    self._back_to_local(id)
            case 1 if self.batches[id].creating:  # not there yet
                self.batches[id].look_at = self.now + LOOK_S
            case fallen:  # it never happened; of an upload that is not known yet
                self.doubtful.remove(id)
                self._back_to_local(id)
                if not self.batches[id].creating:
                    listed_at = self.now + LOOK_S * self.luck.throw(20) if fallen == 1 else None
                    self.orphans.append(Orphan(self.now, listed_at))

    def _find_orphans(self) -> None:
        """Found: it is to be deleted. Not found for as long as the list can be behind: there is none."""
        self.look_for_orphans_at = self.now + ORPHAN_LOOK_S
        if not self._reached():
            return
        found = [orphan for orphan in self.orphans if orphan.listed_at is not None and orphan.listed_at <= self.now]
        self.leftovers += len(found)
        self.orphans = [orphan for orphan in self.orphans if orphan not in found and self.now - orphan.sent_at < LAG_S]

    def _poll(self) -> None:
        self.poll_at = self.now + POLL_S
        if self._reached():
            self.ended += [id for id in self.remote if self.batches[id].ends_at <= self.now]
            self.remote = [id for id in self.remote if id not in self.ended]

    def _settle(self, id: int) -> None:
        if not self._reached():
            return
        self.ended.remove(id)
        match self.luck.throw(6):
            case 3:  # nothing of it ran: it goes again with the same file
                self._back_to_local(id, postponed_s=POSTPONED_S)
                return
            case 4:  # it failed as a whole
                self.failed.append(id)
                self.held += self.batches[id].requests
                self.bad += 1
                return
            case _:
                self.leftovers += 1
        for request in self.batches[id].requests:
            if self.luck.throw(3) == 2 and self.tries[request] < MAX_TRIES:
                self.tries[request] += 1
                self.queue.append(request)
            else:
                self.to_hand.append(request)
        self.bad = self.bad + 1 if self.luck.throw(4) == 3 else 0

    def _hand(self) -> None:
        chunk, self.to_hand = self.to_hand[:2], self.to_hand[2:]
        self.results += chunk
        self.rows_waiting += len(chunk)
        if self.luck.throw(4) == 3:  # the task asks something more
            self._add(self.models[chunk[0]])

    def _decide(self, id: int) -> None:
        self.failed.remove(id)
        self.decided += 1
        self.held = [request for request in self.held if request not in self.batches[id].requests]
        self.to_hand += self.batches[id].requests
