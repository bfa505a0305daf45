"""A worker with the real ffmpeg ends what stalls, takes too long or uses too much, and no other."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest
from msgspec import structs

from events.ids import NodeId
from events.job import AttemptFailed, AttemptLost, Completed, FailureClass, LossCause, Paused
from events.media import Parameters, TestSource, Video, VideoCodec
from events.node import Action
from events.spec import Engine, JobSpec, ResourceLimits
from services.worker.guard.guard import LOOK_S
from services.worker.port import Executor
from tests.acceptance.ffmpeg.encoding import FAST, LONG, SMALL, WAIT_S, Bench, children, work
from tests.acceptance.waiting import until
from tests.fakes import FakeExecutor, make_at_once
from tests.sites import Site

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance]

N1 = NodeId("n1")
MIB = 2**20
ENDED_S = 5.0
"""How long ending an encode takes at most on a busy machine: the grace, the hard exit, the reaping.
"""
SLOW = JobSpec(
    engine=Engine.FFMPEG, input=LONG, parameters=Parameters(video=Video(preset="veryslow"))
)


class Yard(Site):
    """A site whose ffmpeg is real."""

    def __init__(self, bench: Bench, folder: Path, **settings: float) -> None:
        super().__init__(folder, FakeExecutor(make_at_once))
        self.bench = bench
        self.settings = structs.replace(self.settings, drain_s=0.1, **settings)

    def executors(self) -> dict[Engine, Executor]:
        return {Engine.FFMPEG: self.bench.executor}


@asynccontextmanager
async def serving(head: Callable[[], bytes]) -> AsyncGenerator[str]:
    """Serve the beginning of a file over HTTP to everybody, and then nothing, without an end."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            try:
                await stream.send(head())
            except anyio.BrokenResourceError:
                return
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        yield f"http://127.0.0.1:{port}/a.mkv"
        tasks.cancel_scope.cancel()


async def lost(yard: Yard, spec: JobSpec) -> AttemptLost:
    """Let a job run until it is lost; nothing of it is left then."""
    async with yard.worker():
        await yard.give("a", spec=spec)
        with anyio.fail_after(WAIT_S):
            event = await yard.until("a", AttemptLost)
        assert children() == []  # before the log is told
        assert yard.bench.files() == []
        assert isinstance(event.fact, AttemptLost)
        return event.fact


async def test_an_input_that_stops_coming_stalls_the_attempt(bench: Bench, tmp_path: Path) -> None:
    clip = await bench.clip("a.mkv", structs.replace(SMALL, duration_s=20.0, noise=50))
    data = clip.read_bytes()

    def half() -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Type: video/x-matroska\r\n\r\n" + data[: len(data) // 2]

    async with serving(half) as url:
        spec = JobSpec(engine=Engine.FFMPEG, input=url, parameters=FAST)
        end = await lost(Yard(bench, tmp_path, stall_s=3.0), spec)
    assert (end.node, end.attempt, end.cause) == (N1, 1, LossCause.STALLED)
    reached_s = float(end.reason.removeprefix("out_time stood at ").split()[0])
    assert 0 < reached_s < 19.0
    silent_s = float(end.reason.removesuffix(" s").split()[-1])
    assert 3.0 <= silent_s < 3.0 + 2 * LOOK_S + ENDED_S


async def test_an_input_that_does_not_open_stalls_the_attempt(bench: Bench, tmp_path: Path) -> None:
    async with serving(lambda: b"") as url:
        spec = JobSpec(engine=Engine.FFMPEG, input=url, parameters=FAST)
        end = await lost(Yard(bench, tmp_path, stall_s=1.0), spec)
    assert end.cause is LossCause.STALLED
    assert end.reason.startswith("out_time stood at 0.0 s (frame 0) for 1.")


async def test_an_encode_that_outlasts_its_time_out_is_ended(bench: Bench, tmp_path: Path) -> None:
    begun_s = anyio.current_time()
    end = await lost(Yard(bench, tmp_path), structs.replace(SLOW, timeout_s=1.0))
    assert end.cause is LossCause.TIMED_OUT
    assert end.reason.startswith("ran for 1.")
    assert "allowed: 1 s (its timeout_s)" in end.reason
    assert 1.0 < anyio.current_time() - begun_s < 1.0 + 2 * LOOK_S + 2 * ENDED_S


async def test_an_encode_paused_for_longer_than_it_may_stall_or_run_is_made(
    bench: Bench, tmp_path: Path
) -> None:
    yard = Yard(bench, tmp_path, stall_s=4.0)
    source = TestSource(width=640, height=360, rate=25.0, duration_s=8.0)
    spec = JobSpec(engine=Engine.FFMPEG, input=source, timeout_s=60.0)
    still_s = 6.0
    async with yard.worker():
        await yard.give("a", spec=spec)
        await until(lambda: len(children()) == 1, deadline_s=WAIT_S)
        await yard.signal("a", Action.PAUSE)
        await yard.until("a", Paused)
        with anyio.move_on_after(still_s) as still:
            await yard.until("a", AttemptLost)
        assert still.cancelled_caught
        await yard.signal("a", Action.RESUME)
        with anyio.fail_after(60):
            event = await yard.until("a", Completed)
    assert isinstance(event.fact, Completed)
    assert event.fact.stats.frames == 200


async def test_a_slow_encoder_that_looks_ahead_is_not_stalled(bench: Bench, tmp_path: Path) -> None:
    stall_s = 3.0
    source = TestSource(width=1920, height=1080, rate=30.0, duration_s=60.0)
    video = Video(codec=VideoCodec.HEVC, preset="veryslow")
    spec = JobSpec(engine=Engine.FFMPEG, input=source, parameters=Parameters(video=video))
    yard = Yard(bench, tmp_path, stall_s=stall_s)
    async with yard.worker():
        await yard.give("a", spec=spec)
        with anyio.move_on_after(2.5 * stall_s) as alive:
            await yard.until("a", AttemptLost)
        assert alive.cancelled_caught
        telemetry = await yard.backbone.telemetry.last_seq()
        assert len(children()) == 1
        assert telemetry > 0


async def test_an_encode_over_its_memory_is_ended(bench: Bench, tmp_path: Path) -> None:
    limits = ResourceLimits(memory_bytes=64 * MIB)
    yard = Yard(bench, tmp_path)
    async with yard.worker():
        await yard.give("a", spec=structs.replace(SLOW, limits=limits))
        with anyio.fail_after(WAIT_S):
            event = await yard.until("a", AttemptFailed)
        assert children() == []
    assert isinstance(event.fact, AttemptFailed)
    assert event.fact.failure is FailureClass.RESOURCE
    words = event.fact.message.split()
    assert words[0] == "used"
    assert float(words[1]) > 64
    assert event.fact.message.endswith("of memory; limits.memory_bytes allows 64.0 MiB")
    assert bench.files() == []


async def test_an_encode_that_writes_too_much_is_ended(bench: Bench, tmp_path: Path) -> None:
    video = Video(preset="ultrafast", bitrate_bps=100_000_000)
    source = structs.replace(LONG, noise=100)
    limits = ResourceLimits(disk_bytes=2 * MIB)
    spec = JobSpec(
        engine=Engine.FFMPEG, input=source, parameters=Parameters(video=video), limits=limits
    )
    yard = Yard(bench, tmp_path)
    async with yard.worker():
        await yard.give("a", spec=spec)
        with anyio.fail_after(WAIT_S):
            event = await yard.until("a", AttemptFailed)
        assert children() == []
    assert isinstance(event.fact, AttemptFailed)
    assert event.fact.failure is FailureClass.PERMANENT
    assert event.fact.message.endswith("limits.disk_bytes allows 2.0 MiB")
    assert bench.files() == []


async def test_usage_is_that_of_the_encode_and_its_files(bench: Bench) -> None:
    assert await bench.executor.usage(work(SLOW)) is None
    async with anyio.create_task_group() as tasks:
        spec = structs.replace(SLOW, parameters=FAST)
        tasks.start_soon(bench.run, spec)
        await bench.report.begun.wait()
        with anyio.fail_after(WAIT_S):
            while True:
                usage = await bench.executor.usage(work(spec))
                assert usage is not None
                if usage.disk_bytes:
                    break
        assert usage.memory_bytes > 20 * MIB
        assert usage.cpu_s > 0
        assert usage.written_ns > 0
        assert bench.report.expected == [600.0]
        assert not bench.report.finished
        tasks.cancel_scope.cancel()
    assert await bench.executor.usage(work(SLOW)) is None
