"""Nodes that do as a test says: they register, beat, run what they are given, and are killed."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.abc
from msgspec import json
from msgspec.structs import replace

from events import subjects
from events.codec import Fact, Recorded
from events.ids import JobId, NodeId
from events.job import AttemptFailed, Completed, FailureClass, JobFact, Started, Submitted
from events.node import Action, Assignment, Assignments, Available, Registered, Signal
from events.spec import JobSpec
from events.subjects import Subject
from events.telemetry import Heartbeat
from services.bus.memory import MemoryBus
from services.bus.peers import worker_name
from services.clock import Pen
from services.config import SchedulerSettings
from services.errors import LogUnavailable
from services.log.memory import MemoryLog
from services.log.port import Batch, Entry, Outcome
from services.memory import memory_backbone
from services.scheduler.service import run_scheduler
from tests.fakes import LoopClock
from tests.worlds import noop

PATIENCE_S = 3600.0
"""Virtual seconds after which a fact that did not come will not come."""


class Line:
    """The way between the fleet and its streams; while it is down nothing is stored or read."""

    def __init__(self) -> None:
        self.up = True

    def check(self) -> None:
        if not self.up:
            raise LogUnavailable("the server is away")


class DistantLog(MemoryLog):
    """A log at the other end of a line."""

    def __init__(self, name: str, line: Line) -> None:
        super().__init__(name)
        self._line = line

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        self._line.check()
        return await super().append(entries)

    async def read(self, subject: Subject, *, after: int = 0) -> Batch:
        self._line.check()
        return await super().read(subject, after=after)

    async def last_seq(self) -> int:
        self._line.check()
        return await super().last_seq()


class Show:
    """A scheduler and puppets on common streams in memory."""

    def __init__(self, settings: SchedulerSettings) -> None:
        self.settings = settings
        self.line = Line()
        self.bus = MemoryBus()
        self.backbone = replace(
            memory_backbone(),
            ledger=DistantLog("FFRTMP_LEDGER", self.line),
            telemetry=DistantLog("FFRTMP_TELEMETRY", self.line),
            bus=self.bus,
        )
        self._pen = Pen("test", LoopClock())
        self._lines = 0

    @asynccontextmanager
    async def scheduler(self) -> AsyncGenerator[None]:
        """Run a scheduler; it is gone at the end, without a word."""
        async with anyio.create_task_group() as tasks:

            async def run(task_status: anyio.abc.TaskStatus[None]) -> None:
                await run_scheduler(
                    self.backbone, self.settings, clock=LoopClock(), task_status=task_status
                )

            await tasks.start(run)
            yield
            tasks.cancel_scope.cancel()

    async def outage(self, for_s: float) -> None:
        """Take the server away for a while, and all lines with it."""
        self.line.up = False
        self.bus.up_since_s = None
        await anyio.sleep(for_s)
        self.bus.up_since_s = anyio.current_time()
        self.line.up = True

    async def store(self, subject: Subject, *facts: Fact, expected: int | None = None) -> Outcome:
        entries = [Entry(self._pen.write(subject, facts[0]), expected)]
        entries += [Entry(self._pen.write(subject, fact)) for fact in facts[1:]]
        return (await self.backbone.ledger.append(entries))[-1]

    async def beat(self, node: NodeId, cpu_percent: float = 0.0) -> None:
        """Send a heartbeat of `node`, or lose it."""
        fact = Heartbeat(epoch=1, cpu_percent=cpu_percent)
        beat = self._pen.write(subjects.telemetry_of_node(node), fact)
        if self.line.up:
            await self.backbone.telemetry.append([Entry(beat)])

    def new_line(self) -> int:
        """Return the number of a new connection."""
        self._lines += 1
        return self._lines

    async def server_tells(self, subject: Subject, node: NodeId, line: int) -> None:
        """Say what the server would of a connection of `node`."""
        notice = {"client": {"id": line, "name": worker_name(node)}, "server": {"id": "S1"}}
        await self.bus.say(subject, json.encode(notice))

    async def submit(self, *jobs: str, spec: JobSpec | None = None) -> None:
        for job in jobs:
            await self.store(subjects.job(JobId(job)), Submitted(spec=spec or noop()))

    async def until(self, kind: type[Fact], count: int = 1) -> Recorded:
        """Wait until there are so many facts of a kind in all, and return the last of them."""
        with anyio.fail_after(PATIENCE_S):
            async with self.backbone.ledger.follow(after=0) as batches:
                async for batch in batches:
                    for event in batch:
                        count -= isinstance(event.fact, kind)
                        if not count:
                            return event
        raise AssertionError(kind)

    async def all(self, kind: type[Fact]) -> list[Recorded]:
        """Return all facts of a kind in the ledger."""
        async with self.backbone.ledger.follow(after=0, live=False) as batches:
            events = [event async for batch in batches for event in batch]
        return [event for event in events if isinstance(event.fact, kind)]


class Puppet:
    """One node. Attempts take `takes_s`, and fail while `fails` says so."""

    def __init__(
        self, show: Show, name: str, *, takes_s: float = 1.0, slots: int = 2, address: str = ""
    ) -> None:
        self.show = show
        self.node = NodeId(name)
        self.takes_s = takes_s
        self.fails: Callable[[], bool] = lambda: False
        self.cpu_percent = 0.0
        self.mute = False
        """It runs, and nobody hears it."""
        self.signals: list[Signal] = []
        self.began: list[tuple[str, int]] = []
        self._fact = Registered(
            epoch=1, slots=slots, capabilities=("engine:noop",), address=address
        )
        self._slots = slots
        self._running = 0
        self._scopes: dict[tuple[JobId, int], anyio.CancelScope] = {}
        self._line = 0
        self._life = anyio.CancelScope()

    async def live(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Register and work until killed."""
        with self._life:
            async with anyio.create_task_group() as tasks:
                await self.connect()
                seq = await self.show.store(subjects.node(self.node), self._fact)
                assert isinstance(seq, int)
                tasks.start_soon(self._beat)
                tasks.start_soon(self._follow, seq, tasks)
                task_status.started()

    async def connect(self) -> None:
        """Have a connection, of which the server tells."""
        self._line = self.show.new_line()
        await self.show.server_tells(subjects.CONNECTED, self.node, self._line)

    async def disconnect(self) -> None:
        """Have none any more."""
        await self.show.server_tells(subjects.DISCONNECTED, self.node, self._line)

    async def kill(self, *, told: bool = True) -> None:
        """End the process at once; `told`: the server says so."""
        self._life.cancel()
        if told:
            await self.disconnect()

    async def _beat(self) -> None:
        while True:
            if not self.mute:
                await self.show.beat(self.node, self.cpu_percent)
            await anyio.sleep(self.show.settings.heartbeat_s)

    async def _follow(self, after: int, tasks: anyio.abc.TaskGroup) -> None:
        filters = (subjects.only(subjects.node(self.node)),)
        async with self.show.backbone.ledger.follow(after=after, filters=filters) as batches:
            async for batch in batches:
                for event in batch:
                    match event.fact:
                        case Assignments(jobs=jobs):
                            for assignment in jobs:
                                tasks.start_soon(self._run, assignment)
                        case Signal() as signal:
                            self._obey(signal)
                        case _:
                            pass

    def _obey(self, signal: Signal) -> None:
        self.signals.append(signal)
        scope = self._scopes.get((signal.job, signal.attempt))
        if scope is not None and signal.action is Action.CANCEL:
            scope.cancel()

    async def _run(self, given: Assignment) -> None:
        subject = subjects.job(given.job)
        started = Started(node=self.node, attempt=given.attempt)
        seq = await self.show.store(subject, started, expected=given.seq)
        if not isinstance(seq, int):
            return
        self.began.append((given.job, given.attempt))
        with anyio.CancelScope() as scope:
            self._scopes[given.job, given.attempt] = scope
            await anyio.sleep(self.takes_s)
            await self.show.store(subject, self._end(given), expected=seq)
        await self.show.store(
            subjects.node(self.node), Available(epoch=1, slots=self._slots, free=self._slots)
        )

    def _end(self, given: Assignment) -> JobFact:
        if not self.fails():
            return Completed(node=self.node, attempt=given.attempt)
        failure = FailureClass.INFRASTRUCTURE
        return AttemptFailed(node=self.node, attempt=given.attempt, failure=failure)


@asynccontextmanager
async def playing(show: Show, *puppets: Puppet) -> AsyncGenerator[anyio.abc.TaskGroup]:
    """Run a scheduler and puppets, in this order; at the end all are gone."""
    async with show.scheduler(), anyio.create_task_group() as tasks:
        for puppet in puppets:
            await tasks.start(puppet.live)
        yield tasks
        tasks.cancel_scope.cancel()


def fleet(show: Show, count: int, *, takes_s: float = 1.0) -> list[Puppet]:
    """Return puppets n0, n1, …"""
    return [Puppet(show, f"n{number}", takes_s=takes_s) for number in range(count)]
