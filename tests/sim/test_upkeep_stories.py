"""What ends by time or by failing too often: attempts, jobs that wait, nodes that do badly."""

from itertools import pairwise

import anyio
import pytest
import trio.testing

from events import subjects
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptLost,
    Canceled,
    Completed,
    Failed,
    LossCause,
    Paused,
    Rejected,
    Started,
)
from events.node import (
    Action,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    Signal,
)
from services.config import SchedulerSettings
from tests.sim.puppets import Puppet, Show, fleet, playing
from tests.worlds import noop

pytestmark = pytest.mark.anyio
SETTINGS = SchedulerSettings(timeout_margin_s=5.0, breaker_s=30.0, retry_base_s=1.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class TestTimeOuts:
    async def test_what_its_worker_does_not_end_is_given_up_and_its_process_ended(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1", takes_s=500)
        async with playing(show, puppet):
            await show.submit("a", spec=noop(timeout_s=60, attempts_max=1))
            began = await show.until(Started)
            lost = await show.until(AttemptLost)
            await show.until(Failed)
            await show.until(Signal)
            await anyio.sleep(1)
        assert isinstance(lost.fact, AttemptLost)
        assert lost.fact.cause is LossCause.TIMED_OUT
        assert 65 <= (lost.time - began.time).total_seconds() < 65.5
        assert puppet.signals == [Signal(job=JobId("a"), attempt=1, action=Action.CANCEL)]
        assert await show.all(Canceled) == []

    async def test_while_it_is_paused_it_has_time(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1", takes_s=500)
        async with playing(show, puppet):
            await show.submit("a", spec=noop(timeout_s=60))
            await show.until(Started)
            await show.store(subjects.job(JobId("a")), Paused(attempt=1))
            await anyio.sleep(400)
        assert await show.all(AttemptLost) == []

    async def test_jobs_that_wait_for_each_other_both_fail(self) -> None:
        show = Show(SETTINGS)
        async with playing(show, Puppet(show, "n1")):
            await show.submit("a", spec=noop(depends_on=["b"]))
            await anyio.sleep(10)
            assert await show.all(Failed) == []
            await show.submit("b", spec=noop(depends_on=["a"]))
            await show.until(Failed, 2)
        reasons = [
            event.fact.reason for event in await show.all(Failed) if isinstance(event.fact, Failed)
        ]
        assert reasons == [
            "depends on a, which is waiting for this job itself: b -> a -> b",
            "depends on b, which is waiting for this job itself: a -> b -> a",
        ]

    async def test_a_job_whose_dependency_nobody_submits_fails_in_the_end(self) -> None:
        show = Show(SchedulerSettings(pending_s=100.0))
        async with playing(show, Puppet(show, "n1")):
            await show.submit("a", spec=noop(depends_on=["ghost"]))
            failed = await show.until(Failed)
            assert 100 <= anyio.current_time() < 101
        assert isinstance(failed.fact, Failed)
        why = "depends on ghost, which is unknown: nobody has submitted it in 100 s"
        assert failed.fact.reason == why

    async def test_without_any_node_jobs_wait(self) -> None:
        show = Show(SETTINGS)
        async with playing(show):
            await show.submit("a")
            await anyio.sleep(SETTINGS.unschedulable_s + 60)
        assert await show.all(Rejected) == []


class TestCircuit:
    async def test_a_node_where_all_fails_is_taken_out_and_healed_by_probation(self) -> None:
        show = Show(SETTINGS)
        sick, *healthy = fleet(show, 4)
        sick.fails = lambda: True
        jobs = [f"j{number:02}" for number in range(60)]
        async with playing(show, sick, *healthy):
            await show.submit(*jobs[:40], spec=noop(attempts_max=10))
            opened = await show.until(CircuitOpened)
            await show.until(Completed, 40)
            tried = await show.until(CircuitHalfOpened)
            sick.fails = lambda: False
            await show.submit(*jobs[40:])
            closed = await show.until(CircuitClosed)
            await show.until(Completed, 60)
        assert subjects.node_of(opened.subject) == "n0"
        assert opened.seq < tried.seq < closed.seq
        assert await show.all(Failed) == []
        given = [event for event in await show.all(Assigned) if went_to(event) == sick.node]
        assert [event for event in given if opened.seq < event.seq < tried.seq] == []
        on_trial = [event for event in given if tried.seq < event.seq < closed.seq]
        ends = {event.subject: event.seq for event in await show.all(Completed)}
        assert all(ends[one.subject] < other.seq for one, other in pairwise(on_trial))
        assert 1 <= len(on_trial) <= 2  # the next one may be given before the first is judged

    async def test_a_node_that_fails_its_probation_is_out_for_longer(self) -> None:
        show = Show(SETTINGS)
        sick, *healthy = fleet(show, 4)
        sick.fails = lambda: True
        async with playing(show, sick, *healthy):
            await show.submit(
                *[f"j{number:02}" for number in range(40)], spec=noop(attempts_max=10)
            )
            await show.until(CircuitHalfOpened)
            await show.submit(
                *[f"k{number:02}" for number in range(20)], spec=noop(attempts_max=10)
            )
            await show.until(CircuitOpened, 2)
            await show.until(CircuitHalfOpened, 2)
        assert [pause_s(event) for event in await show.all(CircuitOpened)] == [30, 60]

    async def test_the_only_node_keeps_its_work_however_it_fails(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1")
        puppet.fails = lambda: True
        async with playing(show, puppet):
            await show.submit("a", "b", "c", spec=noop(attempts_max=3))
            await show.until(Failed, 3)
        assert await show.all(CircuitOpened) == []


def went_to(event: Recorded) -> NodeId:
    """Return the node of an assignment."""
    assert isinstance(event.fact, Assigned)
    return event.fact.node


def pause_s(event: Recorded) -> int:
    """Return for how long a circuit was opened."""
    assert isinstance(event.fact, CircuitOpened)
    return round((event.fact.until - event.time).total_seconds())
