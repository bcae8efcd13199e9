"""What a run carries from step to step."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

from gpt_batch_api.domain.clock import Clock, SystemClock
from gpt_batch_api.domain.errors import InternalError
from gpt_batch_api.domain.events import Event
from gpt_batch_api.domain.hooks import Listener, TaskHooks
from gpt_batch_api.domain.options import deadline_at
from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.domain.request import Kind, Load, ResponseSchema
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine.search import PutOff, Search
from gpt_batch_api.planning.admission import Limits
from gpt_batch_api.planning.batching import Room
from gpt_batch_api.planning.retrying import Retrying
from gpt_batch_api.pricing.catalogue import Catalogue, Rates
from gpt_batch_api.pricing.cost import expected_cost_pico, worst_cost_pico
from gpt_batch_api.store import events, ledger, lengths, requests, tasks
from gpt_batch_api.store.connection import Store
from gpt_batch_api.tokens.calibrate import Forecast
from gpt_batch_api.tokens.estimate import TokenEstimator
from gpt_batch_api.wire.transport import Transport

RELEARN_ANSWERS = 10
"""So many new answers, or a twentieth of all, must have come before the forecast is made anew."""
POSTPONED_POLLS = 6
GRACE_S = 4.0
"""How long the server may still take once a stop is wanted: for a step, and for answers to direct calls."""


def given_ratio(settings: Settings) -> Fraction | None:
    """The share of its maximum that a request is taken to use; None: that is to be learnt."""
    given = settings.costs.assumed_completion_ratio
    return None if given is None else Fraction(str(given))


def forecast_of(db: sqlite3.Connection, settings: Settings) -> Forecast:
    """How long answers will be, by all that the store has learnt and the settings say."""
    return Forecast(lengths.learnt(db), ratio=given_ratio(settings), reserves_all=settings.extra.strict_budget)


def plain_cost_pico(rates: Rates, forecast: Forecast, endpoint: str, model: str, load: Load) -> int:
    """What many requests together reserve, about: at plain rates, without what is particular to single ones."""
    output_tokens = forecast.reserved_by_many(endpoint, model, load.output_allowance)
    return load.input_tokens * rates.input_pico + output_tokens * rates.output_pico


class Interruption:
    """A wish to stop, which may come from a signal handler at any moment."""

    def __init__(self) -> None:
        self._wanted = False
        self._wake: Callable[[], None] | None = None

    @property
    def wanted(self) -> bool:
        return self._wanted

    def set(self) -> None:
        """Ask the run to stop after its present atomic step."""
        self._wanted = True
        if self._wake is not None:
            self._wake()

    async def wait(self) -> None:
        """Return when a stop is wanted."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(event.set)

        self._wake = wake
        if not self._wanted:
            await event.wait()


@dataclass
class Context:
    """One run of one task: its store, its server, its limits, and who is told what happens."""

    settings: Settings
    workplace: Workplace
    store: Store
    session_id: int
    hooks: TaskHooks
    catalogue: Catalogue
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What this run would capture as the task's metadata."""
    transport: Transport | None = None
    server: dict[str, str] = field(default_factory=dict)
    listeners: Sequence[Listener] = ()
    clock: Clock = field(default_factory=SystemClock)
    chance: random.Random = field(default_factory=random.SystemRandom)
    interruption: Interruption = field(default_factory=Interruption)
    failures_processed: int = 0
    """How many failed batches this run has force-processed."""
    bad_batches: int = 0
    """How many batches in a row have not passed in this run."""
    room_taken: bool = False
    """Whether this run has sealed a batch that just fills what session or task still allow. There is one such batch:
    what comes back when it turns out cheaper is not chopped into ever smaller ones."""
    most_requests: dict[str, int] = field(default_factory=dict)
    """Of models of which the server did not admit a batch alone: how many requests this run puts into the next ones."""
    searches: dict[int, Search] = field(default_factory=dict)
    """Batches whose result files are looked at again later, by number."""
    sweeping: PutOff = field(default_factory=PutOff)
    """How the deleting of files on the server goes."""
    told_stuck: set[int] = field(default_factory=set)
    """Batches whose standstill this run has told of."""
    told_silent: set[int] = field(default_factory=set)
    """Batches of which this run has told that they cannot be asked about."""
    told_shutdown: set[str] = field(default_factory=set)
    """Models whose last day this run has looked up."""
    _forecast: Forecast | None = None
    _learnt_since: int = 0
    _schema_ids: dict[ResponseSchema, int] = field(default_factory=dict)
    _pending: list[Event] = field(default_factory=list)

    @property
    def db(self) -> sqlite3.Connection:
        """For reading; writing goes through `transaction`."""
        return self.store.db

    @property
    def remote(self) -> Transport:
        if self.transport is None:
            raise InternalError("A step that needs the server was taken in a run without one.")
        return self.transport

    @property
    def server_now_known(self) -> dict[str, str]:
        """Which server this run talks to, with the name that it has told since the beginning if it is a sandbox."""
        name = None if self.transport is None else self.transport.sandbox
        return self.server if name is None else {**self.server, "sandbox": name}

    @property
    def wipes_task(self) -> bool:
        """Whether this run starts the task from scratch."""
        return self.settings.requester.wipe_task

    @cached_property
    def limits(self) -> Limits:
        return Limits.of(self.settings)

    @cached_property
    def retrying(self) -> Retrying:
        return Retrying(
            self.settings.requester.max_retries,
            self.settings.extra.max_expiries,
            may_go_direct=self.settings.limits.min_batch_requests > 0 or self.settings.extra.deadline is not None,
        )

    @cached_property
    def deadline_at(self) -> float | None:
        """The moment of this run's deadline, in seconds since 1970; a duration counts from the first look at it."""
        text = self.settings.extra.deadline
        return None if text is None else deadline_at(text, now_s=self.clock.now())

    @cached_property
    def task_uuid(self) -> str:
        return tasks.get_task(self.db).uuid

    @cached_property
    def estimator(self) -> TokenEstimator:
        return TokenEstimator()

    @property
    def forecast(self) -> Forecast:
        """How long answers will be. Made anew when there are a good many more of them to learn from."""
        if self._forecast is None or self._learnt_since > max(RELEARN_ANSWERS, self._forecast.answers // 20):
            self._forecast = forecast_of(self.db, self.settings)
            self._learnt_since = 0
        return self._forecast

    def schema_id(self, schema: ResponseSchema | None) -> int | None:
        """The store's number of a response schema, if there is one and the store knows it."""
        if schema is None:
            return None
        if schema not in self._schema_ids:
            found = requests.find_schema(self.db, schema)
            if found is None:
                return None
            self._schema_ids[schema] = found
        return self._schema_ids[schema]

    def results_due_s(self, batch_id: int) -> float:
        """In how many seconds the results of an ended batch may be looked at."""
        search = self.searches.get(batch_id)
        return 0.0 if search is None else max(0.0, search.due_s - self.clock.monotonic())

    def note_learnt(self, answers: int) -> None:
        """So many more answers have been booked to learn from."""
        self._learnt_since += answers

    def is_budgetable(self, *, bounded: bool, sureness: str) -> bool:
        """Whether a request may be sent under `strict_budget`: its cost must have a bound that is known before."""
        return not self.settings.extra.strict_budget or (bounded and sureness != "guess")

    def load(self, kind: Kind, *, size_bytes: int, input_tokens: int, road: Road = Road.BATCH) -> Load:
        """What one request weighs; its cost is what it reserves, with `strict_budget` the most that it can cost.

        Raises SettingError if the model has no price.
        """
        expected_tokens = self.forecast.expected(kind)
        reserved = self.forecast.reserved if road is Road.BATCH else self.forecast.reserved_alone
        prices = self.catalogue.prices(kind.model)
        return Load(
            1,
            size_bytes,
            input_tokens,
            kind.output_allowance,
            cost_pico=self.reserved_cost_pico(
                kind.model, input_tokens=input_tokens, output_tokens=reserved(kind), road=road
            ),
            expected_output_tokens=expected_tokens,
            expected_cost_pico=expected_cost_pico(
                input_tokens=input_tokens, output_tokens=expected_tokens, prices=prices, road=road
            ),
        )

    def reserved_cost_pico(self, model: str, *, input_tokens: int, output_tokens: int, road: Road = Road.BATCH) -> int:
        """What is reserved for a request that is to have room for so many output tokens."""
        price = worst_cost_pico if self.settings.extra.strict_budget else expected_cost_pico
        return price(
            input_tokens=input_tokens, output_tokens=output_tokens, prices=self.catalogue.prices(model), road=road
        )

    def room_left(self) -> Room:
        """What session and task still allow to be sent."""
        session = Room.left(self.limits.session, after=ledger.session_total(self.db, self.session_id))
        return session.smaller(Room.left(self.limits.task, after=ledger.task_total(self.db)))

    def direct_load(self, kind: Kind, *, input_tokens: int, road: Road = Road.DIRECT) -> Load:
        """What one direct call weighs."""
        return self.load(kind, size_bytes=0, input_tokens=input_tokens, road=road)

    def heaviest_load(self, endpoint: str, model: str, *, input_tokens: int, output_allowance: int) -> Load:
        """The most that a direct call of any kind weighs with so much input, and so many tokens allowed or fewer."""
        most = self.forecast.most_reserved(endpoint, model, output_allowance)
        cost = self.reserved_cost_pico(model, input_tokens=input_tokens, output_tokens=most, road=Road.DIRECT)
        return Load(1, 0, input_tokens, output_allowance, cost_pico=cost)

    def fits_direct(self, load: Load) -> bool:
        """Whether one request is light enough for a direct call (`max_direct_…`)."""
        limits = self.limits.direct
        return load.input_tokens <= limits.input_tokens and load.cost_pico <= limits.cost_pico

    def plain_cost_pico(self, endpoint: str, model: str, load: Load, *, road: Road = Road.BATCH) -> int:
        """What many requests together reserve, about: at plain rates, without what is particular to single ones."""
        return plain_cost_pico(self.catalogue.prices(model).rates(road), self.forecast, endpoint, model, load)

    def plan_fingerprint(self, model: str) -> str:
        """Changes whenever the user's settings would seal a batch differently now.

        What is learnt meanwhile is not part of it: a batch keeps the reservation that it was made with.
        """
        rates = self.catalogue.prices(model).batch
        facts = repr((self.limits.batch, given_ratio(self.settings), self.settings.extra.strict_budget, rates))
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def nonce(self) -> str:
        """A fresh mark by which something of ours is found on the server again."""
        return f"{self.chance.getrandbits(96):024x}"

    @property
    def postponed_s(self) -> float:
        """How long a batch waits that the server cannot take now."""
        return POSTPONED_POLLS * self.settings.requester.remote_update_interval

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction; what is told within it is told after the commit, or not at all."""
        with self._telling(), self.store.transaction() as tx:
            yield tx
            self._keep_events(tx)

    @asynccontextmanager
    async def transaction_beside(self) -> AsyncIterator[sqlite3.Connection]:
        """The same, while the event loop goes on. Nothing else may use the store or tell anything meanwhile."""
        with self._telling():
            async with self.store.transaction_beside() as tx:
                yield tx
                self._keep_events(tx)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._pending.clear()
            raise
        told, self._pending = self._pending, []
        for event in told:
            self._announce(event)

    def _keep_events(self, tx: sqlite3.Connection) -> None:
        for event in self._pending:
            if event.kept:
                events.add(tx, event, session_id=self.session_id, now=self.clock.now())

    def tell(self, event: Event) -> None:
        """Tell what happened: with the open transaction, or at once if there is none."""
        if self.db.in_transaction:
            self._pending.append(event)
        elif event.kept:
            with self.transaction():
                self._pending.append(event)
        else:
            self._announce(event)

    def _announce(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)
