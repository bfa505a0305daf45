"""Leadership: of all schedulers that follow the ledger, the holder of the lease decides.

The lease spares lost races and keeps the audit plain; that no job is assigned twice rests on the
expectation of each append alone. So all that must hold here is: nothing is begun after the lease
has run out by this process's own clock, whatever it slept through.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NoReturn, TypeAlias

import anyio
import structlog
from anyio.lowlevel import checkpoint

from events import subjects
from events.cluster import LeaderElected, LeaderResigned
from events.codec import Fact
from events.state.cluster import INITIAL, evolve
from events.subjects import Filter, Subject
from services.backbone import Backbone
from services.clock import Clock, Pen
from services.errors import LogUnavailable
from services.lease.holding import Holding
from services.log.persist import append, persistently
from services.log.port import Batch, Entry, EventLog, Outcome
from services.scheduler.finishing import FINISH_S

TRIES = 8
"""How many times in the time of one lease a standby tries to get it."""

_log = structlog.get_logger()

Lead: TypeAlias = Callable[[int, anyio.Event], Awaitable[None]]
"""Does what only the leader does, once the world has the sequence of its election, until the event
is set; then it ends what it has begun. It is cancelled when the lease is lost."""


class Candidate:
    """One scheduler's way to the lead, and out of it, again and again."""

    def __init__(
        self, backbone: Backbone, name: str, *, lease_s: float, clock: Clock, pen: Pen
    ) -> None:
        self._lease = backbone.lease
        self._name = name
        self._lease_s = lease_s
        self._clock = clock
        self._pen = pen
        self._holding: Holding | None = None
        self._scope = anyio.CancelScope()
        self._cluster = INITIAL
        self._known = 0
        """Last sequence on the leader's subject that `_cluster` has."""
        self.ledger: EventLog = _LeadersLog(backbone.ledger, self._entitled)
        """The ledger, to which only the leader's tasks can append, and only while it leads."""

    async def run(self, lead: Lead, *, on_standby: Callable[[], None]) -> None:
        """Lead whenever the lease is ours, until cancelled: then resign.

        `on_standby` is called whenever another is found to lead.
        """
        while True:
            holding = await self._win(on_standby)
            over, resign = anyio.Event(), anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._serve_term, holding, lead, resign, over)
                try:
                    await over.wait()
                finally:
                    resign.set()

    async def _win(self, on_standby: Callable[[], None]) -> Holding:
        """Return the lease once it is ours."""
        wait_s = self._lease_s / TRIES
        while True:
            asked_s = self._clock.monotonic_s()
            try:
                grant = await self._lease.acquire(self._name, self._lease_s)
                if grant is not None:
                    return Holding(self._lease, self._clock, grant, asked_s=asked_s)
                on_standby()
                await self._lease.freed(wait_s)
            except LogUnavailable as outage:
                _log.debug("lease.unavailable", error=str(outage))
                await anyio.sleep(wait_s)

    async def _serve_term(
        self, holding: Holding, lead: Lead, resign: anyio.Event, over: anyio.Event
    ) -> None:
        """Lead until the lease is lost, which ends all at once, or `resign` is set."""
        with anyio.CancelScope(shield=True) as self._scope:
            self._holding = holding
            self._extend()
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._keep, holding)
                    with anyio.CancelScope() as working:
                        tasks.start_soon(_hurry, resign, working)
                        await self._work(lead, resign)
                    tasks.cancel_scope.cancel()
            finally:
                await holding.release()
        if self._scope.cancelled_caught:
            _log.warning("leader.deposed")
        self._holding = None
        over.set()

    async def _work(self, lead: Lead, resign: anyio.Event) -> None:
        seq, term = await self._elect()
        _log.info("leader.elected", term=term)
        await lead(seq, resign)
        await self._record(LeaderResigned(scheduler=self._name, term=term), None)
        _log.info("leader.resigned", term=term)

    async def _keep(self, holding: Holding) -> None:
        await holding.keep(self._extend)
        self._scope.cancel()

    def _extend(self) -> None:
        """Let this term end when the lease does, unless it is renewed."""
        assert self._holding is not None
        self._scope.deadline = anyio.current_time() + self._holding.left_s

    async def _elect(self) -> tuple[int, int]:
        """Record the election behind all earlier ones; return its sequence and the term."""
        while True:
            facts = await persistently(
                lambda: self.ledger.read(subjects.LEADER, after=self._known), "being elected"
            )
            for recorded in facts:
                self._cluster = evolve(self._cluster, recorded)
                self._known = recorded.seq
            fact = LeaderElected(scheduler=self._name, term=self._cluster.term + 1)
            outcome = await self._record(fact, self._known)
            if isinstance(outcome, int):
                return outcome, fact.term

    async def _record(self, fact: Fact, expected: int | None) -> Outcome:
        entry = Entry(self._pen.write(subjects.LEADER, fact), expected)
        return (await append(self.ledger, [entry], "leading"))[0]

    async def _entitled(self) -> None:
        """Return if this process leads; otherwise end, with the task that asks, all of its term.

        Asked before each append: a process that was stopped finds here what it has slept through,
        even if its other tasks have not run yet.
        """
        if self._holding is None or self._holding.left_s == 0:
            self._scope.cancel()
            await self._end()

    async def _end(self) -> NoReturn:
        await checkpoint()
        raise AssertionError("only the tasks of a leader's term append")


async def _hurry(resign: anyio.Event, working: anyio.CancelScope) -> None:
    """Give what has been begun `FINISH_S` to end."""
    await resign.wait()
    working.deadline = anyio.current_time() + FINISH_S


class _LeadersLog:
    """An `EventLog` that asks before each append."""

    def __init__(self, inner: EventLog, entitled: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._entitled = entitled

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append each entry by itself, if this process leads; see the port."""
        await self._entitled()
        return await self._inner.append(entries)

    async def append_atomic(self, entries: Sequence[Entry]) -> int:
        """Append all entries or none, if this process leads; see the port."""
        await self._entitled()
        return await self._inner.append_atomic(entries)

    async def read(self, subject: Subject, *, after: int = 0) -> Batch:
        """Return the events of one entity; see the port."""
        return await self._inner.read(subject, after=after)

    async def last_seq(self) -> int:
        """Return the sequence of the last event; 0: it is empty."""
        return await self._inner.last_seq()

    def follow(
        self,
        *,
        after: int,
        filters: Sequence[Filter] = (),
        live: bool = True,
        linger_s: float = 0.0,
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Iterate over batches of events above `after`; see the port."""
        return self._inner.follow(after=after, filters=filters, live=live, linger_s=linger_s)
