"""What people ask of a job: given facts, when a command, then exactly these facts, or a refusal."""

import pytest
from msgspec.structs import replace

from events.job import (
    Canceled,
    CancelRequested,
    Failed,
    FailureClass,
    JobFact,
    Placement,
    Reprioritized,
    Retried,
    RetryScheduled,
    Submitted,
)
from events.spec import Priority, Queue
from events.state.job import status_of
from services.cli.jobs.filtered.verbs import VERBS
from services.scheduler.deciders.job import (
    Assign,
    Cancel,
    JobCommand,
    Pause,
    Reprioritize,
    Resume,
    Retry,
    Settle,
)
from services.scheduler.deciders.refusal import Refusal, Refused
from tests.deciding import (
    ASSIGNED,
    BEGUN,
    ENDED,
    FAILED_ONCE,
    GIVEN,
    GIVEN_UP,
    JOB,
    N1,
    PAUSE_REQUESTED,
    POLICY,
    RESUME_REQUESTED,
    SPEC,
    STARTED,
    SUBMITTED,
    decided,
    others,
    state_after,
)
from tests.vocabulary import T0

SETTLE = Settle(job=JOB, now=T0, policy=POLICY)


class TestCancel:
    WHEN = Cancel(by="bob", reason="enough")

    @pytest.mark.parametrize("unheld", ["pending", "waiting"])
    def test_a_job_that_never_ran_is_canceled_at_once(self, unheld: str) -> None:
        expected = Canceled(attempt=0, by="bob", reason="enough")
        assert decided(given=GIVEN[unheld], when=self.WHEN) == (expected,)

    @pytest.mark.parametrize("between", ["failed once", "lost once", "backing off"])
    def test_a_job_between_attempts_is_canceled_at_once(self, between: str) -> None:
        expected = Canceled(attempt=1, by="bob", reason="enough")
        assert decided(given=GIVEN[between], when=self.WHEN) == (expected,)

    @pytest.mark.parametrize("held", ["assigned", *BEGUN])
    def test_a_held_job_is_asked_to_end(self, held: str) -> None:
        expected = CancelRequested(by="bob", reason="enough")
        assert decided(given=GIVEN[held], when=self.WHEN) == (expected,)

    def test_a_job_that_was_asked_to_end_is_not_asked_again(self) -> None:
        assert decided(given=GIVEN["running, to be canceled"], when=self.WHEN) == ()

    def test_a_canceled_job_is_not_canceled_again(self) -> None:
        assert decided(given=GIVEN["canceled"], when=self.WHEN) == ()

    def test_an_unknown_job_is_refused(self) -> None:
        with pytest.raises(Refused, match="there is no such job") as refused:
            decided(given=(), when=self.WHEN)
        assert refused.value.refusal is Refusal.JOB_UNKNOWN

    @pytest.mark.parametrize(
        ("over", "word"),
        [
            ("completed", "completed"),
            ("promoted", "completed"),
            ("failed", "failed"),
            ("rejected", "rejected"),
        ],
    )
    def test_a_job_that_is_over_otherwise_is_refused(self, over: str, word: str) -> None:
        with pytest.raises(Refused, match=f"the job is {word} already") as refused:
            decided(given=GIVEN[over], when=self.WHEN)
        assert refused.value.refusal is Refusal.JOB_ENDED


class TestPause:
    WHEN = Pause(by="ann", reason="lunch")

    @pytest.mark.parametrize("running", ["running", "paused, to be resumed"])
    def test_a_running_job_is_asked_to_stand_still(self, running: str) -> None:
        assert decided(given=GIVEN[running], when=self.WHEN) == (PAUSE_REQUESTED,)

    @pytest.mark.parametrize("already", ["running, to be paused", "paused"])
    def test_a_job_that_is_paused_or_about_to_be_is_not_asked_again(self, already: str) -> None:
        assert decided(given=GIVEN[already], when=self.WHEN) == ()


class TestResume:
    WHEN = Resume(by="ann")

    @pytest.mark.parametrize("paused", ["paused", "running, to be paused"])
    def test_a_paused_job_is_asked_to_go_on(self, paused: str) -> None:
        assert decided(given=GIVEN[paused], when=self.WHEN) == (RESUME_REQUESTED,)

    @pytest.mark.parametrize("already", ["running", "paused, to be resumed"])
    def test_a_job_that_runs_or_is_about_to_is_not_asked_again(self, already: str) -> None:
        assert decided(given=GIVEN[already], when=self.WHEN) == ()


class TestPauseAndResume:
    WHENS = (Pause(), Resume())

    @pytest.mark.parametrize("when", WHENS)
    @pytest.mark.parametrize(
        ("state", "refusal", "words"),
        [
            ("absent", Refusal.JOB_UNKNOWN, "there is no such job"),
            ("pending", Refusal.JOB_NOT_RUNNING, "the job is pending; only a running job can be"),
            ("waiting", Refusal.JOB_NOT_RUNNING, "the job is queued; only a running job can be"),
            ("assigned", Refusal.JOB_NOT_RUNNING, "the job is assigned; only a running job can be"),
            ("failed once", Refusal.JOB_NOT_RUNNING, "the job is pending; only a running job"),
            ("running, to be canceled", Refusal.JOB_NOT_RUNNING, "the job is being canceled"),
            *((over, Refusal.JOB_ENDED, "already; only a running job can be") for over in ENDED),
        ],
    )
    def test_a_job_that_does_not_run_is_refused(
        self, when: JobCommand, state: str, refusal: Refusal, words: str
    ) -> None:
        with pytest.raises(Refused, match=words) as refused:
            decided(given=GIVEN[state], when=when)
        assert refused.value.refusal is refusal


class TestRetry:
    WHEN = Retry(by="ann")

    @pytest.mark.parametrize("over", ["failed", "canceled"])
    def test_a_job_that_ended_without_success_begins_anew(self, over: str) -> None:
        assert decided(given=GIVEN[over], when=self.WHEN) == (Retried(by="ann"),)

    @pytest.mark.parametrize("going", others("absent", "running, to be canceled", *ENDED))
    def test_a_job_that_has_not_ended_needs_nothing(self, going: str) -> None:
        assert decided(given=GIVEN[going], when=self.WHEN) == ()

    @pytest.mark.parametrize("over", ["completed", "promoted", "rejected"])
    def test_a_job_that_ended_otherwise_is_refused(self, over: str) -> None:
        words = "only a failed or canceled job can be retried: submit it anew under another id"
        with pytest.raises(Refused, match=words) as refused:
            decided(given=GIVEN[over], when=self.WHEN)
        assert refused.value.refusal is Refusal.JOB_ENDED

    @pytest.mark.parametrize("since", [(), (FAILED_ONCE,)])
    def test_a_job_that_is_being_canceled_is_refused_for_it_would_end_all_the_same(
        self, since: tuple[JobFact, ...]
    ) -> None:
        with pytest.raises(Refused, match="it can be retried once it is canceled") as refused:
            decided(given=(*GIVEN["running, to be canceled"], *since), when=self.WHEN)
        assert refused.value.refusal is Refusal.JOB_NOT_RUNNING

    def test_an_unknown_job_is_refused(self) -> None:
        with pytest.raises(Refused, match="there is no such job"):
            decided(given=(), when=self.WHEN)

    def test_failures_before_it_no_longer_count(self) -> None:
        once = Submitted(spec=replace(SPEC, attempts_max=1))
        anew = (once, ASSIGNED, STARTED, FAILED_ONCE, GIVEN_UP, Retried())
        second = (replace(ASSIGNED, attempt=2), replace(STARTED, attempt=2))
        when = Assign(node=N1, placement=Placement())
        assert decided(given=anew, when=when) == (replace(ASSIGNED, attempt=2),)
        given = (*anew, *second, replace(FAILED_ONCE, attempt=2))
        expected = Failed(failure=FailureClass.TRANSIENT, reason="connection reset", attempts=2)
        assert decided(given=given, when=SETTLE) == (expected,)
        twice = (replace(once, spec=replace(SPEC, attempts_max=2)), *given[1:])
        (again,) = decided(given=twice, when=SETTLE)
        assert isinstance(again, RetryScheduled)
        assert again.failures == 1


class TestReprioritize:
    WHEN = Reprioritize(queue=Queue.LIVE, by="ann")
    THEN = Reprioritized(queue=Queue.LIVE, priority=Priority.MEDIUM, by="ann")

    @pytest.mark.parametrize("going", others("absent", *ENDED))
    def test_a_job_that_has_not_ended_ranks_anew(self, going: str) -> None:
        assert decided(given=GIVEN[going], when=self.WHEN) == (self.THEN,)

    def test_what_is_not_given_stays_as_it_is(self) -> None:
        when = Reprioritize(priority=Priority.LOW)
        then = Reprioritized(queue=Queue.LIVE, priority=Priority.LOW)
        assert decided(given=(SUBMITTED, self.THEN), when=when) == (then,)

    def test_the_rank_it_has_changes_nothing(self) -> None:
        assert decided(given=(SUBMITTED, self.THEN), when=self.WHEN) == ()
        assert decided(given=(SUBMITTED,), when=Reprioritize(priority=Priority.MEDIUM)) == ()

    @pytest.mark.parametrize("over", ENDED)
    def test_a_job_that_is_over_is_refused(self, over: str) -> None:
        with pytest.raises(Refused, match="already; only one that has not ended can rank anew"):
            decided(given=GIVEN[over], when=self.WHEN)


ANEW = "submit it anew under another id"
AGAIN = "it can be retried"
AFTERWARDS = "it can be retried once it is canceled"
OTHERWISE = "this one can be canceled or ranked anew"
UNHELD = ("pending", "waiting", "assigned", "failed once", "lost once", "backing off")
FINAL: dict[str, str] = dict.fromkeys(("completed", "promoted", "rejected"), ANEW)
OVER = FINAL | dict.fromkeys(("failed", "canceled"), AGAIN)
STOPPING = {"running, to be canceled": AFTERWARDS}
RUNS = OVER | STOPPING | dict.fromkeys(UNHELD, OTHERWISE)
REFUSALS: dict[str, dict[str, str]] = {
    "cancel": FINAL | {"failed": AGAIN},
    "pause": RUNS,
    "resume": RUNS,
    "retry": FINAL | STOPPING,
    "reprioritize": OVER,
}
COMMANDS: dict[str, JobCommand] = {
    "cancel": Cancel(),
    "pause": Pause(),
    "resume": Resume(),
    "retry": Retry(),
    "reprioritize": Reprioritize(queue=Queue.LIVE),
}


@pytest.mark.parametrize("verb", COMMANDS)
@pytest.mark.parametrize("state", others("absent"))
def test_a_refusal_names_the_state_and_what_is_possible(verb: str, state: str) -> None:
    possible = REFUSALS[verb].get(state)
    if possible is None:
        decided(given=GIVEN[state], when=COMMANDS[verb])
        return
    with pytest.raises(Refused) as refused:
        decided(given=GIVEN[state], when=COMMANDS[verb])
    word = "being canceled" if "to be canceled" in state else status_of(state_after(GIVEN[state]))
    assert refused.value.message.startswith(f"the job is {word}")
    assert refused.value.message.endswith(f": {possible}")


ON_ITS_WAY = ("running, to be paused", "paused, to be resumed")
"""What was asked of them before is not to be seen in their state."""


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", others("absent", "running, to be canceled"))
def test_what_a_preview_promises_is_what_is_decided(verb: str, state: str) -> None:
    status = status_of(state_after(GIVEN[state]))
    promised = VERBS[verb]
    try:
        facts = decided(given=GIVEN[state], when=COMMANDS[verb])
    except Refused:
        assert status not in promised.taken
    else:
        assert status in promised.taken
        assert not facts or status in promised.usual or state in ON_ITS_WAY
