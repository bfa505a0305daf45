"""A disk that fails or hangs costs a worker what it remembers, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
import trio.testing
from msgspec.structs import replace

from events.job import Canceled, CancelRequested, Completed, Promoted, Started
from events.media import MadeFile
from events.spec import Engine, JobSpec
from services.worker.port import Made
from tests.fakes import FakeExecutor, Gates
from tests.sites import Site

pytestmark = pytest.mark.anyio
NOOP = JobSpec(engine=Engine.NOOP)
MADE = Made(files=(MadeFile(path="a.mp4", size_bytes=1000),))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
def site(tmp_path: Path, gates: Gates) -> Site:
    return Site(tmp_path, FakeExecutor(gates.play))


async def test_a_journal_that_cannot_forget_ends_no_worker(site: Site, gates: Gates) -> None:
    attempts = site.settings.work_dir / "attempts"
    async with site.worker():
        await site.give("a")
        await gates.begun("a")
        for entry in attempts.iterdir():
            entry.unlink()
        attempts.rmdir()
        attempts.touch()  # what is below it can neither be looked for nor removed
        gates.end("a", MADE)
        await site.until("a", Promoted)
        await site.give("b", spec=NOOP)
        await gates.begun("b")
        gates.end("b", Made())
        await site.until("b", Completed)


async def test_a_disk_that_hangs_keeps_no_end_from_being_told(site: Site, gates: Gates) -> None:
    held: list[str] = []

    async def aside(call: Callable[[], None]) -> None:
        if held:
            await anyio.sleep_forever()
        call()

    site.offers = replace(site.offers, aside=aside)
    async with site.worker():
        await site.give("a")
        await gates.begun("a")
        held.append("from now on")
        gates.end("a", MADE)
        await site.until("a", Promoted)
    assert await site.story("a") == ["started", "completed", "promoted"]


async def test_an_attempt_that_hangs_before_it_runs_can_be_canceled(site: Site) -> None:
    async def aside(call: Callable[[], None]) -> None:
        del call
        await anyio.sleep_forever()

    site.offers = replace(site.offers, aside=aside)
    async with site.worker():
        await site.give("a")
        await site.until("a", Started)
        await site.job("a", CancelRequested(by="ann"))
        await site.signal_cancel("a")
        await site.until("a", Canceled)
