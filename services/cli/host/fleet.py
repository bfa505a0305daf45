"""A whole fleet on one host: the server, its streams, and one process for each service."""

import os
import shlex
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import anyio
import anyio.abc
from msgspec import Meta, Struct

import services
from services.cli.host.connection import Connection, locked, make_directory, noted
from services.cli.host.serve import host_token
from services.errors import ConfigurationError, LogUnavailable
from services.log.jetstream.streams import StreamSettings, ensure_streams
from services.nats_server import NatsServer, ServerSettings
from services.supervise import (
    Backoff,
    ChildSpec,
    ChildState,
    ChildStatus,
    OnChange,
    Supervisor,
    exit_words,
)

SERVER_NAME = "nats-server"
WORKER_PREFIX = "worker-"
"""What comes before a node's id in the name of its worker's process."""
SERVICE_DRAIN_S = 15.0
WORKER_DRAIN_S = 20.0
"""Longer than a worker's own drain: it shall end by itself."""
DRAIN_S = WORKER_DRAIN_S + 2 * SERVICE_DRAIN_S + 15.0
"""How long the ordered end of everything may take: workers, scheduler, projector, server."""


class UpSettings(Struct, frozen=True, kw_only=True):
    """What `ffrtmp up` runs."""

    workers: Annotated[int, Meta(ge=0, le=256)] = 1
    """Workers on this host."""
    schedulers: Annotated[int, Meta(ge=1, le=16)] = 1
    """Schedulers on this host; one decides, the others are warm standbys that take over within 3 s
    of its death."""
    slots: Annotated[int, Meta(ge=1, le=4096)] | None = None
    """Attempts at once of each worker; None is the worker's own default."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port of the server on 127.0.0.1; 0 is the one used before, else any free one."""
    durability: Literal["always", "100ms"] = "100ms"
    """What an acknowledged fact survives: a loss of power, or a loss of power 0.1 s later."""
    media_root: Path
    """Inputs given as relative paths are below it; no path leads out of it."""
    output_root: Path
    """Outputs are below it; no path leads out of it."""


class Place(Struct, frozen=True, kw_only=True):
    """Where the fleet lives."""

    data_dir: Path
    nats: str | None = None
    """A server that is there already; None: start one."""
    config: Path | None = None


class Running(Struct, frozen=True, kw_only=True):
    """A fleet that has been started."""

    url: str
    supervisor: Supervisor


@asynccontextmanager
async def running(
    settings: UpSettings, place: Place, on_change: OnChange
) -> AsyncGenerator[Running]:
    """Run the fleet while the context lasts, then drain it: workers first, the server last.

    Raises StoreBusy when another `ffrtmp up` owns the directory, ConfigurationError for one that
    is missing or cannot be written.
    """
    log_dir = place.data_dir / "logs"
    if not settings.media_root.is_dir():
        raise ConfigurationError(
            f"media_root: no such directory; given: {settings.media_root}; allowed: one with inputs"
        )
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(place.data_dir))
        make_directory(log_dir, "data_dir", mode=0o700)
        make_directory(settings.output_root, "output_root")
        url = place.nats
        if url is None:
            url = await stack.enter_async_context(_server(settings, place, on_change))
        tasks = await stack.enter_async_context(_background())
        await ensure_streams(url, StreamSettings(durability=settings.durability))
        stack.enter_context(noted(place.data_dir, Connection(url=url, pid=os.getpid())))
        supervisor = Supervisor(_stages(settings, place, url), log_dir=log_dir, on_change=on_change)
        await tasks.start(supervisor.run)
        yield Running(url=url, supervisor=supervisor)


@asynccontextmanager
async def _server(settings: UpSettings, place: Place, on_change: OnChange) -> AsyncGenerator[str]:
    """Run a server of our own while the context lasts, and give its URL."""
    own = ServerSettings(
        data_dir=place.data_dir / "nats", durability=settings.durability, port=settings.port
    )
    async with NatsServer(own) as server, _background() as tasks:
        on_change(ChildStatus(name=SERVER_NAME, state=ChildState.RUNNING, pid=server.pid))
        tasks.start_soon(_keep_server, server, on_change)
        yield server.url


@asynccontextmanager
async def _background() -> AsyncGenerator[anyio.abc.TaskGroup]:
    """Run tasks beside the context; its end cancels them and waits."""
    async with anyio.create_task_group() as tasks:
        try:
            yield tasks
        finally:
            tasks.cancel_scope.cancel()


async def _keep_server(server: NatsServer, on_change: OnChange) -> None:
    """Start the server again whenever it ends by itself, ever more slowly."""
    backoff, crashes = Backoff(), 0
    while True:
        began_s = anyio.current_time()
        words = exit_words(await server.wait())
        healthy = anyio.current_time() - began_s >= backoff.healthy_s
        crashes = 1 if healthy else crashes + 1
        wait_s = backoff.after(crashes)
        status = ChildStatus(
            name=SERVER_NAME,
            state=ChildState.BACKING_OFF,
            exit=words,
            retry_s=wait_s,
            restarts=crashes,
        )
        on_change(status)
        await anyio.sleep(wait_s)
        try:
            await server.start()
        except LogUnavailable:
            continue
        on_change(ChildStatus(name=SERVER_NAME, state=ChildState.RUNNING, pid=server.pid))


def _stages(settings: UpSettings, place: Place, url: str) -> list[list[ChildSpec]]:
    """Return the children in the order of their start."""
    host = host_token()
    workers = [f"{host}-{number}" for number in range(1, settings.workers + 1)]
    return [
        [_service("projector", place, url)],
        [_service("scheduler", place, url, name=name) for name in _names(settings.schedulers)],
        [
            _worker(WORKER_PREFIX + node, node, settings, _service("worker", place, url))
            for node in workers
        ],
    ]


def _names(schedulers: int) -> list[str]:
    """Return what the schedulers' processes are called: a single one has no number."""
    if schedulers == 1:
        return ["scheduler"]
    return [f"scheduler-{number}" for number in range(1, schedulers + 1)]


def _service(command: str, place: Place, url: str, *, name: str = "") -> ChildSpec:
    root = str(Path(services.__file__).parents[1])
    config = () if place.config is None else ("--config", str(place.config))
    return ChildSpec(
        name=name or command,
        argv=(
            *(sys.executable, "-P", "-m", "services.cli.main"),
            *("--data-dir", str(place.data_dir), *config, command),
        ),
        environment={
            "FFRTMP_NATS": url,
            "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
        },
        drain_s=SERVICE_DRAIN_S,
    )


def _worker(name: str, node: str, settings: UpSettings, base: ChildSpec) -> ChildSpec:
    data_dir = Path(base.argv[base.argv.index("--data-dir") + 1])
    slots = () if settings.slots is None else ("--slots", str(settings.slots))
    options = (
        *("--node-id", node, "--work-dir", str(data_dir / "workers" / node)),
        *("--media-root", str(settings.media_root)),
        *("--output-root", str(settings.output_root), *slots),
    )
    return ChildSpec(
        name=name,
        argv=(*base.argv, *options),
        environment=base.environment,
        again=shlex.join(("ffrtmp", *base.argv[base.argv.index("--data-dir") :], *options)),
        drain_s=WORKER_DRAIN_S,
    )
