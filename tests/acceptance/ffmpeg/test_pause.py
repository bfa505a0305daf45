"""An encode stands still and goes on: its process takes no time, its output is whole."""

import functools
import signal
from fractions import Fraction

import anyio
import psutil
import pytest
from msgspec import structs

from events.media import Output, Parameters, TestSource, Video
from events.spec import JobSpec
from services.clock import SystemClock
from services.worker.ffmpeg.executor import FfmpegExecutor
from services.worker.port import Broken, Made, Result
from tests.acceptance.ffmpeg.encoding import SMALL, WAIT_S, Bench, children, looked_at, work
from tests.acceptance.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance]

STILL_S = 1.0
GRACE_S = 15.0
"""Far more than an encode takes that follows at once, also on a busy machine."""
SPEC = JobSpec(
    input=TestSource(width=640, height=360, rate=25.0, duration_s=20.0),
    outputs=(Output(path="a.mp4"),),
    parameters=Parameters(video=Video(preset="medium")),
)


def encoder() -> psutil.Process:
    """Return the process of the encode."""
    (child,) = psutil.Process().children(recursive=True)
    return child


def ticks(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def stopped(process: psutil.Process) -> None:
    await until(lambda: process.status() == psutil.STATUS_STOPPED, deadline_s=WAIT_S)


async def test_a_paused_encode_takes_no_time_and_its_output_is_whole(bench: Bench) -> None:
    results: list[Result] = []
    begun_s = anyio.current_time()

    async def attempt() -> None:
        results.append(await bench.run(SPEC))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt)
        await bench.report.begun.wait()
        assert bench.executor.pause(work(SPEC))
        await stopped(encoder())
        taken_s, told = ticks(encoder()), len(bench.report.samples)
        with anyio.move_on_after(STILL_S) as still:
            await until(lambda: ticks(encoder()) != taken_s, deadline_s=WAIT_S)
        assert still.cancelled_caught
        assert len(bench.report.samples) <= told + 1  # what was in the pipe already
        assert results == []
        bench.executor.resume(work(SPEC))
    (made,) = results
    assert isinstance(made, Made)
    assert made.stats.wall_s < anyio.current_time() - begun_s - STILL_S
    await bench.executor.promote(work(SPEC), made)
    assert looked_at(bench.out / "a.mp4") == ("h264", 640, 360, Fraction(25), 500, "aac")


async def test_an_encode_paused_at_any_time_does_not_end_before_it_is_resumed(
    bench: Bench,
) -> None:
    spec = JobSpec(input=SMALL)
    results: list[Result] = []

    async def attempt() -> None:
        results.append(await bench.run(spec))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt)
        await until(functools.partial(bench.executor.pause, work(spec)), deadline_s=WAIT_S)
        with anyio.move_on_after(STILL_S) as still:
            await until(lambda: results != [], deadline_s=WAIT_S)
        assert still.cancelled_caught
        bench.executor.resume(work(spec))
    (made,) = results
    assert isinstance(made, Made)


async def test_an_encode_that_dies_while_it_is_paused_is_told_when_it_is_resumed(
    bench: Bench,
) -> None:
    results: list[Result] = []

    async def attempt() -> None:
        results.append(await bench.run(SPEC))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt)
        await bench.report.begun.wait()
        bench.executor.pause(work(SPEC))
        encoder().kill()
        with anyio.move_on_after(STILL_S) as still:
            await until(lambda: results != [], deadline_s=WAIT_S)
        assert still.cancelled_caught
        bench.executor.resume(work(SPEC))
    (broken,) = results
    assert isinstance(broken, Broken)
    assert broken.exit_status == -signal.SIGKILL
    assert bench.files() == []


async def test_a_paused_encode_can_be_ended(bench: Bench) -> None:
    patient = structs.replace(bench.settings, grace_s=GRACE_S)
    bench.executor = FfmpegExecutor(patient, SystemClock())
    asked_s = float("inf")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, SPEC)
        await bench.report.begun.wait()
        bench.executor.pause(work(SPEC))
        await stopped(encoder())
        asked_s = anyio.current_time()
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - asked_s < GRACE_S  # it went on, and followed the first signal
    assert children() == []
    assert bench.files() == []


def test_what_does_not_run_cannot_be_paused(bench: Bench) -> None:
    assert not bench.executor.pause(work(SPEC))
    bench.executor.resume(work(SPEC))
