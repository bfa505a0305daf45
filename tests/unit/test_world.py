"""The scheduler's world: who waits, who holds what, who has room; and nothing of what is over."""

# pyright: reportPrivateUsage=false
# What is left inside is the point.

import pytest

from events.codec import Unknown
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Canceled,
    Completed,
    Declined,
    Failed,
    FailureClass,
    JobFact,
    LossCause,
    Promoted,
    Queued,
    QueuedAfter,
    Rejected,
    RetryScheduled,
    Started,
)
from events.media import MadeFile
from events.node import (
    Available,
    Cordoned,
    Drained,
    Draining,
    Lost,
    NodeFact,
    Recovered,
    Uncordoned,
)
from events.spec import JobSpec
from events.state.job import Absent, Halted, Held, Pending, Waiting
from services.scheduler.state.lineup import in_order
from services.scheduler.state.world import World
from tests.vocabulary import instant
from tests.worlds import Told, noop

N1, N2 = NodeId("n1"), NodeId("n2")
JOB, OTHER = JobId("clip"), JobId("other")
ASSIGNED = Assigned(node=N1, attempt=1)
STARTED = Started(node=N1, attempt=1)
FAILED_ONCE = AttemptFailed(node=N1, attempt=1, failure=FailureClass.TRANSIENT)
LOST_ONCE = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)
RETRY = RetryScheduled(not_before=instant(60), delay_s=5.0, failures=1)
COMPLETED = Completed(node=N1, attempt=1, files=(MadeFile(path="clip.mp4", size_bytes=1),))
PROMOTED = Promoted(node=N1, attempt=1)


def left_of_jobs(world: World) -> dict[str, object]:
    """Return all that a world keeps of jobs, by the place where it keeps it; empty: nothing."""
    kept: dict[str, object] = {
        "jobs": world.jobs,
        "held": {node: jobs for node, jobs in world.held.items() if jobs},
        "halted": world.halted,
        "ready": (*world.ready.lines(), *world.ready._places),
        "dependents": world.dependents,
        "unblocked": world.unblocked,
        "claims": world._claims,
        "backlog": world._backlog,
        "taken": {node: taken for node, taken in world.taken.items() if any(taken)},
    }
    return {place: found for place, found in kept.items() if found}


def started(slots: int = 2) -> Told:
    """Return a world with one node and one job that runs there."""
    told = Told()
    told.register("n1", slots)
    told.submit(JOB)
    told.job(JOB, ASSIGNED, STARTED)
    return told


class TestJobs:
    def test_a_submitted_job_is_ready(self) -> None:
        told = Told()
        told.submit(JOB)
        assert isinstance(told.world.job(JOB), Waiting)
        assert JOB in told.world.ready

    def test_a_job_nobody_submitted_is_absent(self) -> None:
        assert Told().world.job(JOB) == Absent()

    def test_an_assigned_job_is_held_and_no_longer_ready(self) -> None:
        told = Told()
        told.register("n1", 2)
        told.submit(JOB)
        told.job(JOB, ASSIGNED)
        (holder,) = told.world.holders()
        assert holder == (JOB, told.world.job(JOB))
        assert JOB not in told.world.ready

    @pytest.mark.parametrize("ending", [FAILED_ONCE, LOST_ONCE], ids=["failed", "lost"])
    def test_a_job_whose_attempt_ended_badly_is_halted(self, ending: JobFact) -> None:
        told = started()
        told.job(JOB, ending)
        assert isinstance(told.world.job(JOB), Halted)
        assert (told.world.halted, list(told.world.holders())) == ({JOB}, [])

    def test_a_requeued_job_is_ready_with_its_old_place(self) -> None:
        told = started()
        told.submit(OTHER)
        told.job(JOB, LOST_ONCE, Queued(after=QueuedAfter.LOSS))
        assert [place.job for place in in_order(told.world, told.world.ready.lines())] == [
            JOB,
            OTHER,
        ]
        assert told.world.halted == set()

    def test_garbage_on_a_job_moves_only_its_version(self) -> None:
        told = started()
        seq = told.job(JOB, Unknown(type="job.future.v9", problem="unknown type", body=b"{}"))
        state = told.world.job(JOB)
        assert isinstance(state, Held)
        assert (state.version, told.world.seq) == (seq, seq)

    @pytest.mark.parametrize(
        "ends",
        [
            (COMPLETED, PROMOTED),
            (COMPLETED,),
            (FAILED_ONCE, Failed(failure=FailureClass.PERMANENT, reason="no")),
            (LOST_ONCE, Canceled(attempt=1)),
            (FAILED_ONCE, RETRY, Canceled(attempt=1)),
            (LOST_ONCE, Queued(after=QueuedAfter.LOSS), Rejected(reason="no")),
        ],
        ids=["promoted", "completed", "failed", "canceled", "canceled pending", "rejected"],
    )
    def test_nothing_is_left_of_a_job_that_has_ended(self, ends: tuple[JobFact, ...]) -> None:
        told = started()
        told.job(JOB, *ends)
        assert left_of_jobs(told.world) == {}

    def test_garbage_on_a_job_nobody_submitted_leaves_nothing(self) -> None:
        told = Told()
        told.job(JOB, Unknown(type="", problem="no envelope", body=b"x"))
        assert left_of_jobs(told.world) == {}


class TestTimers:
    def test_a_job_with_a_start_time_is_due_then_and_once(self) -> None:
        told = Told()
        told.submit(JOB, noop(not_before=instant(60)))
        assert [told.world.due(instant(second)) for second in (59, 60, 61)] == [[], [JOB], []]

    def test_a_job_that_backs_off_is_due_at_its_end(self) -> None:
        told = started()
        told.job(JOB, FAILED_ONCE, RETRY)
        assert [told.world.due(instant(second)) for second in (59, 60, 61)] == [[], [JOB], []]

    def test_a_job_with_two_timers_is_due_once(self) -> None:
        told = Told()
        told.submit(JOB, noop(not_before=instant(60)))
        told.job(JOB, Unknown(type="job.future.v9", problem="unknown type", body=b"{}"))
        assert told.world.due(instant(60)) == [JOB]

    def test_due_jobs_come_by_their_instant(self) -> None:
        told = Told()
        told.submit(JOB, noop(not_before=instant(60)))
        told.submit(OTHER, noop(not_before=instant(30)))
        assert told.world.due(instant(100)) == [OTHER, JOB]


class TestDependencies:
    DEPENDENT = noop(depends_on=[OTHER])

    def test_a_dependent_job_is_looked_at_once_it_is_submitted(self) -> None:
        told = Told()
        told.submit(JOB, self.DEPENDENT)
        assert isinstance(told.world.job(JOB), Pending)
        assert list(told.world.unblocked) == [JOB]

    def test_it_is_looked_at_again_when_what_it_waits_for_has_ended(self) -> None:
        told = Told()
        told.submit(OTHER)
        told.submit(JOB, self.DEPENDENT)
        told.world.unblocked.clear()
        told.job(OTHER, Canceled())
        assert list(told.world.unblocked) == [JOB]
        assert told.world.dependents == {}

    @pytest.mark.parametrize(
        "fact", [Queued(after=QueuedAfter.DEPENDENCIES), Canceled()], ids=["released", "canceled"]
    )
    def test_nothing_is_left_of_what_it_waited_for(self, fact: JobFact) -> None:
        told = Told()
        told.submit(JOB, self.DEPENDENT)
        told.job(JOB, fact)
        assert (told.world.dependents, told.world.unblocked) == ({}, {})

    def test_those_that_waited_are_looked_at_in_the_order_of_the_ledger(self) -> None:
        told = Told()
        jobs = [JobId(f"j{number}") for number in range(20)]
        for job in jobs:
            told.submit(job, self.DEPENDENT)
        told.world.unblocked.clear()
        told.job(OTHER, Rejected(reason="no"))
        assert list(told.world.unblocked) == jobs

    def test_one_of_two_dependents_may_go(self) -> None:
        told = Told()
        told.submit(JOB, self.DEPENDENT)
        told.submit("third", self.DEPENDENT)
        told.job(JOB, Canceled())
        assert told.world.dependents == {OTHER: {"third": None}}


class TestRoom:
    def test_a_node_has_the_room_that_nobody_holds(self) -> None:
        told = started(slots=3)
        assert told.world.roomy == {N1: 2}

    @pytest.mark.parametrize(
        "fact",
        [
            COMPLETED,
            FAILED_ONCE,
            LOST_ONCE,
            Canceled(attempt=1),
            Failed(failure=FailureClass.PERMANENT, reason="no"),
        ],
        ids=["completed", "failed", "lost", "canceled", "given up"],
    )
    def test_an_end_gives_the_slot_back(self, fact: JobFact) -> None:
        told = started(slots=1)
        assert told.world.roomy == {}
        told.job(JOB, fact)
        assert told.world.roomy == {N1: 1}

    @pytest.mark.parametrize("fact", [STARTED, LOST_ONCE], ids=["stale start", "stale loss"])
    def test_a_fact_of_another_attempt_changes_no_room(self, fact: JobFact) -> None:
        told = started(slots=3)
        told.job(JOB, LOST_ONCE, Queued(after=QueuedAfter.LOSS), Assigned(node=N1, attempt=2))
        told.job(JOB, fact)
        assert told.world.roomy == {N1: 2}

    @pytest.mark.parametrize(
        "fact", [Cordoned(), Draining(), Lost(), Drained(epoch=1)], ids=lambda fact: fact.tag
    )
    def test_a_node_that_takes_nothing_has_no_room(self, fact: NodeFact) -> None:
        told = Told()
        told.register("n1", 2)
        told.node("n1", fact)
        assert told.world.roomy == {}

    @pytest.mark.parametrize(
        ("away", "back"),
        [(Cordoned(), Uncordoned()), (Draining(), Uncordoned()), (Lost(), Recovered())],
        ids=["uncordoned", "not drained", "recovered"],
    )
    def test_it_has_room_again_when_it_is_back(self, away: NodeFact, back: NodeFact) -> None:
        told = Told()
        told.register("n1", 2)
        told.node("n1", away, back)
        assert told.world.roomy == {N1: 2}

    def test_a_worker_that_offers_fewer_slots_has_less_room(self) -> None:
        told = started(slots=3)
        told.node("n1", Available(epoch=1, slots=2, free=1))
        assert told.world.roomy == {N1: 1}

    def test_a_held_job_takes_room_of_a_node_that_registers_anew(self) -> None:
        told = started(slots=3)
        told.register("n1", 3, epoch=2)
        assert told.world.roomy == {N1: 2}


class TestDeclined:
    def declined(self) -> Told:
        told = Told()
        told.register("n1", 2)
        told.submit(JOB)
        told.job(JOB, ASSIGNED, Declined(node=N1, attempt=1))
        return told

    def test_a_node_that_declined_gets_nothing_more(self) -> None:
        told = self.declined()
        assert told.world.roomy == {}
        assert JOB in told.world.ready

    def test_it_has_room_when_it_reports_some(self) -> None:
        told = self.declined()
        told.node("n1", Available(epoch=1, slots=2, free=0))
        assert told.world.roomy == {}
        told.node("n1", Available(epoch=1, slots=2, free=1))
        assert told.world.roomy == {N1: 2}

    def test_it_has_room_when_its_worker_starts_anew(self) -> None:
        told = self.declined()
        told.register("n1", 2, epoch=2)
        assert told.world.roomy == {N1: 2}

    def test_a_stale_refusal_says_nothing_about_the_node(self) -> None:
        told = started(slots=2)
        told.job(JOB, Declined(node=N1, attempt=1))
        assert told.world.roomy == {N1: 1}


class TestClaims:
    def claimed(self) -> Told:
        told = Told()
        told.register("n1", 2)
        told.submit(JOB)
        told.world.claim(JOB, N1)
        return told

    def test_a_claimed_job_is_not_ready_and_takes_a_slot(self) -> None:
        told = self.claimed()
        assert told.world.claimed(JOB)
        assert (JOB in told.world.ready, told.world.roomy) == (False, {N1: 1})

    def test_a_claim_given_back_leaves_no_trace(self) -> None:
        told = self.claimed()
        told.world.unclaim(JOB)
        assert not told.world.claimed(JOB)
        assert (JOB in told.world.ready, told.world.roomy) == (True, {N1: 2})

    def test_the_assignment_takes_the_place_of_the_claim(self) -> None:
        told = self.claimed()
        told.job(JOB, ASSIGNED)
        assert (told.world.claimed(JOB), told.world.roomy) == (False, {N1: 1})
        told.world.unclaim(JOB)
        assert told.world.roomy == {N1: 1}

    def test_another_fact_of_the_job_ends_the_claim_too(self) -> None:
        told = self.claimed()
        told.job(JOB, Assigned(node=N2, attempt=1))
        assert (told.world.claimed(JOB), told.world.roomy) == (False, {N1: 2})

    def test_a_claim_without_a_node_takes_no_slot(self) -> None:
        told = Told()
        told.register("n1", 2)
        told.submit(JOB)
        told.world.claim(JOB)
        assert told.world.roomy == {N1: 2}

    def test_a_pending_job_given_back_is_due_again(self) -> None:
        told = Told()
        told.submit(JOB, noop(not_before=instant(60)))
        assert told.world.due(instant(60)) == [JOB]
        told.world.claim(JOB)
        told.world.unclaim(JOB)
        assert told.world.due(instant(60)) == [JOB]

    def test_giving_back_a_job_that_nobody_claimed_changes_nothing(self) -> None:
        told = started(slots=2)
        told.world.unclaim(JOB)
        assert told.world.roomy == {N1: 1}


class TestNodes:
    def test_a_node_nobody_has_seen_is_unknown(self) -> None:
        assert Told().world.node(N1).epoch == 0

    def test_the_order_of_holders_is_the_ledgers(self) -> None:
        told = Told()
        told.register("n1", 20)
        jobs = [JobId(f"j{number}") for number in range(20)]
        for job in jobs:
            told.submit(job, JobSpec())
            told.job(job, ASSIGNED)
        assert [job for job, _ in told.world.holders()] == jobs
