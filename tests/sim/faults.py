"""A log that fails by dice: delays, outages before and after storing, lost facts, cut lines, death.

Every process of a simulated fleet has a `Line` of its own to the common streams. Killing the line
is `kill -9`: whatever the process does next ends it, and nothing more of it reaches the log.
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from random import Random
from typing import TypeVar

import anyio
from msgspec import Struct

from events.node import Assignments
from events.subjects import Filter, Subject
from services.backbone import Backbone
from services.errors import Conflict, LogUnavailable
from services.lease.port import Grant, Lease
from services.log.port import Batch, Entry, EventLog, Outcome

T = TypeVar("T")


class Crash(BaseException):
    """The process is gone: no bulkhead may catch this."""


class Odds(Struct, frozen=True, kw_only=True):
    """How often what goes wrong, as probabilities of one call."""

    delay: float = 0.2
    delay_s_max: float = 0.5
    unavailable: float = 0.03
    """The call fails and has stored nothing."""
    ambiguous: float = 0.03
    """The call fails and has stored all."""
    lost: float = 0.1
    """An `Assignments` fact is never stored, and its writer told that it is."""


class Dice:
    """All chance of one run, and what came of it; calm dice bring no faults."""

    def __init__(self, seed: int, odds: Odds) -> None:
        self.random = Random(seed)
        self.odds = odds
        self.calm = False
        self.met: Counter[str] = Counter()

    def hits(self, odds: float, what: str) -> bool:
        """Roll for a fault and count it."""
        if self.calm or self.random.random() >= odds:
            return False
        self.met[what] += 1
        return True

    async def dawdle(self) -> None:
        """Take some time, sometimes."""
        if self.hits(self.odds.delay, "delay"):
            await anyio.sleep(self.random.uniform(0, self.odds.delay_s_max))


class Line:
    """One process's connection."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.dead = anyio.Event()
        self._whole = anyio.Event()
        self._whole.set()
        self._moving = anyio.Event()
        self._moving.set()

    def kill(self) -> None:
        """End the process that uses this line, wherever it is."""
        self.dead.set()

    async def cut(self, for_s: float) -> None:
        """Let nothing through for a while, in either direction."""
        self._whole = anyio.Event()
        await anyio.sleep(for_s)
        self._whole.set()

    async def freeze(self, for_s: float) -> None:
        """Let the process stand still for a while; what it has begun reaches the log then.

        As for one that is stopped between its last look at the clock and its write to the socket.
        """
        self._moving = anyio.Event()
        try:
            await anyio.sleep(for_s)
        finally:
            self._moving.set()

    async def moving(self) -> None:
        """Wait, whoever cancels meanwhile, until the process does not stand still."""
        with anyio.CancelScope(shield=True):
            await self._moving.wait()

    def check(self) -> None:
        """Raise Crash when the process is dead, LogUnavailable while the line is cut."""
        if self.dead.is_set():
            raise Crash
        if not self._whole.is_set():
            raise LogUnavailable("the line is cut")

    async def restored(self) -> None:
        """Wait until the line is whole, and the process moves."""
        await self._whole.wait()
        await self.moving()

    def backbone(self, common: Backbone) -> Backbone:
        """Return the common streams as they look over this line."""
        return Backbone(
            ledger=FaultyLog(common.ledger, self),
            telemetry=FaultyLog(common.telemetry, self),
            logs=FaultyLog(common.logs, self),
            inbox=common.inbox,
            bus=common.bus,
            lease=FaultyLease(common.lease, self),
        )


class FaultyLog:
    """An `EventLog` over a line."""

    def __init__(self, inner: EventLog, line: Line) -> None:
        self._inner = inner
        self._line = line
        self._dice = line.dice

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        await self._before()
        lost = [self._is_lost(entry) for entry in entries]
        kept = [entry for entry, gone in zip(entries, lost, strict=True) if not gone]
        outcomes: list[Outcome] = []
        with anyio.CancelScope(shield=True):
            await self._line.moving()
            outcomes = await self._inner.append(kept)
        self._dice.met["conflict"] += sum(isinstance(outcome, Conflict) for outcome in outcomes)
        await self._after()
        told = iter(outcomes)
        return [1 if gone else next(told) for gone in lost]

    async def append_atomic(self, entries: Sequence[Entry]) -> int:
        await self._before()
        last = await self._inner.append_atomic(entries)
        await self._after()
        return last

    async def read(self, subject: Subject, *, after: int = 0) -> Batch:
        await self._before()
        return await self._inner.read(subject, after=after)

    async def last_seq(self) -> int:
        await self._before()
        return await self._inner.last_seq()

    @asynccontextmanager
    async def follow(
        self,
        *,
        after: int,
        filters: Sequence[Filter] = (),
        live: bool = True,
        linger_s: float = 0.0,
    ) -> AsyncGenerator[AsyncIterator[Batch]]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._die)
            async with (
                self._inner.follow(
                    after=after, filters=filters, live=live, linger_s=linger_s
                ) as batches,
                aclosing(self._delayed(batches)) as delayed,
            ):
                yield delayed
            tasks.cancel_scope.cancel()

    async def _delayed(self, batches: AsyncIterator[Batch]) -> AsyncGenerator[Batch]:
        async for batch in batches:
            await self._dice.dawdle()
            await self._line.restored()
            yield batch

    async def _die(self) -> None:
        await self._line.dead.wait()
        raise Crash

    async def _before(self) -> None:
        self._line.check()
        await self._dice.dawdle()
        self._line.check()
        if self._dice.hits(self._dice.odds.unavailable, "unavailable"):
            raise LogUnavailable("nothing was stored")

    async def _after(self) -> None:
        await self._dice.dawdle()
        self._line.check()
        if self._dice.hits(self._dice.odds.ambiguous, "ambiguous"):
            raise LogUnavailable("all was stored")

    def _is_lost(self, entry: Entry) -> bool:
        is_told = isinstance(entry.event.data, Assignments)
        return is_told and self._dice.hits(self._dice.odds.lost, "lost")


class FaultyLease:
    """A `Lease` over a line."""

    def __init__(self, inner: Lease, line: Line) -> None:
        self._inner = inner
        self._line = line
        self._dice = line.dice

    async def acquire(self, holder: str, lease_s: float) -> Grant | None:
        return await self._over_the_line(lambda: self._inner.acquire(holder, lease_s))

    async def renew(self, grant: Grant) -> Grant | None:
        return await self._over_the_line(lambda: self._inner.renew(grant))

    async def release(self, grant: Grant) -> None:
        await self._over_the_line(lambda: self._inner.release(grant))

    async def holder(self) -> str | None:
        return await self._over_the_line(self._inner.holder)

    async def freed(self, within_s: float) -> None:
        await self._inner.freed(within_s)
        self._line.check()

    async def _over_the_line(self, call: Callable[[], Awaitable[T]]) -> T:
        self._line.check()
        await self._dice.dawdle()
        if self._dice.hits(self._dice.odds.unavailable, "lease unavailable"):
            raise LogUnavailable("nothing was stored")
        await self._line.moving()
        self._line.check()
        answer = await call()
        await self._dice.dawdle()
        self._line.check()
        if self._dice.hits(self._dice.odds.ambiguous, "lease ambiguous"):
            raise LogUnavailable("all was stored")
        return answer
