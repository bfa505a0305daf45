"""What a scheduling pass costs, and what a queued job: `python -m tests.bench.bench_scheduling`.

One JSON object on standard output. The fleet is 10,000 nodes of four slots each; jobs have 200
different needs, each of which 1,500 nodes can meet, in three weights of three queues; every node
has a label of its own. A pass is what a scheduler does about 1,000 new facts: it folds 250 each of
submitted, assigned, started and completed, places what fits, and claims it. In a burst the facts
are 1,000 completions, so that 1,000 slots are free at once. Facts are made beforehand, and the log
is not in it. Times are CPU time of the process; the median and the largest of 20 passes.

Memory is counted by tracemalloc over submissions as they come out of the codec, each with an id, an
input and an output path of its own.
"""

import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import anyio
import msgspec

from events import job as facts
from events import node as node_facts
from events import subjects
from events.cluster import Policy, PolicyKind
from events.codec import Event, Fact, Recorded, decode, encode
from events.ids import EventId, JobId, NodeId
from events.media import Output
from events.spec import JobSpec, Priority, Queue
from events.subjects import Subject
from services.lifecycle import GC_THRESHOLDS
from services.scheduler.placement import PASS_JOBS_MAX, Choice, place
from services.scheduler.state.world import World

QUEUED = (1_000, 100_000, 1_000_000)
NODES = 10_000
SLOTS = 4
NEEDS = 200
PASS_FACTS = 1_000
PASSES = 20
_START = datetime(2026, 1, 1, tzinfo=UTC)
_CAPABILITIES = tuple(f"label:kind={number}" for number in range(NEEDS))
_Attempted: TypeAlias = facts.Assigned | facts.Started | facts.Completed


class Fleet:
    """A world under load, and the ledger that it folds."""

    def __init__(self, queued: int, policy: Policy) -> None:
        self.world = World(policy)
        self._seq = 0
        self._made = 0
        self._on_their_way: list[Choice] = []
        self._assigned: list[Choice] = []
        self._running: deque[Choice] = deque()
        for number in range(NODES):
            self.world.apply(self._event(subjects.node(_node(number)), _registered(number)))
        for _ in range(queued):
            self.submit()

    def submit(self) -> None:
        """Fold one more submission."""
        self.world.apply(self._submission())

    def fill(self) -> None:
        """Give out jobs until no slot is free, and let them start."""
        while True:
            news = self._news(submitted=PASS_JOBS_MAX, completed=0)
            if not self._decide(news)[1]:
                break

    def pass_s(self) -> tuple[float, int]:
        """Return how long a pass over facts of all kinds takes, and how many jobs it gave out."""
        return self._decide(self._news(submitted=PASS_FACTS // 4, completed=PASS_FACTS // 4))

    def burst_s(self) -> tuple[float, int]:
        """Return how long a pass over completions alone takes, and how many jobs it gave out."""
        for fact in self._news(submitted=PASS_FACTS, completed=0):
            self.world.apply(fact)
        return self._decide(self._news(submitted=0, completed=PASS_FACTS))

    def _decide(self, news: Sequence[Recorded]) -> tuple[float, int]:
        """Do what a scheduler does about new facts."""
        begun_s = time.process_time()
        for fact in news:
            self.world.apply(fact)
        choices = place(self.world, _START)
        for choice in choices:
            self.world.claim(choice.job, choice.node)
        self._on_their_way = choices
        return time.process_time() - begun_s, len(choices)

    def _news(self, *, submitted: int, completed: int) -> list[Recorded]:
        """Return submissions, ends, and what has come of the pass before and the one before it."""
        news = [self._submission() for _ in range(submitted)]
        news += [self._of(choice, facts.Started) for choice in self._assigned]
        self._running += self._assigned
        news += [self._of(choice, facts.Assigned) for choice in self._on_their_way]
        self._assigned, self._on_their_way = self._on_their_way, []
        news += [self._of(self._running.popleft(), facts.Completed) for _ in range(completed)]
        return news

    def _submission(self) -> Recorded:
        self._made += 1
        job = JobId(f"episode-{self._made:07d}")
        return self._event(subjects.job(job), facts.Submitted(spec=_spec(self._made)))

    def _of(self, choice: Choice, kind: type[_Attempted]) -> Recorded:
        return self._event(subjects.job(choice.job), kind(node=choice.node, attempt=1))

    def _event(self, subject: Subject, fact: Fact) -> Recorded:
        self._seq += 1
        event = Event(
            id=EventId(f"3f2a9c0b1d5e7f60-{self._seq:x}"),
            source="bench",
            type=fact.tag,
            time=_START + timedelta(milliseconds=self._seq),
            subject=subject,
            data=fact,
        )
        return decode(self._seq, subject, encode(event))


def _node(number: int) -> NodeId:
    return NodeId(f"node-{number:05d}")


def _registered(number: int) -> node_facts.Registered:
    return node_facts.Registered(
        epoch=1,
        slots=SLOTS,
        capabilities=(
            "engine:ffmpeg",
            "codec:h264",
            "codec:hevc",
            "encoder:libx264",
            f"label:host={number}",
            *(each for at, each in enumerate(_CAPABILITIES) if (at - number) % 20 in {0, 1, 2}),
        ),
        hardware=node_facts.Hardware(
            hostname=f"host-{number}", cpu_threads=16, memory_bytes=64 * 2**30
        ),
    )


def _spec(number: int) -> JobSpec:
    return JobSpec(
        scenario="1080p30-h264",
        input=f"masters/season-{number % 40:02d}/episode-{number:07d}.mov",
        outputs=(Output(path=f"out/season-{number % 40:02d}/episode-{number:07d}.mp4"),),
        queue=tuple(Queue)[number % 3],
        priority=tuple(Priority)[number // 3 % 3],
        tenant=f"tenant-{number % 10}",
        requires=(_CAPABILITIES[number % NEEDS],),
    )


def bytes_per_job(count: int = 20_000) -> float:
    """Return what a world keeps of a queued job, and nothing else of its ledger, in bytes."""
    fleet = Fleet(0, Policy())
    gc.collect()
    tracemalloc.start()
    for _ in range(count):
        fleet.submit()
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept / count


def passes(queued: int, policy: Policy) -> dict[str, Any]:
    """Return what passes cost with so many jobs queued, in milliseconds."""
    fleet = Fleet(queued, policy)
    fleet.fill()
    gc.collect()
    gc.freeze()
    steady = [fleet.pass_s() for _ in range(PASSES)]
    burst = [fleet.burst_s() for _ in range(PASSES)]
    gc.unfreeze()
    return {
        "queued": len(fleet.world.ready),
        "policy": str(policy.kind),
        "pass_ms": _milliseconds(steady),
        "jobs_per_pass": statistics.median(given for _, given in steady),
        "burst_ms": _milliseconds(burst),
        "jobs_per_burst": statistics.median(given for _, given in burst),
    }


def _milliseconds(measured: Sequence[tuple[float, int]]) -> dict[str, float]:
    taken = sorted(taken_s * 1000 for taken_s, _ in measured)
    return {"median": round(statistics.median(taken), 1), "max": round(taken[-1], 1)}


async def scheduling() -> dict[str, Any]:
    """Measure in a process of its own: what others have left in memory is not to count."""
    command = [sys.executable, "-m", "tests.bench.bench_scheduling"]
    done = await anyio.run_process(command, stderr=None)
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


def main(queued: Sequence[int]) -> None:
    """Measure, and print one JSON object."""
    gc.set_threshold(*GC_THRESHOLDS)
    result: dict[str, Any] = {
        "nodes": NODES,
        "needs": NEEDS,
        "facts_per_pass": PASS_FACTS,
        "bytes_per_queued_job": round(bytes_per_job()),
        "passes": [passes(count, Policy()) for count in queued],
    }
    usual = queued[len(queued) // 2]
    result["passes"] += [passes(usual, Policy(kind=kind)) for kind in PolicyKind][1:]
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or QUEUED)
