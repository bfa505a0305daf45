"""What users fear, on real parts: dead and hung workers, an outage, a pause, a stuck queue."""

import signal
from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from events import subjects
from events.codec import Recorded
from events.ids import NodeId
from events.job import AttemptLost, Completed, LossCause, Started
from events.node import Registered
from events.requests import Reply
from tests.acceptance.ffmpeg.encoding import looked_at
from tests.acceptance.waiting import alive, outlast, until
from tests.fleet import Fleet, fleet

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.acceptance,
    pytest.mark.nats,
    pytest.mark.timeout(900),
]

OUTAGE_S = 60.0
PAUSE_S = 30.0
ENCODE_S_MAX = 400.0
"""Many times what the encodes here take: other tests may share the machine."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def encode(job: str, size: str, duration_s: float, **more: object) -> dict[str, Any]:
    return {
        "job_id": job,
        "scenario": f"{size}@30-h264",
        "parameters": {"duration_s": duration_s},
        **more,
    }


async def started(running: Fleet, *, workers: int = 2, slots: int = 1) -> None:
    running.start_scheduler()
    running.start_projector()
    for number in range(1, workers + 1):
        running.start_worker(f"n{number}", slots=slots)
    await running.serving(subjects.API_CANCEL)
    await running.serving(subjects.QUERY, b'{"sql":"select 1"}')
    await running.registered(workers)


def node_of(recorded: Recorded) -> NodeId:
    assert isinstance(recorded.fact, Started | Completed)
    return recorded.fact.node


async def types(running: Fleet) -> Counter[str]:
    counts: Counter[str] = Counter()
    async with running.backbone.ledger.follow(after=0, live=False) as batches:
        async for batch in batches:
            counts.update(recorded.type for recorded in batch)
    return counts


async def test_a_killed_worker_s_encode_goes_on_elsewhere_within_5_s(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        await started(running)
        await running.submit([encode("film", "640x360", 60)])
        first = await running.fact("job.started.v1")
        dead = node_of(first)
        encoders = psutil.Process(running.processes[dead].pid).children(recursive=True)
        killed_at = datetime.now(UTC)
        running.kill(dead)
        again = await running.fact("job.started.v1", after=first.seq)
        assert node_of(again) != dead
        assert (again.time - killed_at).total_seconds() < 5.0
        assert not [encoder for encoder in encoders if alive(encoder.pid)]
        done = await running.fact("job.promoted.v1", after=again.seq, within_s=ENCODE_S_MAX)
        assert (await types(running))["job.completed.v1"] == 1
        assert done.seq > again.seq
        assert [path.name for path in running.outputs.iterdir()] == ["film.mp4"]


async def test_a_hung_worker_s_encode_goes_elsewhere_and_when_it_wakes_it_changes_nothing(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as running:
        await started(running)
        await running.submit([encode("film", "640x360", 90)])
        first = await running.fact("job.started.v1")
        hung = running.processes[node_of(first)]
        stopped_at = datetime.now(UTC)
        hung.send_signal(signal.SIGSTOP)
        lost = await running.fact("job.attempt_lost.v1")
        assert isinstance(lost.fact, AttemptLost)
        assert lost.fact.cause is LossCause.NODE_LOST
        again = await running.fact("job.started.v1", after=lost.seq)
        assert (again.time - stopped_at).total_seconds() < 25.0
        hung.send_signal(signal.SIGCONT)
        await until(lambda: not psutil.Process(hung.pid).children(recursive=True))
        done = await running.fact("job.completed.v1", after=again.seq, within_s=ENCODE_S_MAX)
        assert node_of(done) == node_of(again) != node_of(first)
        await running.fact("job.promoted.v1", after=done.seq)
        assert (await types(running))["job.completed.v1"] == 1
        assert [path.name for path in running.outputs.iterdir()] == ["film.mp4"]


async def test_an_outage_of_a_minute_restarts_no_encode(tmp_path: Path) -> None:
    jobs = [
        *(encode(f"short{number}", "320x180", 20) for number in range(2)),
        *(encode(f"long{number}", "640x360", 90) for number in range(2)),
    ]
    async with fleet(tmp_path) as running:
        await started(running, slots=2)
        await running.submit(jobs)
        seq = 0
        for _ in jobs:
            seq = (await running.fact("job.started.v1", after=seq)).seq
        await running.server.kill()
        await outlast(OUTAGE_S)
        await running.server.start()
        await running.eventually(
            lambda: running.count("status = 'completed'"),
            lambda count: count == len(jobs),
            "all are completed",
            within_s=ENCODE_S_MAX,
        )
        assert await running.sql("SELECT DISTINCT attempt FROM jobs") == [[1]]
        counts = await types(running)
        assert counts["job.started.v1"] == counts["job.completed.v1"] == len(jobs)
        assert not counts["job.attempt_lost.v1"]
        assert not counts["node.lost.v1"]


async def test_a_pause_of_half_a_minute_is_not_seen_in_the_output(tmp_path: Path) -> None:
    async def ask(verb: str) -> Reply:
        answer = await running.backbone.bus.request(f"ffrtmp.api.jobs.{verb}", b'{"job_id":"film"}')
        return msgspec.json.decode(answer, type=Reply)

    async with fleet(tmp_path) as running:
        running.start_scheduler()
        running.start_worker("n1", slots=1, stall_s=PAUSE_S / 2)
        await running.serving(subjects.API_CANCEL)
        await running.submit([encode("film", "320x180", 20, timeout_s=PAUSE_S)])
        await running.fact("job.started.v1")
        await ask("pause")
        paused = await running.fact("job.paused.v1")
        await outlast(PAUSE_S)
        await ask("resume")
        await running.fact("job.promoted.v1", within_s=ENCODE_S_MAX)
        resumed = await running.fact("job.resumed.v1")
        assert (resumed.time - paused.time).total_seconds() >= PAUSE_S
        made = looked_at(running.outputs / "film.mp4")
        assert made == ("h264", 320, 180, Fraction(30), 600, "aac")


async def test_a_queue_headed_by_work_for_gpus_delays_nobody_else(tmp_path: Path) -> None:
    wanting = [
        {"job_id": f"gpu{number}", "queue": "live", "priority": "high", "requires": ["gpu"]}
        for number in range(20)
    ]
    async with fleet(tmp_path) as running:
        await started(running, workers=1)
        registered = await running.fact("node.registered.v1")
        assert isinstance(registered.fact, Registered)
        if "gpu" in registered.fact.capabilities:
            pytest.skip("this machine has a GPU: nothing here is without one")
        await running.submit(wanting)
        await running.submit([{"job_id": "plain", "engine": "noop", "queue": "batch"}])
        done = await running.fact("job.completed.v1", within_s=20)
        assert done.subject == "ffrtmp.job.plain"
        waiting = "SELECT count(*) FROM jobs WHERE status = 'queued'"
        assert await running.sql(waiting, after_seq=done.seq) == [[len(wanting)]]
