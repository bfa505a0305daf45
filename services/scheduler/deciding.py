"""The scheduler's loops: follow the ledger, decide on what has changed, append.

Each append carries the sequence of the state it was decided on, so two schedulers that decide alike
lose races, never jobs.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from events import subjects
from events.ids import JobId, NodeId
from events.job import Assigned, Retried
from events.state.job import Waiting
from services.backbone import Backbone
from services.clock import Clock, Pen
from services.config import SchedulerSettings
from services.errors import Conflict
from services.log.persist import append, persistently
from services.log.port import Batch, Entry, Outcome
from services.scheduler.deciders.job import RetryPolicy
from services.scheduler.placement import Choice, place
from services.scheduler.recalling import recall
from services.scheduler.state.ranking import initial_policy
from services.scheduler.state.world import World
from services.scheduler.telling import Told
from services.scheduler.upkeep import timers
from services.scheduler.upkeep.keeper import Upkeep
from services.scheduler.upkeep.timers import Draft

if TYPE_CHECKING:
    from events.node import Assignment

TICK_S = 0.25
"""How often time-outs are looked at."""


class Scheduler:
    """One scheduler's loops over its world."""

    def __init__(
        self, backbone: Backbone, settings: SchedulerSettings, *, clock: Clock, pen: Pen
    ) -> None:
        self.world = World(initial_policy(settings))
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
        self._folded: anyio.Event | None = None
        """What somebody waits on for the next batch; None: nobody does."""
        self._ends = False
        self._ticked = False
        self._told = Told(self.world, self._ledger, clock=clock, pen=pen)
        self._upkeep = Upkeep(self.world, backbone, settings, clock=clock, pen=pen)

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
                if self._folded is not None:
                    self._folded.set()
                    self._folded = None

    async def reach(self, seq: int) -> None:
        """Wait until the world has everything up to `seq`."""
        while self.world.seq < seq:
            self._folded = self._folded or anyio.Event()
            await self._folded.wait()

    def begin(self) -> None:
        """Prepare to decide, on a world that has all that this scheduler ever appended."""
        self.world.unclaim_all()
        self._upkeep.begin()
        self._ends = False
        self._wake.set()

    def end(self) -> None:
        """Let `decide` return once what it does now is done."""
        self._ends = True
        self._wake.set()

    async def listen(self) -> None:
        """Note which nodes speak."""
        await self._upkeep.listen()

    async def tick(self) -> None:
        """Wake the deciding loop for what only time brings about."""
        while True:
            await anyio.sleep(TICK_S)
            self._ticked = True
            self._wake.set()

    async def decide(self) -> None:
        """Decide on what has changed, again and again, at the log's own pace, until `end`."""
        while True:
            await self._wake.wait()
            if self._ends:
                return
            self._wake = anyio.Event()
            if self._ticked:
                self._ticked = False
                await self._upkeep.watch()
                await self._append(self._upkeep.timed())
                await self._append(await self._upkeep.dependent())
                await self._told.repeat(self._settings.repeat_s)
            await self._append(timers.settle(self.world, self._clock.now(), self._policy))
            if await self._assign():
                self._wake.set()  # more may fit; but first what time has brought about

    async def _fold(self, batch: Batch) -> None:
        for recorded in batch:
            if type(recorded.fact) is Retried:
                again = partial(recall, self.world, self._ledger, recorded)
                await persistently(again, "recalling")
            before = self.world.before(recorded)
            self.world.apply(recorded)
            self._upkeep.apply(recorded, before)
            self._told.apply(recorded)

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
                assignment = self._told.assignment(choice.job, fact.attempt, outcome)
                if assignment is not None:
                    given.setdefault(choice.node, []).append(assignment)
        await self._told.tell(given)
        return True

    def _assigned(self, choice: Choice) -> Entry:
        state = self.world.job(choice.job)
        assert isinstance(state, Waiting)
        fact = Assigned(node=choice.node, attempt=state.attempt + 1, placement=choice.placement)
        entry = Entry(self._pen.write(subjects.job(choice.job), fact), state.version)
        self.world.claim(choice.job, choice.node)
        return entry
