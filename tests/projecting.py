"""What tests of the projection share: a ledger written down fact by fact, and all of its tables."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from events import subjects
from events.codec import Event, Fact, Recorded, decode, encode
from events.ids import EventId, JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Canceled,
    CancelRequested,
    Completed,
    Declined,
    Failed,
    FailureClass,
    LossCause,
    Paused,
    Promoted,
    Queued,
    QueuedAfter,
    Rejected,
    Reprioritized,
    Resumed,
    RetryScheduled,
    Started,
    Submitted,
)
from events.media import EncodeStats, MadeFile
from events.node import Assignment, Assignments, Available, Registered
from events.spec import JobSpec, Priority, Queue
from events.subjects import Subject
from projections.storage.database import named_sql
from projections.store import Store
from tests.vocabulary import T0

N1, N2 = NodeId("n1"), NodeId("n2")
LATER = T0 + timedelta(seconds=10_000)
GRANTED = (
    b'{"id":"a","source":"s","type":"access.granted.v1","time":"2026-01-01T00:00:00Z",'
    b'"subject":"x","data":{"role":"admin"}}'
)
"""An event of a kind that this version does not know."""
TABLES = ("audit", "jobs", "attempts", "nodes", "assignments", "parked", "heartbeats", "progress")


class Ledger:
    """A log as a test writes it down; the event at sequence s is of T0 + s seconds."""

    def __init__(self) -> None:
        self.recorded: list[Recorded] = []

    def add(self, subject: Subject, *facts: Fact) -> "Ledger":
        """Append facts of one entity."""
        for fact in facts:
            seq = len(self.recorded) + 1
            event = Event(
                id=EventId(f"e-{seq}"),
                source="test",
                type=fact.tag,
                time=T0 + timedelta(seconds=seq),
                subject=subject,
                data=fact,
            )
            self.recorded.append(decode(seq, subject, encode(event)))
        return self

    def job(self, job: str, *facts: Fact) -> "Ledger":
        """Append facts of one job."""
        return self.add(subjects.job(JobId(job)), *facts)

    def node(self, node: str, *facts: Fact) -> "Ledger":
        """Append facts of one node."""
        return self.add(subjects.node(NodeId(node)), *facts)

    def raw(self, subject: str, body: bytes) -> "Ledger":
        """Append a body as a stranger could."""
        self.recorded.append(decode(len(self.recorded) + 1, subject, body))
        return self


def instant(seq: int) -> datetime:
    """Return the instant of the event at `seq`."""
    return T0 + timedelta(seconds=seq)


def fleet(rounds: int = 1) -> Ledger:
    """Return a ledger in which everything happens that can happen to a job."""
    ledger = Ledger()
    ledger.node("n1", Registered(epoch=1, slots=2, capabilities=("gpu", "engine:ffmpeg")))
    ledger.node("n2", Registered(epoch=1, slots=1))
    for number in range(rounds):
        _round(ledger, f"-{number}")
    return ledger


def _round(ledger: Ledger, tag: str) -> None:
    _good(ledger, f"good{tag}")
    _hard(ledger, f"hard{tag}")
    ledger.job(f"refused{tag}", Rejected(reason="no such field", field="$.x"))
    ledger.job(
        f"stopped{tag}",
        Submitted(spec=JobSpec()),
        Assigned(node=N2, attempt=1),
        Started(node=N2, attempt=1),
        CancelRequested(by="ann"),
        Canceled(attempt=1, by="ann", reason="not needed"),
    )
    ledger.job(f"running{tag}", Submitted(spec=JobSpec()), Assigned(node=N2, attempt=1))
    ledger.job(f"running{tag}", Started(node=N2, attempt=1))
    ledger.job(f"waiting{tag}", Submitted(spec=JobSpec(not_before=LATER)))
    ledger.raw(f"ffrtmp.job.good{tag}", b"\xff not json")
    ledger.raw("ffrtmp.access.ann", GRANTED)


def _good(ledger: Ledger, job: str) -> None:
    """Run one job to its end, with a file."""
    files = (MadeFile(path=f"out{job[4:]}.mp4", size_bytes=1000),)
    stats = EncodeStats(wall_s=2.0, cpu_s=3.5, frames=60, fps=30.0, speed=1.0, encoder="libx264")
    spec = JobSpec(queue=Queue.LIVE, labels={"team": "news"}, scenario="1080p30-h264")
    ledger.job(job, Submitted(spec=spec), Assigned(node=N1, attempt=1))
    given = Assignment(job=JobId(job), attempt=1, seq=len(ledger.recorded), spec=spec)
    ledger.node("n1", Assignments(jobs=(given,)))
    ledger.job(job, Started(node=N1, attempt=1))
    ledger.job(job, Completed(node=N1, attempt=1, files=files, stats=stats))
    ledger.node("n1", Available(epoch=1, slots=2, free=2))
    ledger.job(job, Promoted(node=N1, attempt=1))


def _hard(ledger: Ledger, job: str) -> None:
    """Let everything go wrong with one job that can."""
    ledger.job(
        job,
        Submitted(spec=JobSpec(depends_on=(JobId("x"),), attempts_max=2)),
        Queued(after=QueuedAfter.DEPENDENCIES),
        Assigned(node=N1, attempt=1),
        Declined(node=N1, attempt=1, reason="full"),
        Assigned(node=N2, attempt=2),
        Started(node=N2, attempt=2),
        AttemptLost(node=N2, attempt=2, cause=LossCause.NODE_LOST),
        Queued(after=QueuedAfter.BACKOFF),
        Assigned(node=N1, attempt=3),
        Completed(node=N2, attempt=2),  # the loser speaks: no longer its attempt
        Started(node=N1, attempt=3),
        Paused(attempt=3),
        Resumed(attempt=3, paused_s=1.0),
        AttemptFailed(
            node=N1, attempt=3, failure=FailureClass.TRANSIENT, message="reset", exit_status=1
        ),
        RetryScheduled(not_before=LATER, delay_s=5.0, failures=1),
        Queued(after=QueuedAfter.BACKOFF),
        Reprioritized(queue=Queue.BATCH, priority=Priority.LOW),
        Assigned(node=N1, attempt=4),
        Started(node=N1, attempt=4),
        AttemptFailed(node=N1, attempt=4, failure=FailureClass.PERMANENT, message="no codec"),
        Failed(failure=FailureClass.PERMANENT, reason="no codec", attempts=2),
        AttemptLost(node=N1, attempt=4, cause=LossCause.STALLED),  # after the end
    )


def apply(store: Store, recorded: Sequence[Recorded], batch: int = 1_000) -> None:
    """Write events in batches of one size."""
    for begin in range(0, len(recorded), batch):
        store.apply(recorded[begin : begin + batch])


def projected(path: Path, recorded: Sequence[Recorded]) -> Store:
    """Return a store on a new file with these events written."""
    store = Store(path / "private" / "projection.duckdb")
    apply(store, recorded)
    return store


def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    """Return what a query of the store's file gives, instants in UTC."""
    cursor = store.cursor()
    try:
        return fetched(cursor, sql)
    finally:
        cursor.close()


def fetched(cursor: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    """Return rows; TIMESTAMPTZ is fetched as text, for its own type needs a further package."""
    relation = cursor.sql(sql)
    columns = [
        f'"{name}"::VARCHAR' if "TIME ZONE" in str(kind) else f'"{name}"'
        for name, kind in zip(relation.columns, relation.types, strict=True)
    ]
    found = relation.project(", ".join(columns)).fetchall()
    return [tuple(_plain(value) for value in row) for row in found]


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def everything(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables, in an order that does not depend on how they were written."""
    return {table: rows(store, f"FROM {table} ORDER BY ALL") for table in (*TABLES, "position")}


def derived(store: Store) -> list[tuple[object, ...]]:
    """Return the jobs as the oracle has them."""
    return rows(store, named_sql("oracle.sql"))


def folded(store: Store) -> list[tuple[object, ...]]:
    """Return the jobs as the table has them, in the oracle's columns."""
    return rows(
        store,
        "SELECT job_no, job_id, status, queue, attempt, failures, crashes, last_seq "
        "FROM jobs ORDER BY job_no",
    )
