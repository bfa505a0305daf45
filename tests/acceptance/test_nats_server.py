import json
import os
import signal
import socket
import stat
import sys
import urllib.request
from pathlib import Path

import anyio
import msgspec
import pytest

import services.nats_server.server as launching
from events import subjects
from services.errors import ConfigurationError, LogUnavailable
from services.log.jetstream.connection import connect
from services.nats_server import Access, NatsServer, ServerSettings, server_binary
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.nats]

OWNER = """\
import anyio, sys
from pathlib import Path
from services.nats_server import NatsServer, ServerSettings

async def main():
    async with NatsServer(ServerSettings(data_dir=Path(sys.argv[1]))) as server:
        sys.stdout.write(f"{server.pid}\\n")
        sys.stdout.flush()
        await server.wait()

anyio.run(main)
"""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings(data_dir=tmp_path / "nats")


class Info(msgspec.Struct, frozen=True):
    jetstream: bool
    max_payload: int
    auth_required: bool


async def greeting(server: NatsServer) -> Info:
    port = int(server.url.rsplit(":", 1)[-1])
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        line = await stream.receive()
    return msgspec.json.decode(line.removeprefix(b"INFO "), type=Info)


def lives(pid: int) -> bool:
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_a_started_server_takes_connections(settings: ServerSettings) -> None:
    async with NatsServer(settings) as server:
        assert await greeting(server) == Info(jetstream=True, max_payload=2**20, auth_required=True)
        assert server.running


async def test_a_stopped_server_is_gone(settings: ServerSettings) -> None:
    async with NatsServer(settings) as server:
        pid = server.pid
    assert not lives(pid)
    with pytest.raises(OSError, match=r"multiple|refused|connect"):
        await greeting(server)


async def test_connection_json_is_private_and_leads_to_the_server(
    settings: ServerSettings,
) -> None:
    async with NatsServer(settings) as server:
        path = settings.data_dir / "connection.json"
        access = msgspec.json.decode(path.read_bytes(), type=Access)
        assert access == Access(server.url, server.monitoring_url, server.pid)
        for name in ("connection.json", "credentials.json", "nats.conf"):
            assert stat.S_IMODE((settings.data_dir / name).stat().st_mode) == 0o600
        assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700


async def test_the_server_tells_its_health_over_http(settings: ServerSettings) -> None:
    async with NatsServer(settings) as server:

        def health() -> bytes:
            with urllib.request.urlopen(f"{server.monitoring_url}/healthz") as answer:
                body = answer.read()
                assert isinstance(body, bytes)
                return body

        assert json.loads(await anyio.to_thread.run_sync(health)) == {"status": "ok"}


async def test_a_second_owner_of_the_directory_is_refused(settings: ServerSettings) -> None:
    async with NatsServer(settings) as first:
        with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}"):
            await NatsServer(settings).start()
        assert first.running
        await greeting(first)


async def test_the_directory_is_free_after_a_stop(settings: ServerSettings) -> None:
    for _ in range(3):
        async with NatsServer(settings) as server:
            await greeting(server)
            assert server.running


async def test_credentials_and_port_outlive_the_owner(settings: ServerSettings) -> None:
    async with NatsServer(settings) as first:
        url = first.url
    async with NatsServer(settings) as second:
        assert second.url == url


async def test_a_given_port_is_taken(settings: ServerSettings) -> None:
    async with NatsServer(settings) as server:
        port = int(server.url.rsplit(":", 1)[-1])
    chosen = msgspec.structs.replace(settings, port=port)
    async with NatsServer(chosen) as server:
        assert server.url.endswith(f":{port}")


async def test_a_killed_server_starts_again_on_the_same_port(settings: ServerSettings) -> None:
    async with NatsServer(settings) as server:
        url, pid = server.url, server.pid
        await server.kill()
        assert not lives(pid)
        assert not server.running
        await server.start()
        assert (server.url, server.running) == (url, True)
        assert server.pid != pid
        await server.restart()
        assert server.url == url
        await greeting(server)


async def test_a_server_that_cannot_start_says_where_to_look(settings: ServerSettings) -> None:
    async with NatsServer(settings) as other:
        port = int(other.url.rsplit(":", 1)[-1])
        taken = msgspec.structs.replace(
            settings, data_dir=settings.data_dir.with_name("other"), port=port
        )
        with pytest.raises(LogUnavailable, match=r"address already in use.*nats\.log"):
            await NatsServer(taken).start()


async def test_a_port_taken_between_choice_and_launch_is_chosen_anew(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rival:
        taken = rival.getsockname()[1]
        choices = iter((taken, taken))
        free_port = launching._free_port  # pyright: ignore[reportPrivateUsage] # the race is after it

        def unlucky(wanted: int | None) -> int:
            return next(choices, None) or free_port(wanted)

        monkeypatch.setattr(launching, "_free_port", unlucky)
        async with NatsServer(settings) as server:
            assert not server.url.endswith(f":{taken}")
            await greeting(server)


async def test_it_dies_with_its_owner_and_leaves_the_directory_free(
    settings: ServerSettings, tmp_path: Path
) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    root = Path(__file__).parents[2]
    async with await anyio.open_process(
        [sys.executable, str(script), str(settings.data_dir)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=None,
    ) as owner:
        assert owner.stdout is not None
        with anyio.fail_after(20):
            pid = int(await owner.stdout.receive())
        assert lives(pid)
        with pytest.raises(ConfigurationError, match=f"in use by process {owner.pid}"):
            await NatsServer(settings).start()
        owner.send_signal(signal.SIGKILL)
        await owner.wait()
    async with NatsServer(settings) as server:
        await greeting(server)
        assert not lives(pid)


async def test_the_binary_is_the_wheels() -> None:
    assert server_binary().name == "nats-server"
    assert Path(sys.prefix) in server_binary().parents


class TestConnectionEvents:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_the_server_tells_who_came_and_went(self, settings: ServerSettings) -> None:
        seen: list[tuple[str, str]] = []

        def note(subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
            seen.append((subject.decode(), json.loads(body)["client"]["name"]))

        async def told() -> bool:
            wanted = (subjects.CONNECTED, subjects.DISCONNECTED)
            return {(subject, "worker/n1") for subject in wanted} <= set(seen)

        async with (
            NatsServer(settings) as server,
            connect(server.url, name="watcher") as watcher,
            watcher.listen("ffrtmp.sys.*", note),
        ):
            await watcher.ask("$JS.API.INFO", b"", timeout_s=2.0)
            async with connect(server.url, name="worker/n1"):
                pass
            await until(told, "both events", within_s=5)
