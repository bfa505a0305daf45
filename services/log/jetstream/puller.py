"""The pull loop: how events come out of a stream, fast, in order and across restarts.

Two pulls overlap, so the server always has something to answer; one who lingers asks with one pull
for all there is, and rests when that was all. Deliveries land in a buffer by
plain function calls; whoever follows takes all of it at once. A follower acknowledges nothing: its
consumer is made anew behind the last event it took whenever the connection was lost, heartbeats
are missing, or a delivery is. An inbox keeps its durable consumer and acknowledges each command.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from time import monotonic
from typing import TypeAlias

import anyio
import msgspec
import structlog
from msgspec import Struct

from events.codec import decode
from services.errors import LogUnavailable, SequenceGap
from services.log.jetstream.connection import API_PREFIX, Connection
from services.log.jetstream.streams import StreamState, stream_info
from services.log.jetstream.wire import Fault, delivery_of, parse_headers, publish
from services.log.port import Batch

PULL_MAX = 1_000
"""Messages asked for by one pull; two are under way."""
BUFFER_MAX = 4 * PULL_MAX
"""Messages waiting for the follower beyond which it pulls no more."""
HEARTBEAT_S = 1.0
MISSED_S = 2.5 * HEARTBEAT_S
"""Silence after which a pull counts as lost."""
PULL_EXPIRES_S = 30.0
IDLE_CONSUMER_S = 60.0
"""The server forgets a consumer that nobody pulls from for so long."""
RETRY_WAIT_S = 0.1
REFUSED_S_MAX = 30.0
"""How long a connected server may refuse a consumer before the follower gives up."""

_NO_MESSAGES = "404"
"""Status with which a pull that was not to wait ends: that was all."""
_NS = 1_000_000_000
_log = structlog.get_logger(__name__)

Raw: TypeAlias = tuple[bytes, bytes, bytes, bytes | None]
"""Subject, reply subject, body and header block of one delivery."""


class Opened(Struct, frozen=True):
    """A consumer to pull from, as the server describes it, or why there is none."""

    name: str = ""
    num_pending: int = 0
    error: Fault | None = None


class Pull:
    """Deliveries of one consumer, which `reopen` makes or finds: a buffer that refills itself."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        reopen: Callable[[], Awaitable[Opened]],
        *,
        keeps: bool = False,
        linger_s: float = 0.0,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._reopen = reopen
        self._keeps = keeps
        self._linger_s = linger_s
        self._had_all = False
        """The last pull of one who lingers ended because there was no more."""
        self._buffer: list[Raw] = []
        self._ready = anyio.Event()
        self._under_way = 0
        self._heard_s = 0.0
        self._stale = True
        self._incarnation = 0
        self._listening = AsyncExitStack()
        self._request = b""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Take deliveries while the context lasts."""
        self._connection.on_up.append(self.renew)
        try:
            yield
        finally:
            self._connection.on_up.remove(self.renew)
            await self._listening.aclose()

    def renew(self) -> None:
        """Open the consumer again before anything else is taken."""
        self._stale = True
        self._ready.set()

    async def take(self) -> list[Raw]:
        """Return all deliveries that wait, once there are any.

        Empty: the consumer was opened anew. Raises LogUnavailable when the connection is closed or
        the server refuses a consumer for `REFUSED_S_MAX`.
        """
        if self._stale:
            await self._open()
            return []
        while not self._buffer:
            await self._rest()
            if self._stale:
                return []
            self._refill()
            self._ready = anyio.Event()
            with anyio.move_on_after(MISSED_S):
                await self._ready.wait()
            if self._stale or monotonic() - self._heard_s > MISSED_S:
                self._stale = True
                return []
        taken, self._buffer = self._buffer, []
        if not self._linger_s:
            self._refill()
        return taken

    async def _rest(self) -> None:
        """Let events come together, if one who lingers has all there was."""
        if self._had_all:
            self._had_all = False
            await anyio.sleep(self._linger_s)

    async def _open(self) -> None:
        refused_s = 0.0
        while self._stale:
            await self._wait_until_connected()
            self._stale = False
            began_s = monotonic()
            try:
                opened = await self._reopen()
                problem = opened.error.description if opened.error else ""
                if not problem:
                    await self._begin(opened.name)
                    continue
            except LogUnavailable as error:
                problem = str(error)
            self._stale = True
            await anyio.sleep(RETRY_WAIT_S)
            refused_s += monotonic() - began_s if self._connection.connected else 0.0
            if refused_s > REFUSED_S_MAX:
                raise LogUnavailable(f"{self._stream}: no consumer: {problem}")

    async def _wait_until_connected(self) -> None:
        while not self._connection.connected:
            if self._connection.closed.is_set():
                raise LogUnavailable(f"{self._stream}: the connection to NATS is closed")
            self._ready = anyio.Event()
            with anyio.move_on_after(MISSED_S):
                await self._ready.wait()

    async def _begin(self, consumer: str) -> None:
        await self._listening.aclose()
        inbox = self._connection.inbox()
        self._incarnation += 1
        if not self._keeps:
            self._buffer = []
        self._under_way = 0
        self._had_all = False
        await self._listening.enter_async_context(
            self._connection.listen(inbox, partial(self._on_message, self._incarnation))
        )
        body = msgspec.json.encode(
            {
                "batch": PULL_MAX,
                "expires": round(PULL_EXPIRES_S * _NS),
                "idle_heartbeat": round(HEARTBEAT_S * _NS),
                "no_wait": bool(self._linger_s),
            }
        )
        target = f"{API_PREFIX}CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        self._request = publish(target, body, reply=inbox)

    def _refill(self) -> None:
        most = 0 if self._linger_s else PULL_MAX
        while self._under_way <= most and len(self._buffer) < BUFFER_MAX and not self._stale:
            if not self._connection.send(self._request):
                return
            if self._under_way <= 0:
                self._under_way = 0
                self._heard_s = monotonic()
            self._under_way += PULL_MAX

    def _on_message(
        self, incarnation: int, subject: bytes, reply: bytes, body: bytes, block: bytes | None
    ) -> None:
        if incarnation != self._incarnation:
            return
        self._heard_s = monotonic()
        if reply:
            self._under_way -= 1
            if not self._buffer and not self._linger_s:
                self._ready.set()
            self._buffer.append((subject, reply, body, block))
        else:
            self._on_notice(parse_headers(block))
        if self._linger_s:
            self._ends_together()
        elif self._under_way <= PULL_MAX:
            self._refill()

    def _ends_together(self) -> None:
        """Hand over what one pull has brought, all at once."""
        if self._under_way <= 0:
            self._ready.set()

    def _on_notice(self, headers: dict[str, str]) -> None:
        status, description = headers.get("status"), headers.get("description", "")
        if status == "100":
            return
        if status == "503" or "Deleted" in description:
            _log.debug("log.consumer_gone", stream=self._stream, reason=description)
            self.renew()
            return
        if status == _NO_MESSAGES:
            self._under_way = 0
            self._had_all = True
            return
        self._under_way -= int(headers.get("nats-pending-messages", PULL_MAX))


class Follow(Struct, frozen=True, kw_only=True):
    """What a follower wants of a stream."""

    stream: str
    after: int
    filters: tuple[str, ...]
    live: bool
    linger_s: float
    hole_free: bool
    batch_max: int


class _Follower:
    """Where one follower stands."""

    def __init__(self, connection: Connection, wish: Follow) -> None:
        self._connection = connection
        self._wish = wish
        self._contiguous = wish.hole_free and not wish.filters
        self._position = wish.after
        self._until: int | None = None
        self._delivered = 0
        self._hole = 0
        self._pending = 0
        self._consumer = ""
        self._pull = Pull(connection, wish.stream, self._reopen, linger_s=wish.linger_s)

    async def batches(self) -> AsyncGenerator[Batch]:
        async with self._pull.running():
            try:
                while not self._finished():
                    batch = self._accept(await self._pull.take())
                    for start in range(0, len(batch), self._wish.batch_max):
                        yield batch[start : start + self._wish.batch_max]
            finally:
                self._forget()

    def _finished(self) -> bool:
        """Tell whether a follower that is not live has everything up to where it began."""
        if self._wish.live or self._until is None:
            return False
        return self._position >= self._until or self._pending == 0

    async def _reopen(self) -> Opened:
        info = await stream_info(self._connection, self._wish.stream)
        if info.error is not None:
            return Opened(error=info.error)
        self._check(info.state)
        if self._until is None:
            self._until = info.state.last_seq
        self._forget()
        name = f"follow-{self._connection.unique()}"
        opened = await self._connection.api(
            f"CONSUMER.CREATE.{self._wish.stream}.{name}", self._config(name), Opened
        )
        self._consumer = name
        self._delivered = 0
        self._pending = opened.num_pending
        return opened

    def _check(self, state: StreamState) -> None:
        if state.last_seq < self._position:
            raise SequenceGap(self._wish.stream, state.last_seq + 1, self._position)
        if self._contiguous and state.first_seq > self._position + 1:
            raise SequenceGap(self._wish.stream, self._position + 1, state.first_seq - 1)

    def _config(self, name: str) -> dict[str, object]:
        config: dict[str, object] = {
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._position + 1,
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": round(IDLE_CONSUMER_S * _NS),
        }
        if self._wish.filters:
            config["filter_subjects"] = list(self._wish.filters)
        return {"stream_name": self._wish.stream, "config": config, "action": "create"}

    def _accept(self, raws: list[Raw]) -> Batch:
        """Decode what follows on the position; anything else is asked for again."""
        batch: Batch = []
        until = None if self._wish.live else self._until
        for subject, reply, body, _ in raws:
            seq, delivered, self._pending = delivery_of(reply)
            self._delivered += 1
            if delivered != self._delivered or (self._contiguous and seq != self._position + 1):
                self._lose(seq)
                break
            self._position = seq
            if until is not None and seq > until:
                break
            batch.append(decode(seq, subject.decode("utf-8", "replace"), body))
        return batch

    def _lose(self, seq: int) -> None:
        """Ask again for what is missing; a hole that is still there then is one of the store."""
        _log.warning("log.delivery_gap", after=self._position, got=seq)
        if self._contiguous and self._hole == self._position + 1 < seq:
            raise SequenceGap(self._wish.stream, self._hole, seq - 1)
        self._hole = self._position + 1
        self._pull.renew()

    def _forget(self) -> None:
        """Delete the consumer without waiting: the server would do so after `IDLE_CONSUMER_S`."""
        if self._consumer:
            target = f"{API_PREFIX}CONSUMER.DELETE.{self._wish.stream}.{self._consumer}"
            self._connection.send(publish(target, b""))
            self._consumer = ""


@asynccontextmanager
async def follow(connection: Connection, wish: Follow) -> AsyncGenerator[AsyncIterator[Batch]]:
    """Iterate over batches as the port's `follow` promises."""
    async with aclosing(_Follower(connection, wish).batches()) as batches:
        yield batches
