"""The worker's process: register, follow the node's own subject, run attempts, hand back in order.

Nothing is acknowledged and nothing is redelivered: an assignment is state in the log. Whether this
worker may run an attempt is decided by the guard on `Started`, and by nothing else.
"""

import anyio
import anyio.abc
import structlog

from events import subjects
from events.codec import Fact
from events.ids import NodeId
from events.node import Assignments, Available, Drained, Registered, Signal
from events.spec import Engine
from events.telemetry import Heartbeat
from services.backbone import Backbone
from services.clock import Clock, Pen
from services.config import WorkerSettings
from services.errors import LogUnavailable
from services.log.persist import append
from services.log.port import Batch, Entry
from services.worker.attempts import Attempts, Tools
from services.worker.journal import Journal
from services.worker.noexecutor import NoExecutor
from services.worker.outcomes import Outcomes
from services.worker.port import Executor, Machine
from services.worker.promotion import Promoter
from services.worker.telling import Teller

AVAILABLE_S = 0.1
"""Shortest time between two reports of free room."""
LAST_WORDS_S = 5.0
"""How long a stopping worker may take for what is left after its attempts have ended."""

_log = structlog.get_logger()


async def run_worker(
    backbone: Backbone,
    settings: WorkerSettings,
    machine: Machine,
    *,
    clock: Clock,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Run one node's worker until cancelled; then drain: finish or hand back within `drain_s`.

    Started once the node is registered.
    """
    worker = Worker(backbone, settings, machine, clock=clock)
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        await worker.register()
        tasks.start_soon(worker.live, stop)
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            stop.set()


class Worker:
    """One node as its own process sees it."""

    def __init__(
        self, backbone: Backbone, settings: WorkerSettings, machine: Machine, *, clock: Clock
    ) -> None:
        self._ledger = backbone.ledger
        self._clock = clock
        self._telemetry = backbone.telemetry
        self._settings = settings
        self._machine = machine
        self._node = NodeId(settings.node_id)
        self._subject = subjects.node(self._node)
        self._pen = Pen(f"worker/{self._node}", clock)
        self._changed = anyio.Event()
        self._epoch = 0
        self._registered_seq = 0
        journal = Journal(settings.work_dir)
        self._tools = Tools(
            node=self._node,
            clock=clock,
            executor_of=self._executor_of,
            journal=journal,
            outcomes=Outcomes(self._ledger, self._pen),
            promoter=Promoter(self._ledger, self._pen, self._node, journal),
            teller=Teller(self._node, self._pen, telemetry=backbone.telemetry, logs=backbone.logs),
        )

    async def register(self) -> None:
        """Clear up after an earlier worker of this node, then offer its slots."""
        for work in self._tools.journal.unfinished():
            await self._tools.promoter.clear_up(work, self._executor_of(work.spec.engine))
        self._epoch = self._tools.journal.next_epoch(self._clock.now())
        labels = sorted(self._settings.labels.items())
        fact = Registered(
            epoch=self._epoch,
            slots=self._settings.slots,
            capabilities=(
                *self._machine.capabilities,
                *(f"label:{key}={value}" for key, value in labels),
            ),
            hardware=self._machine.hardware,
            address=self._machine.address,
            version=self._machine.version,
        )
        self._registered_seq = await self._say(fact, "registering")
        _log.info("worker.registered", node=self._node, epoch=self._epoch)

    async def live(self, stop: anyio.Event) -> None:
        """Serve until `stop` is set, then drain; shielded from cancellation meanwhile."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                attempts = Attempts(
                    self._tools,
                    slots=self._settings.slots,
                    tasks=tasks,
                    changed=self._room_changed,
                )
                tasks.start_soon(self._tools.outcomes.run)
                tasks.start_soon(self._tools.teller.run, self._settings.progress_s)
                tasks.start_soon(self._follow, attempts)
                tasks.start_soon(self._beat, attempts)
                tasks.start_soon(self._offer, attempts)
                await stop.wait()
                await self._drain(attempts)
                tasks.cancel_scope.cancel()

    async def _follow(self, attempts: Attempts) -> None:
        filters = (subjects.only(self._subject),)
        async with self._ledger.follow(after=self._registered_seq, filters=filters) as batches:
            async for batch in batches:
                self._hear(batch, attempts)

    def _hear(self, batch: Batch, attempts: Attempts) -> None:
        for recorded in batch:
            match recorded.fact:
                case Assignments(jobs=jobs):
                    attempts.take(jobs)
                case Signal(job=job, attempt=attempt, action=action):
                    attempts.signal(job, attempt, action)
                case _:
                    pass

    async def _beat(self, attempts: Attempts) -> None:
        """Report life and load; a beat that the log does not take is no reason to stop."""
        subject = subjects.telemetry_of_node(self._node)
        while True:
            load = await self._machine.read_load()
            fact = Heartbeat(
                epoch=self._epoch,
                running=attempts.running,
                free=attempts.free,
                cpu_percent=load.cpu_percent,
                memory_free_bytes=load.memory_free_bytes,
                disk_free_bytes=load.disk_free_bytes,
                gpus=load.gpus,
            )
            try:
                await self._telemetry.append([Entry(self._pen.write(subject, fact))])
            except LogUnavailable as outage:
                _log.warning("heartbeat.dropped", error=str(outage))
            await anyio.sleep(self._settings.heartbeat_s)

    async def _offer(self, attempts: Attempts) -> None:
        """Report free room after it has changed, once for any number of changes."""
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            fact = Available(epoch=self._epoch, slots=attempts.slots, free=attempts.free)
            await self._say(fact, "reporting free room")
            await anyio.sleep(AVAILABLE_S)

    async def _drain(self, attempts: Attempts) -> None:
        drain_s = self._settings.drain_s
        _log.info("worker.draining", node=self._node, running=attempts.running, within_s=drain_s)
        with anyio.move_on_after(drain_s + LAST_WORDS_S) as scope:
            await attempts.drain(drain_s)
            await self._say(Drained(epoch=self._epoch), "leaving")
        if scope.cancelled_caught:
            _log.error("worker.drain_incomplete", node=self._node, running=attempts.running)

    async def _say(self, fact: Fact, what: str) -> int:
        """Append a fact of this node; return its sequence."""
        (outcome,) = await append(self._ledger, [Entry(self._pen.write(self._subject, fact))], what)
        assert isinstance(outcome, int), "a fact without expectation meets no conflict"
        return outcome

    def _room_changed(self) -> None:
        self._changed.set()

    def _executor_of(self, engine: Engine) -> Executor:
        wanted = Engine.FFMPEG if engine is Engine.AUTO else engine
        return self._machine.executors.get(wanted) or NoExecutor(wanted)
