"""What a worker does about the log being away, its disk being full, and its jobs being taken."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import anyio
import pytest
import trio.testing
from msgspec.structs import replace

from events import subjects
from events.ids import JobId, NodeId
from events.job import (
    AttemptFailed,
    AttemptLost,
    Completed,
    Declined,
    FailureClass,
    JobFact,
    LossCause,
    Promoted,
    Queued,
    QueuedAfter,
    Started,
)
from events.media import MadeFile
from events.node import Available, Lost, Recovered, Registered
from events.telemetry import Heartbeat
from services.bus.memory import MemoryBus
from services.errors import LogUnavailable
from services.log.memory import MemoryLog
from services.log.port import Entry, Outcome
from services.worker.journal import Journal
from services.worker.port import Broken, Disk, Load, Made
from tests.fakes import EPOCH, FakeExecutor, Gates, make_at_once, passing
from tests.sites import Site, work

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
NODE = subjects.node(N1)
FILES = (MadeFile(path="a.mp4", size_bytes=1000),)
MADE = Made(files=FILES)
COMPLETED = Completed(node=N1, attempt=1, files=FILES)
FAILED = AttemptFailed(node=N1, attempt=1, failure=FailureClass.TRANSIENT, message="reset")
TAKEN = (
    AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST),
    Queued(after=QueuedAfter.LOSS),
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
def site(tmp_path: Path, gates: Gates) -> Site:
    return Site(tmp_path, FakeExecutor(gates.play))


class AwayLog(MemoryLog):
    """A log that can be away for those who write."""

    away = False

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        if self.away:
            raise LogUnavailable("away")
        return await super().append(entries)


def away(site: Site) -> AwayLog:
    """Give the site a ledger that can be away."""
    ledger = AwayLog()
    site.backbone = replace(site.backbone, ledger=ledger)
    return ledger


class TestEndings:
    async def test_an_encode_goes_on_and_its_end_waits_for_the_log(
        self, site: Site, gates: Gates
    ) -> None:
        ledger = away(site)
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            ledger.away = True
            gates.end("a", MADE)
            await passing(300)
            assert await site.story("a") == ["started"]
            ledger.away = False
            await site.until("a", Promoted)
        assert await site.story("a") == ["started", "completed", "promoted"]
        assert site.executor.begun == [("a", 1)]

    async def test_an_end_is_in_the_journal_before_it_is_in_the_log(
        self, site: Site, gates: Gates
    ) -> None:
        ledger = away(site)
        async with site.worker():
            await site.give("a", "b")
            await gates.begun("a")
            await gates.begun("b")
            ledger.away = True
            gates.end("a", MADE)
            gates.end("b", Broken(failure=FailureClass.TRANSIENT, message="reset"))
            await passing(10)
            assert site.journal.ending(work("a")) == COMPLETED
            assert site.journal.ending(work("b")) == FAILED
            ledger.away = False
            await site.until("a", Promoted)
        assert site.journal.ending(work("a")) is None
        assert list((site.settings.work_dir / "attempts").iterdir()) == []


class TestNextStart:
    """A worker has died while the log was away; its encode was done."""

    @pytest.fixture
    def site(self, tmp_path: Path) -> Site:
        site = Site(tmp_path, FakeExecutor(make_at_once))
        site.journal.begin(work("a"))
        site.executor.disk.drafts.add((JobId("a"), 1))
        return site

    async def test_it_is_told_and_promoted_before_the_node_registers(self, site: Site) -> None:
        site.journal.conclude(work("a"), COMPLETED)
        await site.assigned("a")
        await site.job("a", Started(node=N1, attempt=1))
        async with site.worker():
            completed = await site.until("a", Completed)
            promoted = await site.until("a", Promoted)
            registered = await site.until_node(Registered)
        assert completed.fact == COMPLETED
        assert completed.seq < promoted.seq < registered.seq
        assert (site.executor.begun, site.executor.disk.finals) == ([], {"a": 1})
        assert list((site.settings.work_dir / "attempts").iterdir()) == []

    async def test_it_is_void_when_the_job_went_elsewhere(self, site: Site) -> None:
        site.journal.conclude(work("a"), COMPLETED)
        await site.assigned("a")
        await site.job("a", Started(node=N1, attempt=1), *TAKEN)
        await site.assigned("a", attempt=2, node="n2")
        async with site.worker():
            await site.until_node(Registered)
        assert await site.story("a") == ["started", "attempt_lost", "queued"]
        assert (site.executor.promoted, site.executor.discarded) == ([], [("a", 1)])
        assert site.executor.disk.drafts == set()

    async def test_a_failure_is_told_too(self, site: Site) -> None:
        site.journal.conclude(work("a"), FAILED)
        await site.assigned("a")
        await site.job("a", Started(node=N1, attempt=1))
        async with site.worker():
            told = await site.until("a", AttemptFailed)
            registered = await site.until_node(Registered)
        assert told.fact == FAILED
        assert told.seq < registered.seq
        assert site.executor.discarded == [("a", 1)]

    async def test_one_that_was_told_already_is_not_told_again(self, site: Site) -> None:
        site.journal.conclude(work("a"), COMPLETED)
        await site.assigned("a")
        await site.job("a", Started(node=N1, attempt=1), COMPLETED)
        async with site.worker():
            await site.until("a", Promoted)
        assert await site.story("a") == ["started", "completed", "promoted"]


class TestJournal:
    @pytest.mark.parametrize("fact", [COMPLETED, FAILED])
    def test_it_keeps_how_an_attempt_ended(self, tmp_path: Path, fact: JobFact) -> None:
        journal = Journal(tmp_path)
        journal.begin(work("a"))
        assert journal.ending(work("a")) is None
        journal.conclude(work("a"), fact)
        assert Journal(tmp_path).ending(work("a")) == fact
        assert Journal(tmp_path).unfinished() == [work("a")]
        journal.end(work("a"))
        assert (journal.ending(work("a")), journal.unfinished()) == (None, [])

    def test_an_attempt_without_files_is_not_kept(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        journal.conclude(work("a"), COMPLETED)
        assert journal.ending(work("a")) is None

    def test_an_end_that_was_asked_for_is_not_kept(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        journal.begin(work("a"))
        journal.conclude(work("a"), TAKEN[0])
        assert journal.ending(work("a")) is None

    def test_a_torn_end_is_none(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        journal.begin(work("a"))
        (tmp_path / "attempts" / "a.1.ending").write_bytes(b'{"completed":{"no')
        assert journal.ending(work("a")) is None


class TestTaken:
    @pytest.mark.parametrize("fact", [Lost(), Recovered()])
    async def test_attempts_of_others_end_as_soon_as_the_node_hears_it_was_given_up(
        self, site: Site, gates: Gates, fact: Lost | Recovered
    ) -> None:
        async with site.worker():
            await site.give("a", "b")
            await gates.begun("a")
            await gates.begun("b")
            await site.job("a", *TAKEN)
            await site.store(NODE, fact)
            await passing(1)
            assert site.executor.disk.drafts == {("b", 1)}
            gates.end("b", MADE)
            await site.until("b", Promoted)
        assert await site.story("a") == ["started", "attempt_lost", "queued"]

    async def test_attempts_of_others_end_when_the_line_is_back(
        self, site: Site, gates: Gates
    ) -> None:
        bus = cast(MemoryBus, site.backbone.bus)
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            await passing(6)
            await site.job("a", *TAKEN)
            await passing(6)
            assert site.executor.disk.drafts == {("a", 1)}
            bus.up_since_s = anyio.current_time()
            await passing(site.settings.heartbeat_s + 1)
            assert site.executor.disk.drafts == set()


class TestDisk:
    async def test_a_full_disk_takes_nothing_new_says_so_and_pauses_nothing(
        self, site: Site, gates: Gates
    ) -> None:
        free = {"bytes": 2**40}

        async def read_load() -> Load:
            await anyio.lowlevel.checkpoint()
            return Load(disks=(Disk("/x", free["bytes"]),))

        site.offers = replace(site.offers, read_load=read_load)
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            free["bytes"] = int(1.2 * 2**30)
            await passing(site.settings.heartbeat_s + 1)
            (*_, refused) = await site.on_node(Available)
            await site.give("b")
            declined = await site.until("b", Declined)
            gates.end("a", MADE)
            await site.until("a", Promoted)
            free["bytes"] = 2**40
            await passing(site.settings.heartbeat_s + 1)
            (*_, again) = await site.on_node(Available)
            await site.give("c")
            await gates.begun("c")
            gates.end("c", MADE)
        reason = "disk: 1.2 GiB free in /x, needs 2 GiB"
        assert refused.fact == Available(epoch=EPOCH, slots=2, free=0, refusing=reason)
        assert declined.fact == Declined(node=N1, attempt=1, reason=reason)
        assert again.fact == Available(epoch=EPOCH, slots=2, free=2)

    async def test_a_heartbeat_the_log_does_not_take_is_dropped(self, site: Site) -> None:
        telemetry = AwayLog()
        site.backbone = replace(site.backbone, telemetry=telemetry)
        telemetry.away = True
        async with site.worker():
            await passing(12)
            telemetry.away = False
            await passing(site.settings.heartbeat_s)
            beats = await telemetry.read(subjects.telemetry_of_node(N1))
        assert [type(beat.fact) for beat in beats] == [Heartbeat]
