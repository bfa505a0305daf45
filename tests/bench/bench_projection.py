"""How fast the projection writes: `python -m tests.bench.bench_projection [events]`.

One JSON object on standard output. The mix is that of short jobs: submitted, assigned, started and
completed, and for every 20 jobs one `assignments` and one `available` fact of a node. Events are
decoded beforehand; what is timed is `Store.apply`, commit included, on the file system of the
temporary directory. A quarter of the jobs has a file, and so a fifth fact.
"""

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec

from events import job as facts
from events import node as node_facts
from events import subjects
from events.codec import Event, Fact, Recorded, decode, encode
from events.ids import EventId, JobId, NodeId
from events.media import EncodeStats, MadeFile
from events.spec import JobSpec, Priority, Queue
from events.subjects import Subject
from projections.store import Store
from services.lifecycle import GC_THRESHOLDS

EVENTS = 100_000
BATCHES = (100, 200, 1_000, 5_000)
RUNS = 3
_NODES = 50
_PASS_JOBS = 20
_START = datetime(2026, 1, 1, tzinfo=UTC)


def events(count: int) -> list[Recorded]:
    """Return the first `count` events of a fleet that runs short jobs."""
    made: list[Recorded] = []
    for subject, fact in _facts():
        seq = len(made) + 1
        event = Event(
            id=EventId(f"3f2a9c0b1d5e7f60-{seq:x}"),
            source="scheduler/4f2a",
            type=fact.tag,
            time=_START + timedelta(milliseconds=seq),
            subject=subject,
            data=fact,
        )
        made.append(decode(seq, subject, encode(event)))
        if seq == count:
            break
    return made


def _facts() -> Iterator[tuple[Subject, Fact]]:
    for number in range(_NODES):
        node = NodeId(f"node-{number}")
        yield subjects.node(node), node_facts.Registered(epoch=1, slots=_PASS_JOBS)
    turn = 0
    while True:
        turn += 1
        yield from _turn(turn, NodeId(f"node-{turn % _NODES}"))


def _turn(turn: int, node: NodeId) -> Iterator[tuple[Subject, Fact]]:
    """Run some jobs on one node, in step."""
    spec = JobSpec(
        scenario="1080p30-h264",
        queue=list(Queue)[turn % 3],
        priority=list(Priority)[turn % 3],
        labels={"team": "news"},
    )
    jobs = [JobId(f"01jd3k9qz{turn:08d}x{number:04d}") for number in range(_PASS_JOBS)]
    for job in jobs:
        yield subjects.job(job), facts.Submitted(spec=spec)
    placement = facts.Placement(weight=6.0, waited_s=0.1, candidates=9, free=4, runner_up="node-1")
    for job in jobs:
        yield subjects.job(job), facts.Assigned(node=node, attempt=1, placement=placement)
    assignments = tuple(
        node_facts.Assignment(job=job, attempt=1, seq=turn, spec=spec) for job in jobs
    )
    yield subjects.node(node), node_facts.Assignments(jobs=assignments)
    for job in jobs:
        yield subjects.job(job), facts.Started(node=node, attempt=1)
    stats = EncodeStats(wall_s=1.0, cpu_s=3.5, frames=300, fps=300.0, encoder="libx264")
    for number, job in enumerate(jobs):
        files = (MadeFile(path=f"{job}.mp4", size_bytes=10**6),) if number % 4 == 0 else ()
        done = facts.Completed(node=node, attempt=1, files=files, stats=stats)
        yield subjects.job(job), done
        if files:
            yield subjects.job(job), facts.Promoted(node=node, attempt=1)
    available = node_facts.Available(epoch=1, slots=_PASS_JOBS, free=_PASS_JOBS)
    yield subjects.node(node), available


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that `act` took."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def applied(recorded: list[Recorded], batch: int) -> dict[str, float]:
    """Write all events into a new file; return the rate and the times of batches."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "private" / "bench.duckdb")
        store.load()
        chunks = [recorded[at : at + batch] for at in range(0, len(recorded), batch)]
        batch_s = sorted(timed(partial(store.apply, chunk)) for chunk in chunks)
        store.close()
        return {
            "events_per_s": round(len(recorded) / sum(batch_s)),
            "batch_p50_ms": round(batch_s[len(batch_s) // 2] * 1e3, 1),
            "batch_max_ms": round(batch_s[-1] * 1e3, 1),
        }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    recorded = events(count)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    results: dict[str, list[dict[str, float]]] = {}
    for batch in BATCHES:
        part = recorded[: max(count // 5, 1)] if batch < 1_000 else recorded
        runs = [applied(part, batch) for _ in range(RUNS)]
        results[str(batch)] = sorted(runs, key=lambda run: run["events_per_s"])
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(results)).decode() + "\n")


if __name__ == "__main__":
    main()
