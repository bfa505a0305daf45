"""The bus on NATS: requests, micro services, and the work queue of durable commands."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import anyio
import nats.micro
import structlog
from anyio.abc import TaskGroup
from nats.micro.request import Request as ServiceRequest
from nats.micro.service import EndpointConfig, ServiceConfig

from events.subjects import Subject
from services.background import background
from services.bus.answering import INTERNAL_ERROR, answer
from services.bus.port import Command, Handler, Request
from services.errors import LogUnavailable
from services.log.jetstream.connection import Connection
from services.log.jetstream.puller import Opened, Pull, Raw
from services.log.jetstream.streams import COMMANDS
from services.log.jetstream.wire import delivery_of, parse_headers, publish

SERVICE_VERSION = "1.0.0"
"""Version of the request vocabulary, as `nats micro info` shows it."""
CONSUMER = "ffrtmp-intake"
BATCH_MAX = 500
"""Most commands handed over at once."""
ACK_WAIT_S = 30.0
"""A command that is not acknowledged within this comes again."""
UNACKNOWLEDGED_MAX = 10_000
"""Commands handed out and not acknowledged beyond which no more come."""

_MESSAGE_ID = "Nats-Msg-Id"
_TRACEPARENT = "traceparent"
_ERROR = "Nats-Service-Error"
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
        error = reply_headers.get(_ERROR)
        if error is not None:
            raise LogUnavailable(f"{subject}: {error}")
        return reply

    @asynccontextmanager
    async def serve(
        self, name: str, endpoints: Mapping[Subject, Handler], *, concurrency_max: int = 256
    ) -> AsyncGenerator[None]:
        """Answer requests on these subjects as a NATS micro service; see the port."""
        limiter = anyio.CapacityLimiter(concurrency_max)
        async with background() as tasks:
            service = await nats.micro.add_service(  # pyright: ignore[reportUnknownMemberType] # its **kwargs
                self._connection.client, ServiceConfig(name=name, version=SERVICE_VERSION)
            )
            try:
                for subject, handler in endpoints.items():
                    served = _Endpoint(handler, tasks, limiter)
                    await service.add_endpoint(
                        EndpointConfig(
                            name=subject.replace(".", "-"), subject=subject, handler=served.take
                        )
                    )
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    if self._connection.connected:
                        await service.stop()


class _Endpoint:
    """Takes requests as they come and answers a bounded number of them at once."""

    def __init__(self, handler: Handler, tasks: TaskGroup, limiter: anyio.CapacityLimiter) -> None:
        self._handler = handler
        self._tasks = tasks
        self._limiter = limiter

    async def take(self, request: ServiceRequest) -> None:
        """Start to answer; wait while too many are being answered."""
        task = object()
        await self._limiter.acquire_on_behalf_of(task)
        self._tasks.start_soon(self._answer, request, task)

    async def _answer(self, request: ServiceRequest, task: object) -> None:
        try:
            headers = request.headers or {}
            result = await answer(
                self._handler,
                Request(
                    request.subject,
                    request.data,
                    headers.get(_MESSAGE_ID),
                    headers.get(_TRACEPARENT),
                ),
            )
            if result.error is None:
                await request.respond(result.body)
            else:
                await request.respond_error(str(INTERNAL_ERROR), result.error)
        finally:
            self._limiter.release_on_behalf_of(task)


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
    )
    return Command(request, delivery_of(reply)[0], reply.decode())
