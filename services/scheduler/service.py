"""The scheduler's process: its loops, and the requests it takes in meanwhile.

Any number may run on one log.
"""

import anyio
import anyio.abc
import structlog

from events import subjects
from services.backbone import Backbone
from services.clock import Clock, NewId, Pen, random_id
from services.config import SchedulerSettings
from services.scheduler.control.intake import Intake
from services.scheduler.control.jobs import AT_ONCE
from services.scheduler.deciding import Scheduler

SERVICE_NAME = "ffrtmp"

_log = structlog.get_logger()


async def run_scheduler(
    backbone: Backbone,
    settings: SchedulerSettings,
    *,
    clock: Clock,
    new_id: NewId = random_id,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Run one scheduler until cancelled; started once it knows the whole ledger.

    Raises SequenceGap when the ledger has lost messages.
    """
    pen = Pen(f"scheduler/{new_id()[:8]}", clock)
    scheduler = Scheduler(backbone, settings, clock=clock, pen=pen)
    intake = Intake(backbone.ledger, pen, new_id)
    endpoints = {
        subjects.API_SUBMIT: intake.submit,
        subjects.API_SUBMIT_MANY: intake.submit_many,
        **{subject: intake.control(read) for subject, read in AT_ONCE.items()},
    }
    async with anyio.create_task_group() as tasks:
        await tasks.start(scheduler.follow)
        tasks.start_soon(scheduler.listen)
        tasks.start_soon(scheduler.decide)
        tasks.start_soon(scheduler.tick)
        tasks.start_soon(intake.work_through, backbone.inbox)
        async with backbone.bus.serve(SERVICE_NAME, endpoints):
            task_status.started()
            _log.info("scheduler.started", seq=scheduler.world.seq)
            await anyio.sleep_forever()
