"""Attempts that their node will not end any more: given up when due, with the figures."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptLost,
    CancelRequested,
    Completed,
    JobFact,
    LossCause,
    Paused,
    Resumed,
    Started,
)
from events.node import Available, Drained, Lost, NodeFact, Refused, Removed
from services.config import SchedulerSettings
from services.scheduler.upkeep.deadlines import AGAIN_S, Deadlines
from services.scheduler.upkeep.timers import Draft
from tests.vocabulary import instant
from tests.worlds import Told, noop

N1 = NodeId("n1")
JOB, OTHER = JobId("clip"), JobId("other")
SETTINGS = SchedulerSettings(assign_s=60.0, timeout_margin_s=30.0)
STARTED = Started(node=N1, attempt=1)
LOST = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)
STARTED_AT = 4
"""When `held` starts its job, in seconds."""


class Held(Told):
    """One node with a job that was assigned to it in the third second, and what follows."""

    def __init__(self, *facts: JobFact, timeout_s: float | None = None) -> None:
        super().__init__()
        self.deadlines = Deadlines(self.world, SETTINGS)
        self.also.append(lambda recorded, _: self.deadlines.apply(recorded))
        self.register("n1", 4)
        self.submit(JOB, noop() if timeout_s is None else noop(timeout_s=timeout_s))
        self.job(JOB, Assigned(node=N1, attempt=1), *facts)

    def at(self, now: datetime) -> list[Draft]:
        """Return what is given up now; a scheduler that has just started gives up the same."""
        fresh = Deadlines(self.world, SETTINGS)
        drafts = self.deadlines.give_up(now)
        assert fresh.give_up(now) == drafts
        return drafts


def timed_out(ran_s: float, paused_s: float = 0.0) -> AttemptLost:
    reason = (
        f"ran for {ran_s:.1f} s, {paused_s:.1f} s of pauses not counted; "
        "allowed: 100 s, and 30 s for the worker to end it"
    )
    return AttemptLost(node=N1, attempt=1, cause=LossCause.TIMED_OUT, reason=reason)


class TestNodesThatLeft:
    @pytest.mark.parametrize(
        ("fact", "cause"),
        [
            (Lost(), LossCause.NODE_LOST),
            (Removed(), LossCause.NODE_LOST),
            (Refused(epoch=1), LossCause.NODE_LOST),
            (Drained(epoch=1), LossCause.DRAINED),
        ],
        ids=["lost", "removed", "refused", "drained"],
    )
    @pytest.mark.parametrize("started", [True, False])
    def test_attempts_go_with_their_node(
        self, fact: NodeFact, cause: LossCause, *, started: bool
    ) -> None:
        told = Held(STARTED) if started else Held()
        seq = told.world.seq
        told.node("n1", fact)
        lost = AttemptLost(node=N1, attempt=1, cause=cause)
        assert told.at(instant(9)) == [Draft(JOB, lost, seq)]

    def test_attempts_of_an_earlier_start_of_the_worker_are_lost(self) -> None:
        told = Held(STARTED)
        seq = told.world.seq
        told.register("n1", 4, epoch=2)
        lost = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_RESTARTED)
        assert told.at(instant(9)) == [Draft(JOB, lost, seq)]

    def test_attempts_of_this_start_of_the_worker_are_kept(self) -> None:
        assert Held(STARTED).at(instant(86_400)) == []

    def test_what_is_assigned_to_a_node_that_has_left_is_lost_too(self) -> None:
        told = Held(STARTED)
        told.node("n1", Lost())
        told.job(JOB, LOST)
        told.submit(OTHER)
        seq = told.job(OTHER, Assigned(node=N1, attempt=1))
        assert told.at(instant(20)) == [Draft(OTHER, LOST, seq)]

    def test_an_attempt_whose_fact_is_on_its_way_is_given_up_later(self) -> None:
        told = Held()
        told.node("n1", Lost())
        told.world.claim(JOB)
        assert told.deadlines.give_up(instant(9)) == []
        told.world.unclaim(JOB)
        assert told.deadlines.give_up(instant(9)) == [Draft(JOB, LOST, 3)]

    def test_what_could_not_be_stored_is_given_up_again(self) -> None:
        told = Held()
        told.node("n1", Lost())
        assert told.deadlines.give_up(instant(9)) == told.deadlines.give_up(instant(9)) != []


class TestNotStarted:
    NOT_STARTED = AttemptLost(
        node=N1, attempt=1, cause=LossCause.NOT_STARTED, reason="not started within 60 s"
    )

    @pytest.mark.parametrize("canceled", [True, False])
    def test_an_assignment_that_is_never_started_is_lost_in_the_end(
        self, *, canceled: bool
    ) -> None:
        told = Held(CancelRequested()) if canceled else Held()
        assert told.at(instant(3) + timedelta(seconds=59.999)) == []
        late = instant(3 + 60)
        assert told.at(late) == [Draft(JOB, self.NOT_STARTED, told.world.seq)]

    def test_a_start_ends_the_wait(self) -> None:
        assert Held(STARTED).at(instant(3 + 61)) == []

    def test_one_that_lost_its_race_is_given_up_again_after_a_while(self) -> None:
        told = Held()
        first = instant(64)
        drafts = told.deadlines.give_up(first)
        assert [draft.fact for draft in drafts] == [self.NOT_STARTED]
        assert told.deadlines.give_up(first) == []
        assert told.deadlines.give_up(first + timedelta(seconds=AGAIN_S)) == drafts


class TestTimeOut:
    def test_an_attempt_that_its_worker_does_not_end_is_given_up_with_figures(self) -> None:
        told = Held(STARTED, timeout_s=100)
        assert told.at(instant(STARTED_AT + 129)) == []
        assert told.at(instant(STARTED_AT + 131)) == [Draft(JOB, timed_out(131), 4)]

    def test_without_a_time_out_it_may_run_for_ever(self) -> None:
        assert Held(STARTED).at(instant(10**7)) == []

    def test_while_it_stands_still_no_time_passes(self) -> None:
        told = Held(STARTED, timeout_s=100)
        told.job(JOB, Paused(attempt=1), at=instant(50))
        assert told.at(instant(10**6)) == []

    def test_what_it_stood_still_is_added(self) -> None:
        told = Held(STARTED, timeout_s=100)
        told.job(JOB, Paused(attempt=1), at=instant(50))
        seq = told.job(JOB, Resumed(attempt=1, paused_s=1000.0), at=instant(1050))
        assert told.at(instant(STARTED_AT + 1129)) == []
        assert told.at(instant(STARTED_AT + 1131)) == [Draft(JOB, timed_out(131, 1000.0), seq)]

    def test_an_attempt_that_has_ended_is_left_alone(self) -> None:
        told = Held(STARTED, Completed(node=N1, attempt=1), timeout_s=100)
        assert told.at(instant(10**6)) == []

    @given(
        runs=st.lists(st.floats(0.1, 200.0), min_size=1, max_size=8),
        pauses=st.lists(st.floats(0.1, 10_000.0), min_size=8, max_size=8),
        standing=st.booleans(),
    )
    def test_paused_time_never_times_out(
        self, runs: list[float], pauses: list[float], *, standing: bool
    ) -> None:
        """However it runs and stands still: what counts is the time it ran."""
        told = Held(STARTED, timeout_s=100)
        now = instant(STARTED_AT)
        ran_s = 0.0
        for run_s, pause_s in zip(runs, pauses, strict=False):
            now += timedelta(seconds=run_s)
            ran_s += run_s
            if abs(ran_s - 130.0) < 0.01:
                return  # on the brink: rounding decides
            late = [type(draft.fact) for draft in told.deadlines.give_up(now)]
            assert late == ([AttemptLost] if ran_s > 130.0 else [])
            if late:
                return
            told.job(JOB, Paused(attempt=1), at=now)
            now += timedelta(seconds=pause_s)
            assert told.deadlines.give_up(now) == []
            told.job(JOB, Resumed(attempt=1, paused_s=pause_s), at=now)
        if standing:
            told.job(JOB, Paused(attempt=1), at=now)
            assert told.deadlines.give_up(now + timedelta(days=365)) == []


def test_what_is_not_due_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Held(STARTED, timeout_s=100)
    told.node("n1", Available(epoch=1, slots=4, free=3))
    assert told.deadlines.give_up(instant(9)) == []
    monkeypatch.setattr(told.world, "job", None)  # who looks at a job fails
    assert told.deadlines.give_up(instant(10)) == []
