"""The whole backbone on one NATS connection: what the composition root opens."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from services.backbone import Backbone
from services.bus.nats import NatsBus, NatsInbox
from services.errors import ConfigurationError, LogUnavailable
from services.lease.nats import NatsLease
from services.log.jetstream.connection import Connection, connect
from services.log.jetstream.log import open_log
from services.log.jetstream.streams import (
    COMMANDS,
    LEASES,
    LEDGER,
    LOGS,
    TELEMETRY,
    Durability,
    LogSettings,
    StreamInfo,
    stream_info,
)
from services.log.jetstream.wire import NO_SUCH_STREAM


@asynccontextmanager
async def open_backbone(url: str, *, name: str, wait_s: float = 10.0) -> AsyncGenerator[Backbone]:
    """Connect as `name` and return the backbone; it lasts as long as the context.

    Raises LogUnavailable when no server answers within `wait_s`, ConfigurationError when streams
    are missing or the credentials are refused.
    """
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connect(url, name=name, wait_s=wait_s))
        yield await stack.enter_async_context(backbone_on(connection))


@asynccontextmanager
async def backbone_on(connection: Connection) -> AsyncGenerator[Backbone]:
    """Return the backbone on a connection that is there already."""
    durability = await _durability(connection)
    lasting = LogSettings(durability=durability)
    expiring = LogSettings(durability=durability, hole_free=False, atomic=False)
    async with AsyncExitStack() as stack:
        yield Backbone(
            ledger=await stack.enter_async_context(open_log(LEDGER, connection, lasting)),
            telemetry=await stack.enter_async_context(open_log(TELEMETRY, connection, expiring)),
            logs=await stack.enter_async_context(open_log(LOGS, connection, expiring)),
            inbox=NatsInbox(connection),
            bus=NatsBus(connection),
            lease=NatsLease(connection),
        )


async def _durability(connection: Connection) -> Durability:
    """Return the mode that the streams were made for, once all five are known to exist."""
    infos: dict[str, StreamInfo] = {}
    for stream in (LEDGER, TELEMETRY, LOGS, COMMANDS, LEASES):
        infos[stream] = await stream_info(connection, stream)
    missing = [
        name
        for name, info in infos.items()
        if info.error is not None and info.error.err_code == NO_SUCH_STREAM
    ]
    if missing:
        raise ConfigurationError(
            f"streams {', '.join(missing)} are missing on this server; make them first "
            "(`ensure_streams`), or check that the URL is that of the right server and account"
        )
    for name, info in infos.items():
        if info.error is not None:
            raise LogUnavailable(f"{name}: {info.error.description}")
    return infos[LEDGER].durability
