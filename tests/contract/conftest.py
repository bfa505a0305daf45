"""One suite on every adapter: memory under asyncio and trio, JetStream in two durability modes."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import pytest
from msgspec import Struct

from services.backbone import Backbone
from services.bus.memory import MemoryBus, MemoryInbox
from services.bus.nats import NatsInbox
from services.bus.port import Inbox
from services.errors import LogUnavailable
from services.log.jetstream.backbone import backbone_on
from services.log.jetstream.connection import Connection, connect
from services.log.jetstream.log import JetStreamLog, open_log
from services.log.jetstream.streams import LEDGER, LogSettings
from services.log.jetstream.wire import publish
from services.log.memory import MemoryLog
from services.memory import memory_backbone
from services.nats_server import NatsServer
from tests.servers import nats_server

Mode = Literal["100ms", "always"]


class Kind(Struct, frozen=True):
    """An adapter and the event loop it runs on."""

    name: Literal["memory", "100ms", "always"]
    loop: str


REDELIVER_S = 0.5
"""After this an unacknowledged command of `World.inbox` comes again."""


class World:
    """A backbone, the server behind it if there is one, and strangers who write to it."""

    def __init__(self, backbone: Backbone, inbox: Inbox, server: NatsServer | None) -> None:
        self.backbone = backbone
        self.inbox = inbox
        self._server = server

    async def put(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Publish as any client of the server could."""
        if self._server is not None:
            async with connect(self._server.url, name="stranger") as connection:
                await connection.ask(subject, body, timeout_s=5.0, headers=headers)
        elif subject.startswith("ffrtmp.cmd."):
            headers = headers or {}
            assert isinstance(self.inbox, MemoryInbox)
            await self.inbox.put(
                subject,
                body,
                message_id=headers.get("Nats-Msg-Id"),
                traceparent=headers.get("traceparent"),
            )
        else:
            assert isinstance(self.backbone.ledger, MemoryLog)
            await self.backbone.ledger.put(subject, body)

    async def say(self, subject: str, body: bytes) -> None:
        """Send a plain message as any client of the server could."""
        if self._server is not None:
            async with connect(self._server.url, name="stranger") as connection:
                connection.send(publish(subject, body))
                await connection.client.flush()
        else:
            assert isinstance(self.backbone.bus, MemoryBus)
            await self.backbone.bus.say(subject, body)

    async def settled(self) -> None:
        """Wait until what was said so far has arrived here: the server answers in order."""
        if self._server is not None:
            with pytest.raises(LogUnavailable):
                await self.backbone.bus.request("ffrtmp.nobody", b"")


@pytest.fixture(
    params=[
        pytest.param(Kind("memory", "asyncio"), id="memory-asyncio"),
        pytest.param(Kind("memory", "trio"), id="memory-trio"),
        pytest.param(Kind("100ms", "asyncio"), id="jetstream-100ms", marks=pytest.mark.nats),
        pytest.param(Kind("always", "asyncio"), id="jetstream-always", marks=pytest.mark.nats),
    ]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    param = request.param
    assert isinstance(param, Kind)
    return param


@pytest.fixture
def anyio_backend(kind: Kind) -> str:
    return kind.loop


@pytest.fixture
async def world(kind: Kind, tmp_path: Path) -> AsyncGenerator[World]:
    if kind.name == "memory":
        yield World(memory_backbone(), MemoryInbox(redeliver_s=REDELIVER_S), None)
        return
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(nats_server(tmp_path, kind.name))
        connection = await stack.enter_async_context(connect(server.url, name="contract"))
        backbone = await stack.enter_async_context(backbone_on(connection))
        yield World(backbone, NatsInbox(connection, ack_wait_s=REDELIVER_S), server)


@pytest.fixture(params=["100ms", "always"])
def mode(request: pytest.FixtureRequest) -> Mode:
    return "always" if request.param == "always" else "100ms"


@pytest.fixture
async def server(tmp_path: Path, mode: Mode) -> AsyncGenerator[NatsServer]:
    async with nats_server(tmp_path, mode) as server:
        yield server


@pytest.fixture
async def connection(server: NatsServer) -> AsyncGenerator[Connection]:
    async with connect(server.url, name="test") as connection:
        yield connection


@pytest.fixture
def settings(mode: Mode) -> LogSettings:
    return LogSettings(durability=mode, ack_timeout_s=0.3, silence_s=5.0)


@pytest.fixture
async def log(connection: Connection, settings: LogSettings) -> AsyncGenerator[JetStreamLog]:
    async with open_log(LEDGER, connection, settings) as log:
        yield log
