"""Stand-ins for what a test has no use for: a machine, its encoders, its disk, the wall clock."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import anyio

from events.ids import JobId
from events.job import FailureClass
from events.media import MadeFile
from events.node import Hardware
from events.spec import Engine
from services.worker.port import (
    Broken,
    Executor,
    Load,
    Machine,
    Made,
    Report,
    Result,
    Sample,
    Usage,
    Work,
)

T0 = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
CAPABILITIES = ("engine:noop", "engine:ffmpeg", "codec:h264")

Key: TypeAlias = tuple[JobId, int]
Play: TypeAlias = Callable[[Work, Report], Awaitable[Result]]
"""What an attempt does, as a test wants it."""


EPOCH = int(T0.timestamp())
"""The epoch of a worker that starts first, at `T0`."""


class LoopClock:
    """The time of the event loop, as an instant too: on a virtual loop both are virtual."""

    def now(self) -> datetime:
        return T0 + timedelta(seconds=anyio.current_time())

    def monotonic_s(self) -> float:
        return anyio.current_time()


async def passing(seconds: float) -> None:
    """Let time pass, for what shall not happen meanwhile; on a virtual clock it costs none."""
    await anyio.sleep(seconds)


class Disk:
    """The output folder of one node; it outlives the node's worker."""

    def __init__(self) -> None:
        self.drafts: set[Key] = set()
        """Attempts with files under their attempt paths, whole or not."""
        self.finals: dict[JobId, int] = {}
        """Which attempt's files have a job's final names."""


class FakeExecutor:
    """An executor whose attempts play what a test says, with files on a fake disk."""

    def __init__(
        self, play: Play, disk: Disk | None = None, *, rename_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._play = play
        self._rename_s = rename_s
        """Draws how long giving files their final names takes."""
        self.disk = disk or Disk()
        self.begun: list[Key] = []
        self._going: dict[Key, anyio.Event] = {}
        self.promoted: list[Key] = []
        self.discarded: list[Key] = []
        self.usages: dict[JobId, Usage] = {}
        """What running attempts use; those that are not here cannot be measured."""
        self.gone = False
        """The machine has lost power: an attempt that ends now leaves its files."""

    async def run(self, work: Work, report: Report) -> Result:
        key = (work.job, work.attempt)
        self.begun.append(key)
        self._going[key] = anyio.Event()
        self._going[key].set()
        if work.spec.engine is not Engine.NOOP:
            self.disk.drafts.add(key)
        made = False
        try:
            result = await self._play(work, report)
            while not self._going[key].is_set():
                await self._going[key].wait()
            made = isinstance(result, Made)
        finally:
            del self._going[key]
            if not made and not self.gone:
                self.disk.drafts.discard(key)
        return result

    def pause(self, work: Work) -> bool:
        """Let the attempt not end before it is resumed, as far as it plays on meanwhile."""
        key = (work.job, work.attempt)
        if key in self._going and self._going[key].is_set():
            self._going[key] = anyio.Event()
        return key in self._going

    def resume(self, work: Work) -> None:
        key = (work.job, work.attempt)
        if key in self._going:
            self._going[key].set()

    async def usage(self, work: Work) -> Usage | None:
        await anyio.lowlevel.checkpoint()
        return self.usages.get(work.job) if (work.job, work.attempt) in self._going else None

    async def promote(self, work: Work, made: Made) -> None:
        del made
        key = (work.job, work.attempt)
        await anyio.sleep(self._rename_s())
        self.promoted.append(key)
        if key in self.disk.drafts:
            self.disk.drafts.discard(key)
            self.disk.finals[work.job] = work.attempt
        elif self.disk.finals.get(work.job) != work.attempt:
            raise FileNotFoundError(f"{work.job}.attempt-{work.attempt}")

    async def discard(self, work: Work) -> None:
        self.discarded.append((work.job, work.attempt))
        self.disk.drafts.discard((work.job, work.attempt))


class Gates:
    """Attempts that wait until the test lets them end, and tell it when they have begun."""

    def __init__(self) -> None:
        self._begun: dict[JobId, anyio.Event] = {}
        self._ends: dict[JobId, anyio.Event] = {}
        self._results: dict[JobId, Result | Exception] = {}

    async def play(self, work: Work, report: Report) -> Result:
        del report
        self._begun.setdefault(work.job, anyio.Event()).set()
        await self._ends.setdefault(work.job, anyio.Event()).wait()
        result = self._results[work.job]
        if isinstance(result, Exception):
            raise result
        return result

    async def begun(self, job: str) -> None:
        with anyio.fail_after(3600):
            await self._begun.setdefault(JobId(job), anyio.Event()).wait()

    def end(self, job: str, result: Result | Exception) -> None:
        self._results[JobId(job)] = result
        self._ends.setdefault(JobId(job), anyio.Event()).set()


async def make_at_once(work: Work, report: Report) -> Result:
    """Play an attempt that makes its file without delay."""
    del report
    await anyio.lowlevel.checkpoint()
    return made(work)


async def fail_at_once(work: Work, report: Report) -> Result:
    """Play an attempt that fails in a way that another may heal."""
    del work, report
    await anyio.lowlevel.checkpoint()
    return Broken(failure=FailureClass.TRANSIENT, message="connection reset by peer")


def sample(out_time_s: float) -> Sample:
    """Return progress at 25 frames per second of which no more is known."""
    return Sample(
        out_time_s=out_time_s,
        percent=None,
        frame=int(out_time_s * 25),
        fps=25.0,
        speed=1.0,
        bitrate_bps=None,
        size_bytes=None,
        eta_s=None,
        dropped=0,
    )


def steps(count: int, step_s: float, *, then_s: float = 0.0) -> Play:
    """Play an attempt that makes a second of media in each step, then nothing, and then ends."""

    async def play(work: Work, report: Report) -> Result:
        report.expects(float(count))
        for number in range(1, count + 1):
            await anyio.sleep(step_s)
            report.progress(sample(float(number)))
        await anyio.sleep(then_s)
        return made(work)

    return play


def made(work: Work) -> Made:
    """Return the result of an attempt that has made its file."""
    if work.spec.engine is Engine.NOOP:
        return Made()
    return Made(files=(MadeFile(path=f"{work.job}.mp4", size_bytes=1000),))


async def read_load() -> Load:
    """Return the load of an idle machine."""
    await anyio.lowlevel.checkpoint()
    return Load()


def machine(
    executors: Mapping[Engine, Executor], capabilities: tuple[str, ...] = CAPABILITIES
) -> Machine:
    """Return a machine with these executors."""
    return Machine(
        executors=executors,
        capabilities=capabilities,
        hardware=Hardware(),
        read_load=read_load,
    )
