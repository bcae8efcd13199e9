"""What now? When is it over?

The loop describes the situation, `next_step` names one step, the loop does it, and so on. Money first: what is paid
for is booked, handed over and delivered before anything new is sent. A step that needs the server is left out while the
server is out of reach. All delays are seconds from now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.outcome import Source
from gpt_batch_api.domain.words import count
from gpt_batch_api.planning.admission import Hold
from gpt_batch_api.planning.deadline import Hurry


@dataclass(frozen=True)
class Settle:
    """Fetch, judge and book the answers of an ended batch."""

    batch_id: int


@dataclass(frozen=True)
class Hand:
    """Let the task's code see a chunk of booked answers."""


@dataclass(frozen=True)
class Deliver:
    """Write rows to the output file."""


@dataclass(frozen=True)
class Sweep:
    """Delete files that nothing needs any more."""


@dataclass(frozen=True)
class Resolve:
    """Ask the server what became of a push in doubt."""

    push_id: int


@dataclass(frozen=True)
class FindOrphans:
    """Look for files that lost uploads may have left on the server."""


@dataclass(frozen=True)
class DecideFailure:
    """Force-process a failed batch (or group of direct calls), as the user allowed."""

    source: Source


@dataclass(frozen=True)
class Poll:
    """Ask the server how the batches stand."""


@dataclass(frozen=True)
class Recall:
    """Take back a batch that would not be done by the deadline: cancel it on the server, or dissolve a local one."""

    batch_id: int


@dataclass(frozen=True)
class Push:
    """Bring a sealed batch to the server."""

    batch_id: int


@dataclass(frozen=True)
class Seal:
    """Make a batch of what is queued for one endpoint and model."""

    endpoint: str
    model: str


@dataclass(frozen=True)
class Generate:
    """Take more requests from the generator."""


@dataclass(frozen=True)
class Route:
    """A queue whose requests go by direct calls: all of them, or only those that expired too often."""

    endpoint: str
    model: str
    expired_only: bool = False
    flex: bool = False
    """Whether the flex tier is tried first: slower, at the price of batches."""


@dataclass(frozen=True)
class Direct:
    """Keep direct calls going for up to *for_s* seconds: book what has come, send what may go."""

    routes: tuple[Route, ...]
    for_s: float = 0.0


@dataclass(frozen=True)
class Wait:
    """Nothing can be done before *delay_s* seconds have passed."""

    delay_s: float
    reasons: tuple[str, ...]


Step = (
    Settle
    | Hand
    | Deliver
    | Sweep
    | FindOrphans
    | Resolve
    | DecideFailure
    | Poll
    | Recall
    | Push
    | Direct
    | Seal
    | Generate
    | Wait
    | Over
)


class Generator(StrEnum):
    """The state of the user's generator of requests."""

    OPEN = "open"
    EXHAUSTED = "exhausted"
    OFF = "off"
    """Not asked in this run (`only_process`)."""


@dataclass(frozen=True)
class Doubtful:
    """A push in doubt: its reply was lost. It will be looked for in *due_s* seconds."""

    push_id: int
    due_s: float


@dataclass(frozen=True)
class Awaited:
    """An ended batch whose results were not all there; it is looked at again in *due_s* seconds."""

    due_s: float
    will_end: bool = True
    """Whether it is given up after a while: not if the server only fails to give what it has."""


@dataclass(frozen=True)
class Sealed:
    """A local batch: what holds it back, and when it may be tried at the earliest."""

    batch_id: int
    model: str = ""
    holds: tuple[Hold, ...] = ()
    due_s: float = 0.0

    @property
    def will_go(self) -> bool:
        """It goes out by itself, now or when others have ended."""
        return all(hold.clears for hold in self.holds)

    @property
    def waits_for_model(self) -> bool:
        """Nothing holds it back but what the server admits of its model at once."""
        return bool(self.holds) and all(hold.of_model for hold in self.holds)


@dataclass(frozen=True)
class Pile:
    """What is queued for one endpoint and model. `full`: enough for a full batch."""

    endpoint: str
    model: str
    requests: int
    full: bool
    direct: bool = False
    """Whether all of it may go by direct calls."""
    expired: int = 0
    """How many more wait that expired too often in batches, so that they go by direct calls."""
    holds: tuple[Hold, ...] = ()
    """What keeps its next direct call back."""
    expired_holds: tuple[Hold, ...] = ()
    """The same for those that expired too often."""


@dataclass(frozen=True)
class Situation:
    """Everything that decides the next step."""

    interrupted: bool = False
    ended: tuple[int, ...] = ()
    """Batches whose results may be fetched now."""
    awaited: tuple[Awaited, ...] = ()
    """Ended batches whose results do not come yet."""
    answers_to_hand: bool = False
    rows_to_deliver: bool = False
    files_to_sweep: bool = False
    sweep_due_s: float = 0.0
    """When, if it has failed."""
    doubtful: tuple[Doubtful, ...] = ()
    failed_batches: tuple[Source, ...] = ()
    failures_allowed: int = 0
    """How many failed batches may still be force-processed."""
    safety_stop: str | None = None
    """Why the run must not go on, if it must not."""
    remote_batches: int = 0
    poll_due_s: float = 0.0
    sealed: tuple[Sealed, ...] = ()
    piles: tuple[Pile, ...] = ()
    held_requests: int = 0
    generator: Generator = Generator.OPEN
    max_unpushed_batches: int = 5
    min_batch_requests: int = 1
    orphan_due_s: float | None = None
    """When to look for a file that may have been left on the server by a lost upload; None: there is none."""
    server_back_s: float = 0.0
    """The server was out of reach and is tried again then."""
    force_direct: bool = False
    direct_in_flight: int = 0
    direct_due_s: float = 0.0
    """When direct calls must be looked at again, if any are under way or may be sent."""
    hurry: Hurry = Hurry.NONE
    """Because of a deadline: whatever may go by direct calls does."""
    to_recall: tuple[int, ...] = ()
    """Batches that are to be taken back because of it."""
    once: bool = False


DIRECT_QUEUE = 200
"""So many requests are generated ahead of direct calls, if everything goes by them."""
DIRECT_S = 0.25
"""How long direct calls are kept going before the rest of the job is looked at again."""


def next_step(now: Situation) -> Step:
    """Name the one step that is to be done now."""
    if now.interrupted:
        return Over(Ending.INTERRUPTED)
    for step in (_book(now), _decide(now), _send(now), _prepare(now)):
        if step is not None:
            return step
    return _wait(now) or _over(now)


def _reachable(now: Situation) -> bool:
    return now.server_back_s <= 0


def _sends(now: Situation) -> bool:
    """Whether this run may send and prepare anything new (not with `only_process`)."""
    return now.generator is not Generator.OFF


def _book(now: Situation) -> Step | None:
    """What is paid for comes first."""
    if now.ended and _reachable(now):
        return Settle(now.ended[0])
    if now.answers_to_hand:
        return Hand()
    if now.rows_to_deliver:
        return Deliver()
    if not _reachable(now):
        return None
    if now.files_to_sweep and now.sweep_due_s <= 0:
        return Sweep()
    for doubt in now.doubtful:
        if doubt.due_s <= 0:
            return Resolve(doubt.push_id)
    if now.orphan_due_s is not None and now.orphan_due_s <= 0:
        return FindOrphans()
    if now.remote_batches and now.poll_due_s <= 0:
        return Poll()
    return None


def _decide(now: Situation) -> Step | None:
    """Nothing new is sent while something stands that only the user can decide."""
    if now.failed_batches:
        if now.failures_allowed > 0:
            return DecideFailure(now.failed_batches[0])
        return Over(Ending.STOPPED)
    if now.safety_stop and _has_more_to_send(now):
        return Over(Ending.STOPPED, (now.safety_stop,))
    return None


def _has_more_to_send(now: Situation) -> bool:
    return _sends(now) and bool(now.sealed or now.piles or now.generator is Generator.OPEN)


def _send(now: Situation) -> Step | None:
    if _reachable(now) and _sends(now):
        if now.to_recall:
            return Recall(now.to_recall[0])
        for batch in now.sealed:
            if not batch.holds and batch.due_s <= 0:
                return Push(batch.batch_id)
    routes = _routes(now)
    if (routes or now.direct_in_flight) and now.direct_due_s <= 0:
        return Direct(routes)
    return None


def _routes(now: Situation) -> tuple[Route, ...]:
    """The queues whose requests may go by direct calls now."""
    return _for_direct_calls(now) if _reachable(now) else ()


def _for_direct_calls(now: Situation) -> tuple[Route, ...]:
    """The queues whose requests go by direct calls, as soon as the server can be reached."""
    if not _sends(now):
        return ()
    routes = []
    for pile in now.piles:
        if _all_go_direct(pile, now) or (pile.requests and _is_small_remainder(pile, now)):
            if not pile.holds:
                routes.append(Route(pile.endpoint, pile.model, flex=now.hurry is Hurry.FLEX))
        elif pile.expired and not pile.expired_holds:
            routes.append(Route(pile.endpoint, pile.model, expired_only=True, flex=now.hurry is Hurry.FLEX))
    return tuple(routes)


def _all_go_direct(pile: Pile, now: Situation) -> bool:
    """Whether direct calls are the way of a pile, however large it is."""
    return now.force_direct or (now.hurry is not Hurry.NONE and pile.direct)


def _is_small_remainder(pile: Pile, now: Situation) -> bool:
    """Nothing can join it any more to make a batch that is worth while."""
    is_small = pile.requests < now.min_batch_requests and not pile.full  # a full batch goes whatever its size
    return pile.direct and is_small and not _more_may_come(now)


def _prepare(now: Situation) -> Step | None:
    """Batches that only wait for the server to admit more of their model do not keep those of other models back."""
    if not _sends(now):
        return None
    waiting_models = {batch.model for batch in now.sealed if batch.waits_for_model}
    has_room = sum(not batch.waits_for_model for batch in now.sealed) < now.max_unpushed_batches
    direct = [pile for pile in now.piles if _all_go_direct(pile, now)]
    for pile in now.piles:
        if pile in direct or not has_room or pile.model in waiting_models:
            continue
        if pile.full or _is_remainder_due(pile, now):
            return Seal(pile.endpoint, pile.model)
    if now.generator is not Generator.OPEN:
        return None
    if now.force_direct or now.hurry is not Hurry.NONE:
        is_held = any(pile.holds for pile in direct)
        return None if is_held or sum(pile.requests for pile in now.piles) >= DIRECT_QUEUE else Generate()
    return Generate() if has_room else None


def _is_remainder_due(pile: Pile, now: Situation) -> bool:
    """A big remainder goes at once; a small one waits for what may still join it (retries, follow-ups).

    If it stays small it goes by direct calls where it may.
    """
    if now.generator is not Generator.EXHAUSTED or not pile.requests:
        return False
    return pile.requests >= now.min_batch_requests or (not pile.direct and not _more_may_come(now))


def _more_may_come(now: Situation) -> bool:
    """Whether requests may yet come back from batches, or new ones from the generator."""
    on_server = now.remote_batches or now.doubtful or now.ended or now.awaited
    under_way = on_server or any(batch.will_go for batch in now.sealed)
    return bool(under_way) or now.generator is not Generator.EXHAUSTED


def _wait(now: Situation) -> Step | None:
    """Wait for whatever comes first, if anything can still come."""
    routes = _routes(now)
    if routes or now.direct_in_flight:
        return Direct(routes, for_s=DIRECT_S)
    awaited = [
        (batch.due_s, "results that did not come yet") for batch in now.awaited if batch.will_end or not now.once
    ]
    if now.once and not (awaited and _reachable(now)):
        return None
    if now.once:
        return _until_first(awaited, now)
    delays: list[tuple[float, str]] = awaited
    if _for_direct_calls(now):
        delays.append((0.0, "the server, for direct calls"))
    if now.ended:
        delays.append((0.0, "the results of ended batches"))
    if now.remote_batches:
        delays.append((now.poll_due_s, f"{count(now.remote_batches, 'batch')} on the server"))
    delays += [(doubt.due_s, "a push whose reply was lost") for doubt in now.doubtful]
    if now.files_to_sweep:
        delays.append((now.sweep_due_s, "the server, to delete files"))
    if _sends(now):
        delays += [
            (batch.due_s, f"batch {batch.batch_id}, which the server could not take yet")
            for batch in now.sealed
            if not batch.holds
        ]
    if now.orphan_due_s is not None:
        delays.append((now.orphan_due_s, "a file that a lost upload may have left behind"))
    return _until_first(delays, now) if delays else None


def _until_first(delays: Sequence[tuple[float, str]], now: Situation) -> Wait:
    delay_s = max(now.server_back_s, min(delay for delay, _ in delays))
    return Wait(max(0.05, delay_s), tuple(dict.fromkeys(reason for _, reason in delays)))


def _over(now: Situation) -> Over:
    reasons = list(dict.fromkeys(_reasons(now)))
    return Over(Ending.WORK_LEFT if reasons else Ending.DONE, tuple(reasons))


def _reasons(now: Situation) -> Iterator[str]:
    """Everything that is not done when the run ends."""
    under_way = now.remote_batches + len(now.doubtful) + len(now.ended) + len(now.awaited)
    if under_way:
        yield f"{count(under_way, 'batch')} under way on the server"
    if now.files_to_sweep:
        yield "files on the server are still to be deleted"
    if now.orphan_due_s is not None:
        yield "a file of a lost upload may yet turn up on the server"
    holds = [hold for batch in now.sealed for hold in batch.holds]
    holds += [hold for pile in now.piles for hold in (*pile.holds, *pile.expired_holds)]
    first_of_limit: dict[str, Hold] = {}
    for hold in holds:
        first_of_limit.setdefault(hold.limit, hold)
    yield from map(str, first_of_limit.values())
    if now.sealed:
        why = "" if _sends(now) else ", which only_process does not send"
        yield f"{count(len(now.sealed), 'batch')} prepared, not pushed{why}"
    if queued := sum(pile.requests + pile.expired for pile in now.piles):
        yield f"{count(queued, 'request')} in the queue"
    if now.generator is Generator.OPEN:
        yield "the generator has more requests"
    if now.held_requests:
        yield f"{count(now.held_requests, 'request')} held"
