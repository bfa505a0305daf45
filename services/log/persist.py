"""Going on while the log is away: the one place where an outage is waited out."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio
import structlog

from services.errors import Conflict, LogUnavailable
from services.log.port import Entry, EventLog, Outcome

WAIT_FIRST_S = 0.05
WAIT_MAX_S = 2.0

T = TypeVar("T")
_log = structlog.get_logger()


async def persistently(operation: Callable[[], Awaitable[T]], what: str) -> T:
    """Repeat `operation` until the log answers; give up only when cancelled.

    The operation must be safe to repeat; for appends see `append`.
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
    """Append `entries` however long it takes; return what became of each.

    After an outage a conflict may be with our own first try: whether it is tells the event's id. An
    entry without expectation may be stored twice then.
    """
    try:
        return await log.append(entries)
    except LogUnavailable:
        outcomes = await persistently(lambda: log.append(entries), what)
    return [
        await persistently(partial(_settled, log, entry, outcome), what)
        for entry, outcome in zip(entries, outcomes, strict=True)
    ]


async def _settled(log: EventLog, entry: Entry, outcome: Outcome) -> Outcome:
    if isinstance(outcome, Conflict):
        for recorded in await log.read(entry.event.subject, after=entry.expected or 0):
            if recorded.id == entry.event.id:
                return recorded.seq
    return outcome
