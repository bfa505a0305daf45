"""Single troubles, told to their end: a scheduler and a worker on a virtual clock."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trio.testing
from msgspec import json

from events import subjects
from events.codec import Fact, Recorded
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptLost,
    Canceled,
    CancelRequested,
    Completed,
    Declined,
    Started,
    Submitted,
)
from events.media import MadeFile
from events.node import Assignments, Available, Lost, Recovered, Registered
from events.spec import JobSpec
from events.telemetry import Heartbeat
from services.backbone import Backbone
from services.clock import Pen
from services.config import SchedulerSettings
from services.errors import LogUnavailable
from services.log.memory import MemoryLog
from services.log.port import Entry, Outcome
from services.memory import memory_backbone
from services.scheduler.deciding import TICK_S
from services.scheduler.service import run_scheduler
from services.worker.port import Made, Report, Result, Work
from tests.fakes import FakeExecutor, LoopClock
from tests.sites import Site

pytestmark = pytest.mark.anyio
SETTINGS = SchedulerSettings(repeat_s=2.0, assign_s=60.0, node_dead_s=15.0)
FILES = (MadeFile(path="a.mp4", size_bytes=1000),)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class PickyLog(MemoryLog):
    """A log that loses what it is told to lose, or is away for it."""

    def __init__(self) -> None:
        super().__init__()
        self.loses: type[Fact] | None = None
        self.refuses: type[Fact] | None = None
        self.answer_s = 0.0
        """How long it takes to answer once it has stored something."""

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        kinds = {type(entry.event.data) for entry in entries}
        if self.refuses in kinds:
            raise LogUnavailable("away")
        if self.loses in kinds:
            self.loses = None
            return [1] * len(entries)
        outcomes = await super().append(entries)
        await anyio.sleep(self.answer_s)
        return outcomes


def takes(seconds: float) -> Callable[[Work, Report], Awaitable[Result]]:
    """Return attempts that take this long."""

    async def play(work: Work, report: Report) -> Result:
        del work, report
        await anyio.sleep(seconds)
        return Made(files=FILES)

    return play


class Stage:
    """A site with logs that can be told to misbehave, and a scheduler."""

    def __init__(
        self,
        folder: Path,
        *,
        takes_s: float,
        slots: int = 2,
        settings: SchedulerSettings = SETTINGS,
    ) -> None:
        self.settings = settings
        self.ledger, self.telemetry = PickyLog(), PickyLog()
        common = memory_backbone()
        self.site = Site(folder, FakeExecutor(takes(takes_s)), slots=slots)
        self.site.backbone = self.backbone = Backbone(
            ledger=self.ledger,
            telemetry=self.telemetry,
            logs=common.logs,
            inbox=common.inbox,
            bus=common.bus,
            lease=common.lease,
        )

    @asynccontextmanager
    async def scheduler(self) -> AsyncGenerator[None]:
        """Run a scheduler; it is gone at the end, without a word."""
        async with anyio.create_task_group() as tasks:

            async def run(task_status: anyio.abc.TaskStatus[None]) -> None:
                await run_scheduler(
                    self.backbone, self.settings, clock=LoopClock(), task_status=task_status
                )

            await tasks.start(run)
            yield
            tasks.cancel_scope.cancel()

    async def submit(self, *jobs: str) -> None:
        """Store submissions."""
        for job in jobs:
            await self.site.job(job, Submitted(spec=JobSpec()))

    async def ask(self, subject: str, body: object) -> bytes:
        """Ask the scheduler."""
        return await self.backbone.bus.request(subject, json.encode(body))

    async def all(self, kind: type[Fact]) -> list[Recorded]:
        """Return all facts of a kind in the ledger."""
        async with self.ledger.follow(after=0, live=False) as batches:
            events = [event async for batch in batches for event in batch]
        return [event for event in events if isinstance(event.fact, kind)]


async def test_an_assignment_the_node_never_heard_of_is_told_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=1)
    async with stage.site.worker(), stage.scheduler():
        stage.ledger.loses = Assignments
        await stage.submit("a")
        assigned = await stage.site.until("a", Assigned)
        started = await stage.site.until("a", Started)
        await stage.site.until("a", Completed)
    waited_s = (started.time - assigned.time).total_seconds()
    assert SETTINGS.repeat_s < waited_s < SETTINGS.repeat_s + 2 * TICK_S
    assert len(await stage.all(Assigned)) == 1


async def test_a_scheduler_tells_what_the_one_before_it_only_assigned(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=1)
    async with stage.site.worker():
        stage.ledger.refuses = Assignments
        async with stage.scheduler():
            await stage.submit("a")
            await stage.site.until("a", Assigned)
        stage.ledger.refuses = None
        async with stage.scheduler():
            await stage.site.until("a", Completed)
    assert len(await stage.all(Assigned)) == 1


async def test_a_cancellation_reaches_an_attempt_the_node_never_heard_of(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=1)
    async with stage.site.worker(), stage.scheduler():
        stage.ledger.loses = Assignments
        await stage.submit("a")
        await stage.site.until("a", Assigned)
        await stage.ask(subjects.API_CANCEL, {"job_id": "a", "by": "ann"})
        asked = await stage.site.until("a", CancelRequested)
        canceled = await stage.site.until("a", Canceled)
    assert (canceled.time - asked.time).total_seconds() < 1.0
    assert stage.site.executor.begun == []


async def test_a_node_that_is_back_runs_anew_what_was_given_up_and_declines_nothing(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, takes_s=50, slots=2)
    async with stage.scheduler(), stage.site.worker():
        await stage.submit("a", "b")
        await stage.site.until("a", Started)
        await stage.site.until("b", Started)
        stage.telemetry.refuses = Heartbeat
        await stage.site.until_node(Lost)
        stage.telemetry.refuses = None
        await stage.site.until_node(Recovered)
        await stage.site.until("a", Completed)
        await stage.site.until("b", Completed)
    assert len(await stage.all(AttemptLost)) == 2
    assert await stage.all(Declined) == []
    assert len(await stage.all(Assigned)) == 4
    assert stage.site.executor.disk.drafts == set()


async def test_room_is_reported_after_a_refusal_however_late_that_is_stored(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, takes_s=300, slots=1)
    async with stage.site.worker():
        await stage.site.give("a")
        await stage.site.until("a", Started)
        stage.ledger.refuses = Declined
        await stage.site.give("b")
        told = await stage.site.on_node(Assignments)
        early = await stage.site.until_node(Available, after=told[-1].seq)
        stage.ledger.refuses = None
        declined = await stage.site.until("b", Declined)
        late = await stage.site.until_node(Available, after=declined.seq)
    assert early.seq < declined.seq < late.seq
    assert (late.time - declined.time).total_seconds() < 1.0


async def test_jobs_without_end_do_not_keep_a_scheduler_from_its_time_outs(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, takes_s=0)
    stage.ledger.answer_s = 0.01
    async with stage.scheduler(), anyio.create_task_group() as tasks:
        await stage.site.store(subjects.node(NodeId("n1")), Registered(epoch=1, slots=1))
        tasks.start_soon(decline_everything, stage)
        with anyio.move_on_after(SETTINGS.node_dead_s + 1):
            await stage.site.until_node(Lost)
        tasks.cancel_scope.cancel()
    assert len(await stage.site.on_node(Lost)) == 1


async def decline_everything(stage: Stage) -> None:
    """Give a scheduler something to assign at any time, by a node that says it has room."""
    pen = Pen("test", LoopClock())
    node = NodeId("n2")
    offer = Registered(epoch=1, slots=1, capabilities=("engine:ffmpeg", "codec:h264"))
    await stage.site.store(subjects.node(node), offer)
    await stage.submit("a")
    async with stage.ledger.follow(after=0, filters=(subjects.ALL_JOBS,)) as batches:
        async for batch in batches:
            for event in batch:
                if isinstance(event.fact, Assigned):
                    declined = Declined(node=node, attempt=event.fact.attempt)
                    subject = subjects.job(JobId("a"))
                    answer = [
                        Entry(pen.write(subject, declined), event.seq),
                        Entry(pen.write(subjects.node(node), offer)),
                    ]
                    await MemoryLog.append(stage.ledger, answer)
