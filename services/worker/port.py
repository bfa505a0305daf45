"""What the worker asks of whatever runs an attempt: ffmpeg, GStreamer, or nothing at all."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from msgspec import Struct

from events.ids import JobId
from events.job import FailureClass
from events.media import EncodeStats, MadeFile
from events.node import Hardware
from events.spec import Engine, JobSpec
from events.telemetry import GpuLoad, OutputStream


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

        Cancelling the call ends the attempt: processes are gone and files removed before the
        cancellation leaves this function.
        """
        ...

    def pause(self, work: Work) -> bool:
        """Stop what runs of the attempt, where it is; at once, without blocking.

        True: nothing of it goes on and it will not end before `resume`; False: it cannot be stopped
        now. Cancelling `run` ends a stopped attempt as any other.
        """
        ...

    def resume(self, work: Work) -> None:
        """Let a stopped attempt go on; nothing happens to one that is not stopped."""
        ...

    async def promote(self, work: Work, made: Made) -> None:
        """Give the attempt's files their final names; doing it again does nothing."""
        ...

    async def discard(self, work: Work) -> None:
        """Remove whatever files the attempt has left; doing it again does nothing."""
        ...


class Load(Struct, frozen=True, kw_only=True):
    """How busy the node's machine is."""

    cpu_percent: float = 0.0
    """Of all CPU threads together, since the reading before; 0 at the first."""
    memory_free_bytes: int = 0
    """What can be had without swapping."""
    disk_free_bytes: int = 0
    gpus: tuple[GpuLoad, ...] = ()


class Machine(Struct, frozen=True, kw_only=True):
    """What the node offers: given to the worker by whoever has looked at the machine."""

    executors: Mapping[Engine, Executor]
    capabilities: tuple[str, ...]
    hardware: Hardware
    read_load: Callable[[], Awaitable[Load]]
    """Reads the load now; must not raise for a sensor that is missing."""
    address: str = ""
    version: str = ""
