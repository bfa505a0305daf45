"""One connection to NATS: reconnects for ever, says when it was away, buffers nothing meanwhile.

This is the only module that touches the client library's inside, for three reasons that are worth
it (measured with 100-byte facts): a message is handed to a plain function instead of being parsed,
queued and passed to a task (2 to 3 times the rate), a chunk of publishes is one write, and what was
not yet written when a connection broke is dropped instead of being sent late behind our back.
"""

import secrets
from asyncio import Future
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

import anyio
import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from services.errors import ConfigurationError, LogUnavailable
from services.log.jetstream.wire import parse_headers, publish

RECONNECT_WAIT_S = 0.1
PING_INTERVAL_S = 2
PINGS_OUTSTANDING_MAX = 2
"""A peer that is silent for 4 to 6 s is gone: half-open connections are noticed then."""
CONNECT_TIMEOUT_S = 2
FAREWELL_S = 1.0
"""How long the server is told of what ends here: it hears nothing if the connection just broke."""
API_PREFIX = "$JS.API."
SCHEMES = ("nats", "tls", "ws", "wss")

OnMessage: TypeAlias = Callable[[bytes, bytes, bytes, bytes | None], None]
"""Takes subject, reply subject, body and header block of one message; must not block."""

_NO_RESPONDERS = "503"
"""Status of the server's own answer to a request on a subject that nobody listens to."""

_Answer = TypeVar("_Answer")
_Reply: TypeAlias = tuple[bytes, bytes | None]
"""Body and header block."""
_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class _RawClient(Client):
    """The library's client, with a short way for messages of chosen subscriptions."""

    def __init__(self) -> None:
        super().__init__()
        self.raw_handlers: dict[int, OnMessage] = {}

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        handler = self.raw_handlers.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            handler(subject, reply, data, headers)

    def send_raw(self, wire: bytes) -> bool:
        if not self._pending and self._transport is not None:
            try:
                self._transport.write(wire)  # nothing is before it: no need to wake the flusher
            except RuntimeError:  # uvloop's word for a socket that is closed, as we will be told
                return False
            return True
        self._pending.append(wire)
        self._pending_data_size += len(wire)
        queue = self._flush_queue
        if queue is not None and queue.empty():
            queue.put_nowait(Future())
        return True

    def forget_unsent(self) -> None:
        self._pending.clear()
        self._pending_data_size = 0

    async def close_transport(self) -> None:
        # A first connection that was given up half-way counts as closed, with its socket open.
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call] # theirs to annotate
            with suppress(OSError):
                await self._transport.wait_closed()  # type: ignore[no-untyped-call] # same

    async def subscribe_raw(self, subject: str) -> tuple[Subscription, int]:
        # Its parameter `future` is not fully typed.
        subscription = await self.subscribe(subject)  # pyright: ignore[reportUnknownMemberType]
        return subscription, self.sid_of(subject)

    def sid_of(self, subject: str) -> int:
        return max(sid for sid, each in self._subs.items() if each.subject == subject)


class Connection:
    """What the adapters need of NATS; made by `connect`."""

    def __init__(self, client: _RawClient) -> None:
        self._client = client
        self._token = secrets.token_hex(8)
        self._count = 0
        self._asked: dict[bytes, Future[_Reply]] = {}
        self._answers = f"_INBOX.{self._token}.answers."
        self._up = anyio.Event()
        self._leaving = False
        self.generation = 0
        """Grows with each loss of the connection: what was sent in an older one may be lost."""
        self.up_since_s: float | None = None
        """Since when it is up, in seconds of the event loop; None: it is down."""
        self.closed = anyio.Event()
        """The connection is closed for good, by us or by an error of the server."""
        self.on_up: list[Callable[[], None]] = []
        """Called after each reconnect and when the connection is closed for good."""

    @property
    def client(self) -> Client:
        """The library's client, for what it does well: services."""
        return self._client

    @property
    def connected(self) -> bool:
        """Whether bytes sent now have a chance to arrive."""
        return self._client.is_connected

    @property
    def payload_bytes_max(self) -> int:
        """Largest message the server takes, headers included."""
        return self._client.max_payload

    def unique(self) -> str:
        """Return a token that nobody else uses."""
        self._count += 1
        return f"{self._token}{self._count:x}"

    def send(self, wire: bytes) -> bool:
        """Hand complete protocol messages to the connection; False: it is down, nothing happens."""
        if not self._client.is_connected:
            return False
        return self._client.send_raw(wire)

    @contextmanager
    def taking_over(self, subject: str, on_message: OnMessage) -> Generator[None]:
        """Call `on_message` for the messages of the library's newest subscription on `subject`."""
        sid = self._client.sid_of(subject)
        self._client.raw_handlers[sid] = on_message
        try:
            yield
        finally:
            del self._client.raw_handlers[sid]

    @asynccontextmanager
    async def listen(self, subject: str, on_message: OnMessage) -> AsyncGenerator[None]:
        """Call `on_message` for each message on `subject` while the context lasts."""
        try:
            subscription, sid = await self._client.subscribe_raw(subject)
        except nats.errors.Error as error:
            raise LogUnavailable(f"{subject}: cannot subscribe: {error}") from error
        self._client.raw_handlers[sid] = on_message
        try:
            yield
        finally:
            del self._client.raw_handlers[sid]
            if not self._client.is_closed:
                with anyio.move_on_after(FAREWELL_S, shield=True):
                    await subscription.unsubscribe()

    def inbox(self) -> str:
        """Return a fresh subject for replies."""
        return f"_INBOX.{self.unique()}"

    async def ready(self, timeout_s: float) -> None:
        """Wait until the connection is up; raises LogUnavailable when it takes longer."""
        with anyio.move_on_after(timeout_s):
            while not self._client.is_connected and not self.closed.is_set():
                await self._up.wait()
        if not self._client.is_connected:
            raise LogUnavailable(f"no connection to NATS for {timeout_s} s")

    @asynccontextmanager
    async def taking_answers(self) -> AsyncGenerator[None]:
        """Let `ask` work while the context lasts."""
        async with self.listen(self._answers + "*", self._on_answer):
            yield

    async def ask(
        self,
        subject: str,
        body: bytes,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers, by lower-case name, of the answer.

        Raises LogUnavailable when there is none.
        """
        await self.ready(timeout_s)
        if len(body) > self.payload_bytes_max:
            raise LogUnavailable(
                f"{subject}: given: {len(body)} bytes; allowed: {self.payload_bytes_max}"
            )
        reply = self._answers + self.unique()
        token = reply.encode()
        answer: Future[_Reply] = Future()
        self._asked[token] = answer
        try:
            if not self._client.send_raw(publish(subject, body, reply=reply, headers=headers)):
                raise LogUnavailable(f"{subject}: the connection to NATS is broken")
            with anyio.fail_after(timeout_s):
                data, block = await answer
        except TimeoutError as error:
            raise LogUnavailable(f"{subject}: no answer within {timeout_s} s") from error
        finally:
            del self._asked[token]
        found = parse_headers(block)
        if found.get("status") == _NO_RESPONDERS:
            raise LogUnavailable(f"{subject}: nobody answers on this subject")
        return data, found

    def _on_answer(self, subject: bytes, _reply: bytes, body: bytes, block: bytes | None) -> None:
        answer = self._asked.get(subject)
        if answer is not None and not answer.done():
            answer.set_result((body, block))

    async def api(
        self, verb: str, request: object, answer: type[_Answer], *, timeout_s: float = 5.0
    ) -> _Answer:
        """Ask JetStream; refusals come as a value, in the answer's `error`."""
        body = b"" if request is None else _encode(request)
        data, _ = await self.ask(API_PREFIX + verb, body, timeout_s=timeout_s)
        return msgspec.json.decode(data, type=answer)

    async def leave(self) -> None:
        """Close the connection for good."""
        self._leaving = True
        with suppress(RuntimeError):  # uvloop's word for a socket that is closed already
            await self._client.close()
        await self._client.close_transport()

    async def lost(self) -> None:
        """Note that the connection broke."""
        self.generation += 1
        self.up_since_s = None
        self._up = anyio.Event()
        self._client.forget_unsent()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(LogUnavailable("the connection to NATS broke while waiting"))
        if not self._leaving:
            _log.warning("nats.disconnected")

    async def restored(self) -> None:
        """Note that the connection is back."""
        self.up_since_s = anyio.current_time()
        _log.info("nats.reconnected")
        self._tell()

    async def ended(self) -> None:
        """Note that the connection is closed for good."""
        self.closed.set()
        self._tell()

    def _tell(self) -> None:
        self._up.set()
        for hook in list(self.on_up):
            hook()


@asynccontextmanager
async def connect(url: str, *, name: str, wait_s: float = 10.0) -> AsyncGenerator[Connection]:
    """Connect as `name` and stay connected while the context lasts.

    Raises LogUnavailable when no server answers within `wait_s`, ConfigurationError when `url` is
    none or the server refuses these credentials.
    """
    _check(url)
    client = _RawClient()
    connection = Connection(client)
    try:
        await _first_connect(connection, client, url, name, wait_s=wait_s)
        async with connection.taking_answers():
            yield connection
    finally:
        with anyio.CancelScope(shield=True):
            await connection.leave()


def _check(url: str) -> None:
    parts = urlsplit(url)
    try:
        good = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # what `port` says to one that is no port
        good = False
    if not good:
        shown = url.rsplit("@", 1)[-1]
        raise ConfigurationError(
            f"{shown!r} is no URL of a NATS server; allowed: nats://USER:PASSWORD@HOST:PORT, "
            f"with one of {', '.join(SCHEMES)}"
        )


async def _first_connect(
    connection: Connection, client: _RawClient, url: str, name: str, *, wait_s: float
) -> None:
    last_error = ""
    refused = False

    async def report(error: Exception) -> None:
        nonlocal last_error, refused
        last_error = str(error) or repr(error)
        _log.debug("nats.error", error=last_error)
        if "authorization" in last_error.lower() and not client.is_reconnecting:
            refused = True
            scope.cancel()

    with anyio.move_on_after(wait_s) as scope:
        await client.connect(
            url,
            name=name,
            connect_timeout=CONNECT_TIMEOUT_S,
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type] # fractions work
            max_reconnect_attempts=-1,
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=PINGS_OUTSTANDING_MAX,
            pending_size=0,
            error_cb=report,
            disconnected_cb=connection.lost,
            reconnected_cb=connection.restored,
            closed_cb=connection.ended,
        )
    if client.is_connected:
        connection.up_since_s = anyio.current_time()
        return
    where = url.rsplit("@", 1)[-1]
    if refused:
        raise ConfigurationError(
            f"{where} refuses these credentials; check the URL's user:password"
        )
    raise LogUnavailable(f"{where}: no NATS server within {wait_s} s; last error: {last_error}")
