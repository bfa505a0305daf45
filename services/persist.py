"""Going on while the log is away: the one place where an outage is waited out."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import structlog

from services.errors import LogUnavailable
from services.log.port import Entry, EventLog, Outcome

WAIT_FIRST_S = 0.05
WAIT_MAX_S = 2.0

T = TypeVar("T")
_log = structlog.get_logger()


async def persistently(operation: Callable[[], Awaitable[T]], what: str) -> T:
    """Repeat `operation` until the log answers; give up only when cancelled.

    Safe for appends: an entry keeps its event id, so a repeated one is stored once.
    """
    wait_s = WAIT_FIRST_S
    while True:
        try:
            return await operation()
        except LogUnavailable as outage:
            if wait_s == WAIT_FIRST_S:
                _log.warning("log.unavailable", during=what, error=str(outage))
            await anyio.sleep(wait_s)
            wait_s = min(wait_s * 2, WAIT_MAX_S)


async def append(log: EventLog, entries: Sequence[Entry], what: str) -> list[Outcome]:
    """Append `entries` however long it takes; return what became of each."""
    return await persistently(lambda: log.append(entries), what)
