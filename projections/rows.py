"""What the read API returns: one struct a question, a field a column."""

from datetime import datetime

from msgspec import Struct


class Job(Struct, frozen=True, kw_only=True):
    """One job; see the comments on `jobs` for what the fields mean."""

    job_no: int
    job_id: str
    status: str
    queue: str
    priority: str
    tenant: str
    scenario: str | None
    engine: str
    classification: str | None
    labels: dict[str, str]
    depends_on: tuple[str, ...] | None
    node: str | None
    attempt: int
    attempts_max: int
    failures: int
    crashes: int
    cancel_requested: bool
    poison: bool
    failure_class: str | None
    failure_reason: str | None
    submitted_at: datetime
    not_before: datetime | None
    deadline: datetime | None
    queued_at: datetime | None
    assigned_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    wait_s: float
    run_s: float | None
    progress_percent: float | None
    eta_s: float | None
    fps: float | None
    speed: float | None
    size_bytes: int | None
    cpu_s: float | None
    encoder: str | None
    outputs: tuple[str, ...] | None
    first_seq: int
    last_seq: int


class Attempt(Struct, frozen=True, kw_only=True):
    """One attempt of a job."""

    job_id: str
    attempt: int
    node: str
    outcome: str
    assigned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    failure_class: str | None
    message: str | None
    exit_status: int | None
    run_s: float | None
    cpu_s: float | None
    encoder: str | None


class AuditFact(Struct, frozen=True, kw_only=True):
    """One event of the ledger."""

    seq: int
    time: datetime
    type: str
    kind: str
    entity: str
    attempt: int | None
    node: str | None
    source: str
    payload: str
    """JSON text."""
    problem: str | None


class Node(Struct, frozen=True, kw_only=True):
    """One node; see the comments on `nodes` for what the fields mean."""

    node_id: str
    status: str
    schedulable: bool
    cordoned: bool
    draining: bool
    ordered_by: str
    order_reason: str
    reason: str
    refusing: str
    circuit: str
    circuit_until: datetime | None
    circuit_reason: str
    epoch: int
    slots: int
    free: int
    running: int | None
    capabilities: tuple[str, ...]
    hostname: str
    cpu_model: str
    cpu_threads: int
    memory_bytes: int
    disk_bytes: int
    gpus: tuple[str, ...]
    encoder_sessions: int
    ffmpeg: str
    address: str
    fingerprint: str
    registered_at: datetime | None
    last_seen: datetime | None
    cpu_percent: float | None
    memory_free_bytes: int | None
    disk_free_bytes: int | None


class Depth(Struct, frozen=True, kw_only=True):
    """How many jobs of one queue have one status."""

    queue: str
    status: str
    jobs: int
    oldest_at: datetime


class Waits(Struct, frozen=True, kw_only=True):
    """How long the jobs of one queue had waited for a node."""

    queue: str
    jobs: int
    p50_s: float
    p95_s: float
    p99_s: float


class FactCount(Struct, frozen=True, kw_only=True):
    """How often one type of fact is in the ledger."""

    type: str
    events: int
    first_seq: int
    last_seq: int


class Decision(Struct, frozen=True, kw_only=True):
    """Why one job was given to one node."""

    seq: int
    time: datetime
    job_id: str
    attempt: int
    node: str
    queue: str
    priority: str
    weight: float
    waited_s: float
    candidates: int
    free: int
    runner_up: str | None


class Failure(Struct, frozen=True, kw_only=True):
    """Why one job has no output."""

    job_no: int
    job_id: str
    status: str
    node: str | None
    failure_class: str | None
    failure_reason: str | None
    ended_at: datetime


class FailureGroup(Struct, frozen=True, kw_only=True):
    """Jobs that failed alike."""

    failure_class: str
    """Empty: not known."""
    poison: bool
    reason: str
    """What their reasons have in common: every number is `#`."""
    jobs: int
    last_at: datetime | None
    example: str
    """Id of the newest of them."""


class JobKey(Struct, frozen=True, kw_only=True):
    """One job by its id, and its status."""

    job_no: int
    job_id: str
    status: str
