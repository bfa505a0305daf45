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

    def expects(self, length_s: float | None) -> None:
        """Tell how many seconds will be made, once that is known; None: nobody can know."""
        ...

    def finishing(self) -> None:
        """Tell that nothing more is made: what there is gets closed, looked at and kept.

        From now on no progress is expected; telling it again changes nothing.
        """
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


class Usage(Struct, frozen=True, kw_only=True):
    """What an attempt uses of its node, measured just now."""

    memory_bytes: int = 0
    """Resident memory of all its processes; what they share counts for each."""
    cpu_s: float = 0.0
    """CPU time its processes have taken so far."""
    disk_bytes: int = 0
    """Size of the files it has made so far."""
    written_ns: int = 0
    """When one of these was last written to, by the file system's clock; 0: there is none."""


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

    async def usage(self, work: Work) -> Usage | None:
        """Measure what runs of the attempt, without holding the loop; None: nothing does."""
        ...

    async def promote(self, work: Work, made: Made) -> None:
        """Give the attempt's files their final names; doing it again does nothing."""
        ...

    async def discard(self, work: Work) -> None:
        """Remove whatever files the attempt has left; doing it again does nothing."""
        ...


class Disk(Struct, frozen=True):
    """Where the worker works or writes."""

    path: str
    free_bytes: int


class Load(Struct, frozen=True, kw_only=True):
    """How busy the node's machine is."""

    cpu_percent: float = 0.0
    """Of all CPU threads together, since the reading before; 0 at the first."""
    memory_free_bytes: int = 0
    """What can be had without swapping."""
    disk_free_bytes: int = 0
    """Of the work directory's file system."""
    disks: tuple[Disk, ...] = ()
    """Free room where it works and where it writes; empty: not known."""
    gpus: tuple[GpuLoad, ...] = ()


class Aside(Protocol):
    """How a call that blocks on the node's disk is made; cancelling may leave it to itself."""

    async def __call__(self, call: Callable[[], None]) -> None:
        """Return when `call` has; raise what it raises."""
        ...


async def on_the_spot(call: Callable[[], None]) -> None:
    """Make the call here and now, for a disk that never keeps anybody waiting."""
    call()


class Machine(Struct, frozen=True, kw_only=True):
    """What the node offers: given to the worker by whoever has looked at the machine."""

    executors: Mapping[Engine, Executor]
    capabilities: tuple[str, ...]
    hardware: Hardware
    read_load: Callable[[], Awaitable[Load]]
    """Reads the load now; must not raise for a sensor that is missing."""
    aside: Aside = on_the_spot
    """Makes a call that waits for the disk, without holding the loop where that takes long."""
    address: str = ""
    version: str = ""
    fingerprint: str = ""
    """Tells this machine and work directory from any other; empty: not known."""
