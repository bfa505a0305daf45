"""The projector's loop: streams in, tables and answers out.

One thread writes at a time, in the order of each stream; queries run beside it on cursors of their
own. What DuckDB has committed is the only truth about what was read, so there is nothing to
acknowledge and nothing to lose: after whatever end, the next start goes on at the stored position.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import cast

import anyio
import anyio.abc
import anyio.to_thread
import msgspec
import structlog

from events import subjects
from events.requests import InvalidRequest, Problem, QueryRequest, QueryResult, decode_request
from projections.query import QueryGuard, QueryLimits
from projections.store import Store
from services.backbone import Backbone
from services.bus.port import Request
from services.clock import Clock
from services.config import ProjectorSettings
from services.log.persist import persistently
from services.log.port import EventLog
from services.projector.intake import Intake

SERVICE_NAME = "ffrtmp-query"
TELEMETRY_KEPT_S = 86_400.0
"""Heartbeats and progress are deleted at this age, as the stream itself does by default."""
UPKEEP_S = 60.0
"""Between two rounds of deleting what is too old, and of a checkpoint if nothing was written."""
GATHER_SHARE = 3.0
"""After a write that took a while, the next batch is gathered so many times longer: a transaction
costs about 10 ms whatever its size, so under load writing takes a quarter of one core at most,
unless full batches wait."""
GATHER_S_MAX = 0.5
"""And never longer than this: how far the tables may be behind because of it."""
CLOSE_S_MAX = 5.0
"""How long the last checkpoint may take; what it leaves is read again at the next start."""

_log = structlog.get_logger()


class Projector:
    """A running projector: what it has written, a way to wait for more, and its answers."""

    def __init__(self, store: Store, settings: ProjectorSettings) -> None:
        self._store = store
        self._settings = settings
        self._writer = anyio.CapacityLimiter(1)
        self._readers = anyio.CapacityLimiter(settings.queries_max)
        self._moved = anyio.Event()
        self._guard = QueryGuard(store.cursor, _limits(settings))

    @property
    def position(self) -> int:
        """Sequence of the last ledger event in the tables."""
        return self._store.position

    @property
    def telemetry_position(self) -> int:
        """Sequence of the last telemetry event in the tables."""
        return self._store.telemetry_position

    async def reached(self, seq: int) -> None:
        """Return once the tables show the ledger up to `seq`."""
        while self.position < seq:
            await self._moved.wait()

    async def reached_telemetry(self, seq: int) -> None:
        """Return once the tables show the telemetry up to `seq`."""
        while self.telemetry_position < seq:
            await self._moved.wait()

    async def answer(self, question: QueryRequest) -> QueryResult:
        """Answer once the ledger is read up to `after_seq`, or tell that it is not yet."""
        with anyio.move_on_after(self._settings.query_s_max) as patience:
            await self.reached(question.after_seq)
        if patience.cancelled_caught:
            message = f"sequence {question.after_seq} asked for, {self.position} reached; ask again"
            return QueryResult(seq=self.position, error=Problem(code="behind", message=message))
        return await anyio.to_thread.run_sync(
            self._guard.run, question, limiter=self._readers, abandon_on_cancel=True
        )

    async def handle(self, request: Request) -> bytes:
        """Answer one request on the bus."""
        try:
            question = decode_request(QueryRequest, request.body)
        except InvalidRequest as error:
            problem = Problem(code="invalid_request", message=error.message, field=error.field)
            return msgspec.json.encode(QueryResult(error=problem))
        return msgspec.json.encode(await self.answer(question))

    async def project_ledger(self, ledger: EventLog) -> None:
        """Write the ledger as it grows. Raises SequenceGap when it has lost messages."""
        intake = self._intake()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write, intake, self._store.apply)
            linger_s = self._settings.batch_s
            async with ledger.follow(after=self.position, linger_s=linger_s) as batches:
                async for batch in batches:
                    await intake.put(batch)

    async def project_telemetry(self, telemetry: EventLog) -> None:
        """Write telemetry as it comes; what expired unread is not missed."""
        if await persistently(telemetry.last_seq, "projecting telemetry") < self.telemetry_position:
            _log.warning("projector.other_telemetry", position=self.telemetry_position)
            await self._alone(self._store.restart_telemetry)
        intake = self._intake()
        after, filters = self.telemetry_position, subjects.TELEMETRY
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write, intake, self._store.apply_telemetry)
            linger_s = self._settings.batch_s
            async with telemetry.follow(after=after, filters=filters, linger_s=linger_s) as batches:
                async for batch in batches:
                    await intake.put(batch)

    async def keep_up(self, clock: Clock) -> None:
        """Delete telemetry that is too old; tidy the file when there is nothing else to do."""
        while True:
            before = self.position, self.telemetry_position
            await anyio.sleep(UPKEEP_S)
            too_old = clock.now() - timedelta(seconds=TELEMETRY_KEPT_S)
            await self._alone(partial(self._store.expire, too_old))
            if before == (self.position, self.telemetry_position):
                await self._alone(self._store.checkpoint)

    async def close(self) -> None:
        """End queries, finish the transaction, tidy the file if there is time, and close it."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._guard.close)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._interrupt_late)
                await self._alone(self._store.checkpoint)
                tasks.cancel_scope.cancel()
            await self._alone(self._store.close)

    async def _write(self, intake: Intake, apply: Callable[..., object]) -> None:
        gather_s = 0.0
        while True:
            batch = await intake.take(gather_s)
            begun_s = anyio.current_time()
            await self._alone(partial(apply, batch))
            gather_s = min(GATHER_SHARE * (anyio.current_time() - begun_s), GATHER_S_MAX)

    async def _alone(self, act: Callable[[], object]) -> None:
        """Run `act` on the store in the writer's turn; once begun it is finished."""
        await anyio.to_thread.run_sync(act, limiter=self._writer)
        self._moved.set()
        self._moved = anyio.Event()

    async def _interrupt_late(self) -> None:
        await anyio.sleep(CLOSE_S_MAX)
        _log.warning("projector.checkpoint_left", seconds=CLOSE_S_MAX)
        self._store.interrupt()

    def _intake(self) -> Intake:
        settings = self._settings
        return Intake(batch_events_max=settings.batch_events_max)


async def run_projector(
    backbone: Backbone,
    settings: ProjectorSettings,
    *,
    clock: Clock,
    task_status: anyio.abc.TaskStatus[Projector] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Run one projector until cancelled; started, with a handle to wait on, once it answers.

    Raises StoreBusy when another process owns the file, SequenceGap when the ledger has lost
    messages.
    """
    with _unwrapped():
        store = await _opened(backbone.ledger, settings)
        projector = Projector(store, settings)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(projector.project_ledger, backbone.ledger)
                tasks.start_soon(projector.project_telemetry, backbone.telemetry)
                tasks.start_soon(projector.keep_up, clock)
                async with backbone.bus.serve(SERVICE_NAME, {subjects.QUERY: projector.handle}):
                    _log.info("projector.started", seq=projector.position)
                    task_status.started(projector)
                    await anyio.sleep_forever()
        finally:
            await projector.close()


async def _opened(ledger: EventLog, settings: ProjectorSettings) -> Store:
    """Open the file; one that has read further than the ledger goes is of another ledger."""
    last_seq = await persistently(ledger.last_seq, "projecting")
    make = partial(Store, settings.database, memory_bytes_max=settings.memory_bytes_max)
    store = await anyio.to_thread.run_sync(make)
    if store.position > last_seq:
        _log.warning("projector.other_ledger", position=store.position, last_seq=last_seq)
        await anyio.to_thread.run_sync(store.close)
        store = await anyio.to_thread.run_sync(partial(make, anew=True))
    await anyio.to_thread.run_sync(store.load)
    return store


def _limits(settings: ProjectorSettings) -> QueryLimits:
    return QueryLimits(
        time_s_max=settings.query_s_max,
        rows_max=settings.query_rows_max,
        bytes_max=settings.query_bytes_max,
        memory_bytes_max=settings.query_memory_bytes_max,
        queries_max=settings.queries_max,
    )


@contextmanager
def _unwrapped() -> Generator[None]:
    """Let an error that is alone in its groups leave as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _lone(group) from None


def _lone(error: BaseException) -> BaseException:
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast(BaseExceptionGroup[BaseException], error)
    return _lone(group.exceptions[0]) if len(group.exceptions) == 1 else group
