"""The ordered end of a leader's term: what has been taken in is answered, nothing more is."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

import anyio

from events.subjects import Subject
from services.bus.port import Command, Handler, Inbox, Request

FINISH_S = 2.0
"""How long the end may take before what is still under way is left alone."""


class Requests:
    """Counts the requests that are being answered."""

    def __init__(self) -> None:
        self._count = 0
        self._none = anyio.Event()

    def counted(self, endpoints: Mapping[Subject, Handler]) -> dict[Subject, Handler]:
        """Return the same endpoints, each of whose requests is counted."""
        return {subject: self._counted(handler) for subject, handler in endpoints.items()}

    def _counted(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> bytes:
            self._count += 1
            try:
                return await handler(request)
            finally:
                self._count -= 1
                if self._count == 0:
                    self._none.set()

        return answer

    async def finished(self) -> None:
        """Wait until none is being answered."""
        while self._count:
            self._none = anyio.Event()
            await self._none.wait()


class ClosableInbox:
    """An `Inbox` whose batches end when it is closed: the last one is worked through."""

    def __init__(self, inner: Inbox) -> None:
        self._inner = inner
        self._closed = False
        self._waiting = anyio.CancelScope()

    def close(self) -> None:
        """Hand out nothing more."""
        self._closed = True
        self._waiting.cancel()

    @asynccontextmanager
    async def receive(self) -> AsyncGenerator[AsyncIterator[list[Command]]]:
        """Iterate over batches of commands until it is closed; see the port."""
        async with self._inner.receive() as batches, aclosing(self._until_closed(batches)) as some:
            yield some

    async def acknowledge(self, commands: Sequence[Command]) -> None:
        """Tell the queue that these are answered; see the port."""
        await self._inner.acknowledge(commands)

    async def _until_closed(
        self, batches: AsyncIterator[list[Command]]
    ) -> AsyncGenerator[list[Command]]:
        while not self._closed:
            none: list[Command] = []
            batch = none
            with anyio.CancelScope() as self._waiting:
                batch = await anext(batches, none)
            if not batch:
                return
            yield batch
