"""The circuit breaker: whose attempts count against it, when it is taken out, how it returns."""

from datetime import datetime, timedelta

import pytest

from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Completed,
    FailureClass,
    JobFact,
    LossCause,
    Started,
)
from events.node import CircuitClosed, CircuitHalfOpened, CircuitOpened, Cordoned, NodeFact
from events.spec import JobSpec
from events.state.node import Circuit
from services.scheduler.state.health import WINDOW_MAX, WINDOW_S, Health
from services.scheduler.upkeep.breaker import BREAKER_S_MAX, judge
from tests.vocabulary import T0, instant
from tests.worlds import Told, noop

BREAKER_S = 60.0
SICK, WELL = "n1", "n2"
NOW = T0 + timedelta(seconds=1000)


class Fleet(Told):
    """Two nodes and the attempts they have made."""

    def __init__(self, *nodes: str) -> None:
        super().__init__()
        self.health = Health()
        self.also.append(self.health.apply)
        for node in nodes or (SICK, WELL):
            self.register(node, 4, "engine:ffmpeg", "codec:h264", "codec:av1")
        self._count = 0

    def assign(self, node: str, spec: JobSpec | None = None) -> JobId:
        self._count += 1
        job = JobId(f"j{self._count}")
        self.submit(job, spec)
        self.job(job, Assigned(node=NodeId(node), attempt=1))
        return job

    def end(self, node: str, *kinds: str, spec: JobSpec | None = None) -> None:
        """Let attempts end there, one by one."""
        for kind in kinds:
            job = self.assign(node, spec)
            self.job(job, Started(node=NodeId(node), attempt=1), ending(node, kind))

    def well(self, node: str, times: int, spec: JobSpec | None = None) -> None:
        self.end(node, *["completed"] * times, spec=spec)

    def fail(self, node: str, times: int, spec: JobSpec | None = None) -> None:
        self.end(node, *["transient"] * times, spec=spec)

    def judged(self, now: datetime = NOW) -> list[tuple[str, NodeFact]]:
        return list(judge(self.world, self.health, now, BREAKER_S))

    def opened(self, now: datetime = NOW) -> CircuitOpened:
        """Return how a circuit is opened now, and let it be."""
        ((node, fact),) = self.judged(now)
        assert isinstance(fact, CircuitOpened)
        self.node(node, fact)
        return fact


def ending(node: str, kind: str) -> JobFact:
    if kind == "completed":
        return Completed(node=NodeId(node), attempt=1)
    if kind in {cause.value for cause in LossCause}:
        return AttemptLost(node=NodeId(node), attempt=1, cause=LossCause(kind))
    return AttemptFailed(node=NodeId(node), attempt=1, failure=FailureClass(kind))


def reason(failures: int, attempts: int, expected: float) -> str:
    return (
        f"{failures} of the last {attempts} attempts failed here; the other nodes would have "
        f"failed {expected:.1f} of the same work"
    )


class TestTakingOut:
    def test_a_node_that_fails_where_others_do_well_is_taken_out(self) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.fail(SICK, 4)
        assert fleet.judged() == []
        fleet.fail(SICK, 1)
        until = NOW + timedelta(seconds=BREAKER_S)
        opened = CircuitOpened(until=until, failures=5, attempts=5, reason=reason(5, 5, 0.0))
        assert fleet.judged() == [(SICK, opened)]

    def test_half_of_the_attempts_must_fail(self) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.well(SICK, 6)
        fleet.fail(SICK, 5)
        assert fleet.judged() == []
        fleet.fail(SICK, 1)
        assert fleet.opened().attempts == 12

    def test_work_that_fails_everywhere_is_no_nodes_fault(self) -> None:
        fleet = Fleet()
        fleet.end(WELL, "transient", "completed", "completed", "transient", "completed")
        fleet.fail(SICK, 6)
        assert fleet.judged() == []  # of 6 attempts the others would have failed 2.4

    def test_the_others_are_three_times_better_or_it_stays(self) -> None:
        fleet = Fleet()
        fleet.end(WELL, "transient", "completed", "completed", "completed")
        fleet.fail(SICK, 6)
        assert fleet.opened().reason == reason(6, 6, 1.5)

    def test_other_work_is_not_compared(self) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.fail(SICK, 9, spec=JobSpec())
        assert fleet.judged() == []

    def test_of_mixed_work_what_others_do_too_is_compared(self) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.fail(SICK, 9, spec=JobSpec())
        fleet.fail(SICK, 5)
        assert fleet.opened().attempts == 5

    def test_labels_do_not_make_another_kind_of_work(self) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.fail(SICK, 5, spec=noop(requires=["label:zone=eu"]))
        assert fleet.opened().failures == 5

    @pytest.mark.parametrize("kind", ["transient", "resource", "infrastructure"])
    def test_failures_that_may_be_the_nodes_count(self, kind: str) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.end(SICK, *[kind] * 5)
        assert fleet.opened().failures == 5

    @pytest.mark.parametrize("kind", ["stalled", "timed_out", "not_started"])
    def test_losses_that_may_be_the_nodes_count(self, kind: str) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.end(SICK, *[kind] * 5)
        assert fleet.opened().failures == 5

    @pytest.mark.parametrize("kind", ["permanent", "node_lost", "node_restarted", "drained"])
    def test_what_is_not_the_nodes_does_not(self, kind: str) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.end(SICK, *[kind] * 9)
        assert fleet.judged() == []
        assert fleet.health.finding(NodeId(SICK)).attempts == 0

    def test_only_the_last_attempts_count(self) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.well(SICK, 50)
        fleet.fail(SICK, WINDOW_MAX // 2 - 1)
        assert fleet.judged() == []
        fleet.fail(SICK, 1)
        assert fleet.opened().attempts == WINDOW_MAX

    def test_only_young_attempts_count(self) -> None:
        fleet = Fleet()
        fleet.fail(SICK, 4)
        later = instant(fleet.world.seq) + timedelta(seconds=WINDOW_S + 1)
        for node in (WELL, WELL, WELL, SICK):
            job = fleet.assign(node)
            fleet.job(job, ending(node, "completed" if node == WELL else "transient"), at=later)
        assert fleet.health.finding(NodeId(SICK)).failures == 1
        assert fleet.judged() == []

    def test_the_last_node_that_can_do_the_work_is_never_taken_out(self) -> None:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.node(WELL, Cordoned())
        fleet.fail(SICK, 9)
        assert fleet.judged() == []

    def test_of_two_sick_nodes_one_stays(self) -> None:
        fleet = Fleet(SICK, WELL, "n3")
        fleet.well("n3", 10)
        fleet.fail(SICK, 6)
        fleet.opened()
        fleet.well(WELL, 6)
        fleet.node("n3", Cordoned())
        fleet.fail(WELL, 6)
        assert fleet.judged() == []


class TestProbation:
    def out(self) -> Fleet:
        fleet = Fleet()
        fleet.well(WELL, 10)
        fleet.fail(SICK, 5)
        fleet.opened()
        return fleet

    def tried(self) -> Fleet:
        fleet = self.out()
        fleet.node(SICK, CircuitHalfOpened())
        return fleet

    def test_when_its_time_is_over_it_is_tried(self) -> None:
        fleet = self.out()
        assert fleet.judged(NOW + timedelta(seconds=BREAKER_S - 0.001)) == []
        later = NOW + timedelta(seconds=BREAKER_S)
        assert fleet.judged(later) == [(SICK, CircuitHalfOpened())]
        fleet.node(SICK, CircuitHalfOpened())
        assert fleet.judged(later) == []

    def test_one_good_attempt_brings_it_back(self) -> None:
        fleet = self.tried()
        fleet.well(SICK, 1)
        assert fleet.judged() == [(SICK, CircuitClosed())]
        fleet.node(SICK, CircuitClosed())
        assert fleet.judged() == []
        fleet.fail(SICK, 4)
        assert fleet.judged() == []  # what was before is forgotten

    def test_a_bad_one_takes_it_out_for_twice_as_long_up_to_a_limit(self) -> None:
        fleet = self.tried()
        pauses: list[float] = []
        for _ in range(7):
            fleet.fail(SICK, 1)
            opened = fleet.opened()
            assert (opened.failures, opened.attempts) == (1, 1)
            pauses.append((opened.until - NOW).total_seconds())
            fleet.node(SICK, CircuitHalfOpened())
        assert pauses == [120, 240, 480, 960, 1920, BREAKER_S_MAX, BREAKER_S_MAX]

    def test_once_it_did_well_the_pauses_begin_anew(self) -> None:
        fleet = self.tried()
        fleet.well(SICK, 1)
        fleet.node(SICK, CircuitClosed())
        fleet.well(WELL, 3)
        fleet.fail(SICK, 5)
        assert (fleet.opened().until - NOW).total_seconds() == BREAKER_S

    @pytest.mark.parametrize("kind", ["completed", "transient"])
    def test_what_it_had_begun_before_says_nothing_of_the_trial(self, kind: str) -> None:
        fleet = self.out()
        early = fleet.assign(SICK)
        fleet.node(SICK, CircuitHalfOpened())
        fleet.job(early, ending(SICK, kind))
        assert fleet.judged() == []

    def test_a_permanent_failure_decides_nothing(self) -> None:
        fleet = self.tried()
        fleet.end(SICK, "permanent")
        assert fleet.judged() == []

    def test_a_worker_that_starts_anew_is_on_probation(self) -> None:
        fleet = self.out()
        fleet.register(SICK, 4, epoch=2)
        assert fleet.world.node(NodeId(SICK)).circuit is Circuit.HALF_OPEN
        fleet.well(SICK, 1)
        assert fleet.judged() == [(SICK, CircuitClosed())]


def test_two_schedulers_judge_alike() -> None:
    fleet, later = Fleet(), Health()
    fleet.also.append(later.apply)
    fleet.well(WELL, 10)
    fleet.fail(SICK, 7)
    first = fleet.judged()
    assert first == list(judge(fleet.world, later, NOW, BREAKER_S))
    assert [node for node, _ in first] == [SICK]
