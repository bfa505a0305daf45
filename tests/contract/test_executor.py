"""What every executor does, whatever it runs: the worker relies on no more, and on no less."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest
from msgspec import Struct

from events.ids import JobId
from events.media import Parameters, TestSource, Video
from events.spec import Engine, JobSpec
from events.telemetry import OutputStream
from services.clock import SystemClock
from services.worker.ffmpeg.executor import FfmpegExecutor, FfmpegSettings
from services.worker.ffmpeg.locate import locate
from services.worker.noexecutor import NoExecutor
from services.worker.noop import NoopExecutor
from services.worker.port import Broken, Executor, Made, Report, Result, Sample, Work
from tests.fakes import FakeExecutor, steps

pytestmark = pytest.mark.anyio
WAIT_S = 60.0
SHORT = JobSpec(
    engine=Engine.FFMPEG,
    input=TestSource(width=64, height=64, rate=10.0, duration_s=0.5),
    parameters=Parameters(video=Video(preset="ultrafast")),
)
LONG = JobSpec(engine=Engine.FFMPEG, input=TestSource(duration_s=3600.0))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Listener:
    """A report that lets a test wait for progress."""

    def __init__(self) -> None:
        self.runs = anyio.Event()
        self.expected: list[float | None] = []
        self.finished = 0

    def progress(self, sample: Sample) -> None:
        assert sample.out_time_s >= 0
        self.runs.set()

    def lines(self, stream: OutputStream, lines: list[str]) -> None:
        assert stream
        assert lines

    def expects(self, length_s: float | None) -> None:
        self.expected.append(length_s)

    def finishing(self) -> None:
        self.finished += 1


class Kind(Struct, frozen=True):
    """An executor and what it is able to."""

    executor: Executor
    out: Path
    lasts: bool
    """Whether an attempt of it takes any time."""
    works: bool = True


Build: TypeAlias = Callable[[Path, Path], Kind]


async def _play(work: Work, report: Report) -> Result:
    """Play a long job for hours and a short one for a moment."""
    return await steps(1_000_000 if work.spec == LONG else 1, 0.02)(work, report)


@pytest.fixture(params=["noop", "none", "fake", "ffmpeg"])
async def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    out = tmp_path / "out"
    match request.param:
        case "noop":
            return Kind(NoopExecutor(), out, lasts=False)
        case "none":
            return Kind(NoExecutor(Engine.GSTREAMER), out, lasts=False, works=False)
        case "fake":
            return Kind(FakeExecutor(_play), out, lasts=True)
        case _:
            found = await locate(tmp_path / "cache")
            settings = FfmpegSettings(
                ffmpeg=Path(found.path),
                encoders=found.video_encoders,
                media_root=tmp_path,
                output_root=out,
                grace_s=0.2,
            )
            return Kind(FfmpegExecutor(settings, SystemClock()), out, lasts=True)


def work(spec: JobSpec, attempt: int = 1) -> Work:
    return Work(job=JobId("j1"), attempt=attempt, spec=spec)


def files(kind: Kind) -> list[str]:
    return sorted(one.name for one in kind.out.rglob("*")) if kind.out.exists() else []


async def test_an_attempt_ends_with_a_result_and_raises_nothing(kind: Kind) -> None:
    with anyio.fail_after(WAIT_S):
        result = await kind.executor.run(work(SHORT), Listener())
    assert isinstance(result, Made if kind.works else Broken)


async def test_what_was_made_takes_its_final_name_however_often_it_is_told_to(kind: Kind) -> None:
    result = await kind.executor.run(work(SHORT), Listener())
    if isinstance(result, Made):
        for _ in range(2):
            await kind.executor.promote(work(SHORT), result)
    if isinstance(kind.executor, FfmpegExecutor):
        assert files(kind) == ["j1.mp4"]
    for _ in range(2):
        await kind.executor.discard(work(SHORT, attempt=2))
    if isinstance(kind.executor, FfmpegExecutor):
        assert files(kind) == ["j1.mp4"]


async def test_what_was_made_can_be_thrown_away_however_often_it_is_told_to(kind: Kind) -> None:
    await kind.executor.run(work(SHORT), Listener())
    for _ in range(2):
        await kind.executor.discard(work(SHORT))
    assert files(kind) == []
    if isinstance(kind.executor, FakeExecutor):
        assert kind.executor.disk.drafts == set()


async def test_what_does_not_run_can_neither_be_stopped_nor_let_go_nor_measured(
    kind: Kind,
) -> None:
    await kind.executor.run(work(SHORT), Listener())
    assert not kind.executor.pause(work(SHORT))
    kind.executor.resume(work(SHORT))
    assert await kind.executor.usage(work(SHORT)) is None


async def test_a_canceled_attempt_is_gone_with_its_files_also_while_it_is_stopped(
    kind: Kind,
) -> None:
    if not kind.lasts:
        pytest.skip("an attempt of it takes no time")
    for stopped in (False, True):
        report = Listener()
        with anyio.fail_after(WAIT_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kind.executor.run, work(LONG), report)
                await report.runs.wait()
                if stopped:
                    assert kind.executor.pause(work(LONG))
                tasks.cancel_scope.cancel()
        assert files(kind) == []
        assert not kind.executor.pause(work(LONG))
        if isinstance(kind.executor, FakeExecutor):
            assert kind.executor.disk.drafts == set()


async def test_a_stopped_attempt_does_not_end_before_it_is_let_go(kind: Kind) -> None:
    if not kind.lasts:
        pytest.skip("an attempt of it takes no time")
    ended = anyio.Event()

    async def attempt() -> None:
        assert isinstance(await kind.executor.run(work(SHORT), Listener()), Made)
        ended.set()

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt)
            while not kind.executor.pause(work(SHORT)):
                await anyio.lowlevel.checkpoint()
            assert kind.executor.pause(work(SHORT))  # once more changes nothing
            with anyio.move_on_after(1.0):
                await ended.wait()
            assert not ended.is_set()
            kind.executor.resume(work(SHORT))


async def test_the_length_is_told_once_and_the_end_before_the_result(kind: Kind) -> None:
    report = Listener()
    await kind.executor.run(work(SHORT), report)
    if isinstance(kind.executor, FfmpegExecutor):
        assert report.expected == [0.5]
        assert report.finished > 0
    else:
        assert len(report.expected) <= 1
