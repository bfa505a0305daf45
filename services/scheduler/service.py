"""The scheduler's process: it follows the ledger always, and decides while it leads.

Any number may run on one log: one leads, the others know all that it knows and wait.
"""

from collections.abc import Callable

import anyio
import anyio.abc
import structlog
from msgspec.structs import replace

from events import subjects
from services.backbone import Backbone
from services.clock import Clock, NewId, Pen, random_id
from services.config import SchedulerSettings
from services.scheduler.control.explain import Explainer
from services.scheduler.control.intake import Intake
from services.scheduler.deciding import Scheduler
from services.scheduler.finishing import ClosableInbox, Requests
from services.scheduler.leading import Candidate

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
    """Run one scheduler until cancelled, which lets it finish what it has begun, and resign.

    Started once it knows the whole ledger and either leads or has found another that does. Raises
    SequenceGap when the ledger has lost messages.
    """
    name = f"scheduler/{new_id()[:8]}"
    pen = Pen(name, clock)
    candidate = Candidate(backbone, name, lease_s=settings.lease_s, clock=clock, pen=pen)
    backbone = replace(backbone, ledger=candidate.ledger)
    scheduler = Scheduler(backbone, settings, clock=clock, pen=pen)
    intake = Intake(backbone.ledger, pen, new_id, known=scheduler.world.node)
    explainer = Explainer(scheduler, backbone.ledger, settings=settings, clock=clock)
    leader = _Leader(backbone, scheduler, intake, explainer=explainer)
    started = _Once(task_status.started)
    async with anyio.create_task_group() as tasks:
        await tasks.start(scheduler.follow)
        tasks.start_soon(scheduler.listen)
        _log.info("scheduler.started", name=name, seq=scheduler.world.seq)

        async def lead(seq: int, resign: anyio.Event) -> None:
            await leader.lead(seq, resign, started)

        await candidate.run(lead, on_standby=started)


class _Leader:
    """What only the leader does: decide, answer requests, work through durable commands."""

    def __init__(
        self, backbone: Backbone, scheduler: Scheduler, intake: Intake, *, explainer: Explainer
    ) -> None:
        self._explainer = explainer
        self._backbone = backbone
        self._scheduler = scheduler
        self._intake = intake

    async def lead(
        self, elected_seq: int, resign: anyio.Event, on_serving: Callable[[], None]
    ) -> None:
        """Do it until `resign` is set, then finish what has been begun."""
        requests, commands = Requests(), ClosableInbox(self._backbone.inbox)
        endpoints = {
            **self._intake.endpoints(),
            subjects.API_EXPLAIN: self._explainer.answer,
        }
        async with anyio.create_task_group() as catching_up:
            catching_up.start_soon(_cancel_when, resign, catching_up.cancel_scope)
            await self._scheduler.reach(elected_seq)
            catching_up.cancel_scope.cancel()
        if resign.is_set():
            return
        self._scheduler.begin()
        async with anyio.create_task_group() as ticking:
            ticking.start_soon(self._scheduler.tick)
            async with anyio.create_task_group() as working:
                working.start_soon(self._scheduler.decide)
                working.start_soon(self._intake.work_through, commands)
                async with self._backbone.bus.serve(SERVICE_NAME, requests.counted(endpoints)):
                    on_serving()
                    await resign.wait()
                    self._scheduler.end()
                    commands.close()
                    await requests.finished()
            ticking.cancel_scope.cancel()


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


class _Once:
    """Calls a function the first time it is called."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()
