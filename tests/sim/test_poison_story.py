"""A job that ends every worker it gets to is given up, and keeps back no other."""

from functools import partial
from pathlib import Path

import anyio
import pytest
import trio.testing

from events import subjects
from events.ids import JobId, NodeId
from events.job import Completed, Failed, FailureClass, Submitted
from events.spec import Engine, JobSpec
from services.backbone import Backbone
from services.clock import Pen
from services.config import SchedulerSettings, WorkerSettings
from services.log.port import Entry
from services.memory import memory_backbone
from services.scheduler.deciders.job import RetryPolicy
from services.scheduler.service import run_scheduler
from services.worker.port import Made, Report, Result, Work
from services.worker.service import run_worker
from tests.fakes import FakeExecutor, LoopClock, machine
from tests.sim.faults import Crash, Dice, Line, Odds

pytestmark = pytest.mark.anyio

GOOD = [JobId(f"good-{number:03}") for number in range(100)]
POISON = JobId("poison")
RESTART_S = 1.0
PATIENCE_S = 3600.0
CALM = Odds(delay=0.0, unavailable=0.0, ambiguous=0.0, lost=0.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Node:
    """A worker that is started again whenever the poison has ended it."""

    def __init__(self, name: str, common: Backbone, folder: Path) -> None:
        self._common = common
        self._line = Line(Dice(0, CALM))
        self.deaths = 0
        self._settings = WorkerSettings(
            node_id=NodeId(name),
            slots=2,
            work_dir=folder / name,
            media_root=folder,
            output_root=folder,
        )

    async def live(self) -> None:
        """Run the worker for as long as it is wanted."""
        while True:
            self._line = Line(Dice(0, CALM))
            executor = FakeExecutor(self._play)
            offers = machine({Engine.NOOP: executor, Engine.FFMPEG: executor})
            try:
                await run_worker(
                    self._line.backbone(self._common), self._settings, offers, clock=LoopClock()
                )
            except* Crash:
                self.deaths += 1
            await anyio.sleep(RESTART_S)

    async def _play(self, work: Work, report: Report) -> Result:
        del report
        await anyio.sleep(1 if work.job == POISON else 3)
        if work.job == POISON:
            self._line.kill()
            await anyio.sleep_forever()
        return Made()


async def ended(backbone: Backbone, wanted: int) -> dict[JobId, Completed | Failed]:
    """Return how the jobs ended, once so many have."""
    ends: dict[JobId, Completed | Failed] = {}
    with anyio.fail_after(PATIENCE_S):
        async with backbone.ledger.follow(after=0, filters=(subjects.ALL_JOBS,)) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event.fact, Completed | Failed):
                        ends[subjects.job_of(event.subject)] = event.fact
                if len(ends) >= wanted:
                    break
    return ends


@pytest.mark.parametrize("count", [1, 4])
async def test_a_poison_job_among_a_hundred_is_the_only_one_that_fails(
    tmp_path: Path, count: int
) -> None:
    backbone = memory_backbone()
    pen = Pen("test", LoopClock())
    spec = JobSpec(engine=Engine.NOOP)
    jobs = [*GOOD[:3], POISON, *GOOD[3:]]
    await backbone.ledger.append(
        [Entry(pen.write(subjects.job(job), Submitted(spec=spec))) for job in jobs]
    )
    nodes = [Node(f"n{number}", backbone, tmp_path) for number in range(count)]
    settings = SchedulerSettings()
    ends: dict[JobId, Completed | Failed] = {}
    async with anyio.create_task_group() as tasks:
        for node in nodes:
            tasks.start_soon(node.live)
        tasks.start_soon(partial(run_scheduler, backbone, settings, clock=LoopClock()))
        ends = await ended(backbone, len(jobs))
        tasks.cancel_scope.cancel()
    given_up = {job: end for job, end in ends.items() if isinstance(end, Failed)}
    assert sum(node.deaths for node in nodes) == RetryPolicy().crashes_max
    assert list(given_up) == [POISON]
    assert given_up[POISON].poison
    assert given_up[POISON].failure is FailureClass.INFRASTRUCTURE
