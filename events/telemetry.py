"""What nodes and attempts report while they live: facts too, but with an end date and no guard."""

from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

from msgspec import Meta, Struct

from events.ids import NodeId
from events.job import Attempt
from events.node import Count, Epoch

Percent: TypeAlias = Annotated[float, Meta(ge=0, le=100)]


class OutputStream(StrEnum):
    """Where a process wrote a line."""

    STDOUT = "stdout"
    STDERR = "stderr"
    WORKER = "worker"
    """The worker's own words about the attempt."""


class GpuLoad(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Load of one GPU; None where the driver does not tell."""

    index: Count
    utilization_percent: Percent | None = None
    memory_used_bytes: Count | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    encoder_sessions: Count | None = None
    """Hardware encodes that run on it now, whoever runs them."""


class Heartbeat(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The node lives, and this is its load."""

    tag: ClassVar[str] = "node.heartbeat.v1"
    epoch: Epoch
    running: Count = 0
    free: Count = 0
    cpu_percent: Percent = 0.0
    memory_free_bytes: Count = 0
    disk_free_bytes: Count = 0
    gpus: tuple[GpuLoad, ...] = ()


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far an attempt has come; never goes back within one attempt."""

    tag: ClassVar[str] = "job.progress.v1"
    node: NodeId
    attempt: Attempt
    percent: Percent | None = None
    """None while the length of the work is not known."""
    out_time_s: Annotated[float, Meta(ge=0)] = 0.0
    frame: Count = 0
    fps: float = 0.0
    speed: float = 0.0
    bitrate_bps: float | None = None
    size_bytes: Count | None = None
    eta_s: float | None = None
    dropped: Count = 0


class LogChunk(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some lines of an attempt's output, in order."""

    tag: ClassVar[str] = "job.log.v1"
    node: NodeId
    attempt: Attempt
    number: Count
    """Counts the chunks of an attempt from 0; a gap is a chunk that was dropped."""
    stream: OutputStream
    lines: tuple[str, ...]


TelemetryFact: TypeAlias = Heartbeat | Progress | LogChunk
