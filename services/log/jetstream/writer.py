"""The publish window: many guarded publishes under way at once, each settled, come what may.

A publish whose acknowledgement does not come (time-out, lost connection) is sent again as it was.
Its guard or its message id makes that harmless, and leaves one question open: whether a guard that
now fails was broken by our own first try. That is answered by reading the entity's next event.
"""

from collections.abc import Sequence
from time import monotonic

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from services.errors import Conflict, LogUnavailable
from services.log.jetstream.connection import Connection
from services.log.jetstream.reads import Reader
from services.log.jetstream.streams import LogSettings
from services.log.jetstream.wire import (
    LATER_MAY_DO,
    SUBJECT_IN_PROCESS,
    WRONG_LAST_SEQUENCE,
    Fault,
    Message,
    decode_ack,
    headers_of,
    publish_head,
    publish_tail,
)
from services.log.port import Outcome

CHUNK_MAX = 256
"""Publishes handed to the connection at once."""
TICK_S = 0.1
"""How often overdue acknowledgements are looked for."""
SETTLING_MAX = 64
"""Entities read at once to settle ambiguous publishes."""

_log = structlog.get_logger(__name__)


class Tally:
    """What becomes of the entries of one append."""

    def __init__(self, count: int) -> None:
        self.outcomes: list[Outcome] = [0] * count
        self._left = count
        self._failure: LogUnavailable | None = None
        self._done = anyio.Event()

    def settle(self, place: int, outcome: Outcome) -> None:
        """Note what became of the entry at `place`."""
        self.outcomes[place] = outcome
        self._left -= 1
        if self._left == 0:
            self._done.set()

    def fail(self, reason: str) -> None:
        """Give up: the fate of some entries stays open."""
        if self._failure is None:
            self._failure = LogUnavailable(reason)
            self._done.set()

    @property
    def failed(self) -> bool:
        """Whether it was given up."""
        return self._failure is not None

    async def wait(self) -> list[Outcome]:
        """Return the outcomes once all are known. Raises LogUnavailable when it was given up."""
        await self._done.wait()
        if self._failure is not None:
            raise self._failure
        return self.outcomes


class _Flight:
    """One publish that is under way."""

    __slots__ = ("first_s", "generation", "message", "place", "sent_s", "tally", "tries", "wire")

    def __init__(self, message: Message, wire: bytes, place: int, tally: Tally) -> None:
        self.message = message
        self.wire = wire
        self.place = place
        self.tally = tally
        self.tries = 0
        self.generation = 0
        self.first_s = 0.0
        self.sent_s = 0.0


class Window:
    """A bounded number of publishes under way to one stream; `run` keeps it moving."""

    def __init__(self, connection: Connection, reader: Reader, settings: LogSettings) -> None:
        self._connection = connection
        self._reader = reader
        self._window = settings.window
        self._window_bytes = settings.window_bytes
        self._ack_timeout_s = settings.ack_timeout_s
        self._silence_s = settings.silence_s
        self._inbox = connection.inbox()
        self._token_at = len(self._inbox) + 1
        self._flights: dict[bytes, _Flight] = {}
        self._settling = 0
        self._bytes = 0
        self._count = 0
        self._room = anyio.Event()
        self._work = anyio.Event()
        self._heard_s = monotonic()
        self._limiter = anyio.CapacityLimiter(SETTLING_MAX)
        self._tasks: TaskGroup | None = None

    @property
    def in_flight(self) -> int:
        """Publishes that wait for their fate."""
        return len(self._flights) + self._settling

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Take acknowledgements and send again what is overdue, until canceled."""
        self._connection.on_up.append(self._resume)
        try:
            async with (
                self._connection.listen(self._inbox + ".*", self._on_reply),
                anyio.create_task_group() as self._tasks,
            ):
                task_status.started()
                await self._watch()
        finally:
            self._connection.on_up.remove(self._resume)

    async def publish(self, messages: Sequence[tuple[int, Message]], tally: Tally) -> None:
        """Send the messages as the window has room; their fates go into `tally`, by place.

        Raises LogUnavailable when there is no room because the log is silent for too long.
        """
        for start in range(0, len(messages), CHUNK_MAX):
            chunk = messages[start : start + CHUNK_MAX]
            await self._connection.ready(self._silence_s)
            await self._wait_for_room(sum(len(message.body) for _, message in chunk))
            if tally.failed:
                return
            self._depart(chunk, tally)

    async def _wait_for_room(self, size_bytes: int) -> None:
        while self._flights and (
            self.in_flight + CHUNK_MAX > self._window
            or self._bytes + size_bytes > self._window_bytes
        ):
            if monotonic() - self._heard_s > self._silence_s:
                raise LogUnavailable(f"no acknowledgement for {self._silence_s} s")
            self._room = anyio.Event()
            with anyio.move_on_after(TICK_S):
                await self._room.wait()

    def _depart(self, chunk: Sequence[tuple[int, Message]], tally: Tally) -> None:
        now_s = monotonic()
        if not self._flights:
            self._heard_s = now_s
        generation = self._connection.generation
        wires: list[bytes] = []
        for place, message in chunk:
            self._count += 1
            token = b"%x" % self._count
            head = publish_head(message.subject, f"{self._inbox}.")
            wire = head + token + publish_tail(headers_of(message), message.body)
            flight = _Flight(message, wire, place, tally)
            flight.tries = 1
            flight.generation = generation
            flight.first_s = flight.sent_s = now_s
            self._flights[token] = flight
            self._bytes += len(message.body)
            wires.append(wire)
        self._connection.send(b"".join(wires))
        self._work.set()

    def _on_reply(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        token = subject[self._token_at :]
        flight = self._flights.get(token)
        if flight is None or not body:
            # Settled by an earlier copy; or no stream took it for now, so it is sent again later.
            return
        ack = decode_ack(body)
        if ack.error is None:
            self._land(token, flight, ack.seq)
        else:
            self._refused(token, flight, ack.error)

    def _land(self, token: bytes, flight: _Flight, outcome: Outcome) -> None:
        del self._flights[token]
        self._bytes -= len(flight.message.body)
        self._heard_s = monotonic()
        flight.tally.settle(flight.place, outcome)
        if self.in_flight + CHUNK_MAX <= self._window:
            self._room.set()

    def _refused(self, token: bytes, flight: _Flight, fault: Fault) -> None:
        if fault.err_code == WRONG_LAST_SEQUENCE:
            conflict = fault.conflict(flight.message.subject)
            if flight.tries == 1:
                self._land(token, flight, conflict)
            else:
                self._settle_later(token, flight, conflict)
        elif fault.err_code == SUBJECT_IN_PROCESS or fault.err_code in LATER_MAY_DO:
            # The next tick sends it again: this was an answer, no silence.
            flight.sent_s = 0.0
        else:
            del self._flights[token]
            self._bytes -= len(flight.message.body)
            flight.tally.fail(f"{flight.message.subject}: refused: {fault.description}")

    def _settle_later(self, token: bytes, flight: _Flight, conflict: Conflict) -> None:
        assert self._tasks is not None
        del self._flights[token]
        self._settling += 1
        self._tasks.start_soon(self._settle, flight, conflict)

    async def _settle(self, flight: _Flight, conflict: Conflict) -> None:
        """Find out whether the event that broke our guard is ours."""
        try:
            async with self._limiter:
                seq = await self._reader.stored(flight.message)
            flight.tally.settle(flight.place, conflict if seq is None else seq)
        except LogUnavailable as error:
            flight.tally.fail(str(error))
        finally:
            self._settling -= 1
            self._bytes -= len(flight.message.body)
            self._room.set()

    async def _watch(self) -> None:
        while True:
            if not self._flights:
                self._work = anyio.Event()
                await self._work.wait()
            await anyio.sleep(TICK_S)
            self._give_up()
            self._resend(monotonic() - self._ack_timeout_s)

    def _resume(self) -> None:
        """Send again what went into a connection that is no more."""
        if self._connection.closed.is_set():
            self._fail_all("the connection to NATS is closed")
        else:
            self._resend(0.0)

    def _resend(self, sent_before_s: float) -> None:
        if not self._connection.connected:
            return
        generation = self._connection.generation
        overdue = [
            flight
            for flight in self._flights.values()
            if flight.generation != generation or flight.sent_s < sent_before_s
        ]
        if not overdue:
            return
        _log.info("log.resent", count=len(overdue))
        now_s = monotonic()
        for flight in overdue:
            flight.tries += 1
            flight.generation = generation
            flight.sent_s = now_s
        self._connection.send(b"".join(flight.wire for flight in overdue))

    def _give_up(self) -> None:
        oldest_s = monotonic() - self._silence_s
        lost = [
            token
            for token, flight in self._flights.items()
            if flight.first_s < oldest_s or flight.tally.failed
        ]
        for token in lost:
            flight = self._flights.pop(token)
            self._bytes -= len(flight.message.body)
            flight.tally.fail(
                f"{flight.message.subject}: no acknowledgement for {self._silence_s} s"
            )
        if lost:
            self._room.set()

    def _fail_all(self, reason: str) -> None:
        for flight in self._flights.values():
            flight.tally.fail(reason)
        self._flights.clear()
        self._bytes = 0
        self._room.set()
