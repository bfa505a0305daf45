"""One worker on a virtual clock, with a test in the place of the scheduler."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from events import subjects
from events.codec import Fact, Recorded
from events.ids import JobId, NodeId
from events.job import Assigned, Submitted
from events.node import Action, Assignment, Assignments, Signal
from events.spec import Engine, JobSpec
from events.subjects import Subject
from services.clock import Pen
from services.config import WorkerSettings
from services.log.port import Entry
from services.memory import memory_backbone
from services.worker.journal import Journal
from services.worker.port import Executor, Work
from services.worker.service import run_worker
from tests.fakes import FakeExecutor, LoopClock, machine

if TYPE_CHECKING:
    from services.backbone import Backbone

FFMPEG = JobSpec(engine=Engine.FFMPEG)
PATIENCE_S = 3600.0
"""Virtual seconds after which a fact that did not come will not come."""


class Site:
    """The node `n1`, its executor and its ledger."""

    def __init__(
        self, folder: Path, executor: FakeExecutor, *, slots: int = 2, drain_s: float = 10.0
    ) -> None:
        self.executor = executor
        self.settings = WorkerSettings(
            node_id=NodeId("n1"),
            slots=slots,
            work_dir=folder / "work",
            media_root=folder,
            output_root=folder,
            drain_s=drain_s,
        )
        self.backbone: Backbone = memory_backbone()
        self.offers = machine({Engine.NOOP: executor, Engine.FFMPEG: executor})
        """The machine as a worker that starts now finds it, but for its executors."""
        self._pen = Pen("test", LoopClock())

    @property
    def journal(self) -> Journal:
        """What the node remembers over the death of its worker."""
        return Journal(self.settings.work_dir)

    def executors(self) -> dict[Engine, Executor]:
        """Return what the next worker runs attempts with."""
        return {Engine.NOOP: self.executor, Engine.FFMPEG: self.executor}

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[anyio.CancelScope]:
        """Run the worker; it drains at the end, or when the scope is canceled."""
        offers = replace(self.offers, executors=self.executors())

        async def live(task_status: anyio.abc.TaskStatus[anyio.CancelScope]) -> None:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    await inner.start(start)
                    task_status.started(scope)

        async def start(task_status: anyio.abc.TaskStatus[None]) -> None:
            await run_worker(
                self.backbone,
                self.settings,
                offers,
                clock=LoopClock(),
                task_status=task_status,
            )

        async with anyio.create_task_group() as tasks:
            scope = await tasks.start(live)
            yield scope
            scope.cancel()

    async def store(self, subject: Subject, *facts: Fact) -> int:
        """Store facts unguarded; return the sequence of the last one."""
        entries = [Entry(self._pen.write(subject, fact)) for fact in facts]
        last = (await self.backbone.ledger.append(entries))[-1]
        assert isinstance(last, int)
        return last

    async def job(self, job: str, *facts: Fact) -> int:
        """Store facts of a job, as others would."""
        return await self.store(subjects.job(JobId(job)), *facts)

    async def assigned(
        self, job: str, attempt: int = 1, spec: JobSpec = FFMPEG, node: str = "n1"
    ) -> Assignment:
        """Assign a job, submitting it first; return what its node is to be told."""
        if attempt == 1:
            await self.job(job, Submitted(spec=spec))
        seq = await self.job(job, Assigned(node=NodeId(node), attempt=attempt))
        return Assignment(job=JobId(job), attempt=attempt, seq=seq, spec=spec)

    async def tell(self, *assignments: Assignment) -> None:
        """Tell the node its assignments."""
        await self.store(subjects.node(NodeId("n1")), Assignments(jobs=assignments))

    async def give(self, *jobs: str, spec: JobSpec = FFMPEG) -> None:
        """Assign new jobs and tell the node, all at once."""
        await self.tell(*[await self.assigned(job, spec=spec) for job in jobs])

    async def signal_cancel(self, job: str, attempt: int = 1) -> None:
        """Tell the node to end an attempt."""
        await self.signal(job, Action.CANCEL, attempt)

    async def signal(self, job: str, action: Action, attempt: int = 1) -> None:
        """Tell the node to do something with an attempt."""
        signal = Signal(job=JobId(job), attempt=attempt, action=action)
        await self.store(subjects.node(NodeId("n1")), signal)

    async def until(self, job: str, kind: type[Fact]) -> Recorded:
        """Wait for the next fact of a kind on a job and return it."""
        return await self._until(subjects.job(JobId(job)), kind)

    async def until_node(self, kind: type[Fact], after: int = 0) -> Recorded:
        """Wait for a fact of a kind on the node, after a sequence, and return it."""
        return await self._until(subjects.node(NodeId("n1")), kind, after)

    async def story(self, job: str) -> list[str]:
        """Return the facts of a job by their short names, without how it was assigned."""
        facts = await self.backbone.ledger.read(subjects.job(JobId(job)))
        names = [event.type.split(".")[1] for event in facts]
        return [name for name in names if name not in {"submitted", "assigned"}]

    async def on_node(self, kind: type[Fact]) -> Sequence[Recorded]:
        """Return the facts of a kind on the node."""
        facts = await self.backbone.ledger.read(subjects.node(NodeId("n1")))
        return [event for event in facts if isinstance(event.fact, kind)]

    async def _until(self, subject: Subject, kind: type[Fact], after: int = 0) -> Recorded:
        filters = (subjects.only(subject),)
        with anyio.fail_after(PATIENCE_S):
            async with self.backbone.ledger.follow(after=after, filters=filters) as batches:
                async for batch in batches:
                    for event in batch:
                        if isinstance(event.fact, kind):
                            return event
        raise AssertionError(kind)


def work(job: str, attempt: int = 1, spec: JobSpec = FFMPEG) -> Work:
    """Return an attempt as the journal keeps it."""
    return Work(job=JobId(job), attempt=attempt, spec=replace(spec))
