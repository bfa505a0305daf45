"""The read API: one function per question, over whatever answers SQL; all that viewers import.

An `Ask` may send the question to a projector on the bus or run it on a file of its own: rows come
out the same. The questions are in `sql/queries.sql`, by name and described.
"""

import functools
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from importlib import resources
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from events.requests import Params, QueryResult, Value
from projections.errors import QueryRefused

Ask: TypeAlias = Callable[[str, Params], Awaitable[QueryResult]]
LIMIT = 100
"""Rows of a list unless more are asked for."""

RowT = TypeVar("RowT", bound=Struct)
_NAMED = re.compile(r"^-- name: (?P<name>\w+) -- (?P<description>.+)$", re.MULTILINE)


class Query(Struct, frozen=True):
    """One question in SQL."""

    name: str
    description: str
    sql: str


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
    node: str | None
    attempt: int
    attempts_max: int
    failures: int
    crashes: int
    cancel_requested: bool
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
    ffmpeg: str
    address: str
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


class JobFilter(Struct, frozen=True, kw_only=True):
    """Which jobs to list; None does not restrict."""

    status: str | None = None
    queue: str | None = None
    node: str | None = None
    limit: int = LIMIT


@functools.cache
def queries() -> Mapping[str, Query]:
    """Return all questions by name."""
    text = (resources.files("projections") / "sql" / "queries.sql").read_text("utf-8")
    heads = list(_NAMED.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {
        head["name"]: Query(head["name"], head["description"], text[head.end() : end].strip("; \n"))
        for head, end in zip(heads, ends, strict=True)
    }


async def jobs(ask: Ask, which: JobFilter | None = None) -> tuple[Job, ...]:
    """Return jobs, the newest first."""
    params = msgspec.structs.asdict(which or JobFilter())
    return await _rows(ask, Job, "jobs", params)


async def job(ask: Ask, reference: str) -> Job | None:
    """Return the job with this id or number, or the only one whose id begins with it.

    None: there is none, or an abbreviation stands for several.
    """
    found = await _rows(ask, Job, "jobs_like", {"reference": reference})
    exact = found[:1] if found and reference in {found[0].job_id, str(found[0].job_no)} else ()
    only = exact or found
    return only[0] if len(only) == 1 else None


async def attempts(ask: Ask, job_no: int) -> tuple[Attempt, ...]:
    """Return all attempts of one job, in order."""
    return await _rows(ask, Attempt, "attempts", {"job_no": job_no})


async def timeline(ask: Ask, of: Job) -> tuple[AuditFact, ...]:
    """Return all facts of one job, in order."""
    params: dict[str, Value] = {"first_seq": of.first_seq, "last_seq": of.last_seq}
    return await _rows(ask, AuditFact, "timeline", params)


async def nodes(ask: Ask) -> tuple[Node, ...]:
    """Return all nodes that are still part of the fleet, by id."""
    return await _rows(ask, Node, "nodes", {})


async def node(ask: Ask, node_id: str) -> Node | None:
    """Return one node; None: no fact was ever about it."""
    found = await _rows(ask, Node, "node", {"node_id": node_id})
    return found[0] if found else None


async def queue_depth(ask: Ask) -> tuple[Depth, ...]:
    """Return how many jobs are not over, by queue and status."""
    return await _rows(ask, Depth, "queue_depth", {})


async def waits(ask: Ask, *, since: datetime | None = None) -> tuple[Waits, ...]:
    """Return how long jobs assigned since then had waited, by queue; None: since ever."""
    params: dict[str, Value] = {"since": None if since is None else since.isoformat()}
    return await _rows(ask, Waits, "waits", params)


async def fact_counts(ask: Ask) -> tuple[FactCount, ...]:
    """Return how often each type of fact is in the ledger."""
    return await _rows(ask, FactCount, "fact_counts", {})


async def decisions(ask: Ask, *, limit: int = LIMIT) -> tuple[Decision, ...]:
    """Return why jobs were given to nodes, in order."""
    return await _rows(ask, Decision, "decisions", {"limit": limit})


async def failures(ask: Ask, *, limit: int = LIMIT) -> tuple[Failure, ...]:
    """Return why jobs have no output, in order of their submission."""
    return await _rows(ask, Failure, "failures", {"limit": limit})


async def _rows(
    ask: Ask, kind: type[RowT], name: str, params: Mapping[str, Value]
) -> tuple[RowT, ...]:
    """Ask a named question. Raises QueryRefused."""
    result = await ask(queries()[name].sql, params)
    if result.error is not None:
        raise QueryRefused(result.error)
    return tuple(
        msgspec.convert(dict(zip(result.columns, row, strict=True)), kind) for row in result.rows
    )
