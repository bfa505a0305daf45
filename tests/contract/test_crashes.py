"""What becomes of appends and followers when the server is killed or its answers get lost."""

# pyright: reportPrivateUsage=false
# Deliveries and acknowledgements are lost on purpose, where they arrive.

from collections.abc import AsyncGenerator, Callable
from time import perf_counter

import anyio
import msgspec
import pytest

from services.errors import Conflict, LogUnavailable
from services.log.jetstream.batches import Batches
from services.log.jetstream.connection import Connection, connect
from services.log.jetstream.log import JetStreamLog, open_log
from services.log.jetstream.streams import (
    LEDGER,
    LogSettings,
)
from services.log.jetstream.wire import WRONG_LAST_SEQUENCE, PubAck, decode_ack
from services.log.jetstream.writer import Window
from services.nats_server import NatsServer
from tests.contract.conftest import Mode
from tests.contract.facts import attempts, entry, everything, job

SETTLED_S = 90.0
"""Three crashes with thousands of events under way, on a machine that others share."""

pytestmark = [pytest.mark.anyio, pytest.mark.nats]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestCrashOfTheServer:
    @pytest.fixture
    def settings(self, mode: Mode) -> LogSettings:
        # So long that nothing is repaired by a time-out: the reconnect has to do it.
        return LogSettings(durability=mode, ack_timeout_s=30.0, silence_s=60.0)

    async def test_every_append_settles_and_none_is_lost_or_doubled(
        self, server: NatsServer, log: JetStreamLog, mode: Mode
    ) -> None:
        count = 20_000 if mode == "100ms" else 12_000
        entries = [entry(f"j{number}", 0) for number in range(count)]
        outcomes: list[int | Conflict] = []
        kills = 0

        async def write() -> None:
            outcomes.extend(await log.append(entries))

        with anyio.fail_after(SETTLED_S):
            async with log.follow(after=0) as batches, anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                seen = 0
                async for batch in batches:
                    seen += len(batch)
                    if seen > (kills + 1) * count // 5 and kills < 3:
                        kills += 1
                        await server.kill()
                        await server.start()
                    if seen == count:
                        break
        assert kills == 3
        stored = await everything(log)
        assert [recorded.seq for recorded in stored] == list(range(1, count + 1))
        seq_of = {recorded.id: recorded.seq for recorded in stored}
        assert [seq_of[each.event.id] for each in entries] == outcomes

    async def test_unguarded_entries_are_not_doubled_and_keep_their_order(
        self, server: NatsServer, log: JetStreamLog
    ) -> None:
        numbers = list(range(1, 12_001))
        seen: list[int] = []
        with anyio.fail_after(SETTLED_S):
            async with log.follow(after=0) as batches, anyio.create_task_group() as tasks:
                tasks.start_soon(log.append, [entry("a", None, number) for number in numbers])
                async for batch in batches:
                    if len(seen) < 3_000 <= len(seen) + len(batch):
                        await server.kill()
                        await server.start()
                    seen += attempts(batch)
                    if len(seen) >= len(numbers):
                        break
        assert seen == numbers
        assert attempts(await log.read(job("a"))) == numbers

    async def test_atomic_appends_are_whole_or_absent(
        self, server: NatsServer, log: JetStreamLog
    ) -> None:
        size, groups = 20, 60
        ends: list[int] = []

        async def write() -> None:
            for group in range(groups):
                names = [f"g{group}-{number}" for number in range(size)]
                ends.append(await log.append_atomic([entry(name, 0) for name in names]))

        with anyio.fail_after(SETTLED_S):
            async with log.follow(after=0) as batches, anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                kills = seen = 0
                async for batch in batches:
                    seen += len(batch)
                    if seen > (kills + 1) * 300 and kills < 3:
                        kills += 1
                        await server.kill()
                        await server.start()
                    if seen == size * groups:
                        break
        assert ends == [size * (group + 1) for group in range(groups)]

    async def test_neither_writer_nor_follower_stalls_after_it(
        self, server: NatsServer, log: JetStreamLog
    ) -> None:
        async with log.follow(after=0) as batches:
            for round_ in range(3):
                await log.append([entry("a")])
                assert [recorded.seq for recorded in await anext(batches)] == [round_ * 2 + 1]
                await server.kill()
                await server.start()
                began_s = perf_counter()
                await log.append([entry("a")])
                assert [recorded.seq for recorded in await anext(batches)] == [round_ * 2 + 2]
                assert perf_counter() - began_s < 1.0

    async def test_a_graceful_restart_is_no_different(
        self, server: NatsServer, log: JetStreamLog
    ) -> None:
        async with log.follow(after=0) as batches:
            await log.append([entry("a")])
            assert len(await anext(batches)) == 1
            await server.restart()
            began_s = perf_counter()
            await log.append([entry("a")])
            assert len(await anext(batches)) == 1
            assert perf_counter() - began_s < 1.0

    async def test_a_log_that_stays_silent_is_unavailable_until_it_is_back(
        self, server: NatsServer, connection: Connection, settings: LogSettings
    ) -> None:
        hasty = msgspec.structs.replace(settings, silence_s=1.0)
        async with open_log(LEDGER, connection, hasty) as log:
            await log.append([entry("a", 0)])
            await server.kill()
            with anyio.fail_after(5):
                with pytest.raises(LogUnavailable):
                    await log.append([entry("b", 0)])
                with pytest.raises(LogUnavailable):
                    await log.append_atomic([entry("b", 0), entry("c", 0)])
            await server.start()
            assert await log.append([entry("d", 0)]) == [2]


class Lossy:
    """Throws away the next `left` acknowledgements."""

    def __init__(self) -> None:
        self.left = 0
        self.lost: list[PubAck] = []
        self.then = anyio.Event()

    def around(self, take: Callable[..., None]) -> Callable[..., None]:
        def forgetful(receiver: object, *message: bytes) -> None:
            if self.left:
                self.left -= 1
                self.lost.append(decode_ack(message[2]))
                self.then.set()
            else:
                take(receiver, *message)

        return forgetful


class TestLostAcknowledgements:
    """The first acknowledgement is thrown away: was it stored or not?"""

    @pytest.fixture
    def lossy(self, monkeypatch: pytest.MonkeyPatch) -> Lossy:
        lossy = Lossy()
        for receiver in (Window, Batches):
            monkeypatch.setattr(receiver, "_on_reply", lossy.around(receiver._on_reply))
        return lossy

    @pytest.fixture
    async def log(
        self, lossy: Lossy, connection: Connection, settings: LogSettings
    ) -> AsyncGenerator[JetStreamLog]:
        assert lossy.left == 0, "it has to be in place before the log listens"
        async with open_log(LEDGER, connection, settings) as log:
            yield log

    async def test_an_event_of_ours_is_found_by_its_id(
        self, log: JetStreamLog, lossy: Lossy
    ) -> None:
        await log.append([entry("x", 0)])
        lossy.left = 1
        assert await log.append([entry("a", 0)]) == [2]
        assert [ack.seq for ack in lossy.lost] == [2]
        assert await log.last_seq() == 2

    async def test_an_event_of_another_is_a_conflict(self, log: JetStreamLog, lossy: Lossy) -> None:
        await log.append([entry("a", 0)])
        lossy.left = 1
        (outcome,) = await log.append([entry("a", 0)])
        assert [ack.error.err_code for ack in lossy.lost if ack.error] == [WRONG_LAST_SEQUENCE]
        assert isinstance(outcome, Conflict)
        assert outcome.current == 1

    async def test_an_event_of_ours_is_found_behind_later_ones(
        self, server: NatsServer, log: JetStreamLog, lossy: Lossy
    ) -> None:
        lossy.left = 1
        lossy.then = anyio.Event()
        outcomes: list[int | Conflict] = []

        async def write() -> None:
            outcomes.extend(await log.append([entry("a", 0)]))

        async with connect(server.url, name="other") as other, anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await lossy.then.wait()
            await other.ask("ffrtmp.job.a", b"of another", timeout_s=2.0)
        assert outcomes == [1]
        assert await log.last_seq() == 2

    async def test_an_unguarded_event_is_told_once(self, log: JetStreamLog, lossy: Lossy) -> None:
        lossy.left = 1
        assert await log.append([entry("a")]) == [1]
        assert len(lossy.lost) == 1
        assert await log.last_seq() == 1

    async def test_a_whole_batch_is_found_by_one_of_its_entries(
        self, log: JetStreamLog, lossy: Lossy
    ) -> None:
        await log.append([entry("x", 0)])
        lossy.left = 1
        assert await log.append_atomic([entry("a"), entry("b", 0), entry("c")]) == 4
        assert [ack.count for ack in lossy.lost] == [3]
        assert await log.last_seq() == 4

    async def test_a_batch_without_any_guard_is_found_by_its_ids(
        self, log: JetStreamLog, lossy: Lossy
    ) -> None:
        lossy.left = 1
        assert await log.append_atomic([entry("a"), entry("b"), entry("c")]) == 3
        assert [ack.count for ack in lossy.lost] == [3]
        assert await log.last_seq() == 3

    async def test_a_batch_that_lost_its_race_is_a_conflict(
        self, log: JetStreamLog, lossy: Lossy
    ) -> None:
        await log.append([entry("b", 0)])
        lossy.left = 1
        with pytest.raises(Conflict) as caught:
            await log.append_atomic([entry("a", 0), entry("b", 0)])
        assert len(lossy.lost) == 1
        assert (caught.value.subject, caught.value.current) == ("ffrtmp.job.b", 1)

    async def test_thousands_of_lost_acknowledgements_are_settled(
        self, log: JetStreamLog, lossy: Lossy, mode: Mode
    ) -> None:
        lossy.left = 3_000 if mode == "100ms" else 3
        with anyio.fail_after(20):
            outcomes = await log.append([entry(f"j{number}", 0) for number in range(3_000)])
        assert lossy.left == 0
        assert sorted(each for each in outcomes if isinstance(each, int)) == list(range(1, 3_001))
