"""A file system that hangs holds up neither the worker nor the end of an attempt."""

import os
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from events.ids import JobId
from events.media import MadeFile
from events.spec import Engine, JobSpec
from events.telemetry import OutputStream
from services.clock import SystemClock
from services.worker.ffmpeg import executor as module
from services.worker.ffmpeg import paths
from services.worker.ffmpeg.executor import FfmpegExecutor, FfmpegSettings
from services.worker.guard import usage
from services.worker.guard.threads import Threads
from services.worker.port import Made, Sample, Work
from tests.waiting import until

pytestmark = pytest.mark.anyio
SOON_S = 10.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Hung:
    """A file system that keeps every caller until it answers again."""

    def __init__(self) -> None:
        self.asked = 0
        self._answers = threading.Event()
        self.callers: list[threading.Thread] = []

    def __call__(self, *_: object, **__: object) -> None:
        self.asked += 1
        self.callers.append(threading.current_thread())
        assert self._answers.wait(60)

    def answer(self) -> None:
        self._answers.set()
        for caller in self.callers:
            caller.join(SOON_S)


@pytest.fixture
def hung() -> Iterator[Hung]:
    disk = Hung()
    yield disk
    disk.answer()


@asynccontextmanager
async def hanging(threads: Threads, hung: Hung) -> AsyncGenerator[anyio.CancelScope]:
    """Make a call that hangs; it is given up at the end."""
    before = hung.asked

    async def asked() -> bool:
        return hung.asked > before

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(threads.run, hung)
        await until(asked, "the call hangs", within_s=SOON_S)
        yield tasks.cancel_scope
        tasks.cancel_scope.cancel()


class TestThreads:
    async def test_a_call_returns_or_raises_as_it_would_here(self) -> None:
        threads = Threads(1)
        assert await threads.run(lambda: 42) == 42
        with pytest.raises(FileNotFoundError):
            await threads.run(Path("/not/there").stat)
        assert not threads.exhausted

    async def test_a_call_that_hangs_is_given_up_at_once(self, hung: Hung) -> None:
        with anyio.fail_after(SOON_S):
            async with hanging(Threads(1), hung):
                pass

    async def test_no_more_calls_are_left_behind_than_allowed(self, hung: Hung) -> None:
        threads = Threads(2)
        for _ in range(2):
            async with hanging(threads, hung):
                pass
        assert threads.exhausted
        with pytest.raises(TimeoutError, match="2 calls hang in the file system"):
            await threads.run(lambda: 42)

    async def test_calls_are_made_again_when_the_file_system_answers(self, hung: Hung) -> None:
        threads = Threads(1)
        async with hanging(threads, hung):
            pass
        assert threads.exhausted
        await anyio.to_thread.run_sync(hung.answer)

        async def answers() -> bool:
            return not threads.exhausted

        await until(answers, "the call has returned", within_s=SOON_S)
        assert await threads.run(lambda: 42) == 42


class Silent:
    """A report nobody reads."""

    def progress(self, sample: Sample) -> None: ...

    def lines(self, stream: OutputStream, lines: list[str]) -> None: ...

    def expects(self, length_s: float | None) -> None: ...

    def finishing(self) -> None: ...


SPEC = JobSpec(engine=Engine.FFMPEG, input="a.mp4")
WORK = Work(job=JobId("a"), attempt=1, spec=SPEC)
MADE = Made(files=(MadeFile(path="a.mp4", size_bytes=1),))


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FfmpegExecutor:
    """Return an executor whose files hang before any encode begins."""
    monkeypatch.setattr(module, "DISCARD_S", 0.2)
    settings = FfmpegSettings(
        ffmpeg=Path("/bin/false"),
        encoders=("libx264",),
        media_root=tmp_path,
        output_root=tmp_path,
    )
    return FfmpegExecutor(settings, SystemClock())


@pytest.mark.parametrize("call", ["place", "prepare", "find_input"])
async def test_an_attempt_on_files_that_hang_ends_when_it_is_told_to(
    ffmpeg: FfmpegExecutor, hung: Hung, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(paths, call, hung)

    async def hangs() -> bool:
        return hung.asked > 0

    with anyio.fail_after(SOON_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ffmpeg.run, WORK, Silent())
            await until(hangs, "the call hangs", within_s=SOON_S)
            tasks.cancel_scope.cancel()
    assert threading.main_thread() not in hung.callers


@pytest.mark.parametrize("step", ["promote", "discard"])
@pytest.mark.parametrize("call", ["place", "same"])
async def test_files_are_renamed_and_removed_without_holding_the_loop(
    ffmpeg: FfmpegExecutor, hung: Hung, monkeypatch: pytest.MonkeyPatch, step: str, call: str
) -> None:
    monkeypatch.setattr(paths, step if call == "same" else call, hung)
    with anyio.move_on_after(0.2) as scope:
        await (ffmpeg.discard(WORK) if step == "discard" else ffmpeg.promote(WORK, MADE))
    assert scope.cancelled_caught
    assert hung.asked == 1
    assert threading.main_thread() not in hung.callers


async def test_processes_are_still_measured_when_files_hang(
    hung: Hung, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Threads(1)
    monkeypatch.setattr(usage, "_threads", lambda: threads)
    async with hanging(threads, hung):
        pass
    measured = await usage.measure(os.getpid(), [Path(__file__)])
    assert (measured.memory_bytes > 0, measured.disk_bytes) == (True, 0)
