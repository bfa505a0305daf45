"""What becomes of attempts in a worker: one run each, in its slots, and told as it ended."""

from pathlib import Path

import anyio
import pytest
import trio.testing

from events.ids import JobId, NodeId
from events.job import (
    AttemptFailed,
    AttemptLost,
    Canceled,
    CancelRequested,
    Completed,
    Declined,
    FailureClass,
    LossCause,
    Promoted,
    Queued,
    QueuedAfter,
    Started,
)
from events.media import MadeFile
from events.node import Available, Drained
from events.spec import Engine, JobSpec
from services.worker.guard.ending import MESSAGE_CHARS_MAX
from services.worker.port import Broken, Made, Report, Result, Work
from tests.fakes import EPOCH, FakeExecutor, Gates, fail_at_once, make_at_once
from tests.sites import Site

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
NOOP = JobSpec(engine=Engine.NOOP)
MADE = Made(files=(MadeFile(path="a.mp4", size_bytes=1000),))
LOST = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
def site(tmp_path: Path, gates: Gates) -> Site:
    return Site(tmp_path, FakeExecutor(gates.play))


class TestRun:
    async def test_an_assignment_is_started_completed_and_promoted(self, tmp_path: Path) -> None:
        site = Site(tmp_path, FakeExecutor(make_at_once))
        async with site.worker():
            await site.give("a")
            await site.until("a", Promoted)
        assert await site.story("a") == ["started", "completed", "promoted"]
        assert site.executor.disk.finals == {"a": 1}
        assert site.journal.unfinished() == []

    async def test_a_noop_has_nothing_to_promote(self, tmp_path: Path) -> None:
        site = Site(tmp_path, FakeExecutor(make_at_once))
        async with site.worker():
            await site.give("a", spec=NOOP)
            event = await site.until("a", Completed)
        assert event.fact == Completed(node=N1, attempt=1)
        assert await site.story("a") == ["started", "completed"]

    async def test_a_failed_attempt_is_told_and_its_files_discarded(self, tmp_path: Path) -> None:
        site = Site(tmp_path, FakeExecutor(fail_at_once))
        async with site.worker():
            await site.give("a")
            event = await site.until("a", AttemptFailed)
        assert event.fact == AttemptFailed(
            node=N1,
            attempt=1,
            failure=FailureClass.TRANSIENT,
            message="connection reset by peer",
        )
        assert site.executor.discarded == [("a", 1)]
        assert site.journal.unfinished() == []

    async def test_an_executor_that_raises_fails_the_attempt_and_nothing_else(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a", "b")
            gates.end("a", ZeroDivisionError("division by zero"))
            event = await site.until("a", AttemptFailed)
            gates.end("b", MADE)
            await site.until("b", Promoted)
        assert isinstance(event.fact, AttemptFailed)
        assert (event.fact.failure, event.fact.message) == (
            FailureClass.INFRASTRUCTURE,
            "the worker could not run the attempt: ZeroDivisionError: division by zero",
        )

    async def test_an_engine_the_node_lacks_fails_the_attempt(self, site: Site) -> None:
        async with site.worker():
            await site.give("a", spec=JobSpec(engine=Engine.GSTREAMER))
            event = await site.until("a", AttemptFailed)
        assert isinstance(event.fact, AttemptFailed)
        assert (event.fact.failure, event.fact.message) == (
            FailureClass.RESOURCE,
            "this node has no engine gstreamer",
        )

    async def test_a_journal_that_cannot_be_written_fails_the_attempt_only(
        self, site: Site
    ) -> None:
        async with site.worker():
            (site.settings.work_dir / "attempts").rmdir()
            await site.give("a")
            event = await site.until("a", AttemptFailed)
        assert isinstance(event.fact, AttemptFailed)
        assert event.fact.failure is FailureClass.INFRASTRUCTURE
        assert site.executor.begun == []

    async def test_words_that_are_no_text_are_told_all_the_same(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a")
            gates.end("a", Broken(failure=FailureClass.PERMANENT, message="caf\udce9 " * 5000))
            event = await site.until("a", AttemptFailed)
        assert isinstance(event.fact, AttemptFailed)
        assert event.fact.message == ("caf? " * 5000)[:MESSAGE_CHARS_MAX]


class TestSlots:
    async def test_what_does_not_fit_is_declined(self, site: Site, gates: Gates) -> None:
        async with site.worker():
            await site.give("a", "b", "c")
            event = await site.until("c", Declined)
            await gates.begun("a")
            await gates.begun("b")
            gates.end("a", MADE)
            gates.end("b", MADE)
        assert event.fact == Declined(node=N1, attempt=1, reason="2 of 2 slots taken")
        assert sorted(site.executor.begun) == [("a", 1), ("b", 1)]

    async def test_a_slot_that_was_left_is_filled_again(self, site: Site, gates: Gates) -> None:
        async with site.worker():
            await site.give("a", "b")
            gates.end("a", MADE)
            await site.until("a", Completed)
            await site.give("c")
            await gates.begun("c")
            for job in "bc":
                gates.end(job, MADE)
            await site.until("c", Promoted)

    async def test_free_room_is_reported_after_it_has_changed(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a")
            taken = await site.until_node(Available)
            gates.end("a", MADE)
            left = await site.until_node(Available, after=taken.seq)
        assert taken.fact == Available(epoch=EPOCH, slots=2, free=1)
        assert left.fact == Available(epoch=EPOCH, slots=2, free=2)

    async def test_room_is_reported_once_more_after_declining(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a", "b", "c")
            declined = await site.until("c", Declined)
            report = await site.until_node(Available, after=declined.seq)
            for job in "ab":
                gates.end(job, MADE)
        assert report.fact == Available(epoch=EPOCH, slots=2, free=0)


class TestFence:
    async def test_a_repeated_assignment_is_one_run(self, site: Site, gates: Gates) -> None:
        async with site.worker():
            assignment = await site.assigned("a")
            await site.tell(assignment, assignment)
            await gates.begun("a")
            await site.tell(assignment)
            gates.end("a", MADE)
            await site.until("a", Promoted)
            await site.tell(assignment)
            await anyio.wait_all_tasks_blocked()
        assert site.executor.begun == [("a", 1)]
        assert await site.story("a") == ["started", "completed", "promoted"]

    async def test_an_assignment_that_was_given_up_before_it_came_is_not_run(
        self, site: Site
    ) -> None:
        async with site.worker():
            assignment = await site.assigned("a")
            await site.job("a", LOST)
            await site.tell(assignment)
            taken = await site.until_node(Available)
            left = await site.until_node(Available, after=taken.seq)
        assert site.executor.begun == []
        assert left.fact == Available(epoch=EPOCH, slots=2, free=2)
        assert await site.story("a") == ["attempt_lost"]

    async def test_a_superseded_attempt_ends_unheard_and_loses_its_files(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            await site.job("a", LOST, Queued(after=QueuedAfter.LOSS))
            await site.assigned("a", attempt=2, node="n2")
            gates.end("a", MADE)
        assert await site.story("a") == ["started", "attempt_lost", "queued"]
        assert site.executor.promoted == []
        assert (site.executor.disk.drafts, site.executor.disk.finals) == (set(), {})
        assert site.journal.unfinished() == []

    async def test_a_completion_stands_although_the_job_was_asked_to_end_meanwhile(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            await site.job("a", CancelRequested(by="ann"))
            gates.end("a", MADE)
            await site.until("a", Promoted)
        assert await site.story("a") == ["started", "cancel_requested", "completed", "promoted"]

    async def test_an_attempt_ended_on_request_is_told_so_whatever_its_end_comes_to(
        self, tmp_path: Path
    ) -> None:
        async def play(work: Work, report: Report) -> Result:
            del work, report
            try:
                await anyio.sleep_forever()
            finally:
                raise OSError(5, "Input/output error")

        site = Site(tmp_path, FakeExecutor(play))
        async with site.worker():
            await site.give("a")
            await site.until("a", Started)
            await site.job("a", CancelRequested(by="ann"))
            await site.signal_cancel("a")
            event = await site.until("a", Canceled)
        assert event.fact == Canceled(attempt=1, by="ann")

    async def test_the_next_attempt_may_run_beside_its_superseded_one(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            await site.job("a", LOST, Queued(after=QueuedAfter.LOSS))
            await site.tell(await site.assigned("a", attempt=2))
            gates.end("a", MADE)
            await site.until("a", Promoted)
        assert site.executor.disk.finals == {"a": 2}
        assert site.executor.disk.drafts == set()


class TestCancel:
    async def test_a_running_attempt_is_ended_and_its_files_discarded(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            await site.job("a", CancelRequested(by="ann"))
            await site.signal_cancel("a")
            event = await site.until("a", Canceled)
        assert event.fact == Canceled(attempt=1, by="ann")
        assert site.executor.disk.drafts == set()
        assert site.executor.discarded == [("a", 1)]

    async def test_an_attempt_is_ended_once_however_often_it_is_asked(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            for _ in range(3):
                await site.signal_cancel("a")
            await site.until("a", Canceled)
            await site.signal_cancel("a")
        assert await site.story("a") == ["started", "canceled"]

    async def test_a_job_to_be_canceled_is_not_even_started(self, site: Site) -> None:
        async with site.worker():
            assignment = await site.assigned("a")
            await site.job("a", CancelRequested(by="ann", reason="wrong"))
            await site.tell(assignment)
            event = await site.until("a", Canceled)
        assert event.fact == Canceled(attempt=1, by="ann", reason="wrong")
        assert site.executor.begun == []

    async def test_a_job_to_be_canceled_is_canceled_by_the_node_that_has_no_room(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker():
            await site.give("a", "b")
            assignment = await site.assigned("c")
            await site.job("c", CancelRequested(by="ann"))
            await site.tell(assignment)
            await site.until("c", Canceled)
            for job in "ab":
                gates.end(job, MADE)
        assert await site.story("c") == ["cancel_requested", "canceled"]

    async def test_an_attempt_the_worker_was_never_told_about_is_canceled_too(
        self, site: Site
    ) -> None:
        async with site.worker():
            late = await site.assigned("a")
            await site.job("a", CancelRequested(by="ann"))
            await site.signal_cancel("a")
            await site.until("a", Canceled)
            await site.tell(late)
            await anyio.wait_all_tasks_blocked()
        assert await site.story("a") == ["cancel_requested", "canceled"]
        assert site.executor.begun == []

    async def test_a_signal_for_another_nodes_attempt_changes_nothing(self, site: Site) -> None:
        async with site.worker():
            await site.assigned("a")
            await site.job("a", LOST, Queued(after=QueuedAfter.LOSS))
            await site.assigned("a", attempt=2, node="n2")
            await site.signal_cancel("a", attempt=1)
            await anyio.wait_all_tasks_blocked()
        assert await site.story("a") == ["attempt_lost", "queued"]


class TestDrain:
    async def test_what_ends_in_time_is_completed_before_the_worker_leaves(
        self, site: Site, gates: Gates
    ) -> None:
        async with site.worker() as scope:
            await site.give("a")
            await gates.begun("a")
            before = await site.until_node(Available)
            scope.cancel()
            refused = await site.until_node(Available, after=before.seq)
            gates.end("a", MADE)
            drained = await site.until_node(Drained)
        completed = await site.until("a", Promoted)
        assert (refused.fact, drained.fact) == (
            Available(epoch=EPOCH, slots=0, free=0),
            Drained(epoch=EPOCH),
        )
        assert completed.seq < drained.seq

    async def test_what_takes_longer_is_handed_back(self, site: Site, gates: Gates) -> None:
        begun_s = anyio.current_time()
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
        event = await site.until("a", AttemptLost)
        assert event.fact == AttemptLost(node=N1, attempt=1, cause=LossCause.DRAINED)
        assert event.seq < (await site.until_node(Drained)).seq
        assert site.executor.disk.drafts == set()
        assert 10.0 <= anyio.current_time() - begun_s < 11.0

    async def test_a_draining_worker_takes_nothing_new(self, site: Site, gates: Gates) -> None:
        async with site.worker() as scope:
            await site.give("a")
            await gates.begun("a")
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            await site.give("b")
            event = await site.until("b", Declined)
            gates.end("a", MADE)
        assert event.fact == Declined(node=N1, attempt=1, reason="draining")

    async def test_an_idle_worker_leaves_at_once(self, site: Site) -> None:
        begun_s = anyio.current_time()
        async with site.worker():
            pass
        assert anyio.current_time() - begun_s < 1.0
        assert len(await site.on_node(Drained)) == 1


async def test_a_broken_result_keeps_its_exit_status(site: Site, gates: Gates) -> None:
    async with site.worker():
        await site.give("a")
        broken = Broken(failure=FailureClass.PERMANENT, message="no such filter", exit_status=8)
        gates.end("a", broken)
        event = await site.until("a", AttemptFailed)
    assert isinstance(event.fact, AttemptFailed)
    assert (event.fact.failure, event.fact.exit_status) == (FailureClass.PERMANENT, 8)
    assert (await site.until("a", Started)).seq < event.seq
    assert JobId("a") not in site.executor.disk.finals
