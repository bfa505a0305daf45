"""What a worker takes: nothing new while it refuses or drains, and nothing that is not its own."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing
from msgspec import structs

from events.ids import NodeId
from events.job import (
    AttemptLost,
    Completed,
    Declined,
    LossCause,
    Queued,
    QueuedAfter,
    Started,
)
from events.media import MadeFile
from events.node import Action, Available
from services.worker.attempts import Attempts, Tools
from services.worker.port import Made
from tests.fakes import FakeExecutor, Gates
from tests.sites import Site

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
MADE = Made(files=(MadeFile(path="a.mp4", size_bytes=1000),))
LOST = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def gates() -> Gates:
    return Gates()


class Inside:
    """A worker with a way to its attempts; it looks at its disk once, and finds room."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        site.settings = structs.replace(site.settings, heartbeat_s=1e6)
        self._kept: list[Attempts] = []
        monkeypatch.setattr("services.worker.service.Attempts", self._keep)

    def _keep(self, tools: Tools, **given: Any) -> Attempts:  # noqa: ANN401 - passed on as they are
        attempts = Attempts(tools, **given)
        self._kept.append(attempts)
        return attempts

    @asynccontextmanager
    async def attempts(self) -> AsyncGenerator[Attempts]:
        async with self.site.worker():
            await anyio.wait_all_tasks_blocked()  # the look at the disk is over
            yield self._kept[0]


@pytest.fixture
def inside(tmp_path: Path, gates: Gates, monkeypatch: pytest.MonkeyPatch) -> Inside:
    return Inside(Site(tmp_path, FakeExecutor(gates.play)), monkeypatch)


async def test_a_worker_that_refuses_declines_with_its_reason_and_goes_on(
    inside: Inside, gates: Gates
) -> None:
    site = inside.site
    async with inside.attempts() as attempts:
        await site.give("a")
        await gates.begun("a")
        attempts.refuse("disk: 1.0 GiB free")
        assert (attempts.refusing, attempts.slots, attempts.free) == ("disk: 1.0 GiB free", 2, 0)
        await site.give("b")
        declined = await site.until("b", Declined)
        gates.end("a", MADE)
        await site.until("a", Completed)
        attempts.accept()
        assert (attempts.refusing, attempts.slots, attempts.free) == ("", 2, 2)
        await site.give("c")
        await gates.begun("c")
        gates.end("c", MADE)
    assert declined.fact == Declined(node=N1, attempt=1, reason="disk: 1.0 GiB free")


async def test_free_room_is_told_when_it_is_refused_and_when_it_is_not_any_more(
    inside: Inside,
) -> None:
    site = inside.site
    async with inside.attempts() as attempts:
        changes: tuple[tuple[Callable[[], None], int], ...] = (
            (partial(attempts.refuse, "disk"), 0),
            (attempts.accept, 2),
        )
        for change, free in changes:
            last = await site.backbone.ledger.last_seq()
            change()
            event = await site.until_node(Available, after=last)
            assert isinstance(event.fact, Available)
            assert (event.fact.slots, event.fact.free) == (2, free)
            last = await site.backbone.ledger.last_seq()
            change()
            with anyio.move_on_after(1.0):
                await site.until_node(Available, after=last)
            assert await site.backbone.ledger.last_seq() == last


async def test_a_review_ends_what_holds_its_job_no_more_and_nothing_else(
    inside: Inside, gates: Gates
) -> None:
    site = inside.site
    async with inside.attempts() as attempts:
        await site.give("a", "b")
        await gates.begun("a")
        await gates.begun("b")
        assert await attempts.review() == 0
        await site.job("a", LOST, Queued(after=QueuedAfter.LOSS))
        await site.assigned("a", attempt=2, node="n2")
        assert await attempts.review() == 1
        await anyio.wait_all_tasks_blocked()
        assert await attempts.review() == 0
        assert (attempts.running, site.executor.disk.drafts) == (1, {("b", 1)})
        gates.end("b", MADE)
        await site.until("b", Completed)
    assert await site.story("a") == ["started", "attempt_lost", "queued"]
    assert (site.executor.disk.finals, site.executor.disk.drafts) == ({"b": 1}, set())
    assert site.journal.unfinished() == []


async def test_reviews_at_the_same_time_end_an_attempt_once(inside: Inside, gates: Gates) -> None:
    site = inside.site
    ended: list[int] = []
    async with inside.attempts() as attempts:
        await site.give("a")
        await gates.begun("a")
        await site.job("a", LOST)

        async def review() -> None:
            ended.append(await attempts.review())

        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(review)
    assert sorted(ended) == [0, 1]


async def test_a_review_ends_a_paused_attempt_too(inside: Inside, gates: Gates) -> None:
    site = inside.site
    async with inside.attempts() as attempts:
        await site.give("a")
        await gates.begun("a")
        await site.signal("a", Action.PAUSE)
        await anyio.wait_all_tasks_blocked()
        await site.job("a", LOST)
        assert await attempts.review() == 1
        await anyio.wait_all_tasks_blocked()
        assert attempts.running == 0


async def test_a_drain_without_a_limit_waits_and_a_later_one_shortens_it(
    inside: Inside, gates: Gates
) -> None:
    site = inside.site
    async with inside.attempts() as attempts, anyio.create_task_group() as tasks:
        await site.give("a")
        await gates.begun("a")
        done = anyio.Event()

        async def drain() -> None:
            await attempts.drain(None)
            done.set()

        tasks.start_soon(drain)
        with anyio.move_on_after(50) as waiting:
            await done.wait()
        assert waiting.cancelled_caught
        assert (attempts.slots, attempts.free, attempts.running) == (0, 0, 1)
        begun_s = anyio.current_time()
        await attempts.drain(5.0)
        assert anyio.current_time() - begun_s == pytest.approx(5.0, abs=0.5)
        with anyio.fail_after(1.0):
            await done.wait()
    lost = await site.until("a", AttemptLost)
    assert isinstance(lost.fact, AttemptLost)
    assert lost.fact.cause is LossCause.DRAINED


async def test_a_drain_without_a_limit_ends_with_the_last_attempt(
    inside: Inside, gates: Gates
) -> None:
    site = inside.site
    async with inside.attempts() as attempts, anyio.create_task_group() as tasks:
        await site.give("a")
        await gates.begun("a")
        tasks.start_soon(attempts.drain, None)
        await anyio.wait_all_tasks_blocked()
        await site.give("b")
        declined = await site.until("b", Declined)
        assert declined.fact == Declined(node=N1, attempt=1, reason="draining")
        gates.end("a", MADE)
    assert "completed" in await site.story("a")


async def test_a_worker_that_was_drained_may_take_work_again(inside: Inside, gates: Gates) -> None:
    site = inside.site
    async with inside.attempts() as attempts:
        await attempts.drain(None)
        attempts.reopen()
        assert (attempts.slots, attempts.free) == (2, 2)
        await site.give("a")
        started = await site.until("a", Started)
        gates.end("a", MADE)
    assert started.fact == Started(node=N1, attempt=1)
