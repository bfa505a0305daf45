"""Two schedulers on real parts: one dies or is stopped, the other goes on within seconds."""

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
import msgspec
import pytest

from events import subjects
from events.codec import Recorded
from events.job import Assigned
from events.requests import Replies
from services.errors import LogUnavailable
from tests.fleet import Fleet, fleet
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance, pytest.mark.nats]

GAP_S_MAX = 3.0
"""The longest time without assignments when the leader is killed, with `lease_s` at 2."""
BATCH = 10
ASSIGNED_AFTER = 50
"""So many assignments by the new leader show that it works."""
ELECTED, RESIGNED = "cluster.leader_elected.v1", "cluster.leader_resigned.v1"
ASSIGNED, COMPLETED = "job.assigned.v1", "job.completed.v1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Seen:
    """The ledger as it grows."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []

    async def follow(self, running: Fleet) -> None:
        """Take in the ledger until cancelled."""
        async with running.backbone.ledger.follow(after=0) as batches:
            async for batch in batches:
                self.events += batch

    def of(self, kind: str) -> list[Recorded]:
        """Return all events of one type."""
        return [event for event in self.events if event.type == kind]

    def by(self, source: str) -> list[Recorded]:
        """Return the assignments that one scheduler has made."""
        return [event for event in self.of(ASSIGNED) if event.source == source]

    async def leader(self, *, term: int) -> str:
        """Return who was elected for `term`, as soon as somebody is."""

        async def elected() -> bool:
            return len(self.of(ELECTED)) >= term

        await until(elected, f"a leader for term {term}", within_s=30)
        return self.of(ELECTED)[term - 1].source

    async def assigned(self, source: str, count: int) -> None:
        """Wait until one scheduler has made so many assignments."""

        async def enough() -> bool:
            return len(self.by(source)) >= count

        await until(enough, f"{count} assignments by {source}", within_s=30)


class Stream:
    """Jobs without end: the next ones are submitted when the ones before have ended."""

    def __init__(self, running: Fleet, seen: Seen) -> None:
        self._running = running
        self._seen = seen
        self._ending = False
        self.ended = anyio.Event()
        self.jobs: list[str] = []

    async def flow(self) -> None:
        """Submit jobs until `end`, whoever answers."""
        while not self._ending:
            batch = [f"f{len(self.jobs) + number}" for number in range(BATCH)]
            await until(partial(self._accepted, batch), "an answer", within_s=30)
            self.jobs += batch
            await until(self._all_completed, f"{len(self.jobs)} jobs completed", within_s=30)
        self.ended.set()

    async def end(self) -> None:
        """Submit nothing more; return when all that was submitted has ended."""
        self._ending = True
        await self.ended.wait()

    async def _accepted(self, batch: list[str]) -> bool:
        body = msgspec.json.encode({"jobs": [{"engine": "noop", "job_id": job} for job in batch]})
        try:
            answer = await self._running.backbone.bus.request(
                subjects.API_SUBMIT_MANY, body, timeout_s=1.0
            )
        except LogUnavailable:
            return False
        return all(
            reply.error is None for reply in msgspec.json.decode(answer, type=Replies).results
        )

    async def _all_completed(self) -> bool:
        return len(self._seen.of(COMPLETED)) >= len(self.jobs)


@asynccontextmanager
async def two_schedulers(directory: Path) -> AsyncGenerator[tuple[Fleet, Seen, Stream]]:
    """Run a leader, `first`, a standby, `second`, a worker, and a stream of jobs."""
    async with fleet(directory) as running, anyio.create_task_group() as tasks:
        seen = Seen()
        tasks.start_soon(seen.follow, running)
        running.start_scheduler("first")
        await seen.leader(term=1)
        running.start_scheduler("second")
        running.start_worker("n1", slots=4)

        async def stands_by() -> bool:
            return "scheduler.started" in running.log_of("second")

        await until(stands_by, "a standby", within_s=30)
        await running.serving(subjects.API_CANCEL)
        stream = Stream(running, seen)
        tasks.start_soon(stream.flow)
        yield running, seen, stream
        tasks.cancel_scope.cancel()


def assert_each_ran_once(seen: Seen, jobs: list[str]) -> None:
    completed = [event.subject for event in seen.of(COMPLETED)]
    assert sorted(completed) == sorted(f"ffrtmp.job.{job}" for job in jobs)
    attempts = [(event.subject, attempt_of(event)) for event in seen.of(ASSIGNED)]
    assert len(set(attempts)) == len(attempts)


def attempt_of(event: Recorded) -> int:
    assert isinstance(event.fact, Assigned)
    return event.fact.attempt


def longest_gap_s(events: list[Recorded]) -> float:
    """Return the longest time between two of the events, by their own times."""
    times = sorted(event.time for event in events)
    return max((other - one).total_seconds() for one, other in pairwise(times))


async def test_a_standby_goes_on_within_three_seconds_of_a_kill(tmp_path: Path) -> None:
    async with two_schedulers(tmp_path) as (running, seen, stream):
        first = await seen.leader(term=1)
        await seen.assigned(first, 20)
        running.kill("first")
        second = await seen.leader(term=2)
        assert second != first
        await seen.assigned(second, ASSIGNED_AFTER)
        gap_s = longest_gap_s(seen.of(ASSIGNED))
        await stream.end()
        assert_each_ran_once(seen, stream.jobs)
    assert [event.source for event in seen.of(ELECTED)] == [first, second]
    assert gap_s < GAP_S_MAX


async def test_a_leader_that_is_asked_to_stop_hands_over_at_once(tmp_path: Path) -> None:
    async with two_schedulers(tmp_path) as (running, seen, stream):
        first = await seen.leader(term=1)
        await seen.assigned(first, 20)
        assert running.stop("first") == 0
        second = await seen.leader(term=2)
        await stream.end()
        assert_each_ran_once(seen, stream.jobs)
    resigned, elected = seen.of(RESIGNED)[0], seen.of(ELECTED)[1]
    assert (resigned.source, elected.source) == (first, second)
    assert (elected.time - resigned.time).total_seconds() < 1.0


async def test_a_leader_that_wakes_up_deposed_changes_nothing(tmp_path: Path) -> None:
    async with two_schedulers(tmp_path) as (running, seen, stream):
        first = await seen.leader(term=1)
        await seen.assigned(first, 20)
        stopped = running.processes["first"].pid
        os.kill(stopped, signal.SIGSTOP)
        try:
            second = await seen.leader(term=2)
            await seen.assigned(second, ASSIGNED_AFTER)
        finally:
            os.kill(stopped, signal.SIGCONT)

        async def knows() -> bool:
            return "leader.deposed" in running.log_of("first")

        await until(knows, "the woken leader knows that it is deposed", within_s=30)
        await seen.assigned(second, 2 * ASSIGNED_AFTER)
        await stream.end()
        assert_each_ran_once(seen, stream.jobs)
        deposed_at = seen.of(ELECTED)[1].time
        assert (deposed_at - seen.by(first)[-1].time).total_seconds() < GAP_S_MAX
        assert [event for event in seen.by(first) if event.time > deposed_at] == []
        assert len(seen.of(ELECTED)) == 2
        running.kill("second")
        assert await seen.leader(term=3) == first


async def test_a_single_scheduler_that_is_killed_leads_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as running, anyio.create_task_group() as tasks:
        seen = Seen()
        tasks.start_soon(seen.follow, running)
        running.start_scheduler()
        await seen.leader(term=1)
        running.kill("scheduler")
        running.start_scheduler()
        await seen.leader(term=2)
        assert len({event.source for event in seen.of(ELECTED)}) == 2
        tasks.cancel_scope.cancel()
