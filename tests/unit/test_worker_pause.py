"""An attempt is paused and goes on: told once, in the log's own order, and it can always end."""

from pathlib import Path

import anyio
import pytest
import trio.testing

from events.ids import NodeId
from events.job import (
    AttemptLost,
    Canceled,
    CancelRequested,
    Completed,
    LossCause,
    Paused,
    PauseRequested,
    Resumed,
    ResumeRequested,
    Started,
)
from events.media import MadeFile
from events.node import Action, Available
from services.worker.attempts import HELD_CHECK_S
from services.worker.noop import NoopExecutor
from services.worker.port import Made
from tests.fakes import FakeExecutor, Gates
from tests.sites import Site, work

N1 = NodeId("n1")
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


async def pause(site: Site) -> None:
    """Let the job `a` run, then stand still."""
    await site.give("a")
    await site.until("a", Started)
    await site.job("a", PauseRequested(attempt=1, by="ann"))
    await site.signal("a", Action.PAUSE)
    await site.until("a", Paused)


@pytest.mark.anyio
async def test_it_stands_still_until_it_is_resumed(site: Site, gates: Gates) -> None:
    async with site.worker():
        await pause(site)
        gates.end("a", MADE)
        with anyio.move_on_after(60) as still:
            await site.until("a", Completed)
        assert still.cancelled_caught
        await site.job("a", ResumeRequested(attempt=1, by="ann"))
        await site.signal("a", Action.RESUME)
        resumed = await site.until("a", Resumed)
        await site.until("a", Completed)
    assert isinstance(resumed.fact, Resumed)
    assert resumed.fact.paused_s == pytest.approx(60)
    story = ["started", "pause_requested", "paused", "resume_requested", "resumed"]
    assert await site.story("a") == [*story, "completed", "promoted"]


@pytest.mark.anyio
async def test_a_repeated_signal_is_told_once(site: Site, gates: Gates) -> None:
    async with site.worker():
        await pause(site)
        await site.signal("a", Action.PAUSE)
        await site.signal("a", Action.RESUME)
        await site.signal("a", Action.RESUME)
        await site.until("a", Resumed)
        gates.end("a", MADE)
        await site.until("a", Completed)
    story = await site.story("a")
    assert (story.count("paused"), story.count("resumed")) == (1, 1)


@pytest.mark.anyio
async def test_it_can_be_canceled_while_it_stands_still(site: Site) -> None:
    async with site.worker():
        await pause(site)
        await site.job("a", CancelRequested(by="ann"))
        await site.signal_cancel("a")
        canceled = await site.until("a", Canceled)
    assert canceled.fact == Canceled(attempt=1, by="ann")
    assert site.executor.disk.drafts == set()


@pytest.mark.anyio
async def test_a_stopping_worker_hands_it_back_at_once(site: Site) -> None:
    async with site.worker() as scope:
        await pause(site)
        stopped_s = anyio.current_time()
        scope.cancel()
        lost = await site.until("a", AttemptLost)
    assert lost.fact == AttemptLost(node=N1, attempt=1, cause=LossCause.DRAINED)
    assert anyio.current_time() - stopped_s < 1.0
    assert site.executor.disk.drafts == set()


@pytest.mark.anyio
async def test_one_that_is_paused_while_the_worker_stops_is_handed_back(site: Site) -> None:
    async with site.worker() as scope:
        await site.give("a")
        await site.until("a", Started)
        scope.cancel()
        await site.signal("a", Action.PAUSE)
        await site.until("a", AttemptLost)
        assert anyio.current_time() < 1.0
    assert await site.story("a") == ["started", "paused", "attempt_lost"]


@pytest.mark.anyio
async def test_one_that_is_given_up_while_it_stands_still_gives_its_slot_back(site: Site) -> None:
    async with site.worker():
        await pause(site)
        lost = await site.job("a", AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST))
        begun_s = anyio.current_time()
        free = 0
        while free < site.settings.slots:
            event = await site.until_node(Available, after=lost)
            assert isinstance(event.fact, Available)
            free, lost = event.fact.free, event.seq
    assert anyio.current_time() - begun_s < HELD_CHECK_S + 1.0
    assert site.executor.disk.drafts == set()
    assert await site.story("a") == ["started", "pause_requested", "paused", "attempt_lost"]


@pytest.mark.anyio
async def test_signals_about_what_does_not_run_here_change_nothing(
    site: Site, gates: Gates
) -> None:
    async with site.worker():
        await site.give("a")
        await site.until("a", Started)
        await site.signal("b", Action.PAUSE)
        await site.signal("a", Action.PAUSE, attempt=2)
        await site.signal("a", Action.RESUME)
        gates.end("a", MADE)
        await site.until("a", Completed)
    assert await site.story("a") == ["started", "completed", "promoted"]
    assert await site.story("b") == []


@pytest.mark.anyio
async def test_a_pause_that_its_log_knows_already_is_not_told_again(
    site: Site, gates: Gates
) -> None:
    async with site.worker():
        await site.give("a")
        await site.until("a", Started)
        await site.job("a", Paused(attempt=1))
        await site.signal("a", Action.PAUSE)
        await site.signal("a", Action.RESUME)
        await site.until("a", Resumed)
        gates.end("a", MADE)
        await site.until("a", Completed)
    assert await site.story("a") == ["started", "paused", "resumed", "completed", "promoted"]


def test_what_is_over_at_once_cannot_be_paused() -> None:
    assert not NoopExecutor().pause(work("a"))
