"""What tests of the executor share: a place to encode in, and a second look at what was made."""

# PyAV declares `Packet` generic and then uses it without an argument
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from fractions import Fraction
from pathlib import Path

import anyio
import av
import psutil

from events.ids import JobId
from events.media import (
    Output,
    Parameters,
    TestSource,
    Video,
)
from events.spec import JobSpec
from events.telemetry import OutputStream
from services.clock import SystemClock
from services.worker.ffmpeg.executor import FfmpegExecutor, FfmpegSettings
from services.worker.ffmpeg.locate import Ffmpeg
from services.worker.port import Broken, Executor, Made, Result, Sample, Work
from tests.acceptance.waiting import until

SMALL = TestSource(width=192, height=108, rate=25.0, duration_s=1.0)
LONG = TestSource(width=1280, height=720, rate=30.0, duration_s=600.0)
WAIT_S = 20.0


class Bench:
    """An executor with roots of its own."""

    def __init__(self, directory: Path, ffmpeg: Ffmpeg) -> None:
        self.media, self.out = directory / "media", directory / "out"
        self.media.mkdir()
        self.settings = FfmpegSettings(
            ffmpeg=Path(ffmpeg.path),
            encoders=ffmpeg.video_encoders,
            media_root=self.media,
            output_root=self.out,
            grace_s=0.5,
        )
        self.executor: Executor = FfmpegExecutor(self.settings, SystemClock())
        self.report = Told()

    async def run(self, spec: JobSpec, job: str = "j1") -> Result:
        return await self.executor.run(work(spec, job), self.report)

    async def make(self, spec: JobSpec, job: str = "j1") -> Made:
        made = await self.run(spec, job)
        assert isinstance(made, Made), (made, self.report.said)
        await self.executor.promote(work(spec, job), made)
        return made

    async def clip(self, name: str, source: TestSource = SMALL) -> Path:
        """Make an input."""
        spec = JobSpec(input=source, outputs=(Output(path=name),), parameters=FAST)
        (self.media / name).parent.mkdir(parents=True, exist_ok=True)
        await self.make(spec, "clip")
        return (self.out / name).rename(self.media / name)

    def files(self) -> list[str]:
        if not self.out.exists():
            return []
        return sorted(str(f.relative_to(self.out)) for f in self.out.rglob("*") if f.is_file())


class Told:
    """A report that keeps what it is told, and lets a test wait for the first sample."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.said: list[tuple[OutputStream, str]] = []
        self.begun = anyio.Event()
        self.expected: list[float | None] = []
        self.finished = False

    def progress(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.begun.set()

    def lines(self, stream: OutputStream, lines: list[str]) -> None:
        self.said += [(stream, line) for line in lines]

    def expects(self, length_s: float | None) -> None:
        self.expected.append(length_s)

    def finishing(self) -> None:
        self.finished = True


def work(spec: JobSpec, job: str = "j1") -> Work:
    return Work(job=JobId(job), attempt=1, spec=spec)


FAST = Parameters(video=Video(preset="ultrafast"))


def children() -> list[str]:
    return [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]


async def gone(pid: int) -> None:
    """Wait until a process that is not our child has ended; a zombie of nobody's has."""
    await until(lambda: not runs(pid), deadline_s=WAIT_S)


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def looked_at(path: Path) -> tuple[str, int, int, Fraction | None, int, str | None]:
    """Decode all of a file with PyAV: codec, size, rate, frames, audio codec."""
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        frames = sum(1 for _ in file.decode(video))
        audio = file.streams.audio[0].codec_context.name if file.streams.audio else None
        codec = {"libdav1d": "av1"}.get(video.codec_context.name, video.codec_context.name)
        found = (codec, video.width, video.height, video.average_rate, frames, audio)
    if audio is not None:
        with av.open(str(path)) as file:
            assert sum(frame.samples for frame in file.decode(audio=0)) >= 44_100
    return found


async def broken(bench: Bench, spec: JobSpec) -> Broken:
    result = await bench.run(spec)
    assert isinstance(result, Broken)
    assert bench.files() == []
    return result
