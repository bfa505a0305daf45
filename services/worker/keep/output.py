"""The way of attempts' output to the log: at once while it takes it, else by way of the disk.

What an attempt printed stays in its order: while something of it waits on disk, what follows waits
behind it. Output of other attempts does not.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio
import structlog
from anyio import to_thread

from events.codec import Event
from services.errors import LogUnavailable
from services.log.port import Entry, EventLog
from services.worker.keep.spool import Spool

SEND_S = 2.0
"""The log that takes longer counts as away. What it has stored all the same is not stored twice: it
knows the events' ids for a minute."""
RETRY_S = 1.0
"""Between two looks whether the log is back."""
PENDING_MAX = 20_000
"""Events in memory, while one write is under way; of more, the newest are left out and counted."""

T = TypeVar("T")
_log = structlog.get_logger()


class Output:
    """Takes chunks of output at any time and sends them; `run` keeps it moving."""

    def __init__(self, logs: EventLog, spool: Spool) -> None:
        self._logs = logs
        self._spool = spool
        self._pending: list[Event] = []
        self._in_hand: list[Event] = []
        """Taken from those pending, and neither in the log nor on disk yet."""
        self._away = False
        self._put = 0
        self._done = 0
        self._wake = anyio.Event()
        self._settled = anyio.Event()

    def put(self, events: Sequence[Event]) -> None:
        """Let events be sent; never waits."""
        room = PENDING_MAX - len(self._pending)
        if room < len(events):
            _log.warning("output.dropped", chunks=len(events) - room)
        taken = events[:room]
        self._pending.extend(taken)
        self._put += len(taken)
        self._wake.set()

    async def settled(self) -> None:
        """Wait until all that was put is in the log or on disk."""
        target = self._put
        while self._done < target:
            await self._settled.wait()

    async def run(self) -> None:
        """Send what is put and what waits on disk, until cancelled; the rest then goes to disk."""
        try:
            while True:
                if not self._pending and self._spool.empty:
                    self._wake = anyio.Event()
                    await self._wake.wait()
                await self._send_pending()
                if not self._spool.empty:
                    await self._send_spooled()
        finally:
            left = [*self._in_hand, *self._pending]
            if left:
                self._spool.add(left)
            self._spool.close()

    async def _send_pending(self) -> None:
        taken, self._pending = self._pending, []
        self._in_hand = taken
        away = self._away and not self._spool.empty
        later = [event for event in taken if away or self._spool.holds(event.subject)]
        now = [event for event in taken if not (away or self._spool.holds(event.subject))]
        if now and not await self._send(now):
            later = taken
        if later:
            await _blocking(lambda: self._spool.add(later))
        self._in_hand = []
        self._done += len(taken)
        self._settled.set()
        self._settled = anyio.Event()

    async def _send_spooled(self) -> None:
        """Send the first that wait on disk; while the log is away, look again after a while."""
        head = await _blocking(self._spool.head)
        if await self._send(head.events):
            await _blocking(lambda: self._spool.remove(head))
        else:
            await anyio.sleep(RETRY_S)

    async def _send(self, events: Sequence[Event]) -> bool:
        """Append events; False: the log is away."""
        error = f"no answer for {SEND_S:g} s"
        with anyio.move_on_after(SEND_S):
            try:
                await self._logs.append([Entry(event) for event in events])
            except LogUnavailable as outage:
                error = str(outage)
            else:
                self._note(away=False)
                return True
        self._note(away=True, error=error)
        return False

    def _note(self, *, away: bool, error: str = "") -> None:
        if away and not self._away:
            _log.warning("output.spooling", error=error)
        elif self._away and not away:
            _log.info("output.sending_again")
        self._away = away


async def _blocking(call: Callable[[], T]) -> T:
    """Run a call that blocks in a thread, to its end even when cancelled."""
    return await to_thread.run_sync(call)
