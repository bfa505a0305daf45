"""The decider of one job: given facts, when a command, then exactly these facts, or a refusal."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from events.ids import JobId
from events.job import (
    FAULTS_OF_THE_JOB,
    Assigned,
    AttemptLost,
    Canceled,
    Declined,
    Failed,
    FailureClass,
    JobFact,
    LossCause,
    Placement,
    Queued,
    QueuedAfter,
    Rejected,
    Reprioritized,
    RetryScheduled,
    Submitted,
)
from events.media import Parameters, Video
from events.spec import JobSpec, OnDependencyFailure, Priority, Queue
from services.scheduler.deciders.differing import differing
from services.scheduler.deciders.job import (
    Assign,
    GiveUp,
    Orphan,
    Reject,
    Release,
    Settle,
    Submit,
    backoff_s,
)
from services.scheduler.deciders.refusal import Refusal, Refused
from tests.deciding import (
    ASSIGNED,
    CANCEL_REQUESTED,
    DEPENDENT,
    FAILED_ONCE,
    GIVEN,
    HELD,
    JOB,
    LATER,
    LOST_ONCE,
    N1,
    N2,
    OTHER,
    POLICY,
    RETRY,
    RUNNING,
    SPEC,
    STARTED,
    SUBMITTED,
    decided,
    others,
)
from tests.vocabulary import T0, instant


class TestSubmit:
    WHEN = Submit(spec=SPEC, via="command")

    def test_a_new_job_is_submitted(self) -> None:
        assert decided(given=(), when=self.WHEN) == (Submitted(spec=SPEC, via="command"),)

    @pytest.mark.parametrize("known", others("absent", "pending"))
    def test_a_known_job_is_not_submitted_again(self, known: str) -> None:
        assert decided(given=GIVEN[known], when=self.WHEN) == ()

    @pytest.mark.parametrize("known", others("absent", "rejected"))
    def test_another_job_under_a_known_id_is_refused_with_what_differs(self, known: str) -> None:
        video = Parameters(video=Video(crf=23))
        other = Submit(spec=replace(SPEC, tenant="else", parameters=video), via="api")
        with pytest.raises(Refused, match="submit this one under another") as refused:
            decided(given=GIVEN[known], when=other)
        no = refused.value
        assert (no.refusal, no.field) == (Refusal.JOB_DIFFERS, "$.parameters")
        assert "differs in $.parameters, $.tenant" in no.message

    def test_a_rank_that_was_changed_since_does_not_make_it_another_job(self) -> None:
        given = (SUBMITTED, Reprioritized(queue=Queue.BATCH, priority=Priority.LOW))
        assert decided(given=given, when=self.WHEN) == ()

    def test_a_request_that_was_never_read_is_not_compared(self) -> None:
        given = (Rejected(reason="garbage"),)
        assert decided(given=given, when=self.WHEN) == ()


class TestDiffering:
    def test_equal_specifications_differ_in_nothing(self) -> None:
        assert differing(SPEC, replace(SPEC)) == ()

    def test_fields_are_named_by_their_paths(self) -> None:
        one = JobSpec(
            parameters=Parameters(video=Video(crf=23, preset="fast")), labels={"a": "1", "b": "2"}
        )
        other = JobSpec(
            parameters=Parameters(video=Video(crf=24, preset="fast")),
            labels={"a": "1", "c": "2"},
            depends_on=(OTHER,),
        )
        paths = ("$.parameters.video.crf", "$.labels.b", "$.labels.c", "$.depends_on")
        assert differing(one, other) == paths
        assert differing(other, one) == paths

    def test_a_message_names_eight_fields_at_most(self) -> None:
        many = replace(SPEC, labels={f"l{number}": "x" for number in range(9)})
        assert differing(SPEC, many) == tuple(f"$.labels.l{number}" for number in range(8))


class TestReject:
    WHEN = Reject(reason="no node has a gpu", field="$.requires", request="{}")
    THEN = Rejected(reason="no node has a gpu", field="$.requires", request="{}")

    @pytest.mark.parametrize("open_", ["absent", "pending", "waiting", "backing off"])
    def test_a_job_that_nobody_holds_is_rejected(self, open_: str) -> None:
        assert decided(given=GIVEN[open_], when=self.WHEN) == (self.THEN,)

    @pytest.mark.parametrize("held", others("absent", "pending", "waiting", "backing off"))
    def test_a_job_that_is_held_or_over_is_not_rejected(self, held: str) -> None:
        assert decided(given=GIVEN[held], when=self.WHEN) == ()


class TestAssign:
    PLACEMENT = Placement(weight=10.0, candidates=2)
    WHEN = Assign(node=N2, placement=PLACEMENT)

    def test_a_waiting_job_is_assigned_as_its_first_attempt(self) -> None:
        expected = Assigned(node=N2, attempt=1, placement=self.PLACEMENT)
        assert decided(given=(SUBMITTED,), when=self.WHEN) == (expected,)

    @pytest.mark.parametrize(
        "given",
        [
            (SUBMITTED, ASSIGNED, Declined(node=N1, attempt=1)),
            (*RUNNING, FAILED_ONCE, RETRY, Queued(after=QueuedAfter.BACKOFF)),
            (*RUNNING, LOST_ONCE, Queued(after=QueuedAfter.LOSS)),
        ],
        ids=["declined", "failed", "lost"],
    )
    def test_the_next_assignment_is_the_next_attempt(self, given: tuple[JobFact, ...]) -> None:
        expected = Assigned(node=N2, attempt=2, placement=self.PLACEMENT)
        assert decided(given=given, when=self.WHEN) == (expected,)

    @pytest.mark.parametrize("state", others("waiting"))
    def test_only_a_waiting_job_is_assigned(self, state: str) -> None:
        assert decided(given=GIVEN[state], when=self.WHEN) == ()


class TestGiveUp:
    WHEN = GiveUp(attempt=1, cause=LossCause.STALLED)

    @pytest.mark.parametrize("held", HELD)
    def test_a_held_attempt_is_lost(self, held: str) -> None:
        expected = AttemptLost(node=N1, attempt=1, cause=LossCause.STALLED)
        assert decided(given=GIVEN[held], when=self.WHEN) == (expected,)

    @pytest.mark.parametrize("state", others(*HELD))
    def test_a_job_nobody_holds_is_not_lost(self, state: str) -> None:
        assert decided(given=GIVEN[state], when=self.WHEN) == ()

    @pytest.mark.parametrize("attempt", [2, 3])
    def test_another_attempt_than_the_held_one_is_not_lost(self, attempt: int) -> None:
        when = GiveUp(attempt=attempt, cause=LossCause.STALLED)
        assert decided(given=RUNNING, when=when) == ()


class TestSettle:
    WHEN = Settle(job=JOB, now=T0, policy=POLICY)

    def test_a_permanent_failure_fails_the_job_at_once(self) -> None:
        ending = replace(FAILED_ONCE, failure=FailureClass.PERMANENT, message="no such filter")
        expected = Failed(failure=FailureClass.PERMANENT, reason="no such filter", attempts=1)
        assert decided(given=(*RUNNING, ending), when=self.WHEN) == (expected,)

    @pytest.mark.parametrize(
        "failure", [FailureClass.TRANSIENT, FailureClass.RESOURCE, FailureClass.INFRASTRUCTURE]
    )
    def test_any_other_failure_is_retried_after_a_wait(self, failure: FailureClass) -> None:
        ending = replace(FAILED_ONCE, failure=failure)
        delay_s = backoff_s(JOB, 1, POLICY)
        expected = RetryScheduled(
            not_before=T0 + timedelta(seconds=delay_s), delay_s=delay_s, failures=1
        )
        assert decided(given=(*RUNNING, ending), when=self.WHEN) == (expected,)

    def test_the_last_allowed_failure_fails_the_job(self) -> None:
        given = self._failures(3)
        reason = "connection reset"
        expected = Failed(failure=FailureClass.TRANSIENT, reason=reason, attempts=3)
        assert decided(given=given, when=self.WHEN) == (expected,)

    def test_a_job_with_one_attempt_is_never_retried(self) -> None:
        once = Submitted(spec=replace(SPEC, attempts_max=1))
        given = (once, ASSIGNED, STARTED, FAILED_ONCE)
        reason = "connection reset"
        expected = Failed(failure=FailureClass.TRANSIENT, reason=reason, attempts=1)
        assert decided(given=given, when=self.WHEN) == (expected,)

    def test_declined_attempts_do_not_count_as_failures(self) -> None:
        declined = (ASSIGNED, Declined(node=N1, attempt=1))
        second = replace(FAILED_ONCE, attempt=2)
        given = (SUBMITTED, *declined, replace(ASSIGNED, attempt=2), second)
        delay_s = backoff_s(JOB, 1, POLICY)
        expected = RetryScheduled(
            not_before=T0 + timedelta(seconds=delay_s), delay_s=delay_s, failures=1
        )
        assert decided(given=given, when=self.WHEN) == (expected,)

    @pytest.mark.parametrize("cause", sorted(set(LossCause) - FAULTS_OF_THE_JOB))
    def test_a_lost_attempt_puts_the_job_back_without_a_wait(self, cause: LossCause) -> None:
        given = (*RUNNING, replace(LOST_ONCE, cause=cause))
        assert decided(given=given, when=self.WHEN) == (Queued(after=QueuedAfter.LOSS),)

    @pytest.mark.parametrize("cause", sorted(FAULTS_OF_THE_JOB))
    def test_an_attempt_that_stood_still_or_took_too_long_is_retried_after_a_wait(
        self, cause: LossCause
    ) -> None:
        given = (*RUNNING, replace(LOST_ONCE, cause=cause, reason="at 12.0 s for 60 s"))
        delay_s = backoff_s(JOB, 1, POLICY)
        expected = RetryScheduled(
            not_before=T0 + timedelta(seconds=delay_s), delay_s=delay_s, failures=1
        )
        assert decided(given=given, when=self.WHEN) == (expected,)

    @pytest.mark.parametrize(
        ("reason", "told"), [("at 12.0 s for 60 s", "at 12.0 s for 60 s"), ("", "stalled")]
    )
    def test_the_last_allowed_stall_fails_the_job_with_its_figures(
        self, reason: str, told: str
    ) -> None:
        ending = AttemptLost(node=N1, attempt=3, cause=LossCause.STALLED, reason=reason)
        given = (*self._failures(3)[:-1], ending)
        expected = Failed(failure=FailureClass.TRANSIENT, reason=told, attempts=3)
        assert decided(given=given, when=self.WHEN) == (expected,)

    def test_a_job_that_took_too_many_nodes_down_is_poison(self) -> None:
        reason = "5 attempts were lost, the last one on n1: node_lost"
        expected = Failed(
            failure=FailureClass.INFRASTRUCTURE, reason=reason, attempts=5, poison=True
        )
        assert decided(given=self._losses(5), when=self.WHEN) == (expected,)

    def test_a_job_that_was_lost_twice_runs_again_at_once(self) -> None:
        for losses in (1, 2):
            given = self._losses(losses)
            assert decided(given=given, when=self.WHEN) == (Queued(after=QueuedAfter.LOSS),)

    def test_jobs_that_are_lost_again_and_again_are_kept_apart(self) -> None:
        for losses, longest_s in ((3, 20.0), (4, 40.0)):
            waits: list[float] = []
            for number in range(100):
                when = Settle(job=JobId(f"j{number}"), now=T0, policy=POLICY)
                (fact,) = decided(given=self._losses(losses), when=when)
                assert isinstance(fact, RetryScheduled)
                assert fact.not_before == T0 + timedelta(seconds=fact.delay_s)
                waits.append(fact.delay_s)
            assert 0 <= min(waits) < 0.1 * longest_s < 0.9 * longest_s < max(waits) <= longest_s

    def test_a_drain_never_makes_a_job_wait(self) -> None:
        drained = AttemptLost(node=N1, attempt=4, cause=LossCause.DRAINED)
        given = (*self._losses(4)[:-1], drained)
        assert decided(given=given, when=self.WHEN) == (Queued(after=QueuedAfter.LOSS),)

    def test_attempts_handed_back_in_order_are_no_crashes(self) -> None:
        given = self._losses(9, cause=LossCause.DRAINED)
        assert decided(given=given, when=self.WHEN) == (Queued(after=QueuedAfter.LOSS),)

    @pytest.mark.parametrize("ending", [FAILED_ONCE, LOST_ONCE], ids=["failed", "lost"])
    def test_a_job_that_was_to_be_canceled_is_canceled(self, ending: JobFact) -> None:
        expected = Canceled(attempt=1, by="ann", reason="wrong clip")
        given = (*RUNNING, CANCEL_REQUESTED, ending)
        assert decided(given=given, when=self.WHEN) == (expected,)

    @pytest.mark.parametrize("state", others("failed once", "lost once"))
    def test_a_job_whose_attempt_has_not_ended_is_left_alone(self, state: str) -> None:
        assert decided(given=GIVEN[state], when=self.WHEN) == ()

    def _failures(self, count: int) -> list[JobFact]:
        given: list[JobFact] = [SUBMITTED]
        for attempt in range(1, count + 1):
            given += [replace(ASSIGNED, attempt=attempt), replace(STARTED, attempt=attempt)]
            given += [replace(FAILED_ONCE, attempt=attempt)]
            if attempt < count:
                given += [RETRY, Queued(after=QueuedAfter.BACKOFF)]
        return given

    def _losses(self, count: int, cause: LossCause = LossCause.NODE_LOST) -> list[JobFact]:
        given: list[JobFact] = [SUBMITTED]
        for attempt in range(1, count + 1):
            given += [replace(ASSIGNED, attempt=attempt)]
            given += [AttemptLost(node=N1, attempt=attempt, cause=cause)]
            if attempt < count:
                given += [Queued(after=QueuedAfter.LOSS)]
        return given


class TestBackoff:
    @pytest.mark.parametrize(
        ("failures", "longest_s"),
        [(1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 300), (8, 300), (100, 300)],
    )
    def test_the_wait_doubles_up_to_its_limit_less_a_quarter(
        self, failures: int, longest_s: float
    ) -> None:
        waits = [backoff_s(JobId(f"j{n}"), failures, POLICY) for n in range(500)]
        assert longest_s * 0.75 <= min(waits) < longest_s * 0.76
        assert longest_s * 0.99 < max(waits) <= longest_s

    def test_the_jitter_follows_from_job_and_count_alone(self) -> None:
        assert [backoff_s(JOB, n, POLICY) for n in (1, 2, 3)] == [4.401, 9.056, 18.662]

    def test_jobs_that_failed_together_do_not_return_together(self) -> None:
        assert len({backoff_s(JobId(f"j{n}"), 1, POLICY) for n in range(100)}) > 90


class TestRelease:
    @pytest.mark.parametrize(("second", "released"), [(59, False), (60, True), (61, True)])
    def test_a_job_is_queued_from_its_start_time_on(self, second: int, *, released: bool) -> None:
        then = (Queued(after=QueuedAfter.START_TIME),) if released else ()
        assert decided(given=(LATER,), when=Release(now=instant(second))) == then

    @pytest.mark.parametrize(("second", "released"), [(59, False), (60, True)])
    def test_a_job_is_queued_when_its_back_off_is_over(
        self, second: int, *, released: bool
    ) -> None:
        then = (Queued(after=QueuedAfter.BACKOFF),) if released else ()
        given = (*RUNNING, FAILED_ONCE, RETRY)
        assert decided(given=given, when=Release(now=instant(second))) == then

    def test_a_job_is_queued_when_those_it_depends_on_are_completed(self) -> None:
        then = (Queued(after=QueuedAfter.DEPENDENCIES),)
        assert decided(given=(DEPENDENT,), when=Release(now=T0)) == then

    def test_a_job_waits_for_those_it_depends_on(self) -> None:
        assert decided(given=(DEPENDENT,), when=Release(now=T0, dependencies_met=False)) == ()

    def test_a_job_with_dependencies_and_a_start_time_waits_for_both(self) -> None:
        spec = replace(SPEC, depends_on=(OTHER,), not_before=instant(60))
        given = (Submitted(spec=spec),)
        then = (Queued(after=QueuedAfter.DEPENDENCIES),)
        assert decided(given=given, when=Release(now=instant(59))) == ()
        assert decided(given=given, when=Release(now=instant(60), dependencies_met=False)) == ()
        assert decided(given=given, when=Release(now=instant(60))) == then

    def test_a_retry_does_not_wait_for_dependencies_again(self) -> None:
        given = (DEPENDENT, Queued(after=QueuedAfter.DEPENDENCIES), ASSIGNED, FAILED_ONCE, RETRY)
        when = Release(now=instant(60), dependencies_met=False)
        assert decided(given=given, when=when) == (Queued(after=QueuedAfter.BACKOFF),)

    @pytest.mark.parametrize("state", others("pending", "backing off"))
    def test_a_job_that_is_not_pending_is_not_queued(self, state: str) -> None:
        assert decided(given=GIVEN[state], when=Release(now=instant(3600))) == ()


class TestOrphan:
    WHEN = Orphan(dependency=OTHER, status="failed")

    def test_a_job_fails_with_what_it_depends_on(self) -> None:
        reason = "depends on other, which is failed"
        expected = Failed(failure=FailureClass.PERMANENT, reason=reason, attempts=0)
        assert decided(given=(DEPENDENT,), when=self.WHEN) == (expected,)

    def test_a_job_is_skipped_where_it_says_so(self) -> None:
        spec = replace(DEPENDENT.spec, on_dependency_failure=OnDependencyFailure.SKIP)
        reason = "depends on other, which is failed"
        expected = Canceled(attempt=0, by="scheduler", reason=reason)
        assert decided(given=(Submitted(spec=spec),), when=self.WHEN) == (expected,)

    @pytest.mark.parametrize("state", others("pending", "backing off"))
    def test_a_job_that_is_not_pending_goes_on(self, state: str) -> None:
        assert decided(given=GIVEN[state], when=self.WHEN) == ()
