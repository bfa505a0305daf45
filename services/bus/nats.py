"""The bus on NATS: requests, micro services, and the work queue of durable commands."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import anyio
import nats.errors
import nats.micro
import structlog
from anyio.abc import TaskGroup
from nats.micro.request import Request as ServiceRequest
from nats.micro.service import EndpointConfig, ServiceConfig

from events.subjects import Filter, Subject
from services.background import background
from services.bus.answering import INTERNAL_ERROR, Answer, answer
from services.bus.listening import Mailbox
from services.bus.port import BACKLOG_MAX, Command, Handler, Message, Request
from services.errors import LogUnavailable
from services.log.jetstream.connection import FAREWELL_S, Connection
from services.log.jetstream.puller import Opened, Pull, Raw
from services.log.jetstream.streams import COMMANDS
from services.log.jetstream.wire import delivery_of, parse_headers, publish, times_of

SERVICE_VERSION = "1.0.0"
"""Version of the request vocabulary, as `nats micro info` shows it."""
CONSUMER = "ffrtmp-intake"
BATCH_MAX = 500
"""Most commands handed over at once."""
ACK_WAIT_S = 5.0
"""A command that is not acknowledged within this comes again."""
WAITING_MAX = 10_000
"""Requests that wait for their turn to be answered beyond which new ones are refused."""
UNACKNOWLEDGED_MAX = 10_000
"""Commands handed out and not acknowledged beyond which no more come."""

_MESSAGE_ID = "Nats-Msg-Id"
_TRACEPARENT = "traceparent"
_ERROR = "Nats-Service-Error"
_ERROR_CODE = "Nats-Service-Error-Code"
_NS = 1_000_000_000
_log = structlog.get_logger(__name__)


class NatsBus:
    """A `Bus` on one NATS connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def request(
        self,
        subject: str,
        body: bytes,
        *,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the answer to `body`; see the port."""
        reply, reply_headers = await self._connection.ask(
            subject, body, timeout_s=timeout_s, headers=headers
        )
        error = reply_headers.get(_ERROR.lower())
        if error is not None:
            raise LogUnavailable(f"{subject}: {error}")
        return reply

    @asynccontextmanager
    async def serve(
        self, name: str, endpoints: Mapping[Subject, Handler], *, concurrency_max: int = 256
    ) -> AsyncGenerator[None]:
        """Answer requests on these subjects as a NATS micro service; see the port."""
        limiter = anyio.CapacityLimiter(concurrency_max)
        async with background() as tasks, AsyncExitStack() as stack:
            service = await nats.micro.add_service(  # pyright: ignore[reportUnknownMemberType] # its **kwargs
                self._connection.client, ServiceConfig(name=name, version=SERVICE_VERSION)
            )
            try:
                for subject, handler in endpoints.items():
                    served = _Endpoint(self._connection, handler, tasks, limiter)
                    await service.add_endpoint(
                        EndpointConfig(
                            name=subject.replace(".", "-"), subject=subject, handler=_taken_over
                        )
                    )
                    stack.enter_context(self._connection.taking_over(subject, served.take))
                yield
            finally:
                with anyio.move_on_after(FAREWELL_S, shield=True):
                    if self._connection.connected:
                        await service.stop()

    @property
    def up_since_s(self) -> float | None:
        """Since when messages get through; see the port."""
        return self._connection.up_since_s

    @asynccontextmanager
    async def listen(
        self, wanted: Filter, *, backlog_max: int = BACKLOG_MAX
    ) -> AsyncGenerator[AsyncIterator[Message]]:
        """Iterate over plain messages as they come; see the port."""
        mailbox = Mailbox(backlog_max)

        def take(subject: bytes, _reply: bytes, body: bytes, _block: bytes | None) -> None:
            mailbox.put(Message(subject.decode("utf-8", "replace"), body))

        async with self._connection.listen(wanted, take), aclosing(mailbox.messages()) as messages:
            with suppress(nats.errors.Error):  # it broke just now: subscribed anew when it is back
                await self._connection.client.flush()
            yield messages


class _Endpoint:
    """Takes requests as they come and answers a bounded number of them at once."""

    def __init__(
        self,
        connection: Connection,
        handler: Handler,
        tasks: TaskGroup,
        limiter: anyio.CapacityLimiter,
    ) -> None:
        self._connection = connection
        self._handler = handler
        self._tasks = tasks
        self._limiter = limiter
        self._waiting = 0

    def take(self, subject: bytes, reply: bytes, body: bytes, block: bytes | None) -> None:
        """Start to answer."""
        headers = parse_headers(block)
        request = Request(
            subject.decode("utf-8", "replace"),
            body,
            headers.get(_MESSAGE_ID.lower()),
            headers.get(_TRACEPARENT),
        )
        if self._waiting >= WAITING_MAX:
            self._reply(reply.decode(), Answer(b"", f"busy: {WAITING_MAX} requests wait already"))
            return
        self._waiting += 1
        self._tasks.start_soon(self._answer, request, reply.decode())

    async def _answer(self, request: Request, reply: str) -> None:
        """Answer in turn; one who wants no answer is served all the same."""
        try:
            async with self._limiter:
                result = await answer(self._handler, request)
        finally:
            self._waiting -= 1
        self._reply(reply, result)

    def _reply(self, to: str, result: Answer) -> None:
        allowed = self._connection.payload_bytes_max
        if len(result.body) > allowed:
            result = Answer(b"", f"the answer has {len(result.body)} bytes; allowed: {allowed}")
        headers = None
        if result.error is not None:
            headers = {_ERROR: result.error, _ERROR_CODE: str(INTERNAL_ERROR)}
        if to:
            self._connection.send(publish(to, result.body, headers=headers))


async def _taken_over(request: ServiceRequest) -> None:
    raise AssertionError(f"{request.subject}: its messages go another way")


class NatsInbox:
    """An `Inbox` on the stream of commands; any number of processes share its one consumer."""

    def __init__(self, connection: Connection, *, ack_wait_s: float = ACK_WAIT_S) -> None:
        self._connection = connection
        self._ack_wait_s = ack_wait_s

    @asynccontextmanager
    async def receive(self) -> AsyncGenerator[AsyncIterator[list[Command]]]:
        """Iterate over batches of commands; see the port."""
        async with AsyncExitStack() as stack:
            pull = Pull(self._connection, COMMANDS, self._open, keeps=True)
            await stack.enter_async_context(pull.running())
            yield await stack.enter_async_context(aclosing(_commands(pull)))

    async def acknowledge(self, commands: Sequence[Command]) -> None:
        """Tell the queue that these are answered; one that gets lost brings its command again."""
        await self._connection.ready(self._ack_wait_s)
        self._connection.send(
            b"".join(publish(str(command.token), b"+ACK") for command in commands)
        )

    async def _open(self) -> Opened:
        config = {
            "durable_name": CONSUMER,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "ack_wait": round(self._ack_wait_s * _NS),
            "max_deliver": -1,
            "max_ack_pending": UNACKNOWLEDGED_MAX,
        }
        return await self._connection.api(
            f"CONSUMER.CREATE.{COMMANDS}.{CONSUMER}",
            {"stream_name": COMMANDS, "config": config, "action": ""},
            Opened,
        )


async def _commands(pull: Pull) -> AsyncGenerator[list[Command]]:
    while True:
        raws = await pull.take()
        for start in range(0, len(raws), BATCH_MAX):
            yield [_command(raw) for raw in raws[start : start + BATCH_MAX]]


def _command(raw: Raw) -> Command:
    subject, reply, body, block = raw
    headers = parse_headers(block)
    request = Request(
        subject.decode("utf-8", "replace"),
        body,
        headers.get(_MESSAGE_ID.lower()),
        headers.get(_TRACEPARENT),
        again=times_of(reply) > 1,
    )
    return Command(request, delivery_of(reply)[0], reply.decode())
