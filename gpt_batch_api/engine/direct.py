"""The direct road: many calls in flight, their answers into the same books as those of batches.

Each call is committed as *sending*, with its expected cost reserved, before it leaves; never more at once than
`max_direct_concurrency`. Answers are booked as they come: all that have arrived since the last turn are one transaction,
which also commits the next calls to leave. So a kill loses at most the calls in flight, and the disk is asked to sync
once for many answers when they come fast.

What a reply means for its call: an answer, good or bad, is booked like a line of a result file. What did not run (rate
limits, overload, no connection) goes back to the queue without counting an attempt. Where the reply was lost, nobody
knows whether the call ran: its reservation counts as spent (*unknown*), and it is asked again as another attempt.

Answers are looked at in groups of `max_direct_requests`, as those of a batch are: a line in the log, one weight in
`min_pass_ratio`, one decision in `process_failed_batches`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gpt_batch_api.domain.errors import AccountError, PayloadError, Unreachable
from gpt_batch_api.domain.events import CallsUnknown, DirectExchange, DirectSettled, Waiting, WouldCall
from gpt_batch_api.domain.outcome import LOST_REPLY, Outcome, Road, Verdict
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.words import count
from gpt_batch_api.endpoints.base import get_endpoint
from gpt_batch_api.endpoints.verdict import ServerError, judge
from gpt_batch_api.engine.booking import Booking, Judged, figures
from gpt_batch_api.engine.context import GRACE_S, Context
from gpt_batch_api.engine.intake import unbudgetable
from gpt_batch_api.engine.server import note_server
from gpt_batch_api.engine.weigh import weigh
from gpt_batch_api.planning import pacing
from gpt_batch_api.planning.batching import Room
from gpt_batch_api.planning.next_step import Route
from gpt_batch_api.planning.pacing import Ending, Pace, RateHeaders
from gpt_batch_api.pricing.cost import cost_pico, dollars
from gpt_batch_api.store import direct, requests
from gpt_batch_api.store.direct import Call, Group, Ready
from gpt_batch_api.wire import direct as wire_direct
from gpt_batch_api.wire.direct import Reply
from gpt_batch_api.wire.trouble import Lost, NotSent

CEILING = 500
"""Calls in flight at most, if the user sets no maximum."""
LOOK_S = 0.05
"""How often calls in flight are looked at though nothing was heard of them."""
BESIDE_S = 0.005
"""How long something else may be done meanwhile. While the event loop stands still no answer comes in and no call leaves."""
ARRIVING = 3
"""Rounds of the event loop from bytes that have arrived to a call that has landed."""
READ_AHEAD = 32
FLEX_PAUSE_S = 300.0
"""How long the flex tier is left alone when it had no room."""
TOLD_PAUSE_S = 2.0
"""From so long on, a pause that the server wants is told."""
UNCERTAIN = frozenset({408, 499, 502, 504, 520, 521, 522, 523, 524})
"""Answered by something before the service, which may have gone on with the request."""
NOT_RUN = frozenset({"rate_limited", "slow_down", "resource_unavailable", "overloaded"})


@dataclass
class Flight:
    """A call that has left."""

    ready: Ready
    call: Call
    load: Load
    body: bytes
    paced: pacing.Call | None = None
    started_s: float = 0.0
    ended_s: float = 0.0
    reply: Reply | None = None
    trouble: Exception | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class DirectRoad:
    """All direct calls of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limits = context.limits.direct
        self._ceiling = context.settings.limits.max_direct_concurrency or CEILING
        self._paces: dict[tuple[str, Road], Pace] = {}
        self._no_flex_until: dict[str, float] = {}
        """Models for which the server had no room in its flex tier, or has none such (for ever)."""
        self._flying: dict[int, Flight] = {}
        self._landed: list[Flight] = []
        self._news = asyncio.Event()
        self._turned_s = float("-inf")
        self._room: Room | None = None
        """What session and task still allow, as far as this run of turns has counted it down."""
        self._read: dict[Route, deque[Ready]] = {}
        """What was read from the queues ahead; nobody else takes from them during a run of turns."""
        self._read_to: dict[Route, int] = {}
        """The last request that was read. What is put back behind it is found by the next run of turns."""
        self._server_noted = False
        self._held_tokens: dict[Route, int] = {}
        """How heavy the call of a route is that its pace held back last."""
        self._trouble: Exception | None = None
        self._held = False
        self.heard = False
        """Whether the server has answered a call since this was last set back."""
        self.met_unfit = False
        """Whether a request was met that is too heavy for a direct call, since this was last set back."""

    @property
    def in_flight(self) -> int:
        """Calls whose answers are not booked yet."""
        return len(self._flying)

    @property
    def due_s(self) -> float:
        """Seconds until calls should be looked at again."""
        return self._turned_s + BESIDE_S - self._context.clock.monotonic()

    async def run(self, routes: Sequence[Route], *, for_s: float) -> None:
        """Book what has come and send what may go; for up to *for_s* seconds, go on doing so.

        Raises AccountError or Unreachable once what has come is booked; other calls stay in flight.
        """
        clock = self._context.clock
        until_s = clock.monotonic() + for_s
        self._held = False
        self._look_anew()
        for _ in range(ARRIVING):
            await asyncio.sleep(0)
        while True:
            await self._turn(routes)
            self._raise_trouble()
            left_s = until_s - clock.monotonic()
            if left_s <= 0 or self._held or self._context.interruption.wanted:
                return
            pause_s = min(LOOK_S, left_s) if self._flying else self._pause_s(routes)
            if pause_s is None:
                self._close_group()
                return
            await self._news_within(min(left_s, pause_s))

    def pretend(self, routes: Sequence[Route]) -> None:
        """Do all but the calls (a dry run): show what would be sent now."""
        context = self._context
        self._look_anew()
        leaving = list(self._choose(routes, paced=False))
        if not leaving:
            return
        calls = [flight.call for flight in leaving]
        with context.transaction() as tx:
            direct.begin(tx, calls, session_id=context.session_id, now=context.clock.now())
            context.tell(
                WouldCall(
                    requests=len(calls),
                    input_tokens=sum(call.input_tokens for call in calls),
                    cost_pico=sum(call.reserved_pico for call in calls),
                )
            )
            if context.settings.requester.direct_verbose == "always":
                for flight in leaving:
                    show_request(context, flight.ready, flight.body)

    async def finish(self) -> None:
        """Nothing more is sent. Answers that still come are booked; what has not come in time is given up."""
        clock = self._context.clock
        until_s = clock.monotonic() + max(
            (_longest_s(flight.call.road) for flight in self._flying.values()), default=0.0
        )
        if self._flying:
            self._context.tell(Waiting(delay_s=0.0, reasons=(f"{count(self.in_flight, 'direct call')} to end",)))
        while self._flying:
            if self._context.interruption.wanted:
                until_s = min(until_s, clock.monotonic() + GRACE_S)
            await self._turn(())
            if clock.monotonic() >= until_s:
                break
            await self._news_within(LOOK_S)
        self._trouble = None
        await self._abandon()
        self._close_group()

    # ------------------------------------------------------------ one turn

    async def _turn(self, routes: Sequence[Route]) -> None:
        """One transaction: book what has landed, commit what leaves next. Then let it leave.

        While the disk works on it replies are received, and wait for the next turn.
        """
        context = self._context
        landed = [(flight, self._judge(flight)) for flight in self._landed]
        self._note_trouble(landed)
        stops = self._trouble is not None
        leaving: list[Flight] = []
        if landed or (routes and not stops):
            async with context.transaction_beside() as tx:
                self._note_server(tx)
                self._book(tx, landed)
                if landed:
                    self._room = None  # what they cost in truth counts
                if not stops:
                    leaving = list(self._choose(routes, landing=len(landed)))
                if leaving:
                    self._begin(tx, leaving)
        for flight, _ in landed:
            del self._flying[flight.call.request_id]
        del self._landed[: len(landed)]
        for flight in leaving:
            self._launch(flight)
        self._turned_s = context.clock.monotonic()

    def _begin(self, tx: sqlite3.Connection, leaving: Sequence[Flight]) -> None:
        context = self._context
        context.remote.make_ready()  # if it cannot be made, nothing was intended yet
        calls = [flight.call for flight in leaving]
        direct.begin(tx, calls, session_id=context.session_id, now=context.clock.now())

    def _note_server(self, tx: sqlite3.Connection) -> None:
        """Before calls leave if the server has replied to something yet, else with the first answers."""
        if not self._server_noted:
            self._server_noted = note_server(self._context, tx)

    def _note_trouble(self, landed: Iterable[tuple[Flight, Judged | None]]) -> None:
        """Remember what must be looked at before anything new may leave."""
        for flight, _ in landed:
            if flight.trouble is not None and not isinstance(flight.trouble, Lost):
                self._trouble = flight.trouble

    def _raise_trouble(self) -> None:
        trouble, self._trouble = self._trouble, None
        if isinstance(trouble, NotSent):
            raise Unreachable(f"The server cannot be reached: {trouble}") from trouble
        if trouble is not None:
            raise trouble

    # ------------------------------------------------------------ what leaves

    def _choose(self, routes: Sequence[Route], *, landing: int = 0, paced: bool = True) -> Iterator[Flight]:
        """The next calls, as many as limits and pace allow in the place of those that are *landing*."""
        context = self._context
        now_s = context.clock.monotonic()
        free = self._ceiling - len(self._flying) + landing
        for route in routes:
            while free > 0:
                ready = self._next_in(route)
                if ready is None:
                    break
                road, body = self._way(route, ready)
                pace = self._pace(route.model, road)
                if paced and not pace.may_start(0, now_s=now_s):
                    break
                load = self._load(ready, road)
                if not self._is_fit(route, ready, load):
                    break
                tokens = load.input_tokens + load.expected_output_tokens
                self._room = self._room or context.room_left()
                if not self._room.fits(load):
                    break
                if paced and not pace.may_start(tokens, now_s=now_s):
                    self._held_tokens[route] = tokens
                    break
                self._room = self._room.less(load)
                self._read[route].popleft()
                free -= 1
                call = Call(ready.request.id, road, load.input_tokens, load.cost_pico)
                paced_call = pace.start(tokens, now_s=now_s) if paced else None
                yield Flight(ready, call, load, body, paced_call, started_s=now_s)

    def road_of(self, route: Route) -> Road:
        """By which tier the calls of a route go now."""
        now_s = self._context.clock.monotonic()
        is_open = now_s >= self._no_flex_until.get(route.model, float("-inf"))
        return Road.FLEX if route.flex and is_open else Road.DIRECT

    def _way(self, route: Route, ready: Ready) -> tuple[Road, bytes]:
        """The tier by which a request goes, and its body for it. A tier that the request names itself is left to it."""
        road = self.road_of(route)
        flexed = wire_direct.by_flex(ready.body) if road is Road.FLEX else None
        return (Road.DIRECT, ready.body) if flexed is None else (road, flexed)

    def _look_anew(self) -> None:
        self._room = None
        self._read.clear()
        self._read_to.clear()

    def _next_in(self, route: Route) -> Ready | None:
        """The first request in a queue; it stays there."""
        read = self._read.setdefault(route, deque())
        if not read:
            least = self._context.settings.extra.max_expiries if route.expired_only else 0
            read.extend(
                direct.ready(
                    self._context.db,
                    endpoint=route.endpoint,
                    model=route.model,
                    least_expiries=least,
                    after_id=self._read_to.get(route, 0),
                    limit=READ_AHEAD,
                )
            )
            if read:
                self._read_to[route] = read[-1].request.id
        return read[0] if read else None

    def _load(self, ready: Ready, road: Road) -> Load:
        return self._context.direct_load(ready.request.kind, input_tokens=ready.request.input_tokens, road=road)

    def _is_fit(self, route: Route, ready: Ready, load: Load) -> bool:
        """Whether a direct call can carry a request. Raises PayloadError if it cannot, and may go in no other way."""
        context = self._context
        bounded = ready.request.kind.max_output_tokens is not None
        if not context.is_budgetable(bounded=bounded, sureness=ready.sureness):
            raise unbudgetable(requests.describe(context.db, ready.request.id), bounded=bounded)
        if context.fits_direct(load):
            return True
        if not (context.settings.requester.force_direct or route.expired_only):
            self.met_unfit = True
            return False
        key = requests.describe(context.db, ready.request.id)
        raise PayloadError(
            f"Request {key} alone has {load.input_tokens:,} input tokens and may cost {dollars(load.cost_pico)}, more than "
            "max_direct_ktokens or max_direct_cost allow a direct call. Raise them, or let it go by the Batch API.",
            sample_key=key.sample_key,
        )

    def _pace(self, model: str, road: Road) -> Pace:
        if (model, road) not in self._paces:
            self._paces[model, road] = Pace(ceiling=self._ceiling)
        return self._paces[model, road]

    def _pause_s(self, routes: Sequence[Route]) -> float | None:
        """How long to wait before anything may leave, with nothing in flight; None: nothing wants to."""
        now_s = self._context.clock.monotonic()
        pauses = []
        for route in routes:
            pace = self._pace(route.model, self.road_of(route))
            pause_s = pace.wait_s(self._held_tokens.get(route, 0), now_s=now_s)
            if pause_s is None or pause_s > 0:
                pauses.append(LOOK_S if pause_s is None else pause_s)
        if pauses and min(pauses) >= TOLD_PAUSE_S:
            self._context.tell(Waiting(delay_s=min(pauses), reasons=("the server's rate limit",)))
        return min(pauses, default=None)

    def _launch(self, flight: Flight) -> None:
        self._flying[flight.call.request_id] = flight
        flight.task = asyncio.get_running_loop().create_task(self._fly(flight))

    async def _fly(self, flight: Flight) -> None:
        try:
            flight.reply = await wire_direct.ask(
                self._context.remote,
                endpoint=flight.ready.endpoint,
                body=flight.body,
                timeout_s=_longest_s(flight.call.road),
            )
        except Exception as trouble:
            flight.trouble = trouble
        flight.ended_s = self._context.clock.monotonic()
        self._landed.append(flight)
        self._news.set()

    async def _news_within(self, longest_s: float) -> None:
        """Wait until a call has landed, but not longer than so."""
        if self._landed:
            return
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._news.wait()

    # ------------------------------------------------------------ what has landed

    def _book(self, tx: sqlite3.Connection, landed: Sequence[tuple[Flight, Judged | None]]) -> None:
        context = self._context
        back = [flight.call for flight, item in landed if item is None]
        judged = [(flight, item) for flight, item in landed if item is not None]
        if back:
            direct.put_back(
                tx, back, session_id=context.session_id, note="direct calls that did not run", now=context.clock.now()
            )
        while judged:
            group = direct.open_group(tx, session_id=context.session_id, now=context.clock.now())
            part = self._fitting(judged, group)
            del judged[: len(part)]
            self._book_part(tx, group, part, closes=bool(judged))

    def _judge(self, flight: Flight) -> Judged | None:
        """What came of a call; None if it did not run."""
        reply, request = flight.reply, flight.ready.request
        pace = self._pace(request.model, flight.call.road)
        if reply is None:
            self._slow_down(pace, flight, Ending.TROUBLE)
            if isinstance(flight.trouble, (NotSent, AccountError)):
                return None
            why = f"no reply came ({flight.trouble}); whether the request ran is not known"
            return Judged(request, Outcome(Verdict.RETRYABLE, LOST_REPLY, why))
        self.heard = True
        if reply.status == 200 and reply.body is not None:
            reading = get_endpoint(flight.ready.endpoint).read(reply.body, structured=bool(request.structured))
            used = reading.usage.input_tokens + reading.usage.output_tokens
            self._slow_down(pace, flight, Ending.ANSWERED, used_tokens=used or None)
            expected = flight.load.expected_output_tokens
            return Judged(request, reading.outcome, reading.usage, reply.status, as_line(reply), expected)
        outcome = judge(reply.error)
        if flight.call.road is Road.FLEX and self._is_flex_closed(flight, outcome):
            self._slow_down(pace, flight, Ending.OTHER, used_tokens=0)
            return None
        self._slow_down(pace, flight, _ending(reply.status, outcome), used_tokens=0)
        if outcome.verdict is Verdict.ACCOUNT:
            self._trouble = AccountError(
                f"The server refuses this account: {outcome.message}", code=outcome.reason, status=reply.status
            )
            return None
        if outcome.reason in NOT_RUN and reply.status in (429, 503):
            return None
        if reply.status in (404, 410) and reply.body is None:  # a gateway's page: it has sent nothing on
            self._trouble = Unreachable(f"The server cannot be reached: HTTP {reply.status}: {outcome.message}")
            return None
        if reply.status in UNCERTAIN or (reply.body is None and (reply.status >= 500 or reply.status < 400)):
            why = f"the reply could not be read (HTTP {reply.status}); whether the request ran is not known"
            return Judged(request, Outcome(Verdict.RETRYABLE, LOST_REPLY, why), status=reply.status)
        return Judged(request, outcome, status=reply.status, raw=as_line(reply) if reply.body is not None else None)

    def _is_flex_closed(self, flight: Flight, outcome: Outcome) -> bool:
        """Whether the server has no room in its flex tier just now, or no such tier for the model. Nothing ran then."""
        assert flight.reply is not None
        if outcome.reason == "resource_unavailable":
            closed_s = FLEX_PAUSE_S
        elif flight.reply.status == 400 and _is_about_tier(flight.reply.error):
            closed_s = float("inf")
        else:
            return False
        self._no_flex_until[flight.ready.request.model] = self._context.clock.monotonic() + closed_s
        return True

    def _slow_down(self, pace: Pace, flight: Flight, ending: Ending, *, used_tokens: int | None = None) -> None:
        assert flight.paced is not None
        pace.end(
            flight.paced,
            ending,
            used_tokens=used_tokens,
            headers=None if flight.reply is None else RateHeaders.read(flight.reply.headers),
            retry_after_s=None if flight.reply is None else flight.reply.retry_after_s,
            now_s=flight.ended_s,
        )

    def _fitting(self, judged: Sequence[tuple[Flight, Judged]], group: Group) -> list[tuple[Flight, Judged]]:
        """As many as the group still takes; one at least if it is empty."""
        room = Room(self._limits.requests, self._limits.input_tokens, self._limits.cost_pico).less(group)
        part: list[tuple[Flight, Judged]] = []
        for flight, item in judged:
            load = Load(1, 0, flight.call.input_tokens, 0, cost_pico=flight.call.reserved_pico)
            if not room.fits(load) and (part or group.requests):
                break
            room = room.less(load)
            part.append((flight, item))
        return part

    def _book_part(
        self, tx: sqlite3.Connection, group: Group, part: Sequence[tuple[Flight, Judged]], *, closes: bool
    ) -> None:
        context, now = self._context, self._context.clock.now()
        calls = [flight.call for flight, _ in part]
        booking = Booking(context, group_id=group.id)
        paid = [(_paid(flight), item) for flight, item in part]
        for road in sorted({road for road, _ in paid}):
            booking.book(tx, [item for by, item in paid if by is road], road=road)
        unknown = sum(flight.call.reserved_pico for flight, item in part if _costs_unknown(item))
        direct.settle(
            tx, calls, session_id=context.session_id, cost_pico=booking.sum.cost_pico, unknown_pico=unknown, now=now
        )
        failure = None
        if booking.sum.held:
            self._held = True
            failure = f"requests that cannot succeed; the first: {booking.first_fatal}"
        direct.add_to_group(
            tx,
            group.id,
            calls,
            booking.sum,
            expected_input_tokens=booking.expected_input_tokens,
            expected_output_tokens=booking.expected_output_tokens,
            expected_cost_pico=sum(flight.load.expected_cost_pico for flight, _ in part),
            failure=failure,
        )
        self._show(part)
        if closes or group.requests + len(part) >= self._limits.requests:
            close_groups(context, tx, session_id=context.session_id)

    def _show(self, part: Sequence[tuple[Flight, Judged]]) -> None:
        """Tell of whole exchanges, if the user wants to see them (`direct_verbose`)."""
        wanted = self._context.settings.requester.direct_verbose
        if wanted == "never":
            return
        for flight, item in part:
            bad = not item.outcome.ok
            final = item.outcome.verdict is Verdict.FATAL or item.request.attempt > self._context.retrying.max_retries
            if wanted == "always" or (bad and (wanted == "warn" or final)):
                self._context.tell(
                    DirectExchange(
                        request=str(requests.describe(self._context.db, item.request.id)),
                        endpoint=flight.ready.endpoint,
                        body=flight.body,
                        outcome=item.outcome,
                        usage=item.usage,
                        cost_pico=None if _costs_unknown(item) else self._cost_pico(flight, item),
                        reply=flight.reply.content if flight.reply is not None else None,
                        took_s=flight.ended_s - flight.started_s,
                    )
                )

    def _cost_pico(self, flight: Flight, item: Judged) -> int:
        return cost_pico(item.usage, self._context.catalogue.prices(item.request.model), road=_paid(flight))

    # ------------------------------------------------------------ the end

    async def _abandon(self) -> None:
        """Break off what is still in flight; what it reserved counts as spent."""
        left = list(self._flying.values())
        for flight in left:
            if flight.task is not None:
                flight.task.cancel()
        if not left:
            return
        await asyncio.wait([flight.task for flight in left if flight.task is not None])
        context = self._context
        with context.transaction() as tx:
            direct.give_up(tx, [flight.call for flight in left], session_id=context.session_id, now=context.clock.now())
            context.tell(CallsUnknown(count=len(left), cost_pico=sum(flight.call.reserved_pico for flight in left)))
        self._flying.clear()
        self._landed.clear()

    def _close_group(self) -> None:
        if not direct.any_open_group(self._context.db):
            return
        with self._context.transaction() as tx:
            close_groups(self._context, tx, session_id=self._context.session_id)


def give_up_lost_calls(context: Context) -> None:
    """At start-up: what an earlier process had in flight when it died is unknown."""
    lost = direct.open_calls(context.db)
    if not lost and not direct.any_open_group(context.db):
        return
    with context.transaction() as tx:
        for session_id, calls in lost.items():
            direct.give_up(tx, calls, session_id=session_id, now=context.clock.now())
            context.tell(CallsUnknown(count=len(calls), cost_pico=sum(call.reserved_pico for call in calls)))
        close_groups(context, tx, session_id=None)


def close_groups(context: Context, tx: sqlite3.Connection, *, session_id: int | None) -> None:
    """Close the open group of a session (None: of all), say how it went, and weigh it."""
    for group in direct.close_groups(tx, session_id=session_id, now=context.clock.now()):
        context.tell(
            DirectSettled(
                group=group.id,
                requests=group.requests,
                expected_input_tokens=group.expected_input_tokens,
                expected_output_tokens=group.expected_output_tokens,
                expected_cost_pico=group.expected_cost_pico,
                failure=group.failure,
                **figures(group.sum),
            )
        )
    weigh(context, tx)


def show_request(context: Context, ready: Ready, body: bytes) -> None:
    """Tell of a request that would be sent, with all that it says."""
    context.tell(
        DirectExchange(request=str(requests.describe(context.db, ready.request.id)), endpoint=ready.endpoint, body=body)
    )


def _ending(status: int, outcome: Outcome) -> Ending:
    if outcome.reason in NOT_RUN:
        return Ending.RATE_LIMITED if status == 429 else Ending.TROUBLE
    return Ending.TROUBLE if status >= 500 or status in (408, 409) else Ending.OTHER


def _is_about_tier(error: ServerError) -> bool:
    return error.param == "service_tier" or "service_tier" in error.message


def _longest_s(road: Road) -> float:
    """How long an answer may take."""
    return wire_direct.FLEX_S if road is Road.FLEX else wire_direct.DIRECT_S


def _paid(flight: Flight) -> Road:
    """The tier whose price a call has: the one that the server says it used."""
    told = None if flight.reply is None or flight.reply.body is None else flight.reply.body.get("service_tier")
    return {"flex": Road.FLEX, "default": Road.DIRECT}.get(str(told), flight.call.road)


def _costs_unknown(item: Judged) -> bool:
    """Whether nobody says what the call cost: its reply was lost, or tells no usage."""
    return item.outcome.reason == LOST_REPLY or item.hides_usage


def as_line(reply: Reply) -> bytes:
    """The reply in the form of a result line, in which all answers are kept."""
    content = reply.content
    if json.detect_encoding(content) != "utf-8":
        content = json.dumps(reply.body).encode()
    return b'{"response":{"status_code":%d,"body":%s},"error":null}' % (reply.status, content.strip())
