"""Who is given up on real parts: a killed worker soon, nobody because the server was away."""

from pathlib import Path

import anyio
import pytest

from events import subjects
from events.codec import Fact, Recorded
from events.node import Lost, Registered, Suspected
from tests.fleet import Fleet, fleet
from tests.waiting import throughout, until

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance, pytest.mark.nats]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def started(running: Fleet, **settings: object) -> None:
    running.start_scheduler("scheduler", **settings)
    for node in ("n1", "n2"):
        running.start_worker(node, slots=1, **settings)
    await running.serving(subjects.API_CANCEL)
    await told(running, Registered, 2)


async def told(running: Fleet, kind: type[Fact], count: int = 1) -> None:
    """Wait until the ledger has so many facts of a kind."""
    with anyio.fail_after(30):
        async with running.backbone.ledger.follow(after=0) as batches:
            async for batch in batches:
                count -= sum(isinstance(event.fact, kind) for event in batch)
                if count <= 0:
                    return


async def given_up(running: Fleet) -> list[Recorded]:
    """Return the losses and suspicions of nodes in the ledger."""
    async with running.backbone.ledger.follow(after=0, live=False) as batches:
        events = [event async for batch in batches for event in batch]
    return [event for event in events if isinstance(event.fact, Lost | Suspected)]


async def test_a_killed_worker_is_lost_long_before_its_heartbeat_is_missed(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        await started(running)
        running.kill("n1")
        killed_s = anyio.current_time()
        await told(running, Lost)
        assert anyio.current_time() - killed_s < 5  # a heartbeat is missed after 10 s at the least
        facts = await given_up(running)
        assert [type(event.fact) for event in facts] == [Suspected, Lost]
        assert {subjects.node_of(event.subject) for event in facts} == {"n1"}


async def test_nobody_is_lost_because_the_server_was_away(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        await started(running, heartbeat_s=1.0, node_dead_s=5.0)

        async def away() -> bool:
            return running.backbone.bus.up_since_s is None

        await running.server.kill()
        await until(away, "the line is down", within_s=5)
        longer_than_silence_s = 7
        await throughout(away, "the server is away", for_s=longer_than_silence_s)
        await running.server.start()
        await running.serving(subjects.API_CANCEL)

        async def all_live() -> bool:
            return await given_up(running) == []

        await throughout(all_live, "nobody was given up", for_s=6, poll_s=1)
