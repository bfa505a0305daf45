"""What only a real server can show: limits, holes, foreign hands, the streams themselves."""

# pyright: reportPrivateUsage=false
# Deliveries and acknowledgements are lost on purpose, where they arrive.

from pathlib import Path

import anyio
import msgspec
import pytest

from events import subjects
from events.subjects import Subject
from services.bus.nats import NatsBus
from services.bus.port import Request
from services.errors import ConfigurationError, LogUnavailable, SequenceGap
from services.log.jetstream.backbone import open_backbone
from services.log.jetstream.connection import Connection, connect
from services.log.jetstream.log import EVENT_BYTES_MAX, JetStreamLog, open_log
from services.log.jetstream.puller import Pull
from services.log.jetstream.reads import Reader
from services.log.jetstream.streams import (
    LEASES,
    LEDGER,
    TELEMETRY,
    Drift,
    LogSettings,
    StreamSettings,
    ensure_streams,
    stream_info,
)
from services.log.jetstream.wire import Fault, publish
from services.log.jetstream.writer import Window
from services.nats_server import NatsServer, ServerSettings
from tests.contract.conftest import Mode
from tests.contract.facts import attempts, entry, everything, job, large
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.nats]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Answer(msgspec.Struct, frozen=True):
    success: bool = False
    consumers: list[str] = []
    error: Fault | None = None


async def delete_consumers(connection: Connection) -> int:
    names = (await connection.api(f"CONSUMER.NAMES.{LEDGER}", None, Answer)).consumers
    for name in names:
        await connection.api(f"CONSUMER.DELETE.{LEDGER}.{name}", None, Answer)
    return len(names)


class TestLimits:
    async def test_an_oversize_event_is_refused_before_the_wire(
        self, connection: Connection, log: JetStreamLog
    ) -> None:
        fits = EVENT_BYTES_MAX - len(b"x" * 300)
        assert await log.append([large("a", fits)]) == [1]
        for append in (log.append, log.append_atomic):
            with pytest.raises(ValueError, match=r"an event of \d+ bytes; allowed: 523776"):
                await append([entry("b", 0), large("a", EVENT_BYTES_MAX)])
        assert connection.connected
        assert await log.last_seq() == 1

    async def test_the_window_bounds_what_is_under_way(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[int] = []
        depart = Window._depart

        def counted(self: Window, *arguments: object) -> None:
            depart(self, *arguments)  # type: ignore[arg-type] # passed on as they came
            seen.append(self.in_flight)

        monkeypatch.setattr(Window, "_depart", counted)
        async with open_log(LEDGER, connection, LogSettings(window=512)) as log:
            await log.append([entry(f"j{number}", 0) for number in range(5_000)])
        assert 256 <= max(seen) <= 512
        assert len(seen) >= 5_000 // 256

    async def test_more_than_1000_followers_are_possible(self, log: JetStreamLog) -> None:
        count = 1_050
        told = 0
        ready = anyio.Semaphore(0)

        async def watch(number: int) -> None:
            nonlocal told
            async with log.follow(after=0, filters=[_filter(f"j{number}")]) as batches:
                ready.release()
                async for batch in batches:
                    told += len(batch)
                    return

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(count):
                    tasks.start_soon(watch, number)
                for _ in range(count):
                    await ready.acquire()
                await log.append([entry(f"j{number}", 0) for number in range(count)])
        assert told == count

    async def test_a_payload_beyond_the_servers_limit_closes_for_good_and_is_told(
        self, connection: Connection, log: JetStreamLog
    ) -> None:
        async with log.follow(after=0) as batches:
            await log.append([entry("a")])
            assert len(await anext(batches)) == 1
            connection.send(publish("ffrtmp.job.a", b"x" * (2**20 + 1)))
            with anyio.fail_after(5):
                await connection.closed.wait()
                with pytest.raises(LogUnavailable, match="closed"):
                    await anext(batches)
                with pytest.raises(LogUnavailable):
                    await log.append([entry("a")])


def _filter(name: str) -> subjects.Filter:
    return subjects.only(job(name))


class TestFollowers:
    async def test_a_deleted_consumer_is_made_anew(
        self, server: NatsServer, log: JetStreamLog
    ) -> None:
        async with (
            connect(server.url, name="operator") as operator,
            log.follow(after=0) as batches,
        ):
            for seq in (1, 2, 3):
                await log.append([entry("a")])
                with anyio.fail_after(5):
                    assert [recorded.seq for recorded in await anext(batches)] == [seq]
                assert await delete_consumers(operator) == 1

    async def test_a_consumer_that_went_away_unnoticed_is_made_anew(
        self, server: NatsServer, log: JetStreamLog
    ) -> None:
        count = 12_000
        await log.append([entry(f"j{number}", 0) for number in range(count)])
        seen: list[int] = []
        async with (
            connect(server.url, name="operator") as operator,
            log.follow(after=0) as batches,
        ):
            with anyio.fail_after(20):
                async for batch in batches:
                    if not seen:
                        await delete_consumers(operator)
                    seen += [recorded.seq for recorded in batch]
                    if len(seen) >= count:
                        break
        assert seen == list(range(1, count + 1))

    async def test_a_lost_delivery_is_asked_for_again(
        self, log: JetStreamLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        take = Pull._on_message
        lost: list[bytes] = []

        def forgetful(self: Pull, *message: object) -> None:
            if message[2] and len(lost) < 1:
                lost.append(b"one")
            else:
                take(self, *message)  # type: ignore[arg-type] # passed on as they came

        monkeypatch.setattr(Pull, "_on_message", forgetful)
        await log.append([entry("a"), entry("b"), entry("c")])
        with anyio.fail_after(10):
            assert [recorded.seq for recorded in await everything(log)] == [1, 2, 3]
        assert lost == [b"one"]

    async def test_a_hole_in_the_middle_is_a_gap(self, connection: Connection) -> None:
        config = {"name": "HOLES", "subjects": ["holes.>"], "storage": "file"}
        await connection.api("STREAM.CREATE.HOLES", config, Answer)
        for _ in range(6):
            await connection.ask("holes.a", b"{}", timeout_s=2.0)
        for seq in (3, 4):
            await connection.api("STREAM.MSG.DELETE.HOLES", {"seq": seq}, Answer)
        async with open_log("HOLES", connection, LogSettings()) as holes:
            with anyio.fail_after(10), pytest.raises(SequenceGap) as caught:
                await everything(holes)
            assert (caught.value.stream, caught.value.first, caught.value.last) == ("HOLES", 3, 4)
            assert [recorded.seq for recorded in await everything(holes, after=4)] == [5, 6]
        async with open_log("HOLES", connection, LogSettings(hole_free=False)) as holes:
            assert [recorded.seq for recorded in await everything(holes)] == [1, 2, 5, 6]

    async def test_a_beginning_that_is_gone_is_a_gap(
        self, connection: Connection, log: JetStreamLog
    ) -> None:
        await log.append([entry(f"j{number}") for number in range(5)])
        await connection.api(f"STREAM.PURGE.{LEDGER}", {"seq": 4}, Answer)
        with pytest.raises(SequenceGap) as caught:
            await everything(log, after=1)
        assert (caught.value.first, caught.value.last) == (2, 3)
        assert [recorded.seq for recorded in await everything(log, after=3)] == [4, 5]

    async def test_consumers_do_not_outlive_their_followers(
        self, connection: Connection, log: JetStreamLog
    ) -> None:
        for _ in range(3):
            await everything(log)

        async def none_left() -> bool:
            names = await connection.api(f"CONSUMER.NAMES.{LEDGER}", None, Answer)
            return not names.consumers

        await until(none_left, "the consumers are deleted", within_s=5)

    async def test_events_cannot_be_deleted(
        self, connection: Connection, log: JetStreamLog
    ) -> None:
        await log.append([entry("a")])
        answer = await connection.api(f"STREAM.MSG.DELETE.{LEDGER}", {"seq": 1}, Answer)
        assert not answer.success
        assert answer.error is not None


async def test_the_leader_reads_an_entity_as_well(
    connection: Connection, log: JetStreamLog
) -> None:
    await log.append([entry("a", None, number) for number in range(1, 6)])
    leader = Reader(connection, LEDGER, of="leader")
    assert attempts(await leader.read(job("a"), 2)) == [3, 4, 5]


class TestStreams:
    async def test_making_them_again_changes_nothing(self, server: NatsServer, mode: Mode) -> None:
        assert await ensure_streams(server.url, StreamSettings(durability=mode)) == []

    async def test_what_differs_is_told_and_left_alone(
        self, connection: Connection, mode: Mode
    ) -> None:
        other = StreamSettings(durability=mode, telemetry_s_max=60.0, followers_max=500)
        drifts = await ensure_streams(connection, other)
        assert Drift(TELEMETRY, "max_age", 86_400 * 10**9, 60 * 10**9) in drifts
        assert {(each.stream, each.field) for each in drifts} == {
            ("FFRTMP_LEDGER", "max_consumers"),
            ("FFRTMP_TELEMETRY", "max_consumers"),
            ("FFRTMP_TELEMETRY", "max_age"),
            ("FFRTMP_LOGS", "max_consumers"),
        }
        assert (await stream_info(connection, TELEMETRY)).config["max_age"] == 86_400 * 10**9

    async def test_clients_learn_the_durability_from_the_ledger(
        self, connection: Connection, mode: Mode
    ) -> None:
        assert (await stream_info(connection, LEDGER)).durability == mode

    async def test_missing_streams_are_named(self, tmp_path: Path, mode: Mode) -> None:
        bare = ServerSettings(data_dir=tmp_path / "bare", durability=mode)
        async with NatsServer(bare) as server:
            with pytest.raises(ConfigurationError, match=f"{LEDGER}.*{LEASES} are missing"):
                async with open_backbone(server.url, name="test"):
                    pass

    async def test_wrong_credentials_are_a_mistake_and_no_outage(self, server: NatsServer) -> None:
        url = f"nats://ffrtmp:wrong@{server.url.rsplit('@', 1)[-1]}"
        with pytest.raises(ConfigurationError, match="refuses these credentials"):
            async with open_backbone(url, name="test", wait_s=0.5):
                pass

    @pytest.mark.parametrize(
        "url", ["garbage", "http://127.0.0.1:4222", "nats://127.0.0.1:99999", "nats://:4222", ""]
    )
    async def test_what_is_no_url_of_a_server_is_a_mistake(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="is no URL of a NATS server; allowed: nats:"):
            async with open_backbone(url, name="test", wait_s=0.5):
                pass

    async def test_no_server_is_an_outage(self, server: NatsServer) -> None:
        await server.kill()
        with pytest.raises(LogUnavailable, match="no NATS server"):
            async with open_backbone(server.url, name="test", wait_s=0.3):
                pass

    async def test_an_error_beside_a_backbone_leaves_as_it_is(self, server: NatsServer) -> None:
        with pytest.raises(KeyError, match="mine"):
            async with open_backbone(server.url, name="test"):
                raise KeyError("mine")


@pytest.mark.parametrize("verb", ["PING", "INFO", "STATS"])
async def test_a_service_is_discoverable(connection: Connection, verb: str) -> None:
    async def echo(request: Request) -> bytes:
        return request.body

    subject = Subject("ffrtmp.api.echo")
    async with NatsBus(connection).serve("ffrtmp-api", {subject: echo}):
        body, _ = await connection.ask(f"$SRV.{verb}.ffrtmp-api", b"", timeout_s=2.0)
    answer = msgspec.json.decode(body)
    assert answer["name"] == "ffrtmp-api"
    if verb != "PING":
        assert [endpoint["subject"] for endpoint in answer["endpoints"]] == [subject]


async def test_an_answer_that_no_message_can_hold_is_an_error(connection: Connection) -> None:
    async def long(_: Request) -> bytes:
        return b"x" * (connection.payload_bytes_max + 1)

    bus = NatsBus(connection)
    subject = Subject("ffrtmp.api.long")
    async with bus.serve("long", {subject: long}):
        with pytest.raises(LogUnavailable, match="the answer has 1048577 bytes; allowed: 1048576"):
            await bus.request(subject, b"", timeout_s=30.0)


async def test_who_waits_for_an_answer_learns_at_once_that_the_connection_broke(
    server: NatsServer, connection: Connection
) -> None:
    asked = anyio.Event()

    async def never(request: Request) -> bytes:
        asked.set()
        await anyio.sleep_forever()
        return request.body

    bus = NatsBus(connection)
    subject = Subject("ffrtmp.api.never")
    async with bus.serve("never", {subject: never}), anyio.create_task_group() as tasks:

        async def ask() -> None:
            with anyio.fail_after(20), pytest.raises(LogUnavailable, match="broke while waiting"):
                await bus.request(subject, b"", timeout_s=60.0)

        tasks.start_soon(ask)
        await asked.wait()
        await server.kill()
        await server.start()


async def test_a_socket_that_is_closed_underneath_drops_what_is_sent(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: bytes) -> None:
        raise RuntimeError("the handler is closed")

    transport = connection.client._transport  # pyright: ignore[reportPrivateUsage] # the socket's
    monkeypatch.setattr(transport, "write", closed)
    assert not connection.send(publish("anywhere", b""))
    with pytest.raises(LogUnavailable, match="the connection to NATS is broken"):
        await connection.ask("anywhere", b"", timeout_s=5.0)


async def test_a_service_answers_again_after_a_restart_of_the_server(
    server: NatsServer, connection: Connection
) -> None:
    async def echo(request: Request) -> bytes:
        return request.body

    bus = NatsBus(connection)
    subject = Subject("ffrtmp.api.echo")
    async with bus.serve("ffrtmp-api", {subject: echo}):
        assert await bus.request(subject, b"1") == b"1"
        await server.kill()
        await server.start()
        assert await bus.request(subject, b"2") == b"2"
