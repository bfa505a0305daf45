"""Atomic batches: what must be all or none, and the group commit that makes fsync affordable.

One batch is under way at a time; what is asked for meanwhile goes together into the next one. The
server stages a batch on disk and stores it at one go, so a batch of 1,000 costs hardly more than
one of 2. When the server refuses a batch because of one entry, it is split in halves until that
entry's unit is alone.
"""

from collections import deque
from collections.abc import Sequence
from time import monotonic

import anyio
import structlog
from anyio.abc import TaskStatus
from msgspec import Struct

from services.errors import Conflict, LogUnavailable
from services.log.jetstream.connection import Connection
from services.log.jetstream.reads import Reader
from services.log.jetstream.streams import LogSettings
from services.log.jetstream.wire import (
    BATCH_HAS_DUPLICATE,
    LATER_MAY_DO,
    SUBJECT_IN_PROCESS,
    WRONG_LAST_SEQUENCE,
    Fault,
    Message,
    PubAck,
    batch_member,
    decode_ack,
)
from services.log.jetstream.writer import Tally, Window
from services.log.port import ATOMIC_ENTRIES_MAX, Outcome

BATCH_BYTES_MAX = 8 * 2**20
WAITING_MAX = 20_000
"""Entries that may wait for the next batches; further appends wait outside."""
RETRY_WAIT_S = 0.05

_log = structlog.get_logger(__name__)


class Unit(Struct, frozen=True, eq=False):
    """Messages that belong together: all stored or none; their places in the append's tally."""

    messages: Sequence[tuple[int, Message]]
    tally: Tally

    @property
    def size_bytes(self) -> int:
        """Bytes of all bodies."""
        return sum(len(message.body) for _, message in self.messages)

    def settle(self, first_seq: int) -> None:
        """Note that the messages are stored from `first_seq` on, without holes."""
        for offset, (place, _) in enumerate(self.messages):
            self.tally.settle(place, first_seq + offset)

    def lose(self, conflict: Conflict) -> None:
        """Note that all messages lost the race."""
        for place, _ in self.messages:
            self.tally.settle(place, conflict)


class Batches:
    """The queue of units and the one batch that is under way; `run` keeps it moving."""

    def __init__(
        self, connection: Connection, reader: Reader, window: Window, settings: LogSettings
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._window = window
        self._ack_timeout_s = 2 * settings.ack_timeout_s
        self._silence_s = settings.silence_s
        self._units: deque[Unit] = deque()
        self._waiting = 0
        self._changed = anyio.Event()
        self._inbox = connection.inbox()
        self._commit_token = b""
        self._ack: PubAck | None = None
        self._answered = anyio.Event()

    async def submit(self, units: Sequence[Unit]) -> None:
        """Queue the units; their fates go into their tallies. Waits while the queue is full."""
        for unit in units:
            while self._waiting >= WAITING_MAX and not unit.tally.failed:
                await self._changed.wait()
            self._waiting += len(unit.messages)
            self._units.append(unit)
            self._tell()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Store what is queued, batch after batch, until canceled."""
        self._connection.on_up.append(self._interrupt)
        try:
            async with self._connection.listen(self._inbox + ".*", self._on_reply):
                task_status.started()
                while True:
                    while not self._units:
                        await self._changed.wait()
                    await self._store(self._take())
        finally:
            self._connection.on_up.remove(self._interrupt)

    def _take(self) -> list[Unit]:
        """Take as many units as fit into one batch: a guard must be the first on its subject."""
        taken: list[Unit] = []
        subjects: set[str] = set()
        count = size_bytes = 0
        while self._units:
            unit = self._units[0]
            count += len(unit.messages)
            size_bytes += unit.size_bytes
            late_guard = any(
                message.expected is not None and message.subject in subjects
                for _, message in unit.messages
            )
            full = count > ATOMIC_ENTRIES_MAX or size_bytes > BATCH_BYTES_MAX
            if taken and (full or late_guard):
                break
            subjects.update(message.subject for _, message in unit.messages)
            taken.append(self._units.popleft())
            self._waiting -= len(unit.messages)
        self._tell()
        return taken

    async def _store(self, units: list[Unit]) -> None:
        stack = [units]
        while stack:
            part = stack.pop()
            try:
                refused = await self._try(part)
            except LogUnavailable as error:
                for unit in part:
                    unit.tally.fail(str(error))
                continue
            if refused is None:
                continue
            if len(part) == 1:
                await self._lose(part[0], refused)
            else:
                _log.debug("log.batch_split", units=len(part), reason=refused.description)
                middle = len(part) // 2
                stack += [part[middle:], part[:middle]]

    async def _try(self, units: list[Unit]) -> Fault | None:
        """Store the units as one batch; return the refusal that concerns one of them."""
        messages = [message for unit in units for _, message in unit.messages]
        if len(messages) == 1:
            await self._alone(units[0])
            return None
        result = await self._commit(messages)
        if isinstance(result, Fault):
            return result
        first = result
        for unit in units:
            unit.settle(first)
            first += len(unit.messages)
        return None

    async def _alone(self, unit: Unit) -> None:
        """Store a unit of one as a plain publish, which a batch of one would cost more than."""
        place, message = unit.messages[0]
        unit.tally.settle(place, await self._publish(message))

    async def _publish(self, message: Message) -> Outcome:
        tally = Tally(1)
        await self._window.publish([(0, message)], tally)
        return (await tally.wait())[0]

    async def _lose(self, unit: Unit, refused: Fault) -> None:
        if refused.err_code == BATCH_HAS_DUPLICATE:
            # All of it is stored already. Published again its last entry tells where.
            last = await self._publish(unit.messages[-1][1])
            assert isinstance(last, int), "an entry with a message id has no guard"
            unit.settle(last - len(unit.messages) + 1)
            return
        unit.lose(await self._conflict(unit, refused))

    async def _conflict(self, unit: Unit, refused: Fault) -> Conflict:
        """Return the race that was lost: the refusal does not say on which subject."""
        guarded = [message for _, message in unit.messages if message.expected is not None]
        if len(guarded) > 1:
            for message in guarded:
                current = await self._reader.last_of(message.subject)
                if current != message.expected:
                    return Conflict(message.subject, current)
        return refused.conflict(guarded[0].subject)

    async def _commit(self, messages: list[Message]) -> int | Fault:
        """Return the sequence of the first message, or why none is stored.

        Raises LogUnavailable when it stays unclear for too long.
        """
        give_up_s = monotonic() + self._silence_s
        ambiguous = False
        problem = "no answer"
        while monotonic() < give_up_s:
            await self._connection.ready(self._silence_s)
            ack = await self._send(messages)
            if ack is None:
                ambiguous = True
                continue
            if ack.error is None:
                return ack.seq - len(messages) + 1
            if ack.error.err_code in (WRONG_LAST_SEQUENCE, BATCH_HAS_DUPLICATE):
                first = await self._find(messages) if ambiguous else None
                return ack.error if first is None else first
            if ack.error.err_code != SUBJECT_IN_PROCESS and (
                ack.error.err_code not in LATER_MAY_DO
            ):
                raise LogUnavailable(f"the log refuses a batch: {ack.error.description}")
            problem = ack.error.description
            await anyio.sleep(RETRY_WAIT_S)
        raise LogUnavailable(f"no batch was stored for {self._silence_s} s: {problem}")

    async def _find(self, messages: list[Message]) -> int | None:
        """Return where the batch begins if an earlier try stored it: one entry tells for all."""
        for offset, message in enumerate(messages):
            if message.expected is not None:
                seq = await self._reader.stored(message)
                return None if seq is None else seq - offset
        return None

    async def _send(self, messages: list[Message]) -> PubAck | None:
        """Send one batch; return its answer, None: there was none, it may be stored or not."""
        batch = self._connection.unique()
        self._commit_token = batch.encode()
        self._ack = None
        self._answered = anyio.Event()
        last = len(messages)
        wire = b"".join(
            batch_member(
                message,
                batch=batch,
                number=number,
                commit_reply=f"{self._inbox}.{batch}" if number == last else None,
            )
            for number, message in enumerate(messages, 1)
        )
        if self._connection.send(wire):
            with anyio.move_on_after(self._ack_timeout_s):
                await self._answered.wait()
        return self._ack

    def _on_reply(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        if body and subject.endswith(self._commit_token):
            self._ack = decode_ack(body)
            self._answered.set()

    def _interrupt(self) -> None:
        """Stop waiting for an answer that a lost connection has swallowed."""
        self._answered.set()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
