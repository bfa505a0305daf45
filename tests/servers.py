"""A real nats-server for tests."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from services.log.jetstream.streams import StreamSettings, ensure_streams
from services.nats_server import NatsServer, ServerSettings


@asynccontextmanager
async def nats_server(
    directory: Path, durability: Literal["always", "100ms"] = "100ms"
) -> AsyncGenerator[NatsServer]:
    """Start a server of its own in `directory`/nats, with the five streams."""
    settings = ServerSettings(data_dir=directory / "nats", durability=durability)
    async with NatsServer(settings) as server:
        await ensure_streams(server.url, StreamSettings(durability=durability))
        yield server
