"""A whole fleet in one thread on a virtual clock; one seed fixes jobs, faults and interleavings.

Schedulers, workers and clients run as in production, over a backbone in memory that fails by dice.
After `TROUBLE_S` the dice are calm, so that everything can come to its end.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import anyio
import msgspec
import trio
import trio.testing
from msgspec import Struct
from msgspec.structs import replace
from structlog.testing import capture_logs
from trio._core import _run as trio_run  # pyright: ignore[reportPrivateUsage] - seeded scheduling

from events import subjects
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import FailureClass
from events.node import Hardware
from events.requests import Reply
from events.spec import Engine
from events.state.job import INITIAL, TERMINAL, JobState, evolve, status_of
from services.bus.memory import MemoryBus
from services.bus.peers import worker_name
from services.config import SchedulerSettings, WorkerSettings
from services.errors import LogUnavailable
from services.memory import memory_backbone, memory_inbox
from services.scheduler.service import run_scheduler
from services.worker.port import Broken, Report, Result, Work
from services.worker.service import run_worker
from tests.fakes import Disk, FakeExecutor, LoopClock, machine, made
from tests.sim.faults import Crash, Dice, Line, Odds

HARDWARE = Hardware(hostname="sim", cpu_threads=4, memory_bytes=4 * 2**30)
LIMITS = (("cpu_threads", 3), ("memory_bytes", 3 * 2**30))
"""What jobs ask for, by turns with nothing: no machine has room for two of a sort."""
TROUBLE_S = 28.0
"""How long faults are rolled for."""
PATIENCE_S = 1800.0
"""By then every job has ended, or something hangs."""
AFTERMATH_S = 120.0
"""By then, counted from the end of the last job, files are renamed and nothing runs any more."""

SCHEDULING = SchedulerSettings(
    assign_s=20.0, unschedulable_s=30.0, retry_base_s=1.0, retry_max_s=8.0, crashes_max=3
)

QUEUES = ("live", "default", "batch")

Job: TypeAlias = dict[str, object]


class Plan(Struct, frozen=True, kw_only=True):
    """What a run is made of."""

    seed: int
    schedulers: int = 2
    workers: int = 3
    slots: int = 2
    jobs: int = 14
    odds: Odds = Odds()


class Span(Struct, kw_only=True):
    """One stay of an attempt on a machine, in seconds of the run."""

    job: JobId
    attempt: int
    node: str
    begun_s: float
    ended_s: float = float("inf")


class Ran(Struct, kw_only=True):
    """What a run has left behind."""

    plan: Plan
    jobs: dict[JobId, Job]
    ledger: list[Recorded]
    spans: list[Span]
    disks: dict[str, Disk]
    replies: dict[JobId, list[Reply]]
    met: Counter[str]


def simulate(plan: Plan, work_dir: Path) -> Ran:
    """Run one fleet to its end and return what it has left behind."""
    setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # noqa: B010 - private to trio
    getattr(trio_run, "_r").seed(plan.seed)  # noqa: B009 - private to trio
    fleet = Fleet(plan, work_dir)
    with capture_logs() as entries:
        trio.run(fleet.run, clock=trio.testing.MockClock(autojump_threshold=0))
    fleet.ran.met.update(str(entry["event"]) for entry in entries)
    return fleet.ran


class Fleet:
    """The processes of one run and what it records of them."""

    def __init__(self, plan: Plan, work_dir: Path) -> None:
        self._plan = plan
        self._work_dir = work_dir
        self._dice = Dice(plan.seed, plan.odds)
        self._random = self._dice.random
        self._clock = LoopClock()
        self._common = memory_backbone()
        self._ids = 0
        self._connections = 0
        self._lines: dict[str, int] = {}
        """The last connection of each worker."""
        names = [f"n{number}" for number in range(plan.workers)]
        self.ran = Ran(
            plan=plan,
            jobs=some_jobs(self._dice, plan.jobs),
            ledger=[],
            spans=[],
            disks={name: Disk() for name in names},
            replies={},
            met=self._dice.met,
        )

    async def run(self) -> None:
        """Let the fleet live until every job has ended and its files have settled."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._plan.schedulers):
                tasks.start_soon(self._scheduler_lives)
            for name in self.ran.disks:
                tasks.start_soon(self._worker_lives, name)
            tasks.start_soon(self._calm_down)
            async with anyio.create_task_group() as clients:
                for job in self.ran.jobs:
                    clients.start_soon(self._client, job)
            with anyio.move_on_after(PATIENCE_S):
                await self._all_ended()
            with anyio.move_on_after(AFTERMATH_S):
                await self._all_settled()
            tasks.cancel_scope.cancel()
        async with self._common.ledger.follow(after=0, live=False) as batches:
            self.ran.ledger = [recorded async for batch in batches for recorded in batch]

    async def _calm_down(self) -> None:
        await anyio.sleep(TROUBLE_S)
        self._dice.calm = True

    async def _all_ended(self) -> None:
        states: dict[JobId, JobState] = {}
        unended = set(self.ran.jobs)
        async with self._common.ledger.follow(after=0, filters=(subjects.ALL_JOBS,)) as batches:
            async for batch in batches:
                for recorded in batch:
                    job = subjects.job_of(recorded.subject)
                    states[job] = evolve(states.get(job, INITIAL), recorded)
                    over = status_of(states[job]) in TERMINAL
                    (unended.discard if over else unended.add)(job)
                if not unended:
                    return

    async def _all_settled(self) -> None:
        while not self._dice.calm or self._unsettled():  # noqa: ASYNC110 - virtual time is free
            await anyio.sleep(1)

    def _unsettled(self) -> bool:
        runs = any(span.ended_s == float("inf") for span in self.ran.spans)
        return runs or any(self._work_dir.glob("*/attempts/*.json"))

    async def _scheduler_lives(self) -> None:
        """Run a scheduler; kill, stop or freeze it now and then, and start another."""
        while True:
            line = Line(self._dice)
            backbone = line.backbone(self._common)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._scheduler_s_fate, line, tasks.cancel_scope)
                try:
                    await run_scheduler(
                        backbone, SCHEDULING, clock=self._clock, new_id=self._new_id
                    )
                except* Crash:
                    self._dice.met["scheduler crash"] += 1
                tasks.cancel_scope.cancel()
            await anyio.sleep(self._random.uniform(0, 10))

    async def _scheduler_s_fate(self, line: Line, scope: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(self._random.uniform(3, 20))
            if self._dice.calm:
                return
            match self._random.choice(("kill", "stop", "freeze", "freeze", "cut")):
                case "kill":
                    line.kill()
                case "stop":
                    self._dice.met["scheduler stop"] += 1
                    scope.cancel()
                case "freeze":
                    self._dice.met["scheduler freeze"] += 1
                    await line.freeze(self._random.uniform(0, 8))
                case _:
                    await line.cut(self._random.uniform(0, 6))

    async def _worker_lives(self, name: str) -> None:
        """Run a worker; kill it, stop it or cut its line now and then, and start another."""
        while True:
            line = Line(self._dice)
            await self._server_tells(name, up=True)
            executor = FakeExecutor(
                self._play(name),
                self.ran.disks[name],
                rename_s=lambda: self._random.choice((0.0, 0.0, 2.0)),
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._fate, name, line, executor, tasks.cancel_scope)
                try:
                    await self._work(name, line, executor)
                except* Crash:
                    self._dice.met["worker crash"] += 1
                tasks.cancel_scope.cancel()
            await self._server_tells(name, up=False)
            await anyio.sleep(self._random.uniform(0, 20))

    async def _work(self, name: str, line: Line, executor: FakeExecutor) -> None:
        settings = WorkerSettings(
            node_id=NodeId(name),
            slots=self._plan.slots,
            work_dir=self._work_dir / name,
            media_root=self._work_dir,
            output_root=self._work_dir,
            progress_s=10.0,
        )
        offers = machine({Engine.NOOP: executor, Engine.FFMPEG: executor})
        offers = replace(offers, hardware=HARDWARE)
        await run_worker(line.backbone(self._common), settings, offers, clock=self._clock)

    async def _fate(
        self, name: str, line: Line, executor: FakeExecutor, scope: anyio.CancelScope
    ) -> None:
        while True:
            await anyio.sleep(self._random.uniform(3, 30))
            if self._dice.calm:
                return
            match self._random.choice(("kill", "stop", "cut", "cut briefly")):
                case "kill":
                    executor.gone = True
                    line.kill()
                case "stop":
                    self._dice.met["worker stop"] += 1
                    scope.cancel()
                case "cut":
                    self._dice.met["partition"] += 1
                    await line.cut(self._random.uniform(16, 28))
                case _:
                    await self._break(name, line)

    async def _break(self, name: str, line: Line) -> None:
        """Cut a worker's line briefly; the server may see the old connection go last."""
        seen = self._random.random() < 0.5
        old = self._lines[name]
        if seen:
            await self._server_tells(name, up=False)
        await line.cut(self._random.uniform(0, 3))
        await self._server_tells(name, up=True)
        if not seen:
            await self._server_tells(name, up=False, line=old)

    async def _server_tells(self, name: str, *, up: bool, line: int | None = None) -> None:
        """Say what the server would of a worker's connection; None: of its last one."""
        if up:
            self._connections += 1
            self._lines[name] = self._connections
        number = self._lines[name] if line is None else line
        notice = {"client": {"id": number, "name": worker_name(name)}, "server": {"id": "S1"}}
        bus = self._common.bus
        assert isinstance(bus, MemoryBus)
        subject = subjects.CONNECTED if up else subjects.DISCONNECTED
        await bus.say(subject, msgspec.json.encode(notice))

    def _play(self, name: str) -> Callable[[Work, Report], Awaitable[Result]]:
        async def play(work: Work, report: Report) -> Result:
            del report
            span = Span(job=work.job, attempt=work.attempt, node=name, begun_s=anyio.current_time())
            self.ran.spans.append(span)
            try:
                await anyio.sleep(self._random.choice((0.0, 0.5, 3.0, 8.0, 20.0)))
                return self._ending(work)
            finally:
                span.ended_s = anyio.current_time()

        return play

    def _ending(self, work: Work) -> Result:
        roll = self._random.random()
        if roll < 0.15:
            return Broken(failure=FailureClass.TRANSIENT, message="connection reset by peer")
        if roll < 0.2:
            return Broken(failure=FailureClass.PERMANENT, message="no such filter")
        if roll < 0.25:
            raise RuntimeError("a bug in the executor")
        return made(work)

    async def _client(self, job: JobId) -> None:
        """Submit a job once or more often, by one way or another; meddle with it sometimes."""
        body = msgspec.json.encode(self.ran.jobs[job])
        await anyio.sleep(self._random.uniform(0, 20))
        for _ in range(self._random.choice((1, 1, 2, 3))):
            if self._random.random() < 0.3:
                await memory_inbox(self._common).put(subjects.COMMAND_SUBMIT, body)
            else:
                reply = await self._asked(subjects.API_SUBMIT, body, Reply)
                self.ran.replies.setdefault(job, []).append(reply)
            await anyio.sleep(self._random.choice((0.0, 0.0, 1.0, 20.0)))
        if self._random.random() < 0.2:
            self._dice.met["cancel"] += 1
            await self._control(subjects.API_CANCEL, job)
        if self._random.random() < 0.3:
            await self._control(subjects.API_REPRIORITIZE, job, queue=self._random.choice(QUEUES))
        for _ in range(self._random.choice((0, 0, 1, 3))):
            await self._control(subjects.API_PAUSE, job)
            await anyio.sleep(self._random.choice((0.0, 0.0, 0.5, 4.0, 30.0)))
            await self._control(subjects.API_RESUME, job)
            await anyio.sleep(self._random.choice((0.0, 0.5, 4.0)))
        if self._random.random() < 0.3:
            await anyio.sleep(self._random.uniform(0, 60))
            await self._control(subjects.API_RETRY, job)

    async def _control(self, subject: str, job: JobId, **fields: str) -> None:
        body = msgspec.json.encode({"job_id": job, "by": "ann", **fields})
        await self._asked(subject, body, Reply)

    async def _asked(self, subject: str, body: bytes, kind: type[Reply]) -> Reply:
        while True:
            try:
                return msgspec.json.decode(await self._common.bus.request(subject, body), type=kind)
            except LogUnavailable:
                self._dice.met["asked again"] += 1
                await anyio.sleep(1)

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:08x}"


def some_jobs(dice: Dice, count: int) -> dict[JobId, Job]:
    """Return jobs of all kinds, some of which wait for earlier ones."""
    jobs: dict[JobId, Job] = {}
    for number in range(count):
        job = JobId(f"j{number:02}")
        body: Job = {
            "job_id": job,
            "engine": dice.random.choice(("noop", "ffmpeg", "auto")),
            "queue": dice.random.choice(QUEUES),
        }
        roll = dice.random.random()
        if jobs and roll < 0.25:
            needed = min(len(jobs), dice.random.choice((1, 2, 3)))
            body["depends_on"] = dice.random.sample(sorted(jobs), needed)
            body["on_dependency_failure"] = dice.random.choice(("fail", "skip"))
        elif roll < 0.3:
            body["requires"] = ["gpu"]
        elif roll < 0.4:
            body["attempts_max"] = 1
        if number % 3:
            body["limits"] = dict([LIMITS[number % 3 - 1]])
        jobs[job] = body
    return jobs
