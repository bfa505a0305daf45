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
from events.state.node import Node
from events.telemetry import Heartbeat
from services.backbone import Backbone
from services.clock import Clock, Pen
from services.config import WorkerSettings
from services.errors import ConfigurationError, LogUnavailable
from services.log.persist import append
from services.log.port import Batch, Entry
from services.worker.attempts import Attempts, Tools
from services.worker.journal import Journal
from services.worker.keep.claim import Claim
from services.worker.keep.orders import Dismissal, Orders
from services.worker.keep.output import Output
from services.worker.keep.room import Room
from services.worker.keep.spool import Spool
from services.worker.noexecutor import NoExecutor
from services.worker.outcomes import Outcomes
from services.worker.port import Executor, Load, Machine
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

    Started once the node is registered. Returns by itself when somebody drained or removed the
    node. Raises ConfigurationError when another worker lives under its id, or takes its place.
    """
    worker = Worker(backbone, settings, machine, clock=clock)
    orders = await worker.register()
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.live, orders, stop)
        task_status.started()
        try:
            await worker.ended.wait()
        finally:
            stop.set()
    dismissal = orders.dismissal
    if dismissal is not None and not dismissal.in_order:
        raise ConfigurationError(f"node_id: given: {settings.node_id}; {dismissal.reason}")


class Worker:
    """One node as its own process sees it."""

    def __init__(
        self, backbone: Backbone, settings: WorkerSettings, machine: Machine, *, clock: Clock
    ) -> None:
        self._backbone = backbone
        self._ledger = backbone.ledger
        self._clock = clock
        self._settings = settings
        self._machine = machine
        self._node = NodeId(settings.node_id)
        self._subject = subjects.node(self._node)
        self._pen = Pen(f"worker/{self._node}", clock)
        self._room = Room(settings.disk_free_bytes_min)
        self._changed = anyio.Event()
        self._epoch = 0
        self._registered_seq = 0
        self.ended = anyio.Event()
        """It has left, by itself or because it was stopped."""
        journal = Journal(settings.work_dir)
        outcomes = Outcomes(self._ledger, self._pen)
        output = Output(backbone.logs, Spool(settings.work_dir, settings.spool_bytes_max))
        self._tools = Tools(
            node=self._node,
            clock=clock,
            executor_of=self._executor_of,
            journal=journal,
            outcomes=outcomes,
            promoter=Promoter(
                self._ledger, self._pen, self._node, journal=journal, outcomes=outcomes
            ),
            teller=Teller(self._node, self._pen, telemetry=backbone.telemetry, output=output),
            timeouts=settings,
            aside=machine.aside,
        )

    async def register(self) -> Orders:
        """Clear up after an earlier worker of this node, then offer its slots.

        Returns where to note what is asked of this start. Raises ConfigurationError when another
        worker lives under this node's id.
        """
        async with anyio.create_task_group() as tasks:
            for work in self._tools.journal.unfinished():
                executor = self._executor_of(work.spec.engine)
                tasks.start_soon(self._tools.promoter.clear_up, work, executor)
        dead_s = self._settings.node_dead_s
        claim = Claim(self._backbone, self._node, self._pen, node_dead_s=dead_s)
        claimed = await claim.register(self._registration)
        self._epoch, self._registered_seq = claimed.epoch, claimed.seq
        _log.info("worker.registered", node=self._node, epoch=self._epoch)
        if claimed.before.cordoned or claimed.before.draining:
            how = f"ffrtmp nodes uncordon {self._node}"
            _log.warning("worker.cordoned", node=self._node, effect="gets no work", undo=how)
        return Orders(self._epoch)

    def _registration(self, before: Node) -> Registered:
        """Return what the node offers, as a start after all those before it."""
        labels = sorted(self._settings.labels.items())
        hardware = self._machine.hardware
        return Registered(
            epoch=self._tools.journal.next_epoch(self._clock.now(), above=before.epoch),
            slots=self._settings.slots,
            capabilities=(
                *self._machine.capabilities,
                *(f"label:{key}={value}" for key, value in labels),
            ),
            hardware=hardware,
            address=self._machine.address,
            version=self._machine.version,
            fingerprint=self._machine.fingerprint,
            encoder_sessions=self._settings.encoder_sessions if hardware.gpus else 0,
        )

    async def live(self, orders: Orders, stop: anyio.Event) -> None:
        """Serve until `stop` is set or an order ends it, then drain; shielded from cancellation."""
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
                tasks.start_soon(self._follow, attempts, orders)
                tasks.start_soon(self._beat, attempts, orders)
                tasks.start_soon(self._offer, attempts)
                tasks.start_soon(_review, attempts, orders)
                await self._serve(attempts, orders, stop)
                tasks.cancel_scope.cancel()
        self.ended.set()

    async def _serve(self, attempts: Attempts, orders: Orders, stop: anyio.Event) -> None:
        """Wait for the end of service, and leave as is right for it."""
        drained = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def end_with(event: anyio.Event) -> None:
                await event.wait()
                tasks.cancel_scope.cancel()

            for event in (stop, drained, orders.dismissed):
                tasks.start_soon(end_with, event)
            await self._drain_on_request(attempts, orders)
            drained.set()
        if orders.dismissal is not None:
            await self._give_up(attempts, orders.dismissal)
        elif not drained.is_set():
            await self._drain(attempts)

    async def _follow(self, attempts: Attempts, orders: Orders) -> None:
        filters = (subjects.only(self._subject),)
        async with self._ledger.follow(after=self._registered_seq, filters=filters) as batches:
            async for batch in batches:
                self._hear(batch, attempts, orders)

    def _hear(self, batch: Batch, attempts: Attempts, orders: Orders) -> None:
        for recorded in batch:
            match recorded.fact:
                case Assignments(jobs=jobs):
                    attempts.take(jobs)
                case Signal(job=job, attempt=attempt, action=action):
                    attempts.signal(job, attempt, action)
                case fact:
                    orders.hear(fact)

    async def _beat(self, attempts: Attempts, orders: Orders) -> None:
        """Report life and load; a beat that the log does not take is no reason to stop.

        After an outage the attempts are reviewed: this node may have been given up meanwhile.
        """
        bus, up_since_s = self._backbone.bus, self._backbone.bus.up_since_s
        while True:
            load = await self._machine.read_load()
            self._look_for_room(load, attempts)
            if await self._told(load, attempts) and bus.up_since_s != up_since_s:
                up_since_s = bus.up_since_s
                orders.review.set()
            await anyio.sleep(self._settings.heartbeat_s)

    async def _told(self, load: Load, attempts: Attempts) -> bool:
        """Append a heartbeat; False: the log did not take it, and it is dropped."""
        fact = Heartbeat(
            epoch=self._epoch,
            running=attempts.running,
            free=attempts.free,
            cpu_percent=load.cpu_percent,
            memory_free_bytes=load.memory_free_bytes,
            disk_free_bytes=load.disk_free_bytes,
            gpus=load.gpus,
        )
        event = self._pen.write(subjects.telemetry_of_node(self._node), fact)
        try:
            await self._backbone.telemetry.append([Entry(event)])
        except LogUnavailable as outage:
            _log.warning("heartbeat.dropped", error=str(outage))
            return False
        return True

    def _look_for_room(self, load: Load, attempts: Attempts) -> None:
        """Refuse new work while the disk is nearly full; what runs goes on."""
        refusal = self._room.refusal(load.disks)
        if refusal and not attempts.refusing:
            _log.warning("worker.refusing", node=self._node, reason=refusal)
            attempts.refuse(refusal)
        elif attempts.refusing and not refusal:
            _log.info("worker.accepting", node=self._node)
            attempts.accept()

    async def _offer(self, attempts: Attempts) -> None:
        """Report free room after it has changed, once for any number of changes."""
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            fact = Available(
                epoch=self._epoch,
                slots=attempts.slots,
                free=attempts.free,
                refusing=attempts.refusing,
            )
            await self._say(fact, "reporting free room")
            await anyio.sleep(AVAILABLE_S)

    async def _drain_on_request(self, attempts: Attempts, orders: Orders) -> None:
        """Wait until all attempts have ended after somebody has asked for that, and say so."""
        while True:
            await orders.until(draining=True)
            _log.info("worker.draining", node=self._node, running=attempts.running, on="request")
            if await _emptied(attempts, orders):
                await self._say(Drained(epoch=self._epoch), "leaving")
                _log.info("worker.drained", node=self._node)
                return
            _log.info("worker.drain_called_off", node=self._node)
            attempts.reopen()

    async def _give_up(self, attempts: Attempts, dismissal: Dismissal) -> None:
        """End what runs, without a word to the node: it is another's now."""
        _log.error("worker.dismissed", node=self._node, reason=dismissal.reason)
        with anyio.move_on_after(LAST_WORDS_S):
            await attempts.drain(0.0)

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


async def _emptied(attempts: Attempts, orders: Orders) -> bool:
    """Let everything that runs end, however long it takes; False: the drain was called off."""
    empty = False
    async with anyio.create_task_group() as tasks:

        async def end_when_called_off() -> None:
            await orders.until(draining=False)
            tasks.cancel_scope.cancel()

        tasks.start_soon(end_when_called_off)
        await attempts.drain(None)
        empty = True
        tasks.cancel_scope.cancel()
    return empty


async def _review(attempts: Attempts, orders: Orders) -> None:
    """End attempts that were given to others, whenever that may have happened."""
    while True:
        await orders.review.wait()
        orders.review = anyio.Event()
        ended = await attempts.review()
        _log.info("attempts.reviewed", ended=ended)
