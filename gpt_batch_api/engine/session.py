"""One session on a task: own it, open its store, know its server, and let everything go again at the end."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from gpt_batch_api.domain.clock import Clock, SystemClock
from gpt_batch_api.domain.disk import sync_folder
from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.errors import OutputError, SettingError, StoreError, UserError
from gpt_batch_api.domain.events import Advice, Event, SessionEnded
from gpt_batch_api.domain.hooks import Listener, TaskHooks
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine import lock, wipe
from gpt_batch_api.engine.context import Context, Interruption
from gpt_batch_api.engine.disk import disk_explained
from gpt_batch_api.engine.intake import Intake
from gpt_batch_api.engine.loop import Loop
from gpt_batch_api.engine.start import start
from gpt_batch_api.planning.estimate import Estimate
from gpt_batch_api.pricing.catalogue import Catalogue, PriceFlags
from gpt_batch_api.store import samples, snapshot, tasks
from gpt_batch_api.store import wipe as stored_wipe
from gpt_batch_api.store.connection import Store
from gpt_batch_api.store.snapshot import Snapshot
from gpt_batch_api.wire.batches import sandbox_there
from gpt_batch_api.wire.transport import Server, Transport

SANDBOX_POLL_S = 0.2
SANDBOX_LEAST_LAG_WAIT_S = 2.0


@dataclass(frozen=True)
class TaskPlan:
    """What a task is: its class, the metadata for its creation, and how its hooks are made from the captured ones."""

    kind: str
    metadata: Mapping[str, Any]
    make_hooks: Callable[[Mapping[str, Any]], TaskHooks]
    given: frozenset[str] = frozenset()
    """Names of metadata that the user gave for this run."""


@dataclass(frozen=True)
class Seams:
    """What tests put in the place of the world: time, chance, the way to the server."""

    clock: Clock = field(default_factory=SystemClock)
    chance: random.Random = field(default_factory=random.SystemRandom)
    make_transport: Callable[[Server, Clock], Transport] = lambda server, clock: Transport(server, clock=clock)


@dataclass(frozen=True)
class Job:
    """A task, what is wanted of it this time, and who is told of it."""

    settings: Settings
    workplace: Workplace
    plan: TaskPlan
    _: KW_ONLY
    listeners: Sequence[Listener] = ()
    interruption: Interruption = field(default_factory=Interruption)
    seams: Seams = field(default_factory=Seams)

    def announce(self, event: Event) -> None:
        """Tell what happens while there is no session yet."""
        for listener in self.listeners:
            listener(event)

    def context(
        self,
        store: Store,
        hooks: TaskHooks,
        *,
        session_id: int,
        catalogue: Catalogue | None = None,
        kind: type[Context] = Context,
    ) -> Context:
        """What the steps of a session on *store* need, but for a server."""
        return kind(
            settings=self.settings,
            workplace=self.workplace,
            store=store,
            session_id=session_id,
            hooks=hooks,
            catalogue=load_catalogue(self.settings) if catalogue is None else catalogue,
            metadata=self.plan.metadata,
            listeners=self.listeners,
            clock=self.seams.clock,
            chance=self.seams.chance,
            interruption=self.interruption,
        )


@dataclass(frozen=True)
class RunResult:
    """How a run ended, and how the task stands now."""

    over: Over
    snapshot: Snapshot | None
    """None if the task has not begun."""
    estimate: Estimate | None = None
    """What is left, if that was asked for (`estimate`)."""


async def run_task(job: Job) -> RunResult:
    """Run a task from where it stands: wipes first, then the loop. Raises GPTBatchError.

    With `run` off only the wipes are done.
    """
    async with opened(job) as context:
        over = await _run(context)
        return RunResult(over, snapshot.take(context.db))


async def _run(context: Context) -> Over:
    await start(context)
    if context.interruption.wanted:
        return Over(Ending.INTERRUPTED)
    if not context.settings.task.run:
        return Over(Ending.DONE)
    source = None if context.settings.requester.only_process else context.hooks.requests()
    return await Loop(context, Intake(context, source=source)).run()


@asynccontextmanager
async def opened(job: Job) -> AsyncIterator[Context]:
    """Own the task, open it, and begin a session; end it well whatever happens."""
    catalogue = load_catalogue(job.settings)
    async with AsyncExitStack() as stack:
        make_folder(job.settings, job.workplace)
        stack.enter_context(
            lock.hold(
                job.workplace.lock,
                job.settings,
                tell=lambda text: job.announce(Advice(text=text)),
                stop=lambda: job.interruption.wanted,
            )
        )
        settings, server = stack.enter_context(_server(job.settings, job.workplace))
        transport = None
        if _needs_transport(settings):
            transport = job.seams.make_transport(_as_server(settings), job.seams.clock)
            stack.push_async_callback(transport.close)
            if server.get("base_url") and (sandbox := await sandbox_there(transport)):
                server["sandbox"] = sandbox
        store = Store.open(job.workplace.store)
        stack.callback(store.close)
        here = replace(job, settings=settings)
        hooks = open_task(here, store)
        context = here.context(store, hooks, session_id=begin_session(here, store), catalogue=catalogue)
        context.transport, context.server = transport, server
        with _session_end(context), disk_explained(job.workplace.folder):
            yield context


@contextmanager
def _session_end(context: Context) -> Iterator[None]:
    """Note in the store how the session ended; a kill leaves it without an end."""
    outcome = "error"
    try:
        yield
        outcome = "interrupted" if context.interruption.wanted else "ended"
    finally:
        with contextlib.suppress(StoreError), context.store.transaction() as tx:
            tasks.end_session(tx, context.session_id, outcome=outcome, now=context.clock.now())
        context.tell(SessionEnded())


def begin_session(job: Job, store: Store) -> int:
    """Write down who runs the task with which settings (without secrets); the session's id."""
    settings, now = job.settings.public(), job.seams.clock.now()
    with store.transaction() as tx:
        return tasks.begin_session(tx, pid=os.getpid(), host=socket.gethostname(), settings=settings, now=now)


def load_catalogue(settings: Settings) -> Catalogue:
    """The prices of a run: catalogue, the user's own file, the cost settings."""
    costs = settings.costs
    return Catalogue.load(
        price_file=settings.extra.price_file,
        flags=PriceFlags(
            input_direct=costs.cost_input_direct_mtoken,
            input_cached=costs.cost_input_cached_mtoken,
            input_batch=costs.cost_input_batch_mtoken,
            output_direct=costs.cost_output_direct_mtoken,
            output_batch=costs.cost_output_batch_mtoken,
        ),
    )


def make_folder(settings: Settings, workplace: Workplace) -> None:
    """Make task_dir if only its last part is missing. Raises SettingError otherwise."""
    folder = workplace.folder
    if folder.is_dir():
        return
    if folder.exists():
        raise SettingError(f"task_dir is {folder}, but that is no folder. Choose another.", "task_dir")
    if not settings.requester.autocreate_working_dir:
        raise SettingError(
            f"task_dir is {folder}, which does not exist, and autocreate_working_dir is off.", "task_dir"
        )
    if not folder.absolute().parent.is_dir():
        raise SettingError(
            f"task_dir is {folder}, but the folder {folder.parent} does not exist either. Make it, or choose another.",
            "task_dir",
        )
    try:
        folder.mkdir()
        sync_folder(folder.absolute().parent)  # or a power cut takes the folder away, with all that is durable in it
    except OSError as error:
        raise UserError(f"task_dir {folder} cannot be made: {error}.") from error


def open_task(job: Job, store: Store) -> TaskHooks:
    """Create the task if it is new; otherwise insist that it is the same one, with the metadata captured then.

    A task that has asked nothing yet takes the metadata of this run.
    """
    plan, place, settings, seams = job.plan, job.workplace, job.settings, job.seams
    task = tasks.load_task(store.db)
    if task is None:
        hooks = plan.make_hooks(plan.metadata)
        _refuse_foreign_output(hooks)
        with store.transaction() as tx:
            task_uuid = str(uuid.UUID(int=seams.chance.getrandbits(128), version=4))
            tasks.create_task(tx, uuid=task_uuid, kind=plan.kind, metadata=plan.metadata, now=seams.clock.now())
        return hooks
    if task.kind != plan.kind:
        raise UserError(
            f"The files of {place.prefix!r} in {place.folder} belong to a task of class {task.kind}, not {plan.kind}. "
            "Choose another task_prefix."
        )
    if stored_wipe.greatest(task.wiping, wipe.wanted(settings)) == "task":
        return plan.make_hooks(plan.metadata)  # captured anew when the wipe is done
    begun = samples.any_known(store.db)  # if not, the first question may still be put right
    if (settings.task.reinit_meta or not begun) and task.metadata != plan.metadata:
        with store.transaction() as tx:
            tasks.replace_metadata(tx, plan.metadata)
    else:
        for name in sorted(plan.given):
            if task.metadata.get(name) != plan.metadata.get(name):
                text = (
                    f"{name} is {plan.metadata.get(name)!r} in this run, but the task was created with "
                    f"{task.metadata.get(name)!r}, which stays. To change it use --reinit_meta."
                )
                job.announce(Advice(text=text))
    return plan.make_hooks(tasks.get_task(store.db).metadata)


def _refuse_foreign_output(hooks: TaskHooks) -> None:
    for path in [] if hooks.output is None else hooks.output.files():
        raise OutputError(
            f"The output file {path} exists already, but this task is new. Move the file away or choose another task_prefix."
        )


@contextmanager
def _server(settings: Settings, workplace: Workplace) -> Iterator[tuple[Settings, dict[str, str]]]:
    """Which server this run talks to: (settings that reach it, its identity). Starts the embedded sandbox if wanted."""
    if not settings.general.sandbox or not _needs_transport(settings):
        general = settings.general
        facts = {
            "base_url": general.client_base_url,
            "organization": general.openai_organization,
            "project": general.openai_project,
        }
        yield settings, {name: value for name, value in facts.items() if value}
        return
    from gpt_batch_api.sandbox.child import SandboxFailed, SandboxProcess

    try:
        process = SandboxProcess.start(workplace.sandbox, plan=settings.general.sandbox_plan)
    except SandboxFailed as error:
        raise UserError(str(error)) from error
    with process as sandbox:
        quick: dict[str, Any] = {"client_base_url": sandbox.url, "openai_api_key": "sandbox"}
        if not settings.given("remote_update_interval"):
            quick["remote_update_interval"] = SANDBOX_POLL_S
        if not settings.given("list_lag_wait"):
            quick["list_lag_wait"] = max(SANDBOX_LEAST_LAG_WAIT_S, 2 * sandbox.list_lag_s)
        yield settings.replace(sandbox=False, sandbox_plan=None, **quick), {"sandbox": sandbox.uuid}


def _needs_transport(settings: Settings) -> bool:
    return settings.task.run or wipe.wanted(settings) is not None


def _as_server(settings: Settings) -> Server:
    general = settings.general
    return Server(
        api_key=general.openai_api_key or "",
        base_url=general.client_base_url,
        organization=general.openai_organization,
        project=general.openai_project,
    )
