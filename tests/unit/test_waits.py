"""Nobody waits for ever: circles of jobs, and jobs that wait for one nobody submits."""

from datetime import timedelta

import pytest

from events import subjects
from events.ids import JobId
from events.job import Canceled, Failed, FailureClass, JobFact, Queued, QueuedAfter, Submitted
from services.clock import Pen
from services.log.memory import MemoryLog
from services.log.port import Entry
from services.scheduler.upkeep.dependencies import Waits, circle_from
from tests.fakes import LoopClock
from tests.vocabulary import T0, instant
from tests.worlds import Told, noop

pytestmark = pytest.mark.anyio
PENDING_S = 600.0


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


class Waiting(Told):
    """Jobs of which some wait for others."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryLog()
        self.waits = Waits(self.world, pending_s=PENDING_S)
        self.also.append(lambda recorded, _: self.waits.apply(recorded))

    def depend(self, job: str, *needed: str, **fields: object) -> None:
        self.submit(JobId(job), noop(depends_on=list(needed), **fields), at=T0)

    def circles(self) -> list[tuple[str, JobFact]]:
        return [(draft.job, draft.fact) for draft in self.waits.circles()]

    async def overdue(self, at_s: float) -> list[tuple[str, JobFact]]:
        drafts = await self.waits.overdue(self.log, T0 + timedelta(seconds=at_s))
        return [(draft.job, draft.fact) for draft in drafts]


def failed(dependency: str, why: str) -> Failed:
    return Failed(failure=FailureClass.PERMANENT, reason=f"depends on {dependency}, which is {why}")


class TestCircles:
    async def test_two_jobs_that_wait_for_each_other_both_fail(self) -> None:
        told = Waiting()
        told.depend("a", "b")
        assert told.circles() == []
        told.depend("b", "a")
        assert told.circles() == [
            ("b", failed("a", "waiting for this job itself: b -> a -> b")),
            ("a", failed("b", "waiting for this job itself: a -> b -> a")),
        ]
        assert told.circles() == []

    async def test_a_job_that_waits_for_itself_fails(self) -> None:
        told = Waiting()
        told.depend("a", "a")
        expected = failed("a", "waiting for this job itself: a -> a")
        assert told.circles() == [("a", expected)]

    async def test_a_longer_circle_is_found_among_other_dependencies(self) -> None:
        told = Waiting()
        told.depend("a", "x", "b")
        told.depend("b", "y", "c")
        told.depend("outside", "a")
        told.depend("c", "z", "a", on_dependency_failure="skip")
        found = dict(told.circles())
        assert sorted(found) == ["a", "b", "c"]
        assert found["b"] == failed("c", "waiting for this job itself: b -> c -> a -> b")
        reason = "depends on a, which is waiting for this job itself: c -> a -> b -> c"
        assert found["c"] == Canceled(by="scheduler", reason=reason)

    async def test_a_diamond_is_no_circle(self) -> None:
        told = Waiting()
        told.depend("a", "b", "c")
        told.depend("b", "d")
        told.depend("c", "d")
        told.depend("d", "e")
        assert told.circles() == []

    async def test_of_a_large_circle_the_reason_shows_a_part(self) -> None:
        told = Waiting()
        for number in range(40):
            told.depend(f"j{number:02}", f"j{(number + 1) % 40:02}")
        found = dict(told.circles())
        assert len(found) == 40
        shown = " -> ".join(f"j{number:02}" for number in range(10))
        expected = failed("j01", f"waiting for this job itself: {shown} -> ... -> j00")
        assert found["j00"] == expected

    async def test_what_only_leads_to_a_circle_is_not_part_of_it(self) -> None:
        told = Waiting()
        told.depend("outside", "tail")
        told.depend("tail", "a")
        told.depend("a", "b")
        told.depend("b", "a")
        assert sorted(dict(told.circles())) == ["a", "b"]

    async def test_a_long_chain_is_searched_once(self) -> None:
        told = Waiting()
        for number in range(3_000):
            told.depend(f"j{number}", f"j{number + 1}")
        clear: set[JobId] = set()
        found = [circle_from(told.world, JobId(f"j{at}"), clear) for at in (1, 2, 2_999)]
        assert found == [[], [], []]
        assert len(clear) == 3_000  # all behind j1, seen at the first search

    async def test_one_whose_fact_is_on_its_way_is_looked_at_later(self) -> None:
        told = Waiting()
        told.depend("a", "a")
        told.world.claim(JobId("a"))
        assert told.circles() == []
        told.world.unclaim(JobId("a"))
        assert [job for job, _ in told.circles()] == ["a"]


class TestNobodySubmitsIt:
    async def test_a_job_that_waits_for_an_unknown_one_fails_in_the_end(self) -> None:
        told = Waiting()
        told.depend("a", "ghost")
        assert await told.overdue(PENDING_S - 1) == []
        why = "unknown: nobody has submitted it in 600 s"
        assert await told.overdue(PENDING_S) == [("a", failed("ghost", why))]

    async def test_one_that_waits_for_known_jobs_may_wait(self) -> None:
        told = Waiting()
        told.submit(JobId("b"))
        told.depend("a", "b")
        assert await told.overdue(10 * PENDING_S) == []

    async def test_a_dependency_that_has_ended_is_known(self) -> None:
        told = Waiting()
        pen = Pen("test", LoopClock())
        event = pen.write(subjects.job(JobId("b")), Submitted(spec=noop()))
        await told.log.append([Entry(event)])
        told.depend("a", "b")
        assert await told.overdue(PENDING_S) == []

    async def test_the_wait_for_a_start_time_does_not_count(self) -> None:
        told = Waiting()
        told.depend("a", "ghost", not_before=instant(1000))
        assert await told.overdue(1000 + PENDING_S - 1) == []
        assert [job for job, _ in await told.overdue(1000 + PENDING_S)] == ["a"]

    async def test_a_start_time_at_the_end_of_time_is_waited_for(self) -> None:
        told = Waiting()
        told.depend("a", "ghost", not_before="9999-12-31T23:59:59.999999Z")
        assert await told.overdue(1e9) == []

    async def test_a_scheduler_that_begins_looks_at_all_anew(self) -> None:
        told = Waiting()
        told.depend("a", "ghost")
        assert len(await told.overdue(PENDING_S)) == 1
        assert await told.overdue(PENDING_S) == []
        told.world.unblocked.clear()
        told.waits.begin()
        assert list(told.world.unblocked) == ["a"]
        assert len(await told.overdue(PENDING_S)) == 1

    async def test_one_that_waits_no_more_is_left_alone(self) -> None:
        told = Waiting()
        told.depend("a", "ghost")
        told.job("a", Queued(after=QueuedAfter.DEPENDENCIES))
        assert await told.overdue(PENDING_S) == []
