"""The whole system on real parts, while its processes are killed."""

import json
from collections import Counter
from pathlib import Path

import anyio
import msgspec
import psutil
import pytest
from nats.aio.client import Client

from events import subjects
from events.requests import Reply
from tests.fleet import Durability, Fleet, fleet

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance, pytest.mark.nats]

ENDED = "status IN ('completed', 'failed', 'canceled', 'rejected')"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def started(running: Fleet, *, workers: int = 2, slots: int = 4) -> None:
    running.start_scheduler()
    running.start_projector()
    for number in range(1, workers + 1):
        running.start_worker(f"n{number}", slots=slots)
    await running.serving(subjects.API_CANCEL)
    await running.serving(subjects.QUERY, b'{"sql":"select 1"}')
    await running.registered(workers)


async def all_ended(running: Fleet, jobs: int, within_s: float = 90) -> None:
    await running.eventually(
        lambda: running.count(ENDED), lambda count: count == jobs, f"{jobs} jobs ended", within_s
    )


async def ledger_facts(running: Fleet) -> Counter[tuple[str, str]]:
    """Count the facts of the ledger by subject and type."""
    counts: Counter[tuple[str, str]] = Counter()
    async with running.backbone.ledger.follow(after=0, live=False) as batches:
        async for batch in batches:
            counts.update((recorded.subject, recorded.type) for recorded in batch)
    return counts


async def assert_each_ran_once(running: Fleet, jobs: list[str]) -> None:
    facts = await ledger_facts(running)
    completed = {subject: n for (subject, kind), n in facts.items() if kind == "job.completed.v1"}
    assert completed == {f"ffrtmp.job.{job}": 1 for job in jobs}


async def assert_audit_is_the_ledger(running: Fleet) -> None:
    last = await running.backbone.ledger.last_seq()
    rows = await running.sql(
        f"SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM audit WHERE seq <= {last}",
        after_seq=last,
    )
    assert rows == [[last, last, 1, last]]


@pytest.mark.parametrize("durability", ["100ms", "always"])
async def test_everything_ends_once_while_each_process_is_killed_in_turn(
    tmp_path: Path, durability: Durability
) -> None:
    jobs = [f"k{number}" for number in range(3000)]
    async with fleet(tmp_path, durability=durability) as running:
        await started(running, slots=16)
        for part in range(0, len(jobs), 1000):
            await running.submit(
                [{"engine": "noop", "job_id": job} for job in jobs[part : part + 1000]]
            )
            match part:
                case 0:
                    running.kill("projector")
                    running.start_projector()
                case 1000:
                    running.kill("scheduler")
                    running.start_scheduler()
                    await running.serving(subjects.API_CANCEL)
                case _:
                    await running.server.kill()
                    await running.server.start()
        await all_ended(running, len(jobs))
        await assert_each_ran_once(running, jobs)
        await assert_audit_is_the_ledger(running)


async def test_a_killed_worker_s_jobs_run_again_when_it_is_back(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        await started(running, workers=1, slots=2)
        await running.submit(
            [
                {"job_id": f"w{n}", "scenario": "320x180@25-h264", "parameters": {"duration_s": 60}}
                for n in range(2)
            ]
        )
        await running.eventually(
            lambda: running.count("status = 'processing'"), lambda n: n == 2, "both are running"
        )
        running.kill("n1")
        running.start_worker("n1", slots=2)
        await all_ended(running, 2)
        rows = await running.sql("SELECT status, attempt, crashes FROM jobs ORDER BY job_id")
        assert rows == [["completed", 2, 1], ["completed", 2, 1]]
        left = sorted(path.name for path in running.outputs.iterdir())
        assert left == ["w0.mp4", "w1.mp4"]


async def test_two_schedulers_assign_no_job_twice(tmp_path: Path) -> None:
    jobs = [f"t{number}" for number in range(2000)]
    async with fleet(tmp_path) as running:
        running.start_scheduler("second")
        await started(running, slots=8)
        await running.submit([{"engine": "noop", "job_id": job} for job in jobs])
        await all_ended(running, len(jobs))
        facts = await ledger_facts(running)
        kept = {
            job: facts[f"ffrtmp.job.{job}", "job.assigned.v1"]
            - facts[f"ffrtmp.job.{job}", "job.declined.v1"]
            for job in jobs
        }
        assert kept == dict.fromkeys(jobs, 1)
        await assert_each_ran_once(running, jobs)


async def test_the_same_submission_a_thousand_times_is_one_job(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        await started(running, workers=1)
        body = json.dumps({"engine": "noop", "idempotency_key": "film-42"}).encode()
        replies: list[Reply] = []

        async def submit() -> None:
            for _ in range(50):
                answer = await running.backbone.bus.request(subjects.API_SUBMIT, body)
                replies.append(msgspec.json.decode(answer, type=Reply))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(submit)
        await all_ended(running, 1)
        again = await running.backbone.bus.request(subjects.API_SUBMIT, body)

        assert len({reply.job_id for reply in replies}) == 1
        assert sum(not reply.duplicate for reply in replies) == 1
        assert msgspec.json.decode(again, type=Reply).status == "completed"
        facts = await ledger_facts(running)
        assert sum(n for (_, kind), n in facts.items() if kind == "job.submitted.v1") == 1


async def test_a_running_encode_is_canceled_and_leaves_nothing(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        await started(running, workers=1, slots=1)
        await running.submit(
            [{"job_id": "long", "scenario": "1280x720@30-h264", "parameters": {"duration_s": 600}}]
        )
        await running.eventually(
            lambda: running.count("status = 'processing'"), lambda n: n == 1, "it is running"
        )
        answer = await running.backbone.bus.request(
            subjects.API_CANCEL, b'{"job_id":"long","by":"a test"}'
        )
        assert msgspec.json.decode(answer, type=Reply).error is None
        await all_ended(running, 1)
        assert await running.sql("SELECT status FROM jobs") == [["canceled"]]
        assert not [path for path in running.outputs.rglob("*") if path.is_file()]


async def test_a_job_is_paused_goes_on_is_canceled_and_retried(tmp_path: Path) -> None:
    async def ask(verb: str) -> Reply:
        answer = await running.backbone.bus.request(f"ffrtmp.api.jobs.{verb}", b'{"job_id":"p"}')
        return msgspec.json.decode(answer, type=Reply)

    async def becomes(status: str) -> None:
        await running.eventually(
            lambda: running.count(f"status = '{status}'"), lambda n: n == 1, f"it is {status}"
        )

    async with fleet(tmp_path) as running:
        await started(running, workers=1, slots=1)
        await running.submit(
            [{"job_id": "p", "scenario": "320x180@25-h264", "parameters": {"duration_s": 120}}]
        )
        await becomes("processing")
        assert (await ask("pause")).error is None
        await becomes("paused")
        (encoder,) = psutil.Process(running.processes["n1"].pid).children(recursive=True)
        assert encoder.status() == psutil.STATUS_STOPPED
        assert (await ask("retry")).status == "paused"
        assert (await ask("resume")).error is None
        await becomes("processing")
        await ask("pause")
        await becomes("paused")
        await ask("cancel")
        await becomes("canceled")
        assert not encoder.is_running()
        assert (await ask("retry")).status == "queued"
        await becomes("completed")
        rows = await running.sql("SELECT status, attempt, ended_at IS NOT NULL FROM jobs")
        assert rows == [["completed", 2, True]]
        attempts = await running.sql("SELECT attempt, outcome FROM attempts ORDER BY attempt")
        assert attempts == [[1, "canceled"], [2, "completed"]]
        refused = (await ask("retry")).error
        assert refused is not None
        assert refused.code == "job_ended"
        assert [path.name for path in running.outputs.iterdir()] == ["p.mp4"]


async def test_durable_commands_of_strangers_are_answered_by_facts_whatever_they_hold(
    tmp_path: Path,
) -> None:
    bodies = {
        "jobs.submit": [
            b'{"scenario":"320x180@25-h264","parameters":{"duration_s":1}}',
            b'{"parameters":{"video":{"codec":"h266"}}}',
            b"\xff\xfe not JSON",
            b'{"engine":"noop","job_id":"after-the-garbage"}',
        ],
        "jobs.explode": [b"{}"],
    }
    async with fleet(tmp_path) as running:
        await started(running, workers=1)
        stranger = Client()
        await stranger.connect(running.server.url)  # pyright: ignore[reportUnknownMemberType] - untyped options
        for verb, sent in bodies.items():
            for body in sent:
                await stranger.publish(f"ffrtmp.cmd.{verb}", body)
        await stranger.drain()
        await all_ended(running, 5)
        rows = await running.sql(
            "SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status"
        )
        assert rows == [["completed", 2], ["rejected", 3]]
        reasons = await running.sql(
            "SELECT payload ->> '$.field', payload ->> '$.reason' FROM audit "
            "WHERE type = 'job.rejected.v1' ORDER BY seq"
        )
        told = {str(field): str(reason) for field, reason in reasons}
        assert set(told) == {"$.parameters.video.codec", "$", "$subject"}
        assert "h266" in told["$.parameters.video.codec"]
        assert "allowed: h264, hevc, vp9, av1" in told["$.parameters.video.codec"]
