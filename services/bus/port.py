"""The bus as services see it: request and reply, and the work queue of durable commands."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from msgspec import Struct

from events.subjects import Filter, Subject

BACKLOG_MAX = 10_000
"""Plain messages that wait for one who listens, beyond which new ones are lost."""


class Request(Struct, frozen=True):
    """One request as it came."""

    subject: str
    body: bytes
    message_id: str | None = None
    """Its `Nats-Msg-Id`, if the sender set one."""
    traceparent: str | None = None
    again: bool = False
    """A durable one that was handed out before: it may have been carried out already."""


Handler: TypeAlias = Callable[[Request], Awaitable[bytes]]
"""Answers one request; must not raise for bad input: an answer that says what is wrong is an
answer."""


class Message(Struct, frozen=True):
    """One plain message: nobody keeps it, nobody waits for an answer."""

    subject: str
    body: bytes


class Bus(Protocol):
    """Ask and answer, and hear what is said."""

    @property
    def up_since_s(self) -> float | None:
        """Since when messages get through, in seconds of the event loop; None: they do not.

        What was said before is lost, and that somebody was silent before means nothing.
        """
        ...

    async def request(
        self,
        subject: str,
        body: bytes,
        *,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the answer to `body`. Raises LogUnavailable when nobody answers in time."""
        ...

    def serve(
        self, name: str, endpoints: Mapping[Subject, Handler], *, concurrency_max: int = 256
    ) -> AbstractAsyncContextManager[None]:
        """Answer requests on these subjects while the context lasts.

        Every process that serves the same `name` shares the load. Discoverable as a NATS micro
        service. A handler that raises answers with an error and is logged; it never ends the
        service.
        """
        ...

    def listen(
        self, wanted: Filter, *, backlog_max: int = BACKLOG_MAX
    ) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """Iterate over plain messages as they come, from when the context is entered.

        At most once: what is said while the line is down, or while `backlog_max` messages wait to
        be taken, is lost. Goes on after reconnects. Raises LogUnavailable when the line is closed.
        """
        ...


class Command(Struct, frozen=True):
    """One durable command and its place in the stream of commands."""

    request: Request
    seq: int
    token: object
    """The adapter's handle by which it is acknowledged."""


class Inbox(Protocol):
    """The work queue of durable commands: each stays until it was acknowledged."""

    def receive(self) -> AbstractAsyncContextManager[AsyncIterator[list[Command]]]:
        """Iterate over batches of commands; one that is not acknowledged in time comes again."""
        ...

    async def acknowledge(self, commands: Sequence[Command]) -> None:
        """Tell the queue that these are answered by facts and may be forgotten."""
        ...
