"""What attempts print reaches the log in its order, whatever the log does meanwhile."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from events import subjects
from events.ids import JobId, NodeId
from events.telemetry import LogChunk, OutputStream
from services.background import background
from services.clock import Pen
from services.errors import LogUnavailable
from services.log.memory import MemoryLog
from services.log.port import Entry, Outcome
from services.worker import telling
from services.worker.keep import output as module
from services.worker.keep import spool
from services.worker.keep.output import Output
from services.worker.keep.spool import SPOOL_FILE, Spool
from services.worker.port import Sample
from services.worker.telling import Teller
from tests.fakes import LoopClock, passing
from tests.waiting import until

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
NOTHING = Sample(
    out_time_s=1.0,
    percent=None,
    frame=0,
    fps=0.0,
    speed=0.0,
    bitrate_bps=None,
    size_bytes=None,
    eta_s=None,
    dropped=0,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_S", 0.1)
    monkeypatch.setattr(module, "RETRY_S", 0.02)


class Logs(MemoryLog):
    """A log that can be away: it refuses, or it hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.mood = ""

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        if self.mood == "hangs":
            await anyio.sleep_forever()
        if self.mood == "refuses":
            raise LogUnavailable("away")
        if self.mood == "slow":
            await passing(0.05)
        return await super().append(entries)


class Desk:
    """A teller with its logs and its spool."""

    def __init__(self, work_dir: Path, *, bytes_max: int = 2**20) -> None:
        self.logs = Logs()
        self.telemetry = Logs()
        self.work_dir = work_dir
        self._bytes_max = bytes_max
        self.begin()

    def begin(self) -> None:
        """Begin as a worker does that has just started."""
        output = Output(self.logs, Spool(self.work_dir, self._bytes_max))
        pen = Pen("worker/n1", LoopClock())
        self.teller = Teller(N1, pen, telemetry=self.telemetry, output=output)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Send what is told while the context lasts."""
        async with background() as tasks:
            tasks.start_soon(self.teller.run, 0.01)
            yield

    async def lines(self, job: str) -> list[str]:
        """Return what the log has of an attempt."""
        found = await self.logs.read(subjects.logs(JobId(job), 1))
        return [
            line for event in found if isinstance(event.fact, LogChunk) for line in event.fact.lines
        ]

    async def until(self, job: str, lines: Sequence[str]) -> None:
        """Wait until the log has exactly these lines of an attempt."""

        async def there() -> bool:
            return len(await self.lines(job)) >= len(lines)

        await until(there, f"lines of {job}", within_s=10)
        assert await self.lines(job) == list(lines)

    async def until_any(self, job: str) -> None:
        """Wait until the log has something of an attempt."""

        async def there() -> bool:
            return bool(await self.lines(job))

        await until(there, f"a line of {job}", within_s=10)

    async def until_spooled(self) -> None:
        """Wait until something is on disk."""

        async def there() -> bool:
            return (self.work_dir / SPOOL_FILE).exists()

        await until(there, "a spool", within_s=10)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_while_the_log_takes_it_nothing_goes_to_disk(desk: Desk) -> None:
    async with desk.running():
        voice = desk.teller.voice(JobId("a"), 1)
        voice.lines(OutputStream.STDERR, ["one", "two"])
        await desk.until("a", ["one", "two"])
        voice.lines(OutputStream.STDERR, ["three"])
        await desk.teller.hush(voice)
        assert await desk.lines("a") == ["one", "two", "three"]
    assert list(desk.work_dir.iterdir()) == []


@pytest.mark.parametrize("mood", ["refuses", "hangs"])
async def test_what_was_said_during_an_outage_follows_in_order(desk: Desk, mood: str) -> None:
    async with desk.running():
        voice = desk.teller.voice(JobId("a"), 1)
        voice.lines(OutputStream.STDERR, ["before"])
        await desk.until("a", ["before"])
        desk.logs.mood = mood
        said = ["before"]
        for number in range(30):
            said.append(f"line {number}")
            voice.lines(OutputStream.STDERR, said[-1:])
            await passing(0.01)
        await desk.until_spooled()
        desk.logs.mood = ""
        said.append("after")
        voice.lines(OutputStream.STDERR, ["after"])
        await desk.until("a", said)
        numbers = [
            event.fact.number
            for event in await desk.logs.read(subjects.logs(JobId("a"), 1))
            if isinstance(event.fact, LogChunk)
        ]
        assert numbers == list(range(len(numbers)))


async def test_what_follows_on_a_backlog_waits_behind_it_and_keeps_nobody_else_waiting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "HEAD_MAX", 1)
    desk.logs.mood = "refuses"
    a, b = JobId("a"), JobId("b")
    async with desk.running():
        voice = desk.teller.voice(a, 1)
        for number in range(20):
            voice.lines(OutputStream.STDERR, [f"line {number}"])
            await passing(0.015)
        await desk.until_spooled()
        desk.logs.mood = "slow"
        await desk.until_any("a")
        voice.lines(OutputStream.STDERR, ["live"])
        other = desk.teller.voice(b, 1)
        other.lines(OutputStream.STDERR, ["at once"])
        await desk.until("a", [*(f"line {number}" for number in range(20)), "live"])
        *_, last = await desk.logs.read(subjects.logs(a, 1))
        (told,) = await desk.logs.read(subjects.logs(b, 1))
    assert told.seq < last.seq


async def test_a_worker_that_stops_during_an_outage_leaves_its_words_for_the_next(
    desk: Desk,
) -> None:
    desk.logs.mood = "hangs"
    async with desk.running():
        voice = desk.teller.voice(JobId("a"), 1)
        voice.lines(OutputStream.STDERR, ["one", "two"])
        await passing(0.05)
        voice.lines(OutputStream.STDERR, ["three"])
        await desk.teller.hush(voice)
    assert await desk.lines("a") == []
    desk.logs.mood = ""
    desk.begin()
    async with desk.running():
        await desk.until("a", ["one", "two", "three"])


async def test_attempts_that_end_together_wait_for_each_other_and_no_longer(desk: Desk) -> None:
    desk.logs.mood = "slow"
    async with desk.running():
        with anyio.fail_after(telling.LAST_WORDS_S / 2):
            async with anyio.create_task_group() as tasks:
                for job in ("a", "b", "c"):
                    voice = desk.teller.voice(JobId(job), 1)
                    voice.lines(OutputStream.STDERR, ["last"])
                    tasks.start_soon(desk.teller.hush, voice)
        assert [await desk.lines(job) for job in ("a", "b", "c")] == [["last"]] * 3


async def test_an_attempt_that_said_nothing_ends_without_waiting_for_others(desk: Desk) -> None:
    desk.logs.mood = "hangs"
    async with desk.running():
        voice = desk.teller.voice(JobId("a"), 1)
        voice.lines(OutputStream.STDERR, ["one"])
        await passing(0.05)
        with anyio.fail_after(telling.LAST_WORDS_S / 2):
            await desk.teller.hush(desk.teller.voice(JobId("b"), 1))
        assert await desk.lines("a") == []


async def test_lines_with_bytes_that_are_no_text_are_sent_all_the_same(desk: Desk) -> None:
    async with desk.running():
        voice = desk.teller.voice(JobId("a"), 1)
        voice.lines(OutputStream.WORKER, ["ffmpeg -i caf\udce9.mp4"])
        await desk.until("a", ["ffmpeg -i caf?.mp4"])


async def test_the_end_of_an_attempt_does_not_wait_for_an_outage(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "LAST_WORDS_S", 0.3)
    desk.logs.mood = desk.telemetry.mood = "hangs"
    async with desk.running():
        voice = desk.teller.voice(JobId("a"), 1)
        voice.progress(NOTHING)
        voice.lines(OutputStream.STDERR, ["one"])
        with anyio.fail_after(2):
            await desk.teller.hush(voice)
        assert await desk.lines("a") == []


async def test_progress_that_hangs_keeps_no_line_back(desk: Desk) -> None:
    desk.telemetry.mood = "hangs"
    async with desk.running():
        voice = desk.teller.voice(JobId("a"), 1)
        voice.progress(NOTHING)
        voice.lines(OutputStream.STDERR, ["one"])
        await desk.until("a", ["one"])
        voice.lines(OutputStream.STDERR, ["two"])
        await desk.until("a", ["one", "two"])


async def test_an_outage_that_outlasts_the_disk_says_how_much_is_lost(tmp_path: Path) -> None:
    desk = Desk(tmp_path, bytes_max=3_000)
    desk.logs.mood = "refuses"
    async with desk.running():
        voice = desk.teller.voice(JobId("a"), 1)
        said = [f"line {number}" for number in range(30)]
        for line in said:
            voice.lines(OutputStream.STDERR, [line])
            await passing(0.015)
        await desk.until_spooled()
        await desk.teller.hush(voice)
        desk.logs.mood = ""

        async def last() -> bool:
            return (await desk.lines("a"))[-1:] == said[-1:]

        await until(last, "the last line", within_s=10)
    marker, *kept = await desk.lines("a")
    lost = int(marker.removeprefix("[").split(" lines lost")[0])
    assert lost > 0
    assert kept == said[lost:]


async def test_long_lines_of_any_characters_fit_into_the_log(desk: Desk) -> None:
    line = "\N{SPARKLES}" * telling.LINE_CHARS_MAX
    voice = desk.teller.voice(JobId("a"), 1)
    voice.lines(OutputStream.STDERR, [line] * 60)
    sizes = [sum(len(each.encode()) for each in lines) for _, lines in voice.take_lines()]
    assert sum(sizes) == 60 * len(line.encode())
    assert max(sizes) <= telling.CHUNK_BYTES_MAX
