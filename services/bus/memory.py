"""The bus in memory: for tests and whole-system simulations."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from msgspec import Struct
from msgspec.structs import replace

from events.subjects import Filter, Subject
from services.background import background
from services.bus.answering import Answer, answer
from services.bus.listening import Mailbox
from services.bus.port import BACKLOG_MAX, Command, Handler, Message, Request
from services.errors import LogUnavailable
from services.log.memory import matcher

_MESSAGE_ID = "Nats-Msg-Id"
_TRACEPARENT = "traceparent"


class _Server(Struct, frozen=True, eq=False):
    handler: Handler
    tasks: TaskGroup
    limiter: anyio.CapacityLimiter


class _Pending:
    """An answer that is on its way."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.answer = Answer(b"", "no answer")

    async def run(self, server: _Server, request: Request) -> None:
        async with server.limiter:
            self.answer = await answer(server.handler, request)
        self.done.set()


class MemoryBus:
    """A `Bus` among the tasks of one process; servers of one subject take turns."""

    def __init__(self) -> None:
        self._servers: dict[str, list[_Server]] = {}
        self._listeners: list[tuple[Callable[[str], bool], Mailbox]] = []
        self.up_since_s: float | None = 0.0
        """See the port; set by who plays an outage."""

    async def request(
        self,
        subject: str,
        body: bytes,
        *,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the answer to `body`; see the port."""
        await checkpoint()
        servers = self._servers.get(subject)
        if not servers:
            raise LogUnavailable(f"{subject}: nobody serves it")
        server = servers.pop(0)
        servers.append(server)
        headers = headers or {}
        request = Request(subject, body, headers.get(_MESSAGE_ID), headers.get(_TRACEPARENT))
        pending = _Pending()
        server.tasks.start_soon(pending.run, server, request)
        with anyio.move_on_after(timeout_s):
            await pending.done.wait()
            if pending.answer.error is not None:
                raise LogUnavailable(f"{subject}: {pending.answer.error}")
            return pending.answer.body
        raise LogUnavailable(f"{subject}: no answer within {timeout_s} s")

    @asynccontextmanager
    async def serve(
        self, name: str, endpoints: Mapping[Subject, Handler], *, concurrency_max: int = 256
    ) -> AsyncGenerator[None]:
        """Answer requests on these subjects while the context lasts; see the port."""
        assert name, "a service has a name"
        limiter = anyio.CapacityLimiter(concurrency_max)
        async with background() as tasks:
            mine = {
                subject: _Server(handler, tasks, limiter) for subject, handler in endpoints.items()
            }
            for subject, server in mine.items():
                self._servers.setdefault(subject, []).append(server)
            try:
                yield
            finally:
                for subject, server in mine.items():
                    self._servers[subject].remove(server)

    async def say(self, subject: str, body: bytes) -> None:
        """Send a plain message, as any client of a server, or the server itself, could."""
        await checkpoint()
        for wanted, mailbox in self._listeners:
            if wanted(subject):
                mailbox.put(Message(subject, body))

    @asynccontextmanager
    async def listen(
        self, wanted: Filter, *, backlog_max: int = BACKLOG_MAX
    ) -> AsyncGenerator[AsyncIterator[Message]]:
        """Iterate over plain messages as they come; see the port."""
        await checkpoint()
        listener = (matcher((wanted,)), Mailbox(backlog_max))
        self._listeners.append(listener)
        try:
            async with aclosing(listener[1].messages()) as messages:
                yield messages
        finally:
            self._listeners.remove(listener)


class MemoryInbox:
    """An `Inbox` in memory; a command that is not acknowledged comes again after `redeliver_s`."""

    def __init__(self, *, redeliver_s: float = 30.0, batch_max: int = 100) -> None:
        assert batch_max >= 1, batch_max
        self._redeliver_s = redeliver_s
        self._batch_max = batch_max
        self._count = 0
        self._waiting: dict[int, Command] = {}
        self._due_s: dict[int, float] = {}
        self._changed = anyio.Event()

    async def put(
        self,
        subject: str,
        body: bytes,
        *,
        message_id: str | None = None,
        traceparent: str | None = None,
    ) -> int:
        """File a command as another system would; return its sequence."""
        await checkpoint()
        self._count += 1
        request = Request(subject, body, message_id, traceparent)
        self._waiting[self._count] = Command(request, self._count, self._count)
        self._due_s[self._count] = 0.0
        self._changed.set()
        self._changed = anyio.Event()
        return self._count

    @property
    def waiting(self) -> int:
        """Commands that were not acknowledged yet."""
        return len(self._waiting)

    @asynccontextmanager
    async def receive(self) -> AsyncGenerator[AsyncIterator[list[Command]]]:
        """Iterate over batches of commands; see the port."""
        async with aclosing(self._batches()) as batches:
            yield batches

    async def acknowledge(self, commands: Sequence[Command]) -> None:
        """Forget these commands."""
        await checkpoint()
        for command in commands:
            self._waiting.pop(command.seq, None)
            self._due_s.pop(command.seq, None)

    async def _batches(self) -> AsyncGenerator[list[Command]]:
        while True:
            await checkpoint()
            changed = self._changed
            batch = self._due()
            if batch:
                yield batch
                continue
            next_due_s = min(self._due_s.values(), default=float("inf"))
            with anyio.move_on_at(next_due_s):
                await changed.wait()

    def _due(self) -> list[Command]:
        now_s = anyio.current_time()
        due = [seq for seq, due_s in self._due_s.items() if due_s <= now_s][: self._batch_max]
        for seq in due:
            self._due_s[seq] = now_s + self._redeliver_s
        batch = [self._waiting[seq] for seq in due]
        for command in batch:
            again = replace(command.request, again=True)
            self._waiting[command.seq] = replace(command, request=again)
        return batch
