"""The whole real stack at work on jobs that do nothing: what the system itself costs.

`drain`: jobs are submitted, then two workers start; from the first assignment to the last job being
projected as completed. `latency`: one job every 20 ms through an idle fleet; from before the
request to the end of the (empty) execution. `encode`: one real encode; CPU of everything that is
ours against the CPU of the encoder itself.
"""

import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import psutil

from events import subjects
from events.ids import JobId
from events.job import Completed
from tests.fleet import Durability, Fleet, fleet
from tests.waiting import until

JOBS = 10_000
SLOTS = 64
PACED_JOBS = 300
PACE_S = 0.02
WARM_UP_JOBS = 20
POLL_S = 0.2
"""Asking the projection costs it time too."""


@asynccontextmanager
async def _running(durability: Durability) -> AsyncGenerator[Fleet]:
    with tempfile.TemporaryDirectory() as directory:
        async with fleet(Path(directory), durability=durability) as running:
            running.start_scheduler()
            running.start_projector()
            await running.serving(subjects.API_CANCEL)
            await running.serving(subjects.QUERY, b'{"sql":"select 1"}')
            yield running


async def drain(durability: Durability, jobs: int = JOBS) -> dict[str, Any]:
    """Measure jobs/s from submission to projection."""
    async with _running(durability) as running:
        begun = time.perf_counter()
        await running.submit([_noop(number) for number in range(jobs)])
        submit_s = time.perf_counter() - begun
        cpu = _cpu(running)
        running.start_worker("n1", slots=SLOTS)
        running.start_worker("n2", slots=SLOTS)
        await _completed(running, jobs)
        projected_at = time.time()
        ((first, last),) = await running.sql(
            "SELECT epoch(min(time) FILTER (type = 'job.assigned.v1')), "
            "epoch(max(time) FILTER (type = 'job.completed.v1')) FROM audit"
        )
        after = _cpu(running)
        return {
            "durability": durability,
            "jobs": jobs,
            "submitted_per_s": round(jobs / submit_s),
            "drained_per_s": round(jobs / (last - first)),
            "projected_per_s": round(jobs / (projected_at - first)),
            "cpu_us_per_job": {
                name: round((after[name] - cpu.get(name, 0.0)) / jobs * 1e6) for name in after
            },
        }


async def latency(durability: Durability, jobs: int = PACED_JOBS) -> dict[str, Any]:
    """Measure submit to start of execution, in ms, on an idle fleet."""
    async with _running(durability) as running:
        running.start_worker("n1", slots=4)
        await running.registered(1)
        sent: dict[str, float] = {}
        for number in range(-WARM_UP_JOBS, jobs):
            job = f"paced-{number + WARM_UP_JOBS}"
            if number >= 0:
                sent[job] = time.time()
            body = msgspec.json.encode(_noop(number) | {"job_id": job})
            due = time.perf_counter() + PACE_S
            await running.backbone.bus.request(subjects.API_SUBMIT, body)
            await anyio.sleep(max(0.0, due - time.perf_counter()))
        await _completed(running, jobs + WARM_UP_JOBS)
        rows = await running.sql(
            "SELECT entity, epoch(time) FROM audit WHERE type = 'job.completed.v1'"
        )
        taken = sorted((at - sent[job]) * 1e3 for job, at in rows if job in sent)
        quantiles = statistics.quantiles(taken, n=100)
        return {
            "durability": durability,
            "jobs": jobs,
            "p50_ms": round(quantiles[49], 2),
            "p99_ms": round(quantiles[98], 2),
        }


async def encode(duration_s: float = 20.0) -> dict[str, Any]:
    """Measure the CPU of scheduler, worker and projector during one real encode."""
    async with _running("100ms") as running:
        running.start_worker("n1", slots=1)
        await running.registered(1)
        before = _cpu(running)
        job = {"job_id": "one", "scenario": "720p30-h264", "parameters": {"duration_s": duration_s}}
        await running.submit([job])
        await _completion(running, JobId("one"))
        after = _cpu(running)
        ours = {name: round(after[name] - before[name], 3) for name in after}
        last = await running.backbone.ledger.last_seq()
        ((encoder_s, wall_s),) = await running.sql("SELECT cpu_s, run_s FROM jobs", after_seq=last)
        return {
            "encoder_cpu_s": round(encoder_s, 2),
            "wall_s": round(wall_s, 2),
            "ours_cpu_s": ours,
            "overhead_percent": round(sum(ours.values()) / encoder_s * 100, 2),
        }


async def _completion(running: Fleet, job: JobId) -> None:
    """Wait for a job as a follower, which costs the fleet nothing meanwhile."""
    subject = subjects.job(job)
    async with running.backbone.ledger.follow(after=0, filters=(subjects.only(subject),)) as news:
        async for batch in news:
            if any(isinstance(recorded.fact, Completed) for recorded in batch):
                return


async def _completed(running: Fleet, jobs: int) -> None:
    async def all_are() -> bool:
        return await running.count("status = 'completed'") == jobs

    await until(all_are, f"{jobs} jobs completed", within_s=300, poll_s=POLL_S)


def _noop(number: int) -> dict[str, Any]:
    return {"engine": "noop", "job_id": f"noop-{number}"}


def _cpu(running: Fleet) -> dict[str, float]:
    used = {name: running.cpu_s(name) for name in running.processes}
    times = psutil.Process(running.server.pid).cpu_times()
    return used | {"nats-server": times.user + times.system}
