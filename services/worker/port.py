"""What the worker asks of whatever runs an attempt: ffmpeg, GStreamer, or nothing at all."""

from typing import Protocol, TypeAlias

from msgspec import Struct

from events.ids import JobId
from events.job import FailureClass
from events.media import EncodeStats, MadeFile
from events.spec import JobSpec
from events.telemetry import OutputStream


class Work(Struct, frozen=True, kw_only=True):
    """One attempt of one job."""

    job: JobId
    attempt: int
    spec: JobSpec


class Sample(Struct, frozen=True, kw_only=True):
    """One reading of an attempt's progress; None is not known."""

    out_time_s: float
    percent: float | None
    frame: int
    fps: float
    speed: float
    bitrate_bps: float | None
    size_bytes: int | None
    eta_s: float | None
    dropped: int


class Report(Protocol):
    """Where an executor says what it sees; never blocks, may drop what comes too fast."""

    def progress(self, sample: Sample) -> None:
        """Tell how far the attempt has come."""
        ...

    def lines(self, stream: OutputStream, lines: list[str]) -> None:
        """Tell what the attempt's process printed."""
        ...


class Made(Struct, frozen=True, kw_only=True):
    """The attempt's files lie under their attempt paths, whole."""

    files: tuple[MadeFile, ...] = ()
    stats: EncodeStats = EncodeStats()


class Broken(Struct, frozen=True, kw_only=True):
    """The attempt ended without its output; its partial files are gone."""

    failure: FailureClass
    message: str
    exit_status: int | None = None
    stats: EncodeStats = EncodeStats()


Result: TypeAlias = Made | Broken


class Executor(Protocol):
    """Runs attempts."""

    async def run(self, work: Work, report: Report) -> Result:
        """Run one attempt to its end and return what became of it; raises nothing for a failed one.

        Cancelling the call ends the attempt: its processes are gone and its files removed before the
        cancellation leaves this function.
        """
        ...

    async def promote(self, work: Work, made: Made) -> None:
        """Give the attempt's files their final names; doing it again does nothing."""
        ...

    async def discard(self, work: Work) -> None:
        """Remove whatever files the attempt has left; doing it again does nothing."""
        ...
