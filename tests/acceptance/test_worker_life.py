"""The life of a worker on real parts: its place, its drain, outages, and its death."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
import psutil
import pytest

from events import subjects
from events.codec import Fact, Recorded
from events.ids import JobId, NodeId
from events.job import Assigned, Promoted, Started
from events.node import Drained, Draining, Refused, Registered
from events.telemetry import LogChunk
from services.clock import Pen, SystemClock
from services.errors import LogUnavailable
from services.log.port import Entry
from tests.fleet import Fleet, fleet
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance, pytest.mark.nats]

SOON_S = 120.0
ENCODE = {"scenario": "320x180@25-h264", "parameters": {"duration_s": 8}}
"""Takes a second or two."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ended(running: Fleet, name: str) -> int:
    """Wait until a process has ended by itself; return its exit status."""
    process = running.processes[name]

    async def gone() -> bool:
        return process.poll() is not None

    await until(gone, f"{name} ended", within_s=SOON_S)
    del running.processes[name]
    return process.wait()


async def facts(running: Fleet, kind: type[Fact]) -> Sequence[Recorded]:
    """Return the facts of a kind in the ledger."""
    async with running.backbone.ledger.follow(after=0, live=False) as batches:
        events = [event async for batch in batches for event in batch]
    return [event for event in events if isinstance(event.fact, kind)]


async def told(running: Fleet, kind: type[Fact], count: int = 1) -> None:
    """Wait for so many facts of a kind."""

    async def there() -> bool:
        try:
            return len(await facts(running, kind)) >= count
        except LogUnavailable:
            return False

    await until(there, f"{count} {kind.tag}", within_s=SOON_S)


async def exists(path: Path) -> None:
    """Wait for a file of another process."""

    async def there() -> bool:
        return any(path.parent.glob(path.name))

    await until(there, str(path), within_s=SOON_S)


def encoders(running: Fleet, node: str) -> list[psutil.Process]:
    """Return the processes that a worker has started."""
    found: list[psutil.Process] = psutil.Process(running.processes[node].pid).children(
        recursive=True
    )
    return found


async def says(running: Fleet, name: str, words: str) -> None:
    """Wait until a process has printed this."""

    async def said() -> bool:
        return words in running.log_of(name)

    await until(said, f"{name} says {words!r}", within_s=SOON_S)


async def encoding(running: Fleet, job: str) -> None:
    """Submit an encode and wait until it runs."""
    await running.submit([{"job_id": job, **ENCODE}])
    await told(running, Started)

    async def begun() -> bool:
        return any((running.directory / "n1" / "attempts").glob("*.json"))

    await until(begun, "it has begun", within_s=SOON_S)


async def test_a_second_worker_on_a_work_directory_ends_at_once(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        running.start_worker("n1")
        await told(running, Registered)
        running.start("n2", "worker", node_id="n2", work_dir=tmp_path / "n1")
        assert await ended(running, "n2") == 2
        words = f"another worker, pid {running.processes['n1'].pid}, uses {tmp_path / 'n1'}"
        assert words in running.log_of("n2")
        assert running.processes["n1"].poll() is None
        assert len(await facts(running, Registered)) == 1


async def test_a_second_worker_under_a_node_id_is_refused_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as running:
        running.start_scheduler()
        running.start_worker("n1", heartbeat_s=0.5)
        await told(running, Registered)
        running.start("rival", "worker", node_id="n1", work_dir=tmp_path / "rival")
        assert await ended(running, "rival") == 2
        assert "node_id: given: n1; under this id a worker lives already" in running.log_of("rival")
        assert "choose another --node-id, or stop that one first" in running.log_of("rival")
        assert len(await facts(running, Refused)) == 1
        await running.serving(subjects.API_CANCEL)
        await running.submit([{"job_id": "a", **ENCODE}])
        await told(running, Promoted)
        assert running.stop("n1") == 0


async def test_a_drained_worker_finishes_its_encode_and_leaves_in_order(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        running.start_scheduler()
        running.start_worker("n1", slots=1)
        await running.serving(subjects.API_CANCEL)
        await encoding(running, "a")
        draining = Pen("test", SystemClock()).write(subjects.node(NodeId("n1")), Draining(by="ann"))
        await running.backbone.ledger.append([Entry(draining)])
        assert await ended(running, "n1") == 0
        (promoted,) = await facts(running, Promoted)
        (drained,) = await facts(running, Drained)
        assert promoted.seq < drained.seq
        running.start_worker("n1", slots=1)
        await says(running, "n1", "ffrtmp nodes uncordon n1")


async def test_an_encode_outlives_an_outage_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        running.start_scheduler()
        running.start_worker("n1", slots=1)
        await running.serving(subjects.API_CANCEL)
        await encoding(running, "a")
        await running.server.kill()
        await exists(tmp_path / "n1" / "attempts" / "a.1.ending")
        await running.server.start()
        await told(running, Promoted)
        assert len(await facts(running, Assigned)) == 1
        chunks = await running.backbone.logs.read(subjects.logs(JobId("a"), 1))
        numbers = [event.fact.number for event in chunks if isinstance(event.fact, LogChunk)]
        assert numbers
        assert numbers == list(range(len(numbers)))
        assert [path.name for path in running.outputs.iterdir()] == ["a.mp4"]


async def test_an_encode_that_was_done_is_told_by_the_next_worker(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        running.start_scheduler()
        running.start_worker("n1", slots=1)
        await running.serving(subjects.API_CANCEL)
        await encoding(running, "a")
        await running.server.kill()
        await exists(tmp_path / "n1" / "attempts" / "a.1.ending")
        running.kill("n1")
        running.start_worker("n1", slots=1)
        await says(running, "n1", "nats.awaited")
        await running.server.start()
        await told(running, Registered, 2)
        (promoted,) = await facts(running, Promoted)
        assert promoted.seq < (await facts(running, Registered))[-1].seq
        assert len(await facts(running, Assigned)) == 1
        assert [path.name for path in running.outputs.iterdir()] == ["a.mp4"]


async def test_a_killed_worker_takes_its_encoders_along_and_its_files_are_removed(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as running:
        running.start_scheduler()
        running.start_worker("n1", slots=1)
        await running.serving(subjects.API_CANCEL)
        long = {"scenario": "1280x720@30-h264", "parameters": {"duration_s": 3600}}
        await running.submit([{"job_id": "a", **long}])
        await told(running, Started)

        async def encodes() -> bool:
            return any(running.outputs.iterdir())

        await until(encodes, "a partial file", within_s=SOON_S)
        children = encoders(running, "n1")
        assert children
        running.kill("n1")
        with anyio.fail_after(5):
            await anyio.to_thread.run_sync(psutil.wait_procs, children, 5)
        assert not any(child.is_running() for child in children)
        (partial,) = running.outputs.iterdir()
        cancel = msgspec.json.encode({"job_id": "a"})
        await running.backbone.bus.request(subjects.API_CANCEL, cancel)
        running.start_worker("n1", slots=1)
        await told(running, Registered, 2)
        assert not partial.exists()
