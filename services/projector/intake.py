"""What waits to be written: events of one stream, bounded, given out in batches."""

import anyio

from services.log.port import Batch

WAITING_BATCHES_MAX = 4
"""So many full batches may wait; then the stream is read no further until there is room."""


class Intake:
    """Holds events until the writer is ready for them, or there are enough.

    Nothing that was put in is lost by cancelling who waits.
    """

    def __init__(self, *, batch_events_max: int) -> None:
        self._batch_events_max = batch_events_max
        self._events: Batch = []
        self._changed = anyio.Event()

    async def put(self, batch: Batch) -> None:
        """Add events; wait first while too many are there."""
        while len(self._events) >= WAITING_BATCHES_MAX * self._batch_events_max:
            await self._changed.wait()
        self._events += batch
        self._tell()

    async def take(self, gather_s: float = 0.0) -> Batch:
        """Return the next batch, never an empty one.

        Gathers for `gather_s` at least, unless the batch is full before.
        """
        while not self._events:
            await self._changed.wait()
        with anyio.move_on_after(gather_s):
            while len(self._events) < self._batch_events_max:
                await self._changed.wait()
        batch = self._events[: self._batch_events_max]
        del self._events[: self._batch_events_max]
        self._tell()
        return batch

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
