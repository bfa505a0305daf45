"""One call of the command line: what it talks to, how it answers, and how it ends."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from services.backbone import Backbone
    from services.client import Client

DEFAULT_URL = "nats://127.0.0.1:4222"
CLIENT = "ffrtmp"
"""Name under which commands connect; services have their own."""
COMMAND_CONNECT_S = 3.0
"""How long a person waits for a server that does not answer."""
SERVICE_CONNECT_S = 5.0
"""How often a service says that it waits for its server, which may be away or still recovering."""
CONNECT_AGAIN_S = 0.5
CONNECTION_FILE = "connection.json"
"""In the data directory: where the fleet of the running `ffrtmp up` is."""

Connect: TypeAlias = "Callable[[str, str], AbstractAsyncContextManager[Backbone]]"
"""Opens the backbone at a URL, for a client of a name."""


class Exit(IntEnum):
    """Exit statuses, the same for every command."""

    OK = 0
    FAILED = 1
    """A job in question failed, was canceled or rejected; or something else went wrong."""
    USAGE = 2
    """Options or settings that cannot work."""
    REFUSED = 3
    """The service refused the request, and said why."""
    UNREACHABLE = 4
    """No answer in time: whether anything happened is left open; the same again is safe."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE = 141
    """Nobody reads the output any more."""


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    """For people."""
    JSON = "json"
    """One document, or one a line where results come one by one."""


@dataclass
class Invocation:
    """What the options before the command say; handed to commands as click's `obj`."""

    data_dir: Path
    nats: str | None = None
    config: Path | None = None
    output: Output = Output.TABLE
    connect: "Connect | None" = None
    """None: over NATS."""
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def json(self) -> bool:
        """Whether results are for programs."""
        return self.output is Output.JSON

    def url(self) -> str:
        """Return where the fleet is: as told, else as the running `ffrtmp up` noted, else here."""
        if self.nats:
            return self.nats
        from services.cli.host.connection import read  # noqa: PLC0415 - not for --help

        connection = read(self.data_dir)
        return DEFAULT_URL if connection is None else connection.url

    def work(self, task: "Callable[[Fleet], Awaitable[int]]") -> int:
        """Connect, do `task`, and return its exit status."""
        import anyio  # noqa: PLC0415 - not for --help

        return anyio.run(self._work, task)

    async def _work(self, task: "Callable[[Fleet], Awaitable[int]]") -> int:
        from services.client import Client  # noqa: PLC0415 - not for --help
        from services.errors import LogUnavailable  # noqa: PLC0415 - not for --help

        connect = self.connect
        if connect is None:
            from services.lifecycle import configure_logging  # noqa: PLC0415 - not for --help

            configure_logging(self.environment.get("FFRTMP_LOG_LEVEL", "warning"))
            connect = over_nats
        async with AsyncExitStack() as stack:
            try:
                backbone = await stack.enter_async_context(connect(self.url(), CLIENT))
            except LogUnavailable as error:
                raise LogUnavailable(f"{error}; {self._whence()}") from error
            return await task(Fleet(backbone, Client(backbone.bus)))

    def _whence(self) -> str:
        """Return where the URL came from, and what to do when nobody is there."""
        from services.cli.host.connection import read  # noqa: PLC0415 - not for --help

        if self.nats:
            return "it was given by --nats or FFRTMP_NATS"
        connection = read(self.data_dir)
        if connection is None:
            return (
                f"no `ffrtmp up` runs in {self.data_dir}: start it, or give its --data-dir, or "
                "--nats"
            )
        return (
            f"`ffrtmp up`, pid {connection.pid}, was to run it in {self.data_dir}: start it again"
        )


@dataclass(frozen=True)
class Fleet:
    """What commands work with once connected."""

    backbone: "Backbone"
    client: "Client"


pass_invocation = click.make_pass_decorator(Invocation)


def _set_output(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).output = Output(value)


output_option = click.option(
    "--output",
    "-o",
    type=click.Choice([output.value for output in Output]),
    expose_value=False,
    callback=_set_output,
    help="How to print results; may also stand before the command.",
)


def over_nats(url: str, name: str) -> "AbstractAsyncContextManager[Backbone]":
    """Open the backbone that a NATS server has."""
    from services.log.jetstream.backbone import open_backbone  # noqa: PLC0415 - not for --help

    return open_backbone(url, name=name, wait_s=COMMAND_CONNECT_S)


@asynccontextmanager
async def over_nats_at_last(url: str, name: str) -> "AsyncGenerator[Backbone]":
    """Open the backbone that a NATS server has, however long it takes to come.

    Raises ConfigurationError when it refuses the credentials, or is another's server.
    """
    import anyio  # noqa: PLC0415 - not for --help
    import structlog  # noqa: PLC0415 - not for --help

    from services.errors import LogUnavailable  # noqa: PLC0415 - not for --help
    from services.log.jetstream.backbone import open_backbone  # noqa: PLC0415 - not for --help

    log = structlog.get_logger()
    async with AsyncExitStack() as stack:
        while True:
            opening = open_backbone(url, name=name, wait_s=SERVICE_CONNECT_S)
            try:
                backbone = await stack.enter_async_context(opening)
            except LogUnavailable as error:
                log.warning("nats.awaited", error=str(error))
                await anyio.sleep(CONNECT_AGAIN_S)
            else:
                break
        yield backbone
