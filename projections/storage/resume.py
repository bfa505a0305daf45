"""From the file back into memory: rows as they are stored, states folded anew from the audit.

Only facts of jobs that are still hot are read again, so a restart costs what is in flight, not
what ever was.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import duckdb
import msgspec

from events.state.job import INITIAL, JobState, evolve
from events.subjects import JOB_PREFIX
from projections.fold.audit import recorded_of
from projections.fold.jobs import HotJob, Stored
from projections.fold.nodes import resumed
from projections.fold.rows import JobRow, NodeRow
from projections.fold.world import World
from projections.storage.arrow import read_rows

SETTLED_SQL = (
    "(status IN ('failed', 'canceled', 'rejected') OR (status = 'completed' AND promoted))"
)
"""Whether no further fact is expected of a job: `HotJob.settled` in SQL."""

_INSTANTS = frozenset({"not_before", "deadline", "last_seen", "circuit_until"})
"""Columns that are instants, beside those whose names end in `_at`."""

RowStruct = TypeVar("RowStruct", JobRow, NodeRow)


def resume(connection: duckdb.DuckDBPyConnection) -> World:
    """Return the world as the tables tell it."""
    world = World()
    for parked in read_rows(connection, "SELECT entity, seq FROM parked WHERE stream = 'ledger'"):
        world.parked[str(parked["entity"])] = _int(parked["seq"])
    for row in _stored(connection, NodeRow, "nodes"):
        world.nodes[row.node_id] = resumed(row)
    settled = f"SELECT job_id FROM jobs WHERE {SETTLED_SQL}"  # noqa: S608 - a constant
    for done in read_rows(connection, settled):
        world.settled.add(hash(f"{JOB_PREFIX}{done['job_id']}"))
    _revive(connection, world, f"(FROM jobs_hot WHERE NOT {SETTLED_SQL})", Stored.HOT)
    return world


def recall(connection: duckdb.DuckDBPyConnection, world: World, subjects: Iterable[str]) -> None:
    """Bring settled jobs back, for there is something new about them."""
    ids = sorted(subject.removeprefix(JOB_PREFIX) for subject in subjects)
    connection.execute("CREATE OR REPLACE TEMP TABLE recalled AS SELECT unnest(?) AS job_id", [ids])
    for table, stored in (("jobs_hot", Stored.HOT), ("jobs_cold", Stored.COLD)):
        found = f"(FROM {table} WHERE job_id IN (FROM recalled))"
        _revive(connection, world, found, stored)


def _revive(
    connection: duckdb.DuckDBPyConnection, world: World, table: str, stored: Stored
) -> None:
    revived: dict[int, JobRow] = {row.job_no: row for row in _stored(connection, JobRow, table)}
    if not revived:
        return
    states = _states(connection, world, table, min(revived))
    for job_no, row in revived.items():
        job = HotJob(row, states[job_no])
        job.stored = stored
        world.jobs[JOB_PREFIX + row.job_id] = job


def _states(
    connection: duckdb.DuckDBPyConnection, world: World, table: str, first_seq: int
) -> dict[int, JobState]:
    sql = f"""
        SELECT seq, time, type, kind, entity, job_no, source, event_id, traceparent, payload
        FROM audit
        WHERE seq >= {first_seq:d} AND problem IS NULL
            AND job_no IN (SELECT job_no FROM {table})
        ORDER BY seq
    """  # noqa: S608 - our own names
    states: dict[int, JobState] = {}
    for row in read_rows(connection, sql):
        recorded = recorded_of(row)
        if recorded.seq < world.parked.get(recorded.subject, recorded.seq + 1):
            job_no = _int(row["job_no"])
            states[job_no] = evolve(states.get(job_no, INITIAL), recorded)
    return states


def _stored(
    connection: duckdb.DuckDBPyConnection, kind: type[RowStruct], table: str
) -> Iterator[RowStruct]:
    columns = ", ".join(map(_column, msgspec.structs.fields(kind)))
    sql = f"SELECT {columns} FROM {table}"  # noqa: S608 - our own names
    for row in read_rows(connection, sql):
        yield kind(**row)  # type: ignore[arg-type] # the schema has the types


def _column(field: msgspec.structs.FieldInfo) -> str:
    is_instant = field.name.endswith("_at") or field.name in _INSTANTS
    return f"epoch_us({field.name}) AS {field.name}" if is_instant else field.name


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
