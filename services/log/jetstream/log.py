"""The event log on one JetStream stream."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
from anyio.abc import TaskStatus

from events.codec import encode
from events.subjects import Filter, Subject
from services.background import background
from services.errors import Conflict
from services.log.jetstream.batches import Batches, Unit
from services.log.jetstream.connection import Connection
from services.log.jetstream.puller import Follow, follow
from services.log.jetstream.reads import Reader
from services.log.jetstream.streams import HEADERS_BYTES_MAX, MESSAGE_BYTES_MAX, LogSettings
from services.log.jetstream.wire import Message
from services.log.jetstream.writer import Tally, Window
from services.log.plan import checked_atomic, grouped
from services.log.port import ATOMIC_ENTRIES_MAX, Batch, Entry, Outcome

EVENT_BYTES_MAX = MESSAGE_BYTES_MAX - HEADERS_BYTES_MAX
"""Largest encoded event."""


class JetStreamLog:
    """An `EventLog` on one stream; made by `open_log`."""

    def __init__(self, stream: str, connection: Connection, settings: LogSettings) -> None:
        self._stream = stream
        self._connection = connection
        self._settings = settings
        self._reader = Reader(
            connection, stream, of="leader" if settings.durability == "cluster" else "any"
        )
        self._window = Window(connection, self._reader, settings)
        self._batches = Batches(connection, self._reader, self._window, settings)

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append each entry by itself; see the port.

        Raises ValueError before anything is sent when an event is larger than `EVENT_BYTES_MAX`.
        """
        if not entries:
            return []
        tally = Tally(len(entries))
        singles, units = self._planned(entries, tally)
        if units:
            await self._batches.submit(units)
        if singles:
            await self._window.publish(singles, tally)
        return await tally.wait()

    async def append_atomic(self, entries: Sequence[Entry]) -> int:
        """Append all entries or none; see the port."""
        checked_atomic(entries)
        assert self._settings.atomic, f"{self._stream} takes no atomic batches"
        tally = Tally(len(entries))
        unit = Unit([(place, _message(entry)) for place, entry in enumerate(entries)], tally)
        await self._batches.submit([unit])
        last = (await tally.wait())[-1]
        if isinstance(last, Conflict):
            raise last
        return last

    async def read(self, subject: Subject, *, after: int = 0) -> Batch:
        """Return the events of one entity with sequences above `after`, in order."""
        return await self._reader.read(subject, after)

    async def last_seq(self) -> int:
        """Return the sequence of the last event of the stream; 0: it is empty."""
        return await self._reader.last_seq()

    def follow(
        self,
        *,
        after: int,
        filters: Sequence[Filter] = (),
        live: bool = True,
        linger_s: float = 0.0,
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Iterate over batches of all events above `after`; see the port."""
        return follow(
            self._connection,
            Follow(
                stream=self._stream,
                after=after,
                filters=tuple(filters),
                live=live,
                linger_s=linger_s,
                hole_free=self._settings.hole_free,
                batch_max=self._settings.batch_max,
            ),
        )

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Keep appends moving until canceled."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._window.run)
            await tasks.start(self._batches.run)
            task_status.started()

    def _planned(
        self, entries: Sequence[Entry], tally: Tally
    ) -> tuple[list[tuple[int, Message]], list[Unit]]:
        """Split an append: what goes out by itself, and what goes through atomic batches."""
        singles: list[tuple[int, Message]] = []
        units: list[Unit] = []
        for members in grouped(entries).values():
            messages = [(place, _message(entry)) for place, entry in members]
            together = len(messages) > 1 and messages[0][1].expected is not None
            if together:
                self._check_together(messages)
                units.append(Unit(messages, tally))
            elif self._settings.group_commit:
                units += [Unit([each], tally) for each in messages]
            else:
                singles += messages
        singles.sort(key=lambda single: single[0])
        return singles, units

    def _check_together(self, messages: Sequence[tuple[int, Message]]) -> None:
        if not self._settings.atomic or len(messages) > ATOMIC_ENTRIES_MAX:
            raise ValueError(
                f"{messages[0][1].subject}: {len(messages)} entries behind one expectation; "
                f"allowed on {self._stream}: {ATOMIC_ENTRIES_MAX if self._settings.atomic else 1}"
            )


@asynccontextmanager
async def open_log(
    stream: str, connection: Connection, settings: LogSettings
) -> AsyncGenerator[JetStreamLog]:
    """Return the log on `stream`, which has to exist; it lasts as long as the context."""
    log = JetStreamLog(stream, connection, settings)
    async with background() as tasks:
        await tasks.start(log.run)
        yield log


def _message(entry: Entry) -> Message:
    event = entry.event
    body = encode(event)
    if len(body) > EVENT_BYTES_MAX:
        raise ValueError(
            f"{event.subject}: an event of {len(body)} bytes; allowed: {EVENT_BYTES_MAX}"
        )
    return Message(event.subject, body, event.id, entry.expected)
