"""The lease in memory: for tests and whole-system simulations."""

import anyio
from anyio.lowlevel import checkpoint
from msgspec import Struct

from services.clock import Clock, SystemClock
from services.lease.port import Grant


class _Record(Struct, frozen=True):
    holder: str
    seq: int
    ends_s: float


class MemoryLease:
    """A `Lease` among the tasks of one process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._record: _Record | None = None
        self._count = 0
        self._freed = anyio.Event()

    async def acquire(self, holder: str, lease_s: float) -> Grant | None:
        """Take the lease if it is free; see the port."""
        await checkpoint()
        record = self._current()
        if record is not None and record.holder != holder:
            return None
        grant = self._store(holder, lease_s)
        await checkpoint()
        return grant

    async def renew(self, grant: Grant) -> Grant | None:
        """Begin the time anew; see the port."""
        await checkpoint()
        record = self._current()
        if record is None or record.holder != grant.holder:
            return None
        renewed = self._store(grant.holder, grant.lease_s)
        await checkpoint()
        return renewed

    async def release(self, grant: Grant) -> None:
        """Give the lease back; see the port."""
        await checkpoint()
        record = self._current()
        if record is not None and record.holder == grant.holder:
            self._record = None
            self._freed.set()
            self._freed = anyio.Event()

    async def holder(self) -> str | None:
        """Return who has the lease; None: nobody."""
        await checkpoint()
        record = self._current()
        return None if record is None else record.holder

    async def freed(self, within_s: float) -> None:
        """Wait until a holder gives the lease back, at most `within_s`."""
        with anyio.move_on_after(within_s):
            await self._freed.wait()

    def _current(self) -> _Record | None:
        record = self._record
        return record if record is not None and self._clock.monotonic_s() < record.ends_s else None

    def _store(self, holder: str, lease_s: float) -> Grant:
        self._count += 1
        self._record = _Record(holder, self._count, self._clock.monotonic_s() + lease_s)
        return Grant(holder=holder, seq=self._count, lease_s=lease_s)
