"""A grant as its holder may believe in it: bounded by the holder's own clock, whatever it hears.

So a holder that was stopped, or cut off, knows that it has lost the lease before it does anything
else, and no later than another can have got it.
"""

from collections.abc import Callable

import anyio
import structlog

from services.clock import Clock
from services.errors import LogUnavailable
from services.lease.port import Grant, Lease

RENEWALS = 4
"""How many times a holder renews in the time of one lease."""
MARGIN = 0.1
"""Part of the lease by which a holder stops to believe before the record expires: for clocks that
run apart, and for what is on its way."""
RETRY_S = 0.05

_log = structlog.get_logger()


class Holding:
    """The lease in the hands of this process; `asked_s` is when it began to ask for the grant."""

    def __init__(self, lease: Lease, clock: Clock, grant: Grant, *, asked_s: float) -> None:
        self._lease = lease
        self._clock = clock
        self._grant = grant
        self._until_s = believed_until_s(grant, asked_s)

    @property
    def left_s(self) -> float:
        """Seconds for which it is still ours, not counting renewals to come; 0: it is lost."""
        return max(0.0, self._until_s - self._clock.monotonic_s())

    async def keep(self, on_renewed: Callable[[], None]) -> None:
        """Renew the lease again and again; return as soon as it is lost."""
        while self.left_s > 0:
            await anyio.sleep(min(self._grant.lease_s / RENEWALS, self.left_s))
            if not await self._renew():
                return
            on_renewed()

    async def release(self) -> None:
        """Give the lease back while it is ours; without an answer it expires by itself."""
        with anyio.move_on_after(self.left_s):
            while self.left_s > 0:
                try:
                    await self._lease.release(self._grant)
                except LogUnavailable:
                    await anyio.sleep(RETRY_S)
                else:
                    return

    async def _renew(self) -> bool:
        """Renew once, however often it must be asked for in the time left; tell whether it is."""
        with anyio.move_on_after(self.left_s):
            while self.left_s > 0:
                asked_s = self._clock.monotonic_s()
                try:
                    grant = await self._lease.renew(self._grant)
                except LogUnavailable as outage:
                    _log.info("lease.unclear", error=str(outage))
                    await anyio.sleep(RETRY_S)
                    continue
                if grant is not None:
                    self._grant = grant
                    self._until_s = believed_until_s(grant, asked_s)
                return grant is not None
        return False


def believed_until_s(grant: Grant, asked_s: float) -> float:
    """Return when the holder stops to believe, on the clock that `asked_s` is of."""
    return asked_s + grant.lease_s * (1 - MARGIN)
