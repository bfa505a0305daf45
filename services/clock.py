"""Time and identity, as services are given them: never taken from the system in between."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import anyio

from events.codec import Event, Fact
from events.ids import EventId
from events.subjects import Subject


class Clock(Protocol):
    """Tells the time; the only way of a service to know it."""

    def now(self) -> datetime:
        """Return the instant, in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never goes back."""
        ...


class SystemClock:
    """The machine's clock.

    Monotonic time is the event loop's, so that a virtual loop is a virtual clock.
    """

    def now(self) -> datetime:
        """Return the instant, in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds of the event loop's clock."""
        return anyio.current_time()


class Pen:
    """Puts facts into envelopes: one writer's source, clock and event ids.

    Ids are a random prefix of this process and a count, so they are unique and cost nothing.
    """

    def __init__(self, source: str, clock: Clock, prefix: str | None = None) -> None:
        self._source = source
        self._clock = clock
        self._prefix = secrets.token_hex(8) if prefix is None else prefix
        self._count = 0

    def write(
        self,
        subject: Subject,
        fact: Fact,
        *,
        traceparent: str | None = None,
        event_id: EventId | None = None,
    ) -> Event:
        """Return `fact` as an event of now; `event_id` None: a fresh one."""
        if event_id is None:
            self._count += 1
            event_id = EventId(f"{self._prefix}-{self._count:x}")
        now = self._clock.now()
        if traceparent is None:
            return Event(
                id=event_id,
                source=self._source,
                type=fact.tag,
                time=now,
                subject=subject,
                data=fact,
            )
        return Event(
            id=event_id,
            source=self._source,
            type=fact.tag,
            time=now,
            subject=subject,
            data=fact,
            traceparent=traceparent,
        )


NewId = Callable[[], str]
"""Makes a fresh unique token, such as a job id nobody gave."""


def random_id() -> str:
    """Return 128 random bits as hexadecimal text."""
    return secrets.token_hex(16)
