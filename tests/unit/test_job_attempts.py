"""What a job keeps of its attempts: how they count, how long they stood still, what to avoid."""

import pytest
from msgspec.structs import replace

from events.codec import Fact
from events.ids import NodeId
from events.job import (
    Assigned,
    AttemptLost,
    Declined,
    FailureClass,
    LossCause,
    Resumed,
    Started,
)
from events.state.job import Absent, Halted, Held
from tests.unit.test_job_state import (
    ASSIGNED,
    COMPLETED,
    FAILED_ONCE,
    GIVEN_UP,
    LOST_ONCE,
    N1,
    N2,
    PAUSED,
    QUEUED,
    RETRIED,
    RETRY,
    RUNNING,
    STARTED,
    SUBMITTED,
    TERMS,
    state_after,
)
from tests.vocabulary import instant


class TestPauses:
    def test_what_an_attempt_stood_still_adds_up(self) -> None:
        twice = (PAUSED, Resumed(attempt=1, paused_s=2.5), PAUSED, Resumed(attempt=1, paused_s=4.0))
        state = state_after(SUBMITTED, ASSIGNED, STARTED, *twice)
        assert state == replace(RUNNING, version=7, paused_s=6.5)
        again = state_after(SUBMITTED, ASSIGNED, STARTED, *twice, PAUSED)
        assert again == replace(RUNNING, version=8, paused=True, paused_at=instant(8), paused_s=6.5)

    def test_the_next_attempt_has_not_stood_still(self) -> None:
        once = (PAUSED, Resumed(attempt=1, paused_s=2.5), LOST_ONCE, QUEUED)
        state = state_after(SUBMITTED, ASSIGNED, STARTED, *once, Assigned(node=N2, attempt=2))
        assert isinstance(state, Held)
        assert (state.paused, state.paused_at, state.paused_s) == (False, None, 0.0)


class TestCounts:
    @pytest.mark.parametrize("cause", [LossCause.STALLED, LossCause.TIMED_OUT])
    def test_standing_still_or_taking_too_long_counts_as_a_failure_not_as_a_crash(
        self, cause: LossCause
    ) -> None:
        ending = replace(LOST_ONCE, cause=cause)
        assert state_after(SUBMITTED, ASSIGNED, STARTED, ending) == Halted(
            version=4, terms=TERMS, attempt=1, failures=1, node=N1, ending=ending
        )

    def test_an_attempt_handed_back_in_order_counts_as_nothing(self) -> None:
        ending = replace(LOST_ONCE, cause=LossCause.DRAINED)
        assert state_after(SUBMITTED, ASSIGNED, STARTED, ending) == Halted(
            version=4, terms=TERMS, attempt=1, node=N1, ending=ending
        )


class TestAvoidance:
    """Which nodes a job does not go back to."""

    SHORT = replace(FAILED_ONCE, failure=FailureClass.RESOURCE)
    ON_N2 = (Assigned(node=N2, attempt=2), Started(node=N2, attempt=2))

    def _after(self, *facts: Fact) -> tuple[NodeId, ...]:
        state = state_after(SUBMITTED, ASSIGNED, STARTED, *facts)
        assert not isinstance(state, Absent)
        return state.avoid

    def test_a_node_that_lacked_resources_is_avoided_over_all_attempts(self) -> None:
        second = replace(self.SHORT, node=N2, attempt=2)
        steps: tuple[Fact, ...] = (self.SHORT, RETRY, QUEUED, *self.ON_N2, second, RETRY, QUEUED)
        avoided = [self._after(*steps[:count]) for count in range(len(steps) + 1)]
        assert avoided == [(), *[(N1,)] * 5, *[(N1, N2)] * 3]

    def test_a_node_is_named_once_however_often_it_lacked_resources(self) -> None:
        second = replace(self.SHORT, attempt=2)
        again = (Assigned(node=N1, attempt=2), Started(node=N1, attempt=2), second)
        assert self._after(self.SHORT, RETRY, QUEUED, *again) == (N1,)

    def test_it_is_avoided_when_the_next_attempt_is_declined_or_lost(self) -> None:
        second = Assigned(node=N2, attempt=2)
        declined = Declined(node=N2, attempt=2)
        lost = AttemptLost(node=N2, attempt=2, cause=LossCause.NODE_LOST)
        for ending in (declined, lost, COMPLETED, GIVEN_UP):
            assert self._after(self.SHORT, RETRY, QUEUED, second, ending) == (N1,)

    @pytest.mark.parametrize("failure", sorted(set(FailureClass) - {FailureClass.RESOURCE}))
    def test_no_other_failure_speaks_against_the_node(self, failure: FailureClass) -> None:
        assert self._after(replace(FAILED_ONCE, failure=failure)) == ()

    def test_a_job_that_begins_anew_may_go_anywhere(self) -> None:
        assert self._after(self.SHORT, GIVEN_UP) == (N1,)
        assert self._after(self.SHORT, GIVEN_UP, RETRIED) == ()
