"""The scheduler's process: follow the ledger, decide, append; and take requests in meanwhile.

Any number may run on one log. Each append carries the sequence of the state it was decided on, so
two schedulers that decide alike lose races, never jobs.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from enum import StrEnum
from functools import reduce

import anyio
import anyio.abc
import msgspec
import structlog
from msgspec import Struct

from events import subjects
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import Assigned, PauseRequested, ResumeRequested, Retried
from events.node import Action, Assignment, Assignments, Lost, Recovered, Registered, Signal
from events.state.job import INITIAL, Absent, Held, Waiting, evolve
from events.state.node import NodeStatus
from services.backbone import Backbone
from services.clock import Clock, NewId, Pen, random_id
from services.config import SchedulerSettings
from services.errors import Conflict
from services.log.persist import append, persistently
from services.log.port import Batch, Entry, Outcome
from services.scheduler import upkeep
from services.scheduler.control.jobs import AT_ONCE
from services.scheduler.dependencies import dependency_drafts
from services.scheduler.intake import Intake
from services.scheduler.job import RetryPolicy
from services.scheduler.placement import Choice, place
from services.scheduler.upkeep import Draft
from services.scheduler.world import World

TICK_S = 0.25
"""How often time-outs are looked at."""
TOLD_BYTES_MAX = 256 * 1024
"""A fact with more assignments than this is split: it stays far below the log's largest message."""
SERVICE_NAME = "ffrtmp"

_encode = msgspec.json.Encoder().encode
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


class _Matter(StrEnum):
    """What a node is told about an attempt."""

    RUN = "run"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


class _Told(Struct, frozen=True):
    """When a node was last told what about an attempt."""

    attempt: int
    what: _Matter
    at_s: float


def _again(job: JobId, held: Held) -> Assignment:
    return Assignment(job=job, attempt=held.attempt, seq=held.version, spec=held.terms.spec)


def _open_matter(held: Held) -> _Matter | None:
    """Return what the node has not acted on yet; None: nothing."""
    if held.cancel is not None:
        return _Matter.CANCEL
    if held.started_at is None:
        return _Matter.RUN
    if isinstance(held.asked, PauseRequested) and not held.paused:
        return _Matter.PAUSE
    if isinstance(held.asked, ResumeRequested) and held.paused:
        return _Matter.RESUME
    return None


class Scheduler:
    """One scheduler's loops over its world."""

    def __init__(
        self, backbone: Backbone, settings: SchedulerSettings, *, clock: Clock, pen: Pen
    ) -> None:
        self.world = World(aging_s_per_weight=settings.aging_s_per_weight)
        self._backbone = backbone
        self._ledger = backbone.ledger
        self._settings = settings
        self._clock = clock
        self._pen = pen
        self._policy = RetryPolicy(
            base_s=settings.retry_base_s,
            max_s=settings.retry_max_s,
            crashes_max=settings.crashes_max,
        )
        self._wake = anyio.Event()
        self._ticked = False
        self._told: dict[JobId, _Told] = {}
        self._heard: dict[NodeId, float] = {}
        """When each node was heard last; for one never heard, when it was first looked at."""
        self._speaking: set[NodeId] = set()
        """Nodes heard since they were last looked at."""

    async def follow(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Fold the ledger as it grows; started when all that was there at first is folded."""
        ledger = self._ledger
        goal = await persistently(ledger.last_seq, "starting")
        if goal == 0:
            task_status.started()
        async with ledger.follow(after=0) as batches:
            async for batch in batches:
                begun = self.world.seq >= goal
                await self._fold(batch)
                if not begun and self.world.seq >= goal:
                    task_status.started()
                self._wake.set()

    async def listen(self) -> None:
        """Note which nodes speak."""
        telemetry = self._backbone.telemetry
        after = await persistently(telemetry.last_seq, "listening")
        heartbeats = subjects.TELEMETRY_NODES
        async with telemetry.follow(after=after, filters=(heartbeats,)) as batches:
            async for batch in batches:
                now_s = self._clock.monotonic_s()
                for recorded in batch:
                    node = subjects.node_of_telemetry(recorded.subject)
                    self._heard[node] = now_s
                    self._speaking.add(node)

    async def tick(self) -> None:
        """Wake the deciding loop for what only time brings about."""
        while True:
            await anyio.sleep(TICK_S)
            self._ticked = True
            self._wake.set()

    async def decide(self) -> None:
        """Decide on what has changed, again and again, at the log's own pace."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            if self._ticked:
                self._ticked = False
                await self._watch_nodes()
                await self._append(self._timed())
                now = self._clock.now()
                await self._append(await dependency_drafts(self.world, self._ledger, now))
                await self._repeat()
            await self._append(upkeep.settle(self.world, self._clock.now(), self._policy))
            if await self._assign():
                self._wake.set()  # more may fit; but first what time has brought about

    async def _fold(self, batch: Batch) -> None:
        for recorded in batch:
            kind = type(recorded.fact)
            if kind is Retried:
                await self._recall(recorded)
            self.world.apply(recorded)
            if kind is Registered:
                self._heard[subjects.node_of(recorded.subject)] = self._clock.monotonic_s()

    async def _recall(self, retried: Recorded) -> None:
        """Bring back the job that begins anew: the world has forgotten it at its end."""
        subject = subjects.job(subjects.job_of(retried.subject))
        facts = await persistently(lambda: self._ledger.read(subject), "recalling")
        before = reduce(evolve, (fact for fact in facts if fact.seq < retried.seq), INITIAL)
        self.world.recall(subjects.job_of(subject), before)

    def _timed(self) -> list[Draft]:
        now = self._clock.now()
        return [
            *upkeep.release(self.world, now),
            *upkeep.give_up(self.world, now, self._settings),
            *upkeep.reject_unplaceable(self.world, now, self._settings),
        ]

    async def _append(self, drafts: Sequence[Draft]) -> None:
        """Append drafts of different jobs; one that lost its race is void."""
        if not drafts:
            return
        for draft in drafts:
            self.world.claim(draft.job)
        entries = [
            Entry(self._pen.write(subjects.job(draft.job), draft.fact), draft.expected)
            for draft in drafts
        ]
        outcomes = await append(self._ledger, entries, "deciding")
        self._settle_claims([draft.job for draft in drafts], outcomes)

    def _settle_claims(self, jobs: Iterable[JobId], outcomes: Sequence[Outcome]) -> None:
        """Give back the jobs whose append lost against a fact that is folded already.

        A fact that is still on its way to this scheduler ends the claim when it arrives.
        """
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                current = outcome.current
                if current is None or current <= self.world.seq:
                    self.world.unclaim(job)

    async def _assign(self) -> bool:
        """Give waiting jobs to free nodes in one pass; tell whether any was given."""
        choices = place(self.world, self._clock.now())
        if not choices:
            return False
        entries = [self._assigned(choice) for choice in choices]
        outcomes = await append(self._ledger, entries, "assigning")
        self._settle_claims([choice.job for choice in choices], outcomes)
        given: dict[NodeId, list[Assignment]] = {}
        for choice, entry, outcome in zip(choices, entries, outcomes, strict=True):
            if isinstance(outcome, int):
                fact = entry.event.data
                assert isinstance(fact, Assigned)
                assignment = self._assignment(choice.job, fact.attempt, outcome)
                if assignment is not None:
                    given.setdefault(choice.node, []).append(assignment)
        await self._tell(given)
        return True

    def _assigned(self, choice: Choice) -> Entry:
        state = self.world.job(choice.job)
        assert isinstance(state, Waiting)
        fact = Assigned(node=choice.node, attempt=state.attempt + 1, placement=choice.placement)
        entry = Entry(self._pen.write(subjects.job(choice.job), fact), state.version)
        self.world.claim(choice.job, choice.node)
        return entry

    def _assignment(self, job: JobId, attempt: int, seq: int) -> Assignment | None:
        """Return what the node must know; None: the job has moved on meanwhile."""
        state = self.world.job(job)
        if isinstance(state, Absent):
            return None
        self._told[job] = _Told(attempt, _Matter.RUN, self._clock.monotonic_s())
        return Assignment(job=job, attempt=attempt, seq=seq, spec=state.terms.spec)

    async def _tell(self, given: dict[NodeId, list[Assignment]]) -> None:
        """Write each node's assignments on its own subject, where its worker reads."""
        entries = [
            Entry(self._pen.write(subjects.node(node), Assignments(jobs=part)))
            for node, jobs in given.items()
            for part in parts(jobs)
        ]
        if entries:
            await append(self._ledger, entries, "assigning")

    async def _repeat(self) -> None:
        """Tell nodes again what they have not acted on: the fact for them may be lost."""
        now_s = self._clock.monotonic_s()
        given: dict[NodeId, list[Assignment]] = {}
        signals: list[Entry] = []
        for job, held in list(self.world.holders()):
            what = self._untold(job, held, now_s)
            if what is None:
                continue
            self._told[job] = _Told(held.attempt, what, now_s)
            if what is _Matter.RUN:
                _log.info("assignment.repeated", job=job, node=held.node, attempt=held.attempt)
                given.setdefault(held.node, []).append(_again(job, held))
            else:
                signal = Signal(job=job, attempt=held.attempt, action=Action(what))
                signals.append(Entry(self._pen.write(subjects.node(held.node), signal)))
        if signals:
            await append(self._ledger, signals, "signaling")
        await self._tell(given)
        self._told = {job: told for job, told in self._told.items() if job in self.world.jobs}

    def _untold(self, job: JobId, held: Held, now_s: float) -> _Matter | None:
        """Return what the node must hear about this attempt now; None: nothing."""
        what = _open_matter(held)
        if what is None:
            return None
        told = self._told.get(job)
        if told is None or told.attempt != held.attempt:
            first = what is not _Matter.RUN or self._overdue(held)
            return what if first else None
        if told.what is not what or now_s - told.at_s > self._settings.repeat_s:
            return what
        return None

    def _overdue(self, held: Held) -> bool:
        """Tell whether whoever assigned it has had time to tell the node."""
        since = self._clock.now() - held.assigned_at
        return since > timedelta(seconds=self._settings.repeat_s)

    async def _watch_nodes(self) -> None:
        """Declare silent nodes lost, and those that speak again recovered."""
        now_s = self._clock.monotonic_s()
        entries: list[Entry] = []
        for node_id, node in self.world.nodes.items():
            silent_s = now_s - self._heard.setdefault(node_id, now_s)
            subject = subjects.node(node_id)
            if node.status is NodeStatus.ONLINE and silent_s > self._settings.node_dead_s:
                reason = f"no heartbeat for {silent_s:.1f} s"
                entries.append(Entry(self._pen.write(subject, Lost(reason=reason)), node.version))
                _log.warning("node.lost", node=node_id, silent_s=round(silent_s, 1))
            elif node.status is NodeStatus.LOST and node_id in self._speaking:
                entries.append(Entry(self._pen.write(subject, Recovered()), node.version))
                _log.info("node.recovered", node=node_id)
        self._speaking.clear()
        if entries:
            await append(self._ledger, entries, "watching nodes")


def parts(assignments: Sequence[Assignment]) -> Iterator[tuple[Assignment, ...]]:
    """Split assignments, in order, so that none but a single large one exceeds `TOLD_BYTES_MAX`."""
    part: list[Assignment] = []
    size = 0
    for assignment in assignments:
        more = len(_encode(assignment))
        if part and size + more > TOLD_BYTES_MAX:
            yield tuple(part)
            part, size = [], 0
        part.append(assignment)
        size += more
    if part:
        yield tuple(part)
