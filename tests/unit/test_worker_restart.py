"""A worker that starts again settles what the one before it has left, then offers its slots."""

from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import trio.testing

from events.ids import JobId, NodeId
from events.job import (
    AttemptLost,
    Completed,
    LossCause,
    Promoted,
    Queued,
    QueuedAfter,
    Started,
)
from events.media import MadeFile
from events.node import Registered
from services.worker.journal import Journal
from services.worker.port import Made, Work
from tests.fakes import EPOCH, T0, FakeExecutor, make_at_once, passing
from tests.sites import Site, work

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
STARTED = Started(node=N1, attempt=1)
FILES = (MadeFile(path="a.mp4", size_bytes=1000),)
COMPLETED = Completed(node=N1, attempt=1, files=FILES)
LOST = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)
REQUEUED = Queued(after=QueuedAfter.LOSS)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class HungExecutor(FakeExecutor):
    """An executor whose file system hangs when files are to be renamed or removed."""

    async def promote(self, work: Work, made: Made) -> None:
        del work, made
        await anyio.sleep_forever()

    async def discard(self, work: Work) -> None:
        del work
        await anyio.sleep_forever()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a node whose worker has died: it had begun an attempt of job `a`."""
    site = Site(tmp_path, FakeExecutor(make_at_once))
    site.journal.begin(work("a"))
    site.executor.disk.drafts.add((JobId("a"), 1))
    return site


class StuckExecutor(FakeExecutor):
    """An executor that cannot touch its files until it is repaired."""

    broken = True

    async def promote(self, work: Work, made: Made) -> None:
        self._check()
        await super().promote(work, made)

    async def discard(self, work: Work) -> None:
        self._check()
        await super().discard(work)

    def _check(self) -> None:
        if self.broken:
            raise PermissionError(13, "Permission denied", "a.mp4")


class TestClearingUp:
    async def test_a_winner_that_was_not_promoted_is_promoted(self, site: Site) -> None:
        await site.assigned("a")
        await site.job("a", STARTED, COMPLETED)
        async with site.worker():
            promoted = await site.until("a", Promoted)
            registered = await site.until_node(Registered)
        assert promoted.fact == Promoted(node=N1, attempt=1)
        assert promoted.seq < registered.seq
        assert (site.executor.disk.drafts, site.executor.disk.finals) == (set(), {"a": 1})
        assert site.journal.unfinished() == []

    async def test_a_renamed_winner_nobody_was_told_of_is_told(self, site: Site) -> None:
        site.executor.disk.drafts.clear()
        site.executor.disk.finals[JobId("a")] = 1
        await site.assigned("a")
        await site.job("a", STARTED, COMPLETED)
        async with site.worker():
            await site.until("a", Promoted)
        assert site.executor.disk.finals == {"a": 1}

    async def test_a_promoted_winner_is_only_forgotten(self, site: Site) -> None:
        await site.assigned("a")
        await site.job("a", STARTED, COMPLETED, Promoted(node=N1, attempt=1))
        async with site.worker():
            pass
        assert (site.executor.promoted, site.executor.discarded) == ([], [])
        assert site.journal.unfinished() == []

    async def test_an_attempt_that_never_ended_is_discarded(self, site: Site) -> None:
        await site.assigned("a")
        await site.job("a", STARTED)
        async with site.worker():
            await site.until_node(Registered)
        assert site.executor.discarded == [("a", 1)]
        assert (site.executor.disk.drafts, site.journal.unfinished()) == (set(), [])

    async def test_an_attempt_that_lost_against_a_later_one_is_discarded(self, site: Site) -> None:
        await site.assigned("a")
        await site.job("a", STARTED, LOST, REQUEUED)
        await site.assigned("a", attempt=2, node="n2")
        n2 = NodeId("n2")
        await site.job("a", Started(node=n2, attempt=2))
        await site.job("a", Completed(node=n2, attempt=2, files=FILES))
        async with site.worker():
            await site.until_node(Registered)
        assert (site.executor.promoted, site.executor.discarded) == ([], [("a", 1)])

    async def test_every_start_has_its_own_epoch(self, site: Site) -> None:
        for _ in range(3):
            async with site.worker():
                pass
        epochs = [event.fact for event in await site.on_node(Registered)]
        assert [fact.epoch for fact in epochs if isinstance(fact, Registered)] == [
            EPOCH,
            EPOCH + 1,
            EPOCH + 2,
        ]


class TestFilesThatCannotBeTouched:
    async def test_a_failed_renaming_is_tried_again_while_the_worker_lives(
        self, tmp_path: Path
    ) -> None:
        executor = StuckExecutor(make_at_once)
        site = Site(tmp_path, executor)
        async with site.worker():
            await site.give("a")
            await site.until("a", Completed)
            await passing(10.0)
            executor.broken = False
            await site.until("a", Promoted)
        assert (site.executor.disk.finals, site.journal.unfinished()) == ({"a": 1}, [])

    async def test_a_renaming_that_hangs_holds_up_neither_work_nor_the_next_start(
        self, tmp_path: Path
    ) -> None:
        site = Site(tmp_path, HungExecutor(make_at_once))
        async with site.worker():
            await site.give("a")
            await site.until("a", Completed)
            await site.give("b")
            after = (await site.until("b", Completed)).seq
        async with site.worker():
            await site.until_node(Registered, after)
        assert [left.job for left in site.journal.unfinished()] == ["a", "b"]

    async def test_a_failed_renaming_is_tried_again_at_the_next_start(self, tmp_path: Path) -> None:
        executor = StuckExecutor(make_at_once)
        site = Site(tmp_path, executor)
        async with site.worker():
            await site.give("a")
            await site.until("a", Completed)
            await site.give("b")
            await site.until("b", Completed)
        assert sorted(each.job for each in site.journal.unfinished()) == ["a", "b"]
        executor.broken = False
        async with site.worker():
            await site.until("a", Promoted)
            await site.until("b", Promoted)
        assert executor.disk.finals == {"a": 1, "b": 1}
        assert site.journal.unfinished() == []

    @pytest.mark.parametrize("won", [True, False])
    async def test_they_do_not_keep_the_worker_from_starting(
        self, tmp_path: Path, *, won: bool
    ) -> None:
        site = Site(tmp_path, StuckExecutor(make_at_once))
        site.journal.begin(work("a"))
        await site.assigned("a")
        await site.job("a", STARTED, *([COMPLETED] if won else [LOST]))
        async with site.worker():
            await site.until_node(Registered)
        assert site.journal.unfinished() == [work("a")]


class TestJournal:
    def test_it_returns_what_was_begun_and_not_ended(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        for job in ("a", "b", "c"):
            journal.begin(work(job, attempt=2))
        journal.end(work("b", attempt=2))
        journal.end(work("b", attempt=2))
        assert Journal(tmp_path).unfinished() == [work("a", 2), work("c", 2)]

    def test_a_torn_entry_is_forgotten(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        journal.begin(work("a"))
        torn = tmp_path / "attempts" / "b.1.json"
        torn.write_bytes(b'{"job":"b","att')
        assert journal.unfinished() == [work("a")]
        assert not torn.exists()

    @pytest.mark.parametrize("content", ["", "x", "-"])
    def test_an_epoch_that_cannot_be_read_begins_anew(self, tmp_path: Path, content: str) -> None:
        journal = Journal(tmp_path)
        (tmp_path / "epoch").write_text(content)
        assert [journal.next_epoch(T0), journal.next_epoch(T0)] == [EPOCH, EPOCH + 1]

    def test_an_epoch_grows_when_the_clock_was_set_back(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        first = journal.next_epoch(T0)
        assert journal.next_epoch(T0 - timedelta(days=1)) == first + 1
