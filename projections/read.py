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
from projections.rows import (
    Attempt,
    AuditFact,
    Decision,
    Depth,
    FactCount,
    Failure,
    FailureGroup,
    Job,
    JobKey,
    Node,
    Waits,
)

__all__ = [
    "LIMIT",
    "PAGE_ROWS",
    "Ask",
    "Attempt",
    "AuditFact",
    "Decision",
    "Depth",
    "FactCount",
    "Failure",
    "FailureGroup",
    "Job",
    "JobFilter",
    "JobKey",
    "Node",
    "Query",
    "Waits",
    "attempts",
    "decisions",
    "fact_counts",
    "failures",
    "failures_grouped",
    "job",
    "job_keys",
    "jobs",
    "jobs_counted",
    "node",
    "nodes",
    "queries",
    "queue_depth",
    "timeline",
    "waits",
]

Ask: TypeAlias = Callable[[str, Params], Awaitable[QueryResult]]
LIMIT = 100
"""Rows of a list unless more are asked for."""
PAGE_ROWS = 5_000
"""Most rows of one question of a list that is read page by page."""

RowT = TypeVar("RowT", bound=Struct)
NumberedT = TypeVar("NumberedT", Job, JobKey)
_MATCHING = "jobs_matching"
"""The question that others are put to the answer of."""
_NAMED = re.compile(r"^-- name: (?P<name>\w+) -- (?P<description>.+)$", re.MULTILINE)


class Query(Struct, frozen=True):
    """One question in SQL."""

    name: str
    description: str
    sql: str


class JobFilter(Struct, frozen=True, kw_only=True):
    """Which jobs are meant: those of which all holds that is given; None and empty are not."""

    states: tuple[str, ...] = ()
    """One of these."""
    queue: str | None = None
    priority: str | None = None
    tenant: str | None = None
    labels: Mapping[str, str] = {}
    """All of these."""
    node: str | None = None
    """The node that has it, or had it last."""
    since: datetime | None = None
    """Submitted then or later."""
    until: datetime | None = None
    """Submitted before."""
    id_glob: str | None = None
    """The whole id, with `*`, `?` and `[a-z]` as shells have them."""
    failure: str | None = None
    """Class of the last failure."""
    poison: bool | None = None


@functools.cache
def queries() -> Mapping[str, Query]:
    """Return all questions by name."""
    text = (resources.files("projections") / "sql" / "queries.sql").read_text("utf-8")
    heads = list(_NAMED.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    texts = {
        head["name"]: text[head.end() : end].strip("; \n")
        for head, end in zip(heads, ends, strict=True)
    }
    matching = f"WITH {_MATCHING} AS (\n{texts[_MATCHING]}\n)\n"
    return {
        name: Query(
            name, head["description"], (matching if f"FROM {_MATCHING}" in sql else "") + sql
        )
        for head, (name, sql) in zip(heads, texts.items(), strict=True)
    }


async def jobs(ask: Ask, which: JobFilter | None = None, *, limit: int = LIMIT) -> tuple[Job, ...]:
    """Return jobs that a filter takes, the newest first; however many, page by page."""
    return await _pages(ask, Job, "jobs", which, limit=limit)


async def job_keys(ask: Ask, which: JobFilter, *, limit: int) -> tuple[JobKey, ...]:
    """Return the same jobs as `jobs` does, by their ids."""
    return await _pages(ask, JobKey, "job_ids", which, limit=limit)


async def jobs_counted(ask: Ask, which: JobFilter) -> dict[str, int]:
    """Return how many jobs a filter takes, by status, the most first."""
    result = await _asked(ask, "jobs_counted", _params(which))
    return {str(status): int(count) for status, count in result.rows}


async def failures_grouped(
    ask: Ask, which: JobFilter, *, limit: int = LIMIT
) -> tuple[FailureGroup, ...]:
    """Return how the jobs that a filter takes have failed, the most frequent first."""
    return await _rows(ask, FailureGroup, "failures_grouped", {**_params(which), "limit": limit})


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


def _params(which: JobFilter) -> dict[str, Value]:
    """Return a filter as parameters; what restricts nothing is NULL."""
    labels = [{"key": key, "value": value} for key, value in which.labels.items()]
    return {
        "states": msgspec.json.encode(which.states).decode() if which.states else None,
        "queue": which.queue,
        "priority": which.priority,
        "tenant": which.tenant,
        "labels": msgspec.json.encode(labels).decode() if labels else None,
        "node": which.node,
        "since": None if which.since is None else which.since.isoformat(),
        "until": None if which.until is None else which.until.isoformat(),
        "id_glob": which.id_glob,
        "failure": which.failure,
        "poison": which.poison,
    }


async def _pages(
    ask: Ask, kind: type[NumberedT], name: str, which: JobFilter | None, *, limit: int
) -> tuple[NumberedT, ...]:
    """Ask again, below the last job number that came, until `limit` rows or all are there.

    A job that was submitted meanwhile is not among them; none comes twice.
    """
    params = _params(which or JobFilter())
    found: list[NumberedT] = []
    before: int | None = None
    while len(found) < limit:
        asked = min(limit - len(found), PAGE_ROWS)
        result = await _asked(ask, name, {**params, "before": before, "limit": asked})
        rows = _converted(result, kind)
        found += rows
        if not rows or (len(rows) < asked and not result.truncated):
            break
        before = rows[-1].job_no
    return tuple(found)


async def _rows(
    ask: Ask, kind: type[RowT], name: str, params: Mapping[str, Value]
) -> tuple[RowT, ...]:
    """Ask a named question. Raises QueryRefused."""
    return _converted(await _asked(ask, name, params), kind)


async def _asked(ask: Ask, name: str, params: Mapping[str, Value]) -> QueryResult:
    result = await ask(queries()[name].sql, params)
    if result.error is not None:
        raise QueryRefused(result.error)
    return result


def _converted(result: QueryResult, kind: type[RowT]) -> tuple[RowT, ...]:
    return tuple(
        msgspec.convert(dict(zip(result.columns, row, strict=True)), kind) for row in result.rows
    )
