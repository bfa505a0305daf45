"""Entries for tests of the log."""

from events import subjects
from events.ids import JobId, NodeId
from events.job import Started
from events.subjects import Subject
from events.telemetry import LogChunk, OutputStream
from services.clock import Pen, SystemClock
from services.log.port import Batch, Entry, EventLog

PEN = Pen("test", SystemClock())


def job(name: str) -> Subject:
    return subjects.job(JobId(name))


def node(name: str) -> Subject:
    return subjects.node(NodeId(name))


def entry(name: str, expected: int | None = None, attempt: int = 1) -> Entry:
    """`attempt` tells the entries of one job apart."""
    return Entry(PEN.write(job(name), Started(node=NodeId("n"), attempt=attempt)), expected)


def large(name: str, size_bytes: int) -> Entry:
    chunk = LogChunk(
        node=NodeId("n"),
        attempt=1,
        number=0,
        stream=OutputStream.STDOUT,
        lines=("x" * size_bytes,),
    )
    return Entry(PEN.write(job(name), chunk))


def attempts(batch: Batch) -> list[int]:
    facts = [recorded.fact for recorded in batch]
    return [fact.attempt for fact in facts if isinstance(fact, Started)]


async def everything(log: EventLog, after: int = 0) -> Batch:
    """Return all events above `after` that are stored now."""
    events: Batch = []
    async with log.follow(after=after, live=False) as batches:
        async for batch in batches:
            assert batch, "a batch is never empty"
            events += batch
    return events
