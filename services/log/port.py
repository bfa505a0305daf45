"""The log as services see it. What stands behind it is the composition root's affair.

One `EventLog` is one stream: a total order of events, each filed under its entity's subject.
Sequences start at 1 and, in the ledger, have no holes.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from msgspec import Struct

from events.codec import Event, Recorded
from events.subjects import Filter, Subject
from services.errors import Conflict

ATOMIC_ENTRIES_MAX = 1_000
"""Most entries of one all-or-none append."""


class Entry(Struct, frozen=True):
    """One event to append, and what its writer believes about the entity."""

    event: Event
    expected: int | None = None
    """Last sequence on the event's subject; 0: there is none; None: append whatever is there."""


Outcome: TypeAlias = int | Conflict
"""Sequence under which an entry is stored, or the race it lost."""

Batch: TypeAlias = list[Recorded]


class EventLog(Protocol):
    """Append with expectation, read an entity, follow the order."""

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append each entry by itself; return what became of each, in order.

        Entries of different subjects are independent. Several of one subject are stored in their
        order, and only the first may carry an expectation; when it conflicts, so do the others. An
        entry whose fate is unclear (time-out, reconnect) is settled by reading before this returns.
        Waits while the writer's window is full. Raises LogUnavailable when the log stays silent for
        longer than the time-out.
        """
        ...

    async def append_atomic(self, entries: Sequence[Entry]) -> int:
        """Append all entries or none; return the sequence of the last one.

        At most `ATOMIC_ENTRIES_MAX`; only the first entry of a subject may carry an expectation.
        Raises Conflict when any expectation fails, LogUnavailable as `append`.
        """
        ...

    async def read(self, subject: Subject, *, after: int = 0) -> Batch:
        """Return the events of one entity with sequences above `after`, in order."""
        ...

    async def last_seq(self) -> int:
        """Return the sequence of the last event of the stream; 0: it is empty."""
        ...

    def follow(
        self,
        *,
        after: int,
        filters: Sequence[Filter] = (),
        live: bool = True,
        linger_s: float = 0.0,
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Iterate over batches of all events above `after`, then of new ones as they come.

        No filter is the whole stream: then sequences are checked to be contiguous, and SequenceGap
        is raised at a hole. `live=False` ends at what was last when it began. A batch is never
        empty. Survives server restarts: nothing is skipped, nothing comes twice.

        With `linger_s`, a reader that has everything looks again only so much later: many events
        then cost it, and the server, no more than one. 0: each event comes as soon as it is there.
        """
        ...
