"""The slots of one worker, and what becomes of every attempt put into them.

An attempt goes: taken into a slot, `Started` appended against the fence, run, out of the slot, its
end appended, its files promoted. Whatever happens, it leaves its slot and this book exactly once.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, assert_never

import anyio
import anyio.abc
import structlog
from msgspec import Struct

from events.ids import JobId, NodeId
from events.job import (
    AttemptFailed,
    AttemptLost,
    Canceled,
    Completed,
    Declined,
    FailureClass,
    JobFact,
    LossCause,
    Paused,
    Resumed,
    Started,
)
from events.node import Action, Assignment
from events.spec import Engine
from services.clock import Clock
from services.config import Timeouts
from services.contain import contained
from services.worker.guard.ending import Verdict, fact_of
from services.worker.guard.guard import Guard
from services.worker.journal import Journal
from services.worker.outcomes import Outcome, Outcomes
from services.worker.port import Aside, Broken, Executor, Made, Result, Work, on_the_spot
from services.worker.promotion import Promoter
from services.worker.telling import Teller

_log = structlog.get_logger()

HELD_CHECK_S = 15.0
"""How often a paused attempt looks whether it still has its job; one that runs learns it when it
ends. It is the time after which a silent node's attempts are given to others."""
CONCLUDE_S = 10.0
"""How long the end of an attempt waits for the disk before it is told all the same."""
REVIEWED_MAX = 16
"""Jobs read from the log at once when all attempts are reviewed."""

Key: TypeAlias = tuple[JobId, int]
"""A job and its attempt."""


class Tools(Struct, frozen=True, kw_only=True):
    """What attempts of one worker share."""

    node: NodeId
    clock: Clock
    executor_of: Callable[[Engine], Executor]
    journal: Journal
    outcomes: Outcomes
    promoter: Promoter
    teller: Teller
    timeouts: Timeouts = Timeouts()
    aside: Aside = on_the_spot


class _Attempt:
    """One attempt this worker has taken."""

    def __init__(self, assignment: Assignment) -> None:
        self.work = Work(job=assignment.job, attempt=assignment.attempt, spec=assignment.spec)
        self.key: Key = (assignment.job, assignment.attempt)
        self.expected = assignment.seq
        """Sequence of the job's last fact as this worker knows it."""
        self.scope = anyio.CancelScope()
        self.ended_by: Canceled | AttemptLost | AttemptFailed | None = None
        """What was asked of it, or what it did too much of; None: it ends by itself."""
        self.void = False
        """Whether its job was taken from it: then nothing more can be said of it."""
        self.paused_at_s: float | None = None
        """Since when it stands still, on the monotonic clock; None: it runs."""

    @property
    def leaves_files(self) -> bool:
        """Whether something of it may be left on disk."""
        return self.work.spec.engine is not Engine.NOOP


class Attempts:
    """All attempts of one worker; runs them in the task group it is given."""

    def __init__(
        self, tools: Tools, *, slots: int, tasks: anyio.abc.TaskGroup, changed: Callable[[], None]
    ) -> None:
        self._tools = tools
        self._slots = slots
        self._tasks = tasks
        self._changed = changed
        """Called whenever a slot is taken or left."""
        self._in_slots: dict[Key, _Attempt] = {}
        self._open: set[Key] = set()
        self._closed = anyio.Event()
        self._draining = False
        self._refusing = ""
        self._guard = Guard(tools.timeouts, tools.clock)
        tasks.start_soon(self._guard.run)

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return len(self._in_slots)

    @property
    def slots(self) -> int:
        """How many slots are offered; none while draining."""
        return 0 if self._draining else self._slots

    @property
    def free(self) -> int:
        """How many slots may be filled now; none while new work is refused."""
        return 0 if self._refusing else max(0, self.slots - len(self._in_slots))

    @property
    def refusing(self) -> str:
        """Why new work is refused for now; empty: it is not."""
        return self._refusing

    def refuse(self, reason: str) -> None:
        """Decline what is new, for this reason, until `accept`; what runs goes on."""
        assert reason, "a refusal says why"
        if self._refusing != reason:
            self._refusing = reason
            self._changed()

    def accept(self) -> None:
        """Take new work again."""
        if self._refusing:
            self._refusing = ""
            self._changed()

    def take(self, assignments: Sequence[Assignment]) -> None:
        """Put new assignments into slots, decline what does not fit; known ones change nothing."""
        for assignment in assignments:
            attempt = _Attempt(assignment)
            if attempt.key in self._open:
                continue
            self._open.add(attempt.key)
            node = self._tools.node
            if self.free:
                self._in_slots[attempt.key] = attempt
                fact: JobFact = Started(node=node, attempt=assignment.attempt)
                self._put(attempt, fact, partial(self._begun, attempt))
            else:
                fact = Declined(node=node, attempt=assignment.attempt, reason=self._no_room())
                self._put(attempt, fact, partial(self._declined, attempt))
        self._changed()

    def _no_room(self) -> str:
        if self._draining:
            return "draining"
        return self._refusing or f"{len(self._in_slots)} of {self._slots} slots taken"

    def signal(self, job: JobId, attempt: int, action: Action) -> None:
        """Do what is asked of an attempt."""
        key = (job, attempt)
        match action:
            case Action.CANCEL:
                self._cancel(key)
            case Action.PAUSE if key in self._in_slots:
                self._pause(self._in_slots[key])
            case Action.RESUME if key in self._in_slots:
                self._resume(self._in_slots[key])
            case Action.PAUSE | Action.RESUME:
                _log.info("signal.void", job=job, attempt=attempt, action=action)
            case _:
                assert_never(action)

    def _cancel(self, key: Key) -> None:
        """End an attempt on request; one this worker was never told about has ended already."""
        job, attempt = key
        if key in self._in_slots:
            self._end(self._in_slots[key], Canceled(attempt=attempt))
        elif key not in self._open:
            self._open.add(key)
            fact = Canceled(attempt=attempt)
            self._tools.outcomes.put(Outcome(job, attempt, fact, 0, partial(self._close, key)))

    def _pause(self, attempt: _Attempt) -> None:
        """Stop it where it is; what is not running yet, or ending, will be asked again."""
        if attempt.paused_at_s is not None or attempt.ended_by is not None:
            return
        if self._executor(attempt).pause(attempt.work):
            attempt.paused_at_s = self._tools.clock.monotonic_s()
            self._guard.pause(attempt.work)
            self._put(attempt, Paused(attempt=attempt.work.attempt), partial(self._noted, attempt))
            self._tasks.start_soon(self._watch_paused, attempt, attempt.paused_at_s)
            if self._draining:
                self._hand_back(attempt)

    async def _watch_paused(self, attempt: _Attempt, since_s: float) -> None:
        """End an attempt that was given up while it stands still: nobody would resume it."""
        while attempt.paused_at_s == since_s and attempt.key in self._in_slots:
            if not await self._ended_as_void(attempt):
                await anyio.sleep(HELD_CHECK_S)

    async def review(self) -> int:
        """End all attempts that hold their job no more; return how many.

        So it is when this node was given up meanwhile: their jobs are with others, and whatever
        they would come to is void. Waits for as long as the log cannot be read.
        """
        limiter = anyio.CapacityLimiter(REVIEWED_MAX)
        ended: list[Key] = []

        async def look(attempt: _Attempt) -> None:
            async with limiter:
                if await self._ended_as_void(attempt):
                    ended.append(attempt.key)

        async with anyio.create_task_group() as tasks:
            for attempt in list(self._in_slots.values()):
                tasks.start_soon(look, attempt)
        return len(ended)

    async def _ended_as_void(self, attempt: _Attempt) -> bool:
        """End an attempt that holds its job no more, without a word; tell whether it was ended."""
        work = attempt.work
        if await self._tools.outcomes.holds(work.job, work.attempt):
            return False
        if attempt.key not in self._in_slots or attempt.void:
            return False
        _log.info("attempt.void", job=work.job, attempt=work.attempt)
        attempt.void = True
        attempt.scope.cancel()
        return True

    def _resume(self, attempt: _Attempt) -> None:
        if attempt.paused_at_s is None or attempt.ended_by is not None:
            return
        self._executor(attempt).resume(attempt.work)
        self._guard.resume(attempt.work)
        paused_s = self._tools.clock.monotonic_s() - attempt.paused_at_s
        attempt.paused_at_s = None
        fact = Resumed(attempt=attempt.work.attempt, paused_s=paused_s)
        self._put(attempt, fact, partial(self._noted, attempt))

    async def drain(self, within_s: float | None) -> None:
        """Take nothing new; let attempts finish in time, hand back the others.

        None: they have all the time they need, until a later call says otherwise. A paused one is
        handed back at once: it will not finish.
        """
        self._draining = True
        self._changed()
        for attempt in list(self._in_slots.values()):
            if attempt.paused_at_s is not None:
                self._hand_back(attempt)
        with anyio.move_on_after(math.inf if within_s is None else within_s):
            await self._all_closed()
        for attempt in list(self._in_slots.values()):
            self._hand_back(attempt)
        await self._all_closed()

    def reopen(self) -> None:
        """Take new work again, after a `drain` that was called off."""
        self._draining = False
        self._changed()

    def _hand_back(self, attempt: _Attempt) -> None:
        number = attempt.work.attempt
        lost = AttemptLost(node=self._tools.node, attempt=number, cause=LossCause.DRAINED)
        self._end(attempt, lost)

    async def _all_closed(self) -> None:
        while self._open:
            if self._closed.is_set():
                self._closed = anyio.Event()
            await self._closed.wait()

    def _overstepped(self, attempt: _Attempt, verdict: Verdict) -> None:
        """End an attempt that its guard found stalled, late, or using too much."""
        node, number = self._tools.node, attempt.work.attempt
        _log.info("attempt.ended", job=attempt.work.job, attempt=number, verdict=str(verdict))
        fact = fact_of(attempt.work, node, verdict)
        assert not isinstance(fact, Completed), "a verdict ends what has not"
        self._end(attempt, fact)

    def _end(self, attempt: _Attempt, fact: Canceled | AttemptLost | AttemptFailed) -> None:
        if attempt.ended_by is None:
            attempt.ended_by = fact
        attempt.scope.cancel()

    def _begun(self, attempt: _Attempt, seq: int | None) -> None:
        """Run it if its start is in the log; otherwise it is no longer ours."""
        if seq is None:
            self._leave_slot(attempt)
            self._close(attempt.key, None)
        else:
            attempt.expected = seq
            self._tasks.start_soon(self._run, attempt)

    def _noted(self, attempt: _Attempt, seq: int | None) -> None:
        """Take note of a step on the way; one that came to nothing changes nothing."""
        if seq is not None:
            attempt.expected = seq

    def _declined(self, attempt: _Attempt, seq: int | None) -> None:
        """Report free room after the refusal: a node that refused gets nothing until it has."""
        self._close(attempt.key, seq)
        self._changed()

    async def _run(self, attempt: _Attempt) -> None:
        result = await self._execute(attempt, self._executor(attempt))
        self._leave_slot(attempt)
        if attempt.void:
            self._over(attempt, result, None)
            return
        fact = self._fact(attempt, result)
        if attempt.leaves_files:
            await self._conclude(attempt.work, fact)
        self._put(attempt, fact, partial(self._over, attempt, result))

    async def _conclude(self, work: Work, fact: JobFact) -> None:
        """Keep the end for the next start; a disk that hangs keeps nobody from being told."""
        conclude = partial(self._tools.journal.conclude, work, fact)
        with anyio.move_on_after(CONCLUDE_S):
            await contained(partial(self._tools.aside, conclude), lambda _: None)

    async def _execute(self, attempt: _Attempt, executor: Executor) -> Result | None:
        """Return what became of the attempt; None: it was ended on request."""
        work = attempt.work
        result: Result | None = None
        voice = self._tools.teller.voice(work.job, work.attempt)
        report = self._guard.enter(work, executor, voice, partial(self._overstepped, attempt))

        async def run() -> Result:
            if attempt.leaves_files:
                await self._tools.aside(partial(self._tools.journal.begin, work))
            return await executor.run(work, report)

        with attempt.scope:
            result = await contained(run, _bug)
        result = self._guard.leave(work, result)
        await self._tools.teller.hush(voice)
        return result

    def _fact(self, attempt: _Attempt, result: Result | None) -> JobFact:
        """Return how it has ended: as it was ended, unless its files were made all the same."""
        if attempt.ended_by is not None and not isinstance(result, Made):
            return attempt.ended_by
        assert result is not None, "an attempt ends by itself or on request"
        return fact_of(attempt.work, self._tools.node, result)

    def _over(self, attempt: _Attempt, result: Result | None, seq: int | None) -> None:
        """Promote or discard the files, now that the end is in the log or the attempt is void."""
        if attempt.leaves_files:
            self._tasks.start_soon(self._finish, attempt, result if seq is not None else None)
        else:
            self._close(attempt.key, seq)

    async def _finish(self, attempt: _Attempt, result: Result | None) -> None:
        executor = self._executor(attempt)
        if isinstance(result, Made):
            await self._tools.promoter.promote_patiently(attempt.work, executor, result)
        else:
            await self._tools.promoter.discard(attempt.work, executor)
        self._close(attempt.key, None)

    def _executor(self, attempt: _Attempt) -> Executor:
        return self._tools.executor_of(attempt.work.spec.engine)

    def _leave_slot(self, attempt: _Attempt) -> None:
        del self._in_slots[attempt.key]
        self._changed()

    def _close(self, key: Key, _seq: int | None) -> None:
        self._open.discard(key)
        if not self._open:
            self._closed.set()

    def _put(self, attempt: _Attempt, fact: JobFact, then: Callable[[int | None], None]) -> None:
        work = attempt.work
        self._tools.outcomes.put(Outcome(work.job, work.attempt, fact, attempt.expected, then))


def _bug(error: Exception) -> Result:
    message = f"the worker could not run the attempt: {type(error).__name__}: {error}"
    return Broken(failure=FailureClass.INFRASTRUCTURE, message=message)
