"""What follows from facts and the passing of time: settled, released, given up, rejected."""

from datetime import timedelta

import pytest

from events import subjects
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Canceled,
    Completed,
    Failed,
    FailureClass,
    JobFact,
    LossCause,
    Promoted,
    Queued,
    QueuedAfter,
    Rejected,
    Retried,
    RetryScheduled,
    Started,
    Submitted,
)
from events.media import MadeFile
from events.node import Drained, Lost, NodeFact, Removed
from events.spec import Priority, Queue
from events.state.job import Ended, JobStatus, Terms
from events.subjects import Subject
from services.clock import Pen
from services.config import SchedulerSettings
from services.log.memory import MemoryLog
from services.log.port import Batch, Entry
from services.scheduler.deciders.job import RetryPolicy, backoff_s
from services.scheduler.state.world import World
from services.scheduler.upkeep import timers
from services.scheduler.upkeep.dependencies import dependency_drafts
from services.scheduler.upkeep.timers import Draft
from tests.fakes import LoopClock
from tests.vocabulary import T0, instant
from tests.worlds import Told, noop

N1 = NodeId("n1")
JOB, OTHER, THIRD = JobId("clip"), JobId("other"), JobId("third")
SETTINGS = SchedulerSettings(assign_s=60.0, unschedulable_s=120.0)
ASSIGNED = Assigned(node=N1, attempt=1)
STARTED = Started(node=N1, attempt=1)
FAILED_ONCE = AttemptFailed(node=N1, attempt=1, failure=FailureClass.TRANSIENT)
LOST_ONCE = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)
BACKOFF = RetryScheduled(not_before=instant(60), delay_s=5.0, failures=1)
COMPLETED = Completed(node=N1, attempt=1, files=(MadeFile(path="a.mp4", size_bytes=1),))
FAILED = Failed(failure=FailureClass.PERMANENT, reason="no")


def held(*facts: JobFact, slots: int = 4) -> Told:
    """Return a world with one node, one job assigned to it, and these facts after that."""
    told = Told()
    told.register("n1", slots)
    told.submit(JOB)
    told.job(JOB, ASSIGNED, *facts)
    return told


class TestSettle:
    def test_every_halted_job_is_settled_against_its_version(self) -> None:
        told = held(STARTED, FAILED_ONCE)
        failed_at = told.world.seq
        told.submit(OTHER)
        lost_at = told.job(OTHER, ASSIGNED, LOST_ONCE)
        delay_s = backoff_s(JOB, 1, RetryPolicy())
        not_before = T0 + timedelta(seconds=delay_s)
        retry = RetryScheduled(not_before=not_before, delay_s=delay_s, failures=1)
        assert timers.settle(told.world, T0, RetryPolicy()) == [
            Draft(JOB, retry, failed_at),
            Draft(OTHER, Queued(after=QueuedAfter.LOSS), lost_at),
        ]

    def test_a_job_whose_fact_is_on_its_way_is_left_alone(self) -> None:
        told = held(LOST_ONCE)
        told.world.claim(JOB)
        assert timers.settle(told.world, T0, RetryPolicy()) == []

    def test_nothing_halted_is_nothing_to_settle(self) -> None:
        assert timers.settle(held(STARTED).world, T0, RetryPolicy()) == []


class TestRelease:
    def test_a_start_time_that_has_come_releases_the_job(self) -> None:
        told = Told()
        seq = told.submit(JOB, noop(not_before=instant(60)))
        assert timers.release(told.world, instant(59)) == []
        expected = [Draft(JOB, Queued(after=QueuedAfter.START_TIME), seq)]
        assert timers.release(told.world, instant(60)) == expected

    def test_a_back_off_that_is_over_releases_the_job(self) -> None:
        told = held(FAILED_ONCE, BACKOFF)
        assert timers.release(told.world, instant(59)) == []
        expected = [Draft(JOB, Queued(after=QueuedAfter.BACKOFF), told.world.seq)]
        assert timers.release(told.world, instant(60)) == expected

    def test_a_job_that_ended_meanwhile_is_not_released(self) -> None:
        told = Told()
        told.submit(JOB, noop(not_before=instant(60)))
        told.job(JOB, Canceled())
        assert timers.release(told.world, instant(60)) == []

    def test_a_start_time_alone_does_not_release_a_dependent_job(self) -> None:
        told = Told()
        told.submit(JOB, noop(not_before=instant(60), depends_on=[OTHER]))
        told.world.unblocked.clear()
        assert timers.release(told.world, instant(60)) == []
        assert list(told.world.unblocked) == [JOB]


class TestRejectUnplaceable:
    REASON = (
        "no registered node has all of: gpu; waited 120 s; "
        "start a worker that has them, or ask for less, and submit again"
    )

    def waiting(self, *capabilities: str) -> Told:
        told = Told()
        told.register("n1", 4, *capabilities)
        told.submit(JOB, noop(requires=["gpu"]), at=T0)
        return told

    def test_what_no_node_can_run_is_rejected_after_a_while(self) -> None:
        told = self.waiting()
        soon, late = T0 + timedelta(seconds=120), T0 + timedelta(seconds=120.001)
        rejected = Rejected(reason=self.REASON, field="$.requires")
        assert timers.reject_unplaceable(told.world, soon, SETTINGS) == []
        assert timers.reject_unplaceable(told.world, late, SETTINGS) == [
            Draft(JOB, rejected, told.world.seq)
        ]

    @pytest.mark.parametrize("fact", [Lost(), Drained(epoch=1)], ids=["lost", "drained"])
    def test_a_node_that_is_away_may_come_back(self, fact: NodeFact) -> None:
        told = self.waiting("gpu")
        told.node("n1", fact)
        assert timers.reject_unplaceable(told.world, instant(3600), SETTINGS) == []

    def test_a_node_that_was_removed_will_not(self) -> None:
        told = self.waiting()
        told.register("n2", 1, "gpu")
        told.node("n2", Removed())
        assert len(timers.reject_unplaceable(told.world, instant(3600), SETTINGS)) == 1

    def test_while_no_node_has_ever_registered_nothing_is_rejected(self) -> None:
        told = Told()
        told.submit(JOB, noop(requires=["gpu"]), at=T0)
        assert timers.reject_unplaceable(told.world, instant(3600), SETTINGS) == []

    def test_a_full_node_is_no_reason(self) -> None:
        told = held(STARTED, slots=1)
        told.submit(OTHER, at=T0)
        assert timers.reject_unplaceable(told.world, instant(3600), SETTINGS) == []

    def test_capabilities_spread_over_nodes_are_named_together(self) -> None:
        told = Told()
        told.register("n1", 1, "gpu")
        told.register("n2", 1, "label:zone=eu")
        told.submit(JOB, noop(requires=["gpu", "label:zone=eu"]), at=T0)
        (draft,) = timers.reject_unplaceable(told.world, instant(3600), SETTINGS)
        assert isinstance(draft.fact, Rejected)
        assert draft.fact.reason.startswith(
            "no registered node has all of: engine:noop, gpu, label:zone=eu; waited 120 s; "
        )

    def test_a_pass_rejects_a_limited_number_the_oldest_first(self) -> None:
        told = Told()
        told.register("n1", 1)
        jobs = [JobId(f"j{number:03}") for number in range(timers.REJECTED_A_PASS_MAX + 1)]
        for job in jobs:
            told.submit(job, noop(requires=["gpu"]), at=T0)
        drafts = timers.reject_unplaceable(told.world, instant(3600), SETTINGS)
        assert [draft.job for draft in drafts] == jobs[:-1]

    def test_the_wait_for_a_start_time_does_not_count(self) -> None:
        told = Told()
        told.register("n1", 1)
        told.submit(JOB, noop(requires=["gpu"], not_before=instant(3000)), at=T0)
        told.job(JOB, Queued(after=QueuedAfter.START_TIME), at=instant(3000))
        assert timers.reject_unplaceable(told.world, instant(3100), SETTINGS) == []
        (draft,) = timers.reject_unplaceable(told.world, instant(3121), SETTINGS)
        assert draft.job == JOB


class Ledger:
    """A world that has folded part of a ledger."""

    def __init__(self, log: MemoryLog | None = None) -> None:
        self.log = log or MemoryLog()
        self.told = Told()
        self._pen = Pen("test", LoopClock())

    async def store(self, job: str, *facts: JobFact) -> None:
        """Store facts in the ledger and tell them to the world."""
        subject = subjects.job(JobId(job))
        await self.log.append([Entry(self._pen.write(subject, fact)) for fact in facts])
        self.told.job(job, *facts)

    async def drafts(self) -> list[tuple[str, JobFact]]:
        """Return what is decided about dependent jobs now."""
        found = await dependency_drafts(self.told.world, self.log, instant(9))
        return [(draft.job, draft.fact) for draft in found]


@pytest.mark.anyio
class TestDependencies:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"

    DEPENDENT = Submitted(spec=noop(depends_on=[OTHER, THIRD]))
    DONE = (Submitted(spec=noop()), ASSIGNED, STARTED, COMPLETED)
    RELEASED = (JOB, Queued(after=QueuedAfter.DEPENDENCIES))

    async def test_a_job_waits_until_all_it_depends_on_are_completed(self) -> None:
        ledger = Ledger()
        await ledger.store(JOB, self.DEPENDENT)
        assert await ledger.drafts() == []
        await ledger.store(OTHER, *self.DONE)
        assert await ledger.drafts() == []
        await ledger.store(THIRD, *self.DONE)
        assert await ledger.drafts() == [self.RELEASED]

    async def test_jobs_that_were_promoted_long_ago_are_known_as_completed(self) -> None:
        ledger = Ledger()
        for job in (OTHER, THIRD):
            await ledger.store(job, *self.DONE, Promoted(node=N1, attempt=1))
        await ledger.store(JOB, self.DEPENDENT)
        assert await ledger.drafts() == [self.RELEASED]

    @pytest.mark.parametrize(
        ("end", "status"),
        [(FAILED, "failed"), (Canceled(), "canceled"), (Rejected(reason="no"), "rejected")],
        ids=["failed", "canceled", "rejected"],
    )
    async def test_one_that_did_not_succeed_ends_the_job_at_once(
        self, end: JobFact, status: str
    ) -> None:
        ledger = Ledger()
        await ledger.store(JOB, self.DEPENDENT)
        await ledger.store(OTHER, Submitted(spec=noop()), end)
        reason = f"depends on other, which is {status}"
        expected = Failed(failure=FailureClass.PERMANENT, reason=reason)
        assert await ledger.drafts() == [(JOB, expected)]

    async def test_one_that_ended_and_was_retried_before_the_look_is_waited_for(self) -> None:
        ledger = Ledger()
        await ledger.store(JOB, Submitted(spec=noop(depends_on=[OTHER])))
        await ledger.store(OTHER, Submitted(spec=noop()), FAILED)
        world = ledger.told.world
        terms = Terms(2, T0, noop(), Queue.DEFAULT, Priority.MEDIUM)
        world.recall(OTHER, Ended(version=world.seq, terms=terms, status=JobStatus.FAILED))
        await ledger.store(OTHER, Retried())
        assert await ledger.drafts() == []
        await ledger.store(OTHER, *self.DONE[1:])
        assert await ledger.drafts() == [self.RELEASED]

    async def test_a_job_that_was_looked_at_is_not_looked_at_again(self) -> None:
        ledger = Ledger()
        await ledger.store(JOB, self.DEPENDENT)
        await ledger.drafts()
        assert ledger.told.world.unblocked == {}

    async def test_a_dependency_that_ends_meanwhile_brings_no_second_draft(self) -> None:
        log = BusyLog()
        ledger = Ledger(log)
        await ledger.store("waiter", Submitted(spec=noop(depends_on=["nobody"])))
        await ledger.store(OTHER, Submitted(spec=noop()), FAILED)
        await ledger.store(JOB, self.DEPENDENT)
        log.unblocks = ledger.told.world
        assert [job for job, _ in await ledger.drafts()] == [JOB]
        assert JOB in ledger.told.world.unblocked


class BusyLog(MemoryLog):
    """A log during whose every read another dependency of the job ends."""

    unblocks: World | None = None

    async def read(self, subject: Subject, *, after: int = 0) -> Batch:
        if self.unblocks is not None:
            self.unblocks.unblocked[JOB] = None
        return await super().read(subject, after=after)
