"""Reading single entities: a whole one, or whether an event of ours is stored."""

import base64
from collections.abc import AsyncIterator
from typing import Literal

import anyio
import msgspec
from msgspec import Struct

from events.codec import Recorded, decode
from services.errors import LogUnavailable
from services.log.jetstream.connection import API_PREFIX, Connection
from services.log.jetstream.streams import stream_info
from services.log.jetstream.wire import (
    NO_SUCH_MESSAGE,
    Fault,
    Message,
    parse_headers,
    publish,
)
from services.log.port import Batch

BATCH_MAX = 1_000
"""Events asked for in one direct get."""
ATTEMPTS_MAX = 20
ATTEMPT_S = 1.0
"""A read is tried again after this; lost connections are waited for."""


class _Stored(Struct, frozen=True):
    seq: int
    subject: str
    data: str = ""
    """Base64."""


class _Answer(Struct, frozen=True):
    message: _Stored | None = None
    error: Fault | None = None


class _Page:
    """The messages that answer one direct get, until the server says it was all."""

    def __init__(self) -> None:
        self.events: Batch = []
        self.pending = 0
        self.problem: str | None = None
        self.done = anyio.Event()

    def take(self, _subject: bytes, _reply: bytes, body: bytes, block: bytes | None) -> None:
        headers = parse_headers(block)
        match headers.get("status"):
            case None:
                seq, subject = int(headers["nats-sequence"]), headers["nats-subject"]
                self.events.append(decode(seq, subject, body))
            case "204":
                self.pending = int(headers.get("nats-num-pending", "0"))
                self.done.set()
            case "404":
                self.done.set()
            case status:
                self.problem = f"{status} {headers.get('description', '')}"
                self.done.set()


class Reader:
    """Reads from one stream.

    `from`: one server's direct get sees every write that was acknowledged; on a cluster any replica
    may answer it, so there the leader is asked, message by message.
    """

    def __init__(
        self, connection: Connection, stream: str, *, of: Literal["any", "leader"] = "any"
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._of = of

    async def last_seq(self) -> int:
        """Return the sequence of the stream's last message; 0: it is empty."""
        info = await stream_info(self._connection, self._stream)
        if info.error is not None:
            raise LogUnavailable(f"{self._stream}: {info.error.description}")
        return info.state.last_seq

    async def read(self, subject: str, after: int) -> Batch:
        """Return the events of `subject` above `after`, in order."""
        if self._of == "leader":
            return [each async for each in self._one_by_one(subject, after)]
        events: Batch = []
        while True:
            page = await self._page(subject, events[-1].seq if events else after)
            events += page.events
            if not page.pending or not page.events:
                return events

    async def stored(self, message: Message) -> int | None:
        """Return where a guarded `message` is stored; None: it is not.

        The event behind its expectation is either ours or the one that beat us.
        """
        assert message.expected is not None, "only a guard can be ambiguous"
        found = await self._next(message.subject, message.expected)
        if found is None:
            return None
        event = decode(found.seq, found.subject, base64.b64decode(found.data))
        return found.seq if event.id == message.id else None

    async def last_of(self, subject: str) -> int:
        """Return the last sequence on `subject`; 0: it has none."""
        found = await self._get({"last_by_subj": subject})
        return 0 if found is None else found.seq

    async def _one_by_one(self, subject: str, after: int) -> AsyncIterator[Recorded]:
        while (found := await self._next(subject, after)) is not None:
            yield decode(found.seq, found.subject, base64.b64decode(found.data))
            after = found.seq

    async def _next(self, subject: str, after: int) -> _Stored | None:
        return await self._get({"seq": after + 1, "next_by_subj": subject})

    async def _get(self, query: dict[str, object]) -> _Stored | None:
        """Ask the leader for one message; tried again while the log is silent."""
        problem = ""
        for _ in range(ATTEMPTS_MAX):
            try:
                answer = await self._connection.api(
                    f"STREAM.MSG.GET.{self._stream}", query, _Answer, timeout_s=ATTEMPT_S
                )
            except LogUnavailable as error:
                problem = str(error)
                await anyio.sleep(ATTEMPT_S / 10)
                continue
            if answer.error is None:
                return answer.message
            if answer.error.err_code == NO_SUCH_MESSAGE:
                return None
            problem = answer.error.description
            await anyio.sleep(ATTEMPT_S / 10)
        raise LogUnavailable(f"{self._stream}: cannot read: {problem}")

    async def _page(self, subject: str, after: int) -> _Page:
        query = {"seq": after + 1, "next_by_subj": subject, "batch": BATCH_MAX}
        body = msgspec.json.encode(query)
        problem = "no answer"
        for _ in range(ATTEMPTS_MAX):
            page = _Page()
            inbox = self._connection.inbox()
            await self._connection.ready(ATTEMPTS_MAX * ATTEMPT_S)
            async with self._connection.listen(inbox, page.take):
                target = f"{API_PREFIX}DIRECT.GET.{self._stream}"
                self._connection.send(publish(target, body, reply=inbox))
                with anyio.move_on_after(ATTEMPT_S):
                    await page.done.wait()
            if page.done.is_set() and page.problem is None:
                return page
            problem = page.problem or problem
            if page.done.is_set():
                await anyio.sleep(ATTEMPT_S / 10)
        raise LogUnavailable(f"{self._stream}: cannot read {subject}: {problem}")
