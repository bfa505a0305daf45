"""The state of one job, given its facts."""

import functools
from typing import get_args

import pytest
from msgspec.structs import replace

from events.codec import Fact, Unknown
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Canceled,
    CancelRequested,
    Completed,
    Declined,
    Failed,
    FailureClass,
    JobFact,
    LossCause,
    Paused,
    PauseRequested,
    Promoted,
    Queued,
    QueuedAfter,
    Rejected,
    Reprioritized,
    Resumed,
    ResumeRequested,
    Retried,
    RetryScheduled,
    Started,
    Submitted,
)
from events.media import MadeFile
from events.node import Cordoned
from events.spec import JobSpec, Priority, Queue
from events.state.job import (
    INITIAL,
    TERMINAL,
    Absent,
    Ended,
    Halted,
    Held,
    JobState,
    JobStatus,
    Pending,
    Terms,
    Waiting,
    evolve,
    status_of,
)
from tests.vocabulary import history, instant, recorded

N1, N2 = NodeId("n1"), NodeId("n2")
SPEC = JobSpec(queue=Queue.LIVE)
TERMS = Terms(1, instant(1), SPEC, Queue.LIVE, Priority.MEDIUM)

SUBMITTED = Submitted(spec=SPEC)
ASSIGNED = Assigned(node=N1, attempt=1)
STARTED = Started(node=N1, attempt=1)
RETRIED = Retried(by="ann")
PAUSED = Paused(attempt=1)
RESUMED = Resumed(attempt=1)
CANCEL = CancelRequested(by="ann")
FAILED_ONCE = AttemptFailed(node=N1, attempt=1, failure=FailureClass.TRANSIENT)
LOST_ONCE = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)
RETRY = RetryScheduled(not_before=instant(60), delay_s=5.0, failures=1)
QUEUED = Queued(after=QueuedAfter.BACKOFF)
COMPLETED = Completed(node=N1, attempt=1, files=(MadeFile(path="clip.mp4", size_bytes=1),))
PROMOTED = Promoted(node=N1, attempt=1)
GIVEN_UP = Failed(failure=FailureClass.PERMANENT, reason="no such input", attempts=1)
REJECTED = Rejected(reason="no node has it")
CANCELED = Canceled(attempt=1)


def state_after(*facts: Fact) -> JobState:
    return functools.reduce(evolve, history(*facts), INITIAL)


HELD = Held(version=2, terms=TERMS, attempt=1, node=N1, assigned_at=instant(2), assigned_seq=2)
RUNNING = replace(HELD, version=3, started_at=instant(3))
ONE_OF_EACH: dict[str, JobState] = {
    "absent": INITIAL,
    "pending": state_after(Submitted(spec=replace(SPEC, not_before=instant(60)))),
    "waiting": state_after(SUBMITTED),
    "assigned": HELD,
    "running": RUNNING,
    "paused": state_after(SUBMITTED, ASSIGNED, STARTED, PAUSED),
    "failed once": state_after(SUBMITTED, ASSIGNED, STARTED, FAILED_ONCE),
    "backing off": state_after(SUBMITTED, ASSIGNED, STARTED, FAILED_ONCE, RETRY),
    "completed": state_after(SUBMITTED, ASSIGNED, STARTED, COMPLETED),
    "rejected": state_after(REJECTED),
}
ONE_FACT_OF_EACH: tuple[JobFact, ...] = (
    SUBMITTED,
    REJECTED,
    QUEUED,
    ASSIGNED,
    Declined(node=N1, attempt=1),
    STARTED,
    RETRIED,
    PauseRequested(attempt=1),
    PAUSED,
    ResumeRequested(attempt=1),
    RESUMED,
    CANCEL,
    CANCELED,
    FAILED_ONCE,
    LOST_ONCE,
    RETRY,
    Reprioritized(queue=Queue.BATCH, priority=Priority.LOW),
    COMPLETED,
    GIVEN_UP,
    PROMOTED,
)


class TestAcceptance:
    def test_a_job_nobody_submitted_is_absent(self) -> None:
        assert status_of(INITIAL) is None

    def test_a_submitted_job_waits_for_a_node(self) -> None:
        assert state_after(SUBMITTED) == Waiting(version=1, terms=TERMS, since=instant(1))

    def test_a_job_with_a_start_time_is_pending(self) -> None:
        spec = replace(SPEC, not_before=instant(60))
        assert state_after(Submitted(spec=spec)) == Pending(
            version=1, terms=replace(TERMS, spec=spec), not_before=instant(60)
        )

    def test_a_job_with_dependencies_is_pending(self) -> None:
        spec = replace(SPEC, depends_on=(JobId("other"),))
        assert state_after(Submitted(spec=spec)) == Pending(
            version=1, terms=replace(TERMS, spec=spec)
        )

    def test_a_pending_job_is_queued_when_what_it_waits_for_is_there(self) -> None:
        spec = replace(SPEC, not_before=instant(60))
        assert state_after(Submitted(spec=spec), QUEUED) == Waiting(
            version=2, terms=replace(TERMS, spec=spec), since=instant(2)
        )

    def test_a_refused_request_leaves_a_rejected_job(self) -> None:
        terms = Terms(1, instant(1), JobSpec(), Queue.DEFAULT, Priority.MEDIUM)
        assert state_after(REJECTED) == Ended(version=1, terms=terms, status=JobStatus.REJECTED)

    def test_a_waiting_job_that_no_node_can_run_is_rejected(self) -> None:
        assert state_after(SUBMITTED, REJECTED) == Ended(
            version=2, terms=TERMS, status=JobStatus.REJECTED
        )

    def test_a_second_submission_changes_nothing(self) -> None:
        again = Submitted(spec=JobSpec(queue=Queue.BATCH))
        assert state_after(SUBMITTED, again) == Waiting(version=2, terms=TERMS, since=instant(1))

    def test_a_new_rank_is_kept_beside_the_specification(self) -> None:
        new_rank = Reprioritized(queue=Queue.BATCH, priority=Priority.LOW)
        terms = Terms(1, instant(1), SPEC, Queue.BATCH, Priority.LOW)
        assert state_after(SUBMITTED, new_rank) == Waiting(version=2, terms=terms, since=instant(1))


class TestAttempts:
    def test_an_assigned_job_is_held_by_its_node(self) -> None:
        assert state_after(SUBMITTED, ASSIGNED) == HELD

    def test_an_assignment_out_of_turn_changes_nothing(self) -> None:
        assert state_after(SUBMITTED, Assigned(node=N1, attempt=2)) == Waiting(
            version=2, terms=TERMS, since=instant(1)
        )
        second = Assigned(node=N2, attempt=2)
        assert state_after(SUBMITTED, ASSIGNED, second) == replace(HELD, version=3)

    def test_a_declined_job_waits_again_and_keeps_its_count(self) -> None:
        declined = Declined(node=N1, attempt=1)
        assert state_after(SUBMITTED, ASSIGNED, declined) == Waiting(
            version=3, terms=TERMS, attempt=1, since=instant(3)
        )

    def test_a_started_attempt_can_no_longer_be_declined(self) -> None:
        declined = Declined(node=N1, attempt=1)
        assert state_after(SUBMITTED, ASSIGNED, STARTED, declined) == replace(RUNNING, version=4)

    def test_a_second_start_keeps_the_first_instant(self) -> None:
        assert state_after(SUBMITTED, ASSIGNED, STARTED, STARTED) == replace(RUNNING, version=4)

    def test_a_paused_attempt_stands_still_until_resumed(self) -> None:
        paused = replace(RUNNING, version=4, paused=True, paused_at=instant(4))
        assert state_after(SUBMITTED, ASSIGNED, STARTED, PAUSED) == paused
        resumed = state_after(SUBMITTED, ASSIGNED, STARTED, PAUSED, RESUMED)
        assert resumed == replace(RUNNING, version=5)

    def test_asking_for_a_pause_is_not_a_pause(self) -> None:
        asked = PauseRequested(attempt=1, by="ann")
        waits = replace(RUNNING, version=4, asked=asked)
        assert state_after(SUBMITTED, ASSIGNED, STARTED, asked) == waits
        paused = state_after(SUBMITTED, ASSIGNED, STARTED, asked, PAUSED)
        assert paused == replace(RUNNING, version=5, paused=True, paused_at=instant(5))

    def test_asking_to_go_on_is_remembered_until_it_goes_on(self) -> None:
        asked = ResumeRequested(attempt=1, by="ann")
        waits = replace(RUNNING, version=5, paused=True, paused_at=instant(4), asked=asked)
        assert state_after(SUBMITTED, ASSIGNED, STARTED, PAUSED, asked) == waits
        resumed = state_after(SUBMITTED, ASSIGNED, STARTED, PAUSED, asked, RESUMED)
        assert resumed == replace(RUNNING, version=6)

    def test_a_late_confirmation_does_not_answer_the_opposite_request(self) -> None:
        on, off = ResumeRequested(attempt=1), PauseRequested(attempt=1)
        state = state_after(SUBMITTED, ASSIGNED, STARTED, off, on, PAUSED)
        assert state == replace(RUNNING, version=6, paused=True, paused_at=instant(6), asked=on)
        state = state_after(SUBMITTED, ASSIGNED, STARTED, PAUSED, on, off, RESUMED)
        assert state == replace(RUNNING, version=7, asked=off)

    def test_a_failed_attempt_halts_the_job_and_counts(self) -> None:
        assert state_after(SUBMITTED, ASSIGNED, STARTED, FAILED_ONCE) == Halted(
            version=4, terms=TERMS, attempt=1, failures=1, node=N1, ending=FAILED_ONCE
        )

    def test_a_lost_attempt_counts_as_a_crash_not_as_a_failure(self) -> None:
        assert state_after(SUBMITTED, ASSIGNED, LOST_ONCE) == Halted(
            version=3, terms=TERMS, attempt=1, crashes=1, node=N1, ending=LOST_ONCE
        )

    def test_a_job_backs_off_before_its_next_attempt(self) -> None:
        assert state_after(SUBMITTED, ASSIGNED, STARTED, FAILED_ONCE, RETRY) == Pending(
            version=5,
            terms=TERMS,
            attempt=1,
            failures=1,
            not_before=instant(60),
            backoff=True,
        )

    def test_the_next_attempt_has_the_next_number(self) -> None:
        second = Assigned(node=N2, attempt=2)
        state = state_after(SUBMITTED, ASSIGNED, LOST_ONCE, QUEUED, second)
        assert state == Held(
            version=5,
            terms=TERMS,
            attempt=2,
            crashes=1,
            node=N2,
            assigned_at=instant(5),
            assigned_seq=5,
        )


class TestEndings:
    def test_a_completed_job_is_promoted_once_its_files_have_their_names(self) -> None:
        ended = Ended(version=4, terms=TERMS, attempt=1, status=JobStatus.COMPLETED, node=N1)
        assert state_after(SUBMITTED, ASSIGNED, STARTED, COMPLETED) == ended
        promoted = state_after(SUBMITTED, ASSIGNED, STARTED, COMPLETED, PROMOTED)
        assert promoted == replace(ended, version=5, promoted=True)

    def test_a_job_without_files_has_nothing_to_promote(self) -> None:
        state = state_after(SUBMITTED, ASSIGNED, STARTED, replace(COMPLETED, files=()))
        assert state == Ended(
            version=4,
            terms=TERMS,
            attempt=1,
            status=JobStatus.COMPLETED,
            node=N1,
            promoted=True,
        )

    @pytest.mark.parametrize("ending", [GIVEN_UP, CANCELED], ids=["failed", "canceled"])
    def test_a_retried_job_waits_again_without_its_failures(self, ending: JobFact) -> None:
        state = state_after(SUBMITTED, ASSIGNED, STARTED, FAILED_ONCE, ending, RETRIED)
        assert state == Waiting(version=6, terms=TERMS, attempt=1, since=instant(6))

    def test_a_retried_job_waits_for_what_it_waited_for_at_first(self) -> None:
        spec = replace(SPEC, depends_on=(JobId("other"),), not_before=instant(60))
        terms = replace(TERMS, spec=spec)
        state = state_after(Submitted(spec=spec), GIVEN_UP, RETRIED)
        assert state == Pending(version=3, terms=terms, not_before=instant(60))

    def test_a_retried_job_keeps_its_new_rank(self) -> None:
        rank = Reprioritized(queue=Queue.BATCH, priority=Priority.LOW)
        terms = Terms(1, instant(1), SPEC, Queue.BATCH, Priority.LOW)
        state = state_after(SUBMITTED, rank, Canceled(), RETRIED)
        assert state == Waiting(version=4, terms=terms, since=instant(4))

    @pytest.mark.parametrize("name", ["completed", "rejected", "running", "waiting", "pending"])
    def test_nothing_but_a_failed_or_canceled_job_begins_anew(self, name: str) -> None:
        state = ONE_OF_EACH[name]
        assert evolve(state, recorded(99, RETRIED)) == replace(state, version=99)

    def test_a_cancel_request_is_remembered_until_the_process_is_gone(self) -> None:
        asked = state_after(SUBMITTED, ASSIGNED, STARTED, CANCEL)
        assert asked == replace(RUNNING, version=4, cancel=CANCEL)
        assert state_after(SUBMITTED, ASSIGNED, STARTED, CANCEL, CANCELED) == Ended(
            version=5, terms=TERMS, attempt=1, status=JobStatus.CANCELED, node=N1
        )

    def test_a_cancel_request_survives_the_end_of_its_attempt(self) -> None:
        state = state_after(SUBMITTED, ASSIGNED, STARTED, CANCEL, FAILED_ONCE)
        assert isinstance(state, Halted)
        assert state.cancel == CANCEL

    def test_a_waiting_job_is_canceled_at_once(self) -> None:
        assert state_after(SUBMITTED, Canceled()) == Ended(
            version=2, terms=TERMS, status=JobStatus.CANCELED
        )

    def test_a_job_beyond_healing_fails(self) -> None:
        state = state_after(SUBMITTED, ASSIGNED, STARTED, FAILED_ONCE, GIVEN_UP)
        assert state == Ended(
            version=5, terms=TERMS, attempt=1, failures=1, status=JobStatus.FAILED, node=N1
        )

    @pytest.mark.parametrize(
        "fact",
        [fact for fact in ONE_FACT_OF_EACH if not isinstance(fact, Retried)],
        ids=lambda fact: fact.tag,
    )
    @pytest.mark.parametrize(
        "ending",
        [COMPLETED, GIVEN_UP, CANCELED],
        ids=lambda fact: fact.tag,
    )
    def test_nothing_changes_the_status_of_an_ended_job(
        self, ending: JobFact, fact: JobFact
    ) -> None:
        ended = state_after(SUBMITTED, ASSIGNED, STARTED, ending)
        after = evolve(ended, recorded(5, fact))
        assert isinstance(after, Ended)
        assert replace(after, version=4, promoted=False) == replace(ended, promoted=False)
        assert status_of(after) in TERMINAL


class TestFence:
    @pytest.mark.parametrize(
        "stale",
        [
            ASSIGNED,
            Declined(node=N1, attempt=1),
            STARTED,
            PAUSED,
            RESUMED,
            FAILED_ONCE,
            LOST_ONCE,
            COMPLETED,
            PROMOTED,
            CANCELED,
        ],
        ids=lambda fact: fact.tag,
    )
    def test_facts_of_an_older_attempt_change_nothing_but_the_version(self, stale: JobFact) -> None:
        again = (QUEUED, Assigned(node=N2, attempt=2), Started(node=N2, attempt=2))
        second = state_after(SUBMITTED, ASSIGNED, LOST_ONCE, *again)
        assert isinstance(second, Held)
        assert second.attempt == 2
        assert evolve(second, recorded(7, stale)) == replace(second, version=7)
        paused = replace(second, paused=True)
        assert evolve(paused, recorded(7, stale)) == replace(paused, version=7)


class TestTotality:
    def test_the_examples_have_every_type(self) -> None:
        assert {type(fact) for fact in ONE_FACT_OF_EACH} == set(get_args(JobFact))
        assert {type(state) for state in ONE_OF_EACH.values()} == set(get_args(JobState))

    @pytest.mark.parametrize("fact", ONE_FACT_OF_EACH, ids=lambda fact: fact.tag)
    @pytest.mark.parametrize("name", ONE_OF_EACH)
    def test_every_fact_is_taken_in_every_state(self, name: str, fact: JobFact) -> None:
        after = evolve(ONE_OF_EACH[name], recorded(99, fact))
        assert after.version == 99
        assert isinstance(after, get_args(JobState))

    @pytest.mark.parametrize("name", ONE_OF_EACH)
    def test_an_unknown_or_foreign_fact_changes_nothing_but_the_version(self, name: str) -> None:
        state = ONE_OF_EACH[name]
        unknown = Unknown(type="job.sang.v1", problem="unknown type", body=b"{}")
        assert evolve(state, recorded(99, unknown)) == replace(state, version=99)
        assert evolve(state, recorded(99, Cordoned())) == replace(state, version=99)

    def test_every_state_has_its_word(self) -> None:
        assert {name: status_of(state) for name, state in ONE_OF_EACH.items()} == {
            "absent": None,
            "pending": "pending",
            "waiting": "queued",
            "assigned": "assigned",
            "running": "processing",
            "paused": "paused",
            "failed once": "pending",
            "backing off": "pending",
            "completed": "completed",
            "rejected": "rejected",
        }

    def test_a_foreign_fact_leaves_a_job_absent(self) -> None:
        assert state_after(STARTED) == Absent(version=1)
