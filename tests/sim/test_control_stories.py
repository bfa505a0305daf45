"""Jobs are paused, resumed, retried and ranked anew while things go wrong, told to their end."""

from pathlib import Path

import anyio
import pytest
import trio.testing
from msgspec import json

from events import subjects
from events.ids import JobId
from events.job import (
    Assigned,
    Completed,
    Failed,
    FailureClass,
    Paused,
    PauseRequested,
    Promoted,
    Resumed,
    ResumeRequested,
    Retried,
    Started,
)
from events.node import Signal
from events.requests import Reply
from services.scheduler.deciding import TICK_S
from services.worker.port import Broken, Report, Result, Work
from tests.fakes import FakeExecutor, made
from tests.sim.test_stories import SETTINGS, Stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def ask(stage: Stage, subject: str, job: str, **fields: str) -> Reply:
    answer = await stage.ask(subject, {"job_id": job, "by": "ann", **fields})
    reply = json.decode(answer, type=Reply)
    assert reply.error is None, reply
    return reply


async def test_a_pause_reaches_the_node_though_its_signal_was_lost(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=10)
    async with stage.site.worker(), stage.scheduler():
        await stage.submit("a")
        await stage.site.until("a", Started)
        stage.ledger.loses = Signal
        assert (await ask(stage, subjects.API_PAUSE, "a")).status == "processing"
        asked = await stage.site.until("a", PauseRequested)
        paused = await stage.site.until("a", Paused)
        waited_s = (paused.time - asked.time).total_seconds()
        assert SETTINGS.repeat_s < waited_s < SETTINGS.repeat_s + 3 * TICK_S
        await anyio.sleep(100)
        assert len(await stage.all(Signal)) == 1
        await ask(stage, subjects.API_RESUME, "a")
        asked = await stage.site.until("a", ResumeRequested)
        resumed = await stage.site.until("a", Resumed)
        await stage.site.until("a", Completed)
    assert (resumed.time - asked.time).total_seconds() < 2 * TICK_S
    assert await stage.all(Signal) == await stage.site.on_node(Signal)
    assert len(await stage.all(Signal)) == 2


async def test_a_pause_and_a_resume_before_any_signal_leave_the_job_running(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, takes_s=10)
    async with stage.site.worker(), stage.scheduler():
        await stage.submit("a")
        await stage.site.until("a", Started)
        for subject in (subjects.API_PAUSE, subjects.API_RESUME):
            await ask(stage, subject, "a")
        await stage.site.until("a", Completed)
    assert await stage.all(Signal) == []


async def test_a_failed_job_is_retried_by_a_scheduler_that_has_forgotten_it(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, takes_s=0)
    stage.site.executor = FakeExecutor(_fails_at_first)
    async with stage.site.worker():
        async with stage.scheduler():
            await stage.submit("a")
            await stage.site.until("a", Failed)
            retry = await ask(stage, subjects.API_RETRY, "a")
            await stage.site.until("a", Promoted)
        async with stage.scheduler():  # one that learns all of it from the ledger
            await stage.submit("b")
            await stage.site.until("b", Failed)
    assert retry.status == "queued"
    again = ["retried", "started", "completed", "promoted"]
    assert await stage.site.story("a") == ["started", "attempt_failed", "failed", *again]
    attempts = [event.fact for event in await stage.all(Assigned)]
    assert [fact.attempt for fact in attempts if isinstance(fact, Assigned)] == [1, 2, 1]
    assert len(await stage.all(Retried)) == 1


async def test_a_scheduler_that_starts_later_takes_up_a_retry(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=0)
    stage.site.executor = FakeExecutor(_fails_at_first)
    async with stage.site.worker():
        async with stage.scheduler():
            await stage.submit("a")
            await stage.site.until("a", Failed)
        await stage.site.job("a", Retried(by="ann"))
        async with stage.scheduler():
            await stage.site.until("a", Completed)


async def test_a_job_that_ranks_higher_now_is_next(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=10, slots=1)
    async with stage.site.worker(), stage.scheduler():
        await stage.submit("first")
        await stage.site.until("first", Started)
        await stage.submit("second", "third")
        await ask(stage, subjects.API_REPRIORITIZE, "third", queue="live", priority="high")
        await stage.site.until("second", Completed)
    started = [subjects.job_of(event.subject) for event in await stage.all(Started)]
    assert started == [JobId("first"), JobId("third"), JobId("second")]


async def _fails_at_first(work: Work, report: Report) -> Result:
    del report
    await anyio.lowlevel.checkpoint()
    if work.attempt == 1:
        return Broken(failure=FailureClass.PERMANENT, message="no such filter")
    return made(work)
