"""The rows that folds make; the field names are the columns of `projections/sql`.

Instants are microseconds since 1970 in UTC, which Arrow takes as they are. NULL is None.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from msgspec import Struct

Micros: TypeAlias = int
"""Microseconds since 1970-01-01T00:00:00Z."""
Row: TypeAlias = tuple[object, ...]

BIGINT_MAX = 2**63 - 1
"""A number beyond this is stored as this; the payload has the true one."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

AUDIT_COLUMNS = (
    "seq",
    "time",
    "type",
    "kind",
    "entity",
    "job_no",
    "attempt",
    "node",
    "source",
    "event_id",
    "traceparent",
    "payload",
    "problem",
)
PARKED_COLUMNS = ("stream", "seq", "time", "entity", "reason", "raw")
HEARTBEAT_COLUMNS = (
    "seq",
    "time",
    "node_id",
    "epoch",
    "running",
    "free",
    "cpu_percent",
    "memory_free_bytes",
    "disk_free_bytes",
    "gpus",
)
PROGRESS_COLUMNS = (
    "seq",
    "time",
    "job_id",
    "attempt",
    "node",
    "percent",
    "out_time_s",
    "frame",
    "fps",
    "speed",
    "bitrate_bps",
    "size_bytes",
    "eta_s",
    "dropped",
)


class JobRow(Struct, kw_only=True):
    """One job as `jobs` shows it; changed in place while the job is hot."""

    job_no: int
    job_id: str
    status: str
    queue: str
    priority: str
    tenant: str
    scenario: str | None
    engine: str
    classification: str | None
    labels: Sequence[tuple[str, str]]
    depends_on: Sequence[str] | None
    input: str | None
    attempts_max: int
    deadline: Micros | None
    node: str | None = None
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    cancel_requested: bool = False
    promoted: bool = False
    poison: bool = False
    failure_class: str | None = None
    failure_reason: str | None = None
    exit_status: int | None = None
    submitted_at: Micros
    not_before: Micros | None = None
    queued_at: Micros | None = None
    assigned_at: Micros | None = None
    started_at: Micros | None = None
    ended_at: Micros | None = None
    wait_s: float = 0.0
    run_s: float | None = None
    paused_s: float = 0.0
    progress_percent: float | None = None
    progress_at: Micros | None = None
    eta_s: float | None = None
    out_time_s: float | None = None
    fps: float | None = None
    speed: float | None = None
    size_bytes: int | None = None
    frames: int | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    encoder: str | None = None
    outputs: Sequence[str] | None = None
    first_seq: int
    last_seq: int


class AttemptRow(Struct, kw_only=True):
    """One attempt that is over and did not complete its job; of the one that did, the job tells."""

    job_no: int
    job_id: str
    attempt: int
    node: str
    assigned_at: Micros | None
    started_at: Micros | None
    ended_at: Micros
    outcome: str
    failure_class: str | None = None
    message: str | None = None
    exit_status: int | None = None
    run_s: float | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    frames: int | None = None
    fps: float | None = None
    speed: float | None = None
    encoder: str | None = None


class NodeRow(Struct, kw_only=True):
    """One node as `nodes` shows it."""

    node_id: str
    status: str = "unknown"
    schedulable: bool = False
    cordoned: bool = False
    draining: bool = False
    ordered_by: str = ""
    order_reason: str = ""
    reason: str = ""
    refusing: str = ""
    circuit: str = "closed"
    circuit_until: Micros | None = None
    circuit_reason: str = ""
    epoch: int = 0
    slots: int = 0
    free: int = 0
    running: int | None = None
    capabilities: Sequence[str] = ()
    hostname: str = ""
    cpu_model: str = ""
    cpu_threads: int = 1
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: Sequence[str] = ()
    encoder_sessions: int = 0
    ffmpeg: str = ""
    address: str = ""
    fingerprint: str = ""
    worker_version: str = ""
    registered_at: Micros | None = None
    last_seen: Micros | None = None
    cpu_percent: float | None = None
    memory_free_bytes: int | None = None
    disk_free_bytes: int | None = None
    first_seq: int
    last_seq: int
    state: str = "{}"


def micros(instant: datetime) -> Micros:
    """Return `instant` as microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def seconds_between(start: Micros, end: Micros) -> float:
    """Return the seconds from `start` to `end`; writers' clocks may differ, so 0 at least."""
    return max(0, end - start) / 1_000_000


def capped(number: int) -> int:
    """Return `number` if a BIGINT holds it, else the largest or smallest that does."""
    return min(max(number, -BIGINT_MAX - 1), BIGINT_MAX)


def capped_or_none(number: int | None) -> int | None:
    """Return `capped(number)`; None stays None."""
    return None if number is None else capped(number)
