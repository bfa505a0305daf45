"""One node id is one worker's: who comes second is refused, who lost its place leaves."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trio.testing
from msgspec.structs import replace
from structlog.testing import capture_logs

from events import subjects
from events.ids import NodeId
from events.job import AttemptLost, LossCause, Promoted
from events.media import MadeFile
from events.node import (
    Cordoned,
    Drained,
    Draining,
    Hardware,
    Refused,
    Registered,
    Removed,
    Uncordoned,
)
from events.state.node import NodeStatus
from events.telemetry import Heartbeat
from services.clock import Pen
from services.errors import ConfigurationError
from services.log.entity import load_node
from services.log.port import Entry
from services.worker.port import Made
from services.worker.service import run_worker
from tests.fakes import EPOCH, FakeExecutor, Gates, LoopClock, passing
from tests.sites import Site

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
NODE = subjects.node(N1)
OTHER = Registered(
    epoch=EPOCH + 500,
    slots=1,
    hardware=Hardware(hostname="box"),
    address="box/n1",
    fingerprint="other",
)
MADE = Made(files=(MadeFile(path="a.mp4", size_bytes=1000),))
HANDED_BACK = AttemptLost(node=N1, attempt=1, cause=LossCause.DRAINED)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
def site(tmp_path: Path, gates: Gates) -> Site:
    site = Site(tmp_path, FakeExecutor(gates.play))
    site.offers = replace(site.offers, fingerprint="mine", address="shed/work")
    return site


async def run(site: Site) -> None:
    """Run the node's worker until it ends by itself."""
    with anyio.fail_after(3600):
        await run_worker(site.backbone, site.settings, site.offers, clock=LoopClock())


@asynccontextmanager
async def beating(site: Site, epoch: int, every_s: float = 5.0) -> AsyncGenerator[None]:
    """Let a worker of this epoch be heard."""
    pen = Pen("worker/n1", LoopClock())
    subject = subjects.telemetry_of_node(N1)

    async def beat() -> None:
        while True:
            await passing(every_s)
            await site.backbone.telemetry.append(
                [Entry(pen.write(subject, Heartbeat(epoch=epoch)))]
            )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat)
        yield
        tasks.cancel_scope.cancel()


class TestRefused:
    async def test_a_second_worker_is_refused_while_the_first_lives(self, site: Site) -> None:
        await site.store(NODE, OTHER)
        async with beating(site, OTHER.epoch):
            with pytest.raises(ConfigurationError, match=r"given: n1; .*box/n1, fingerprint other"):
                await run(site)
        (refused,) = await site.on_node(Refused)
        assert isinstance(refused.fact, Refused)
        assert (refused.fact.epoch, refused.fact.fingerprint, refused.fact.address) == (
            0,
            "mine",
            "shed/work",
        )
        node = await load_node(site.backbone.ledger, N1)
        assert (node.status, node.fingerprint) == (NodeStatus.ONLINE, "other")

    async def test_a_node_whose_worker_is_silent_is_taken_over(self, site: Site) -> None:
        await site.store(NODE, OTHER)
        began_s = anyio.current_time()
        async with beating(site, OTHER.epoch - 1), site.worker():
            waited_s = anyio.current_time() - began_s
            node = await load_node(site.backbone.ledger, N1)
        assert (node.fingerprint, node.epoch) == ("mine", OTHER.epoch + 1)
        assert waited_s == pytest.approx(site.settings.node_dead_s)

    async def test_its_own_restart_does_not_wait_and_tells_the_hardware_anew(
        self, site: Site
    ) -> None:
        async with site.worker():
            pass
        await site.store(NODE, replace(OTHER, fingerprint="mine"))
        hardware = Hardware(hostname="shed", cpu_threads=64)
        site.offers = replace(site.offers, hardware=hardware)
        began_s = anyio.current_time()
        async with beating(site, OTHER.epoch), site.worker():
            assert anyio.current_time() == began_s
            node = await load_node(site.backbone.ledger, N1)
        assert (node.hardware, node.epoch) == (hardware, OTHER.epoch + 1)

    async def test_a_node_that_was_drained_is_free_at_once(self, site: Site) -> None:
        await site.store(NODE, OTHER, Drained(epoch=OTHER.epoch))
        began_s = anyio.current_time()
        async with site.worker():
            assert anyio.current_time() == began_s

    async def test_of_two_that_start_at_once_one_is_refused(self, site: Site) -> None:
        outcomes: list[str] = []
        rival = Site(site.settings.media_root / "rival", site.executor)
        rival.backbone = site.backbone
        rival.offers = replace(site.offers, fingerprint="rival")

        async def start(one: Site) -> None:
            try:
                await run_worker(one.backbone, one.settings, one.offers, clock=LoopClock())
            except ConfigurationError:
                outcomes.append(one.offers.fingerprint)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start, site)
            tasks.start_soon(start, rival)
            await passing(60)
            tasks.cancel_scope.cancel()
        assert len(outcomes) == 1
        node = await load_node(site.backbone.ledger, N1)
        assert {node.fingerprint, *outcomes} == {"mine", "rival"}


class TestDismissed:
    @pytest.mark.parametrize(
        ("fact", "words"),
        [
            (OTHER, "another worker has registered under this id: box/n1, fingerprint other"),
            (Refused(epoch=EPOCH, reason="its address is that of n2"), "its address is that of n2"),
        ],
    )
    async def test_a_worker_that_lost_its_place_ends_and_says_why(
        self, site: Site, gates: Gates, fact: Registered | Refused, words: str
    ) -> None:
        async def lose() -> None:
            await site.until_node(Registered)
            await site.give("a")
            await gates.begun("a")
            await site.store(NODE, fact)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lose)
            with pytest.raises(ConfigurationError, match=words):
                await run(site)
        assert (await site.until("a", AttemptLost)).fact == HANDED_BACK
        assert await site.on_node(Drained) == []
        assert site.executor.disk.drafts == set()

    async def test_a_removed_worker_leaves_in_order(self, site: Site, gates: Gates) -> None:
        async def remove() -> None:
            await site.until_node(Registered)
            await site.give("a")
            await gates.begun("a")
            await site.store(NODE, Removed(by="ann"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(remove)
            await run(site)
        assert (await site.until("a", AttemptLost)).fact == HANDED_BACK
        node = await load_node(site.backbone.ledger, N1)
        assert node.status is NodeStatus.REMOVED

    @pytest.mark.parametrize(
        "fact", [replace(OTHER, epoch=EPOCH - 1), Refused(epoch=EPOCH + 1), Refused(epoch=0)]
    )
    async def test_what_concerns_another_start_changes_nothing(
        self, site: Site, gates: Gates, fact: Registered | Refused
    ) -> None:
        async with site.worker():
            await site.store(NODE, fact)
            await site.give("a")
            await gates.begun("a")
            gates.end("a", MADE)
            await site.until("a", Promoted)
        assert len(await site.on_node(Drained)) == 1


class TestDrainedOnRequest:
    async def test_it_takes_nothing_new_finishes_what_runs_and_leaves(
        self, site: Site, gates: Gates
    ) -> None:
        async def drain() -> None:
            await site.until_node(Registered)
            await site.give("a")
            await gates.begun("a")
            await site.store(NODE, Draining(by="ann"))
            await passing(40)
            await site.give("b")
            await passing(1)
            gates.end("a", MADE)

        with capture_logs() as logs:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(drain)
                with anyio.fail_after(3600):
                    await run_worker(site.backbone, site.settings, site.offers, clock=LoopClock())
        assert await site.story("a") == ["started", "completed", "promoted"]
        assert await site.story("b") == ["declined"]
        assert len(await site.on_node(Drained)) == 1
        assert "worker.drained" in [entry["event"] for entry in logs]

    async def test_a_stop_meanwhile_is_the_usual_drain(self, site: Site, gates: Gates) -> None:
        began_s = anyio.current_time()
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            await site.store(NODE, Draining())
            await passing(30)
        assert (await site.until("a", AttemptLost)).fact == HANDED_BACK
        assert anyio.current_time() - began_s == pytest.approx(30 + site.settings.drain_s, abs=1)

    async def test_it_can_be_called_off(self, site: Site, gates: Gates) -> None:
        async with site.worker():
            await site.give("a")
            await gates.begun("a")
            await site.store(NODE, Draining(), Uncordoned())
            await passing(1)
            await site.store(NODE, Draining())
            await passing(1)
            await site.store(NODE, Uncordoned())
            await passing(1)
            await site.give("b")
            await gates.begun("b")
            gates.end("a", MADE)
            gates.end("b", MADE)
            await passing(1)
            assert await site.on_node(Drained) == []

    async def test_a_start_on_a_cordoned_node_says_that_it_gets_nothing(self, site: Site) -> None:
        await site.store(NODE, replace(OTHER, fingerprint="mine"), Cordoned(by="ann"))
        with capture_logs() as logs:
            async with site.worker():
                pass
        (warned,) = [entry for entry in logs if entry["event"] == "worker.cordoned"]
        assert warned["undo"] == "ffrtmp nodes uncordon n1"
