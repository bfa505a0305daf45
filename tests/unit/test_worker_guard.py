"""What a worker ends by itself: attempts that stall, take too long, use too much, or are void."""

from pathlib import Path

import anyio
import pytest
import trio.lowlevel
import trio.testing
from msgspec import structs

from events.ids import JobId, NodeId
from events.job import (
    AttemptFailed,
    AttemptLost,
    Completed,
    FailureClass,
    LossCause,
    Paused,
    Queued,
    QueuedAfter,
    Resumed,
    Started,
)
from events.media import MadeFile
from events.node import Action, Available
from events.spec import Engine, JobSpec, ResourceLimits
from services.worker.guard.guard import LOOK_S, MEASURE_S_MAX, Guard
from services.worker.port import Made, Report, Result, Usage, Work
from tests.fakes import EPOCH, FakeExecutor, Gates, Play, make_at_once, steps
from tests.sites import FFMPEG, Site

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
MIB = 2**20


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def site(folder: Path, play: Play, **settings: float) -> Site:
    built = Site(folder, FakeExecutor(play))
    built.settings = structs.replace(built.settings, **settings)
    return built


async def test_an_attempt_without_progress_is_given_up_with_its_figures(tmp_path: Path) -> None:
    here = site(tmp_path, steps(12, 1.0, then_s=3600), stall_s=60.0)
    async with here.worker():
        await here.give("a")
        event = await here.until("a", AttemptLost)
    assert isinstance(event.fact, AttemptLost)
    assert (event.fact.node, event.fact.attempt, event.fact.cause) == (N1, 1, LossCause.STALLED)
    assert event.fact.reason.startswith("out_time stood at 12.0 s (frame 300) for 60.")
    assert 72.0 <= anyio.current_time() < 72.0 + LOOK_S + 0.5
    assert here.executor.disk.drafts == set()
    assert await here.story("a") == ["started", "attempt_lost"]


async def test_a_slow_attempt_that_makes_progress_ends_by_itself(tmp_path: Path) -> None:
    here = site(tmp_path, steps(5, 59.0), stall_s=60.0)
    async with here.worker():
        await here.give("a")
        await here.until("a", Completed)


async def test_an_attempt_that_takes_too_long_for_its_length_is_given_up(tmp_path: Path) -> None:
    play = steps(30, 10.0)
    here = site(tmp_path, play, timeout_factor=2.0, timeout_s_min=20.0)
    async with here.worker():
        await here.give("a")
        event = await here.until("a", AttemptLost)
    assert isinstance(event.fact, AttemptLost)
    assert event.fact.cause is LossCause.TIMED_OUT
    assert "allowed: 60 s (derived from its length)" in event.fact.reason
    assert 60.0 <= anyio.current_time() < 61.0 + LOOK_S


@pytest.mark.parametrize("engine", [Engine.FFMPEG, Engine.NOOP])
async def test_the_jobs_own_time_out_holds_for_every_engine(tmp_path: Path, engine: Engine) -> None:
    here = site(tmp_path, steps(1, 3600.0))
    async with here.worker():
        await here.give("a", spec=JobSpec(engine=engine, timeout_s=5.0))
        event = await here.until("a", AttemptLost)
    assert isinstance(event.fact, AttemptLost)
    assert event.fact.cause is LossCause.TIMED_OUT
    assert 5.0 <= anyio.current_time() < 6.0 + LOOK_S


async def test_a_pause_longer_than_every_bound_ends_nothing(tmp_path: Path) -> None:
    here = site(tmp_path, steps(10, 1.0), stall_s=3.0)
    async with here.worker():
        await here.give("a", spec=structs.replace(FFMPEG, timeout_s=20.0))
        await here.until("a", Started)
        await here.signal("a", Action.PAUSE)
        await here.until("a", Paused)
        with anyio.move_on_after(600) as still:
            await here.until("a", Completed)
        assert still.cancelled_caught
        await here.signal("a", Action.RESUME)
        await here.until("a", Resumed)
        await here.until("a", Completed)


async def test_an_attempt_over_its_memory_fails_for_want_of_it(tmp_path: Path) -> None:
    here = site(tmp_path, steps(3600, 1.0))
    spec = structs.replace(FFMPEG, limits=ResourceLimits(memory_bytes=64 * MIB))
    here.executor.usages[JobId("a")] = Usage(memory_bytes=65 * MIB)
    here.executor.usages[JobId("b")] = Usage(memory_bytes=64 * MIB)
    async with here.worker():
        await here.give("a", "b", spec=spec)
        event = await here.until("a", AttemptFailed)
        assert event.fact == AttemptFailed(
            node=N1,
            attempt=1,
            failure=FailureClass.RESOURCE,
            message="used 65.0 MiB of memory; limits.memory_bytes allows 64.0 MiB",
        )
        assert here.executor.disk.drafts == {("b", 1)}
        assert anyio.current_time() < 3 * LOOK_S


async def test_output_over_its_limit_is_not_promoted(tmp_path: Path) -> None:
    async def play(work: Work, report: Report) -> Result:
        del work, report
        await anyio.lowlevel.checkpoint()
        return Made(files=(MadeFile(path="a.mp4", size_bytes=3 * MIB),))

    here = site(tmp_path, play)
    spec = structs.replace(FFMPEG, limits=ResourceLimits(disk_bytes=2 * MIB))
    async with here.worker():
        await here.give("a", spec=spec)
        event = await here.until("a", AttemptFailed)
    assert isinstance(event.fact, AttemptFailed)
    assert event.fact.message == "wrote 3.0 MiB; limits.disk_bytes allows 2.0 MiB"
    assert (here.executor.promoted, here.executor.disk.drafts) == ([], set())


async def test_a_measurement_that_breaks_ends_no_worker(tmp_path: Path) -> None:
    class Blind(FakeExecutor):
        async def usage(self, work: Work) -> Usage | None:
            raise RuntimeError(work.job)

    here = Site(tmp_path, Blind(steps(5, 1.0)))
    spec = structs.replace(FFMPEG, limits=ResourceLimits(memory_bytes=64 * MIB))
    async with here.worker():
        await here.give("a", spec=spec)
        await here.until("a", Completed)


async def test_a_measurement_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    measured: list[JobId] = []

    class Hanging(FakeExecutor):
        async def usage(self, work: Work) -> Usage | None:
            measured.append(work.job)
            await anyio.sleep_forever()
            raise AssertionError(work)

    here = Site(tmp_path, Hanging(steps(1, 3600.0)))
    async with here.worker():
        await here.give("a", "b", spec=structs.replace(FFMPEG, timeout_s=100.0))
        for job in "ab":
            await here.until(job, AttemptLost)
        assert anyio.current_time() < 61.0 + LOOK_S  # the stall, which comes first
    assert len(measured) <= 2 * (30 / MEASURE_S_MAX + 1)


async def test_a_worker_that_could_not_listen_takes_nobody_for_stalled(tmp_path: Path) -> None:
    here = site(tmp_path, steps(1, 1.0, then_s=3600))
    async with here.worker():
        await here.give("a")
        await here.until("a", Started)
        with anyio.move_on_after(10):
            await anyio.sleep_forever()
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(300)  # it stood still, and so did all that it hears
        await here.until("a", AttemptLost)
        assert anyio.current_time() >= 1.0 + 300 + 60 - 2 * LOOK_S


async def test_nothing_without_bounds_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: object) -> None:
        raise AssertionError("nothing is watched")

    monkeypatch.setattr(Guard, "_look", look)
    here = site(tmp_path, make_at_once)
    async with here.worker():
        await here.give("a", spec=JobSpec(engine=Engine.NOOP))
        await here.until("a", Completed)
        with anyio.move_on_after(10 * LOOK_S):
            await anyio.sleep_forever()


async def test_an_attempt_that_was_given_up_ends_when_its_node_is_told(tmp_path: Path) -> None:
    here = site(tmp_path, Gates().play)
    async with here.worker():
        await here.give("a")
        await here.until("a", Started)
        await here.job("a", AttemptLost(node=N1, attempt=1, cause=LossCause.TIMED_OUT))
        lost = await here.job("a", Queued(after=QueuedAfter.LOSS))
        await here.signal_cancel("a")
        event = await here.until_node(Available, after=lost)
        assert event.fact == Available(epoch=EPOCH, slots=2, free=2)
    assert here.executor.disk.drafts == set()
    assert await here.story("a") == ["started", "attempt_lost", "queued"]
