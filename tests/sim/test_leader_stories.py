"""A leader loses the lead in the middle of things, and gets it back: nothing of it stays behind."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
import trio.testing
from msgspec.structs import replace

from events import subjects
from events.cluster import LeaderElected, LeaderResigned
from events.ids import JobId
from events.job import Assigned, Completed, Failed, Queued, Submitted
from events.spec import JobSpec
from events.subjects import Subject
from services.config import SchedulerSettings
from services.errors import LogUnavailable
from services.lease.memory import MemoryLease
from services.lease.port import Grant
from services.log.port import Batch, Entry, Outcome
from tests.sim.test_stories import SETTINGS, PickyLog, Stage

if TYPE_CHECKING:
    from events.codec import Fact

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class DistantLease(MemoryLease):
    """A lease that can be out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    async def acquire(self, holder: str, lease_s: float) -> Grant | None:
        self._check()
        return await super().acquire(holder, lease_s)

    async def renew(self, grant: Grant) -> Grant | None:
        self._check()
        return await super().renew(grant)

    def _check(self) -> None:
        if self.away:
            raise LogUnavailable("out of reach")


class ShyLog(PickyLog):
    """A log that will not tell of some job, or not that it has stored some fact."""

    def __init__(self) -> None:
        super().__init__()
        self.hides: Subject | None = None
        self.asked = anyio.Event()
        """Set when it was asked for that one."""
        self.silent: type[Fact] | None = None

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        outcomes = await super().append(entries)
        if any(type(entry.event.data) is self.silent for entry in entries):
            await anyio.sleep_forever()
        return outcomes

    async def read(self, subject: Subject, *, after: int = 0) -> Batch:
        if subject == self.hides:
            self.asked.set()
            raise LogUnavailable("away")
        return await super().read(subject, after=after)


class Reign(Stage):
    """A site whose one scheduler can be deposed and elected again."""

    def __init__(self, folder: Path, settings: SchedulerSettings = SETTINGS) -> None:
        super().__init__(folder, takes_s=1, settings=settings)
        self.lease, self.shy = DistantLease(), ShyLog()
        self.ledger = self.shy
        self.backbone = replace(self.backbone, lease=self.lease, ledger=self.ledger)
        self.site.backbone = self.backbone

    @asynccontextmanager
    async def interregnum(self) -> AsyncGenerator[None]:
        """Depose the scheduler; at the end it is elected again."""
        self.lease.away = True
        await anyio.sleep(2 * SETTINGS.lease_s)
        yield
        self.lease.away = False
        with anyio.fail_after(60):
            while len(await self.all(LeaderElected)) < 2:  # noqa: ASYNC110 - virtual time is free
                await anyio.sleep(0.1)

    async def ends(self, job: str) -> None:
        """Wait until the job is done, or for too long."""
        with anyio.fail_after(60):
            await self.site.until(job, Completed)


async def test_a_job_whose_assignment_was_under_way_is_assigned_again(tmp_path: Path) -> None:
    reign = Reign(tmp_path)
    async with reign.site.worker(), reign.scheduler():
        reign.shy.refuses = Assigned
        await reign.submit("a")
        await anyio.sleep(1)
        async with reign.interregnum():
            reign.shy.refuses = None
        await reign.ends("a")
    assert len(await reign.all(Assigned)) == 1
    one, other = [event.fact for event in await reign.all(LeaderElected)]
    assert isinstance(one, LeaderElected)
    assert other == LeaderElected(scheduler=one.scheduler, term=2)
    assert len(await reign.all(LeaderResigned)) == 1


async def test_a_job_whose_assignment_was_stored_unheard_runs_once(tmp_path: Path) -> None:
    reign = Reign(tmp_path)
    async with reign.site.worker(), reign.scheduler():
        reign.shy.silent = Assigned
        await reign.submit("a")
        await reign.site.until("a", Assigned)
        async with reign.interregnum():
            reign.shy.silent = None
        await reign.ends("a")
    assert len(await reign.all(Assigned)) == 1
    assert len(reign.site.executor.begun) == 1


async def test_a_job_whose_dependencies_were_being_looked_at_goes_on(tmp_path: Path) -> None:
    reign = Reign(tmp_path)
    async with reign.site.worker(), reign.scheduler():
        await reign.submit("a")
        await reign.site.job("b", Submitted(spec=JobSpec(depends_on=(JobId("a"),))))
        reign.shy.hides = subjects.job(JobId("a"))
        with anyio.fail_after(60):
            await reign.shy.asked.wait()
        async with reign.interregnum():
            reign.shy.hides = None
        await reign.ends("b")
    assert len(await reign.all(Queued)) == 1


async def test_a_job_whose_wait_was_just_over_ends(tmp_path: Path) -> None:
    reign = Reign(tmp_path, replace(SETTINGS, pending_s=30.0))
    async with reign.scheduler():
        await reign.site.job("b", Submitted(spec=JobSpec(depends_on=(JobId("ghost"),))))
        await anyio.sleep(25)
        reign.shy.hides = subjects.job(JobId("ghost"))
        with anyio.fail_after(60):
            await reign.shy.asked.wait()
        async with reign.interregnum():
            reign.shy.hides = None
        with anyio.fail_after(60):
            await reign.site.until("b", Failed)
