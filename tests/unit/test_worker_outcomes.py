"""Outcomes are appended once, against the fence, whatever the log does meanwhile."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest
import trio.testing

from events import subjects
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Completed,
    FailureClass,
    JobFact,
    LossCause,
    Queued,
    QueuedAfter,
    Reprioritized,
    Started,
    Submitted,
)
from events.node import Available
from events.spec import JobSpec, Priority, Queue
from services.clock import Pen
from services.errors import Conflict, LogUnavailable
from services.log.memory import MemoryLog
from services.log.persist import append, persistently
from services.log.port import Entry, Outcome
from services.worker import outcomes as module
from services.worker.outcomes import Outcomes
from tests.fakes import LoopClock

if TYPE_CHECKING:
    from events.codec import Fact

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
STARTED = Started(node=N1, attempt=1)
COMPLETED = Completed(node=N1, attempt=1)
FAILED = AttemptFailed(node=N1, attempt=1, failure=FailureClass.TRANSIENT)
LOST = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)
RANKED = Reprioritized(queue=Queue.LIVE, priority=Priority.HIGH)
SECOND = Assigned(node=N1, attempt=2)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class ShakyLog(MemoryLog):
    """A log whose next appends fail: before they store anything, or after they stored all.

    An append that is `overtaken` is stored, and something of somebody else's after it; one that is
    `beaten` meets what somebody else has just written.
    """

    def __init__(self, *failures: str) -> None:
        super().__init__()
        self.failures = list(failures)
        self.sizes: list[int] = []

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        self.sizes.append(len(entries))
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "before":
            raise LogUnavailable("nothing was stored")
        if failure == "beaten":
            mine = entries[0].event
            other = msgspec.structs.replace(
                mine, id=f"other-{len(self.sizes)}", type="job.reprioritized.v1", data=RANKED
            )
            await super().append([Entry(other)])
        found = await super().append(entries)
        if failure == "overtaken":
            await super().append([Entry(msgspec.structs.replace(entries[0].event, id="other"))])
        if failure in {"after", "overtaken"}:
            raise LogUnavailable("all was stored")
        return found


class Book:
    """Outcomes over a log, and what they were settled with."""

    def __init__(self, log: ShakyLog) -> None:
        self.log = log
        self._pen = Pen("test", LoopClock())
        self.outcomes = Outcomes(log, Pen("worker/n1", LoopClock()))
        self.settled: list[tuple[str, int | None]] = []
        self._put = 0
        self._all_settled = anyio.Event()

    async def store(self, job: str, *facts: JobFact) -> int:
        """Store facts, as others would, whatever the log's mood."""
        subject = subjects.job(JobId(job))
        entries = [Entry(self._pen.write(subject, fact)) for fact in facts]
        last = (await MemoryLog.append(self.log, entries))[-1]
        assert isinstance(last, int)
        return last

    async def assigned(self, job: str) -> int:
        """Store that a job was assigned for the first time."""
        return await self.store(job, Submitted(spec=JobSpec()), Assigned(node=N1, attempt=1))

    def put(self, job: str, fact: JobFact, expected: int, attempt: int = 1) -> None:
        """Put an outcome and note what it is settled with."""
        name = f"{job} {fact.tag.split('.')[1]}"

        def then(seq: int | None) -> None:
            self.settled.append((name, seq))
            if len(self.settled) == self._put:
                self._all_settled.set()

        self._put += 1
        self.outcomes.put(module.Outcome(JobId(job), attempt, fact, expected, then))

    async def settle(self) -> list[tuple[str, int | None]]:
        """Append all that was put and return what became of it."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.outcomes.run)
            with anyio.fail_after(60):
                await self._all_settled.wait()
            tasks.cancel_scope.cancel()
        return self.settled

    async def story(self, job: str) -> list[str]:
        events = await self.log.read(subjects.job(JobId(job)))
        return [event.type.split(".")[1] for event in events]


class TestAppending:
    async def test_an_end_is_told_however_often_others_write_first(self) -> None:
        book = Book(ShakyLog(*["beaten"] * (module.TRIES_MAX + 3)))
        await book.assigned("a")
        started = await book.store("a", STARTED)
        book.put("a", COMPLETED, started)
        ((_, seq),) = await book.settle()
        assert seq is not None
        assert (await book.story("a"))[-1] == "completed"

    async def test_outcomes_of_different_jobs_are_appended_together(self) -> None:
        book = Book(ShakyLog())
        a, b = await book.assigned("a"), await book.assigned("b")
        book.put("a", STARTED, a)
        book.put("b", STARTED, b)
        assert await book.settle() == [("a started", 5), ("b started", 6)]
        assert book.log.sizes == [2]

    async def test_outcomes_of_one_job_are_appended_one_after_the_other(self) -> None:
        book = Book(ShakyLog())
        first = await book.assigned("a")
        started = await book.store("a", STARTED, LOST, Queued(after=QueuedAfter.LOSS), SECOND)
        book.put("a", FAILED, first + 1)
        book.put("a", Started(node=N1, attempt=2), started, attempt=2)
        other = await book.assigned("b")
        book.put("b", STARTED, other)
        assert dict(await book.settle()) == {
            "a attempt_failed": None,
            "a started": started + 4,
            "b started": other + 1,
        }

    async def test_no_more_than_a_limit_is_appended_together(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "TOGETHER_MAX", 2)
        book = Book(ShakyLog())
        for job in "abcde":
            book.put(job, STARTED, await book.assigned(job))
        await book.settle()
        assert book.log.sizes == [2, 2, 1]
        assert [name for name, _ in book.settled] == [f"{job} started" for job in "abcde"]


class TestOutage:
    @pytest.mark.parametrize("failures", [["before"], ["after"], ["after", "before", "before"]])
    @pytest.mark.parametrize("fact", [STARTED, COMPLETED, FAILED], ids=lambda fact: fact.tag)
    async def test_an_outcome_is_stored_once_whatever_the_outage(
        self, fact: JobFact, failures: list[str]
    ) -> None:
        book = Book(ShakyLog(*failures))
        seq = await book.assigned("a")
        book.put("a", fact, seq)
        name = fact.tag.split(".")[1]
        assert await book.settle() == [(f"a {name}", seq + 1)]
        assert await book.story("a") == ["submitted", "assigned", name]

    async def test_after_an_outage_our_own_fact_is_known_behind_those_of_others(self) -> None:
        log = ShakyLog("overtaken")
        seq = await Book(log).assigned("a")
        pen = Pen("worker/n1", LoopClock())
        entry = Entry(pen.write(subjects.job(JobId("a")), STARTED), seq)
        assert await append(log, [entry], "testing") == [seq + 1]
        assert await log.last_seq() == seq + 2

    async def test_a_real_conflict_after_an_outage_is_still_one(self) -> None:
        log = ShakyLog("before")
        book = Book(log)
        seq = await book.assigned("a")
        await book.store("a", LOST)
        entry = Entry(Pen("w", LoopClock()).write(subjects.job(JobId("a")), STARTED), seq)
        (found,) = await append(log, [entry], "testing")
        assert isinstance(found, Conflict)
        assert found.current == seq + 1

    async def test_a_report_without_expectation_is_repeated(self) -> None:
        log = ShakyLog("before")
        fact: Fact = Available(epoch=1, slots=1, free=1)
        entry = Entry(Pen("w", LoopClock()).write(subjects.node(N1), fact))
        assert await append(log, [entry], "testing") == [1]

    async def test_waits_double_up_to_a_limit(self) -> None:
        at: list[float] = []

        async def fail_often() -> None:
            at.append(round(anyio.current_time(), 3))
            if len(at) < 9:
                raise LogUnavailable("silent")

        await persistently(fail_often, "testing")
        waits = [round(b - a, 3) for a, b in pairwise(at)]
        assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


class TestRaces:
    async def test_an_end_is_appended_to_the_newer_version_while_the_attempt_holds(self) -> None:
        book = Book(ShakyLog())
        seq = await book.assigned("a")
        await book.store("a", STARTED)
        book.put("a", COMPLETED, seq)
        assert await book.settle() == [("a completed", seq + 2)]

    async def test_a_start_that_an_earlier_worker_made_is_not_ours(self) -> None:
        book = Book(ShakyLog())
        seq = await book.assigned("a")
        await book.store("a", STARTED)
        book.put("a", STARTED, seq)
        assert await book.settle() == [("a started", None)]

    async def test_a_completion_that_is_in_the_log_already_has_won(self) -> None:
        book = Book(ShakyLog())
        seq = await book.assigned("a")
        stored = await book.store("a", COMPLETED)
        book.put("a", COMPLETED, seq)
        assert await book.settle() == [("a completed", stored)]

    async def test_an_end_of_a_lost_attempt_is_not_stored(self) -> None:
        book = Book(ShakyLog())
        seq = await book.assigned("a")
        await book.store("a", LOST)
        book.put("a", COMPLETED, seq)
        assert await book.settle() == [("a completed", None)]
        assert await book.story("a") == ["submitted", "assigned", "attempt_lost"]
