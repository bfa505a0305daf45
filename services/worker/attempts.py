"""The slots of one worker, and what becomes of every attempt put into them.

An attempt goes: taken into a slot, `Started` appended against the fence, run, out of the slot, its
end appended, its files promoted. Whatever happens, it leaves its slot and this book exactly once.
"""

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
from services.contain import contained
from services.worker.journal import Journal
from services.worker.outcomes import Outcome, Outcomes
from services.worker.port import Broken, Executor, Made, Result, Work
from services.worker.promotion import Promoter
from services.worker.telling import Teller

_log = structlog.get_logger()

HELD_CHECK_S = 15.0
"""How often a paused attempt looks whether it still has its job; one that runs learns it when it
ends. It is the time after which a silent node's attempts are given to others."""

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


class _Attempt:
    """One attempt this worker has taken."""

    def __init__(self, assignment: Assignment) -> None:
        self.work = Work(job=assignment.job, attempt=assignment.attempt, spec=assignment.spec)
        self.key: Key = (assignment.job, assignment.attempt)
        self.expected = assignment.seq
        """Sequence of the job's last fact as this worker knows it."""
        self.scope = anyio.CancelScope()
        self.ended_by: Canceled | AttemptLost | None = None
        """What was asked of it; None: it ends by itself."""
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
        """How many slots may be filled now."""
        return max(0, self.slots - len(self._in_slots))

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
                reason = "draining" if self._draining else f"all {self._slots} slots are taken"
                fact = Declined(node=node, attempt=assignment.attempt, reason=reason)
                self._put(attempt, fact, partial(self._declined, attempt))
        self._changed()

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
            self._put(attempt, Paused(attempt=attempt.work.attempt), partial(self._noted, attempt))
            self._tasks.start_soon(self._watch_paused, attempt, attempt.paused_at_s)
            if self._draining:
                self._hand_back(attempt)

    async def _watch_paused(self, attempt: _Attempt, since_s: float) -> None:
        """End an attempt that was given up while it stands still: nobody would resume it."""
        work = attempt.work
        while attempt.paused_at_s == since_s and attempt.key in self._in_slots:
            if not await self._tools.outcomes.holds(work.job, work.attempt):
                cause = LossCause.NODE_LOST
                lost = AttemptLost(node=self._tools.node, attempt=work.attempt, cause=cause)
                self._end(attempt, lost)
                return
            await anyio.sleep(HELD_CHECK_S)

    def _resume(self, attempt: _Attempt) -> None:
        if attempt.paused_at_s is None or attempt.ended_by is not None:
            return
        self._executor(attempt).resume(attempt.work)
        paused_s = self._tools.clock.monotonic_s() - attempt.paused_at_s
        attempt.paused_at_s = None
        fact = Resumed(attempt=attempt.work.attempt, paused_s=paused_s)
        self._put(attempt, fact, partial(self._noted, attempt))

    async def drain(self, within_s: float) -> None:
        """Take nothing new; let attempts finish in time, hand back the others.

        A paused one is handed back at once: it will not finish.
        """
        self._draining = True
        self._changed()
        for attempt in list(self._in_slots.values()):
            if attempt.paused_at_s is not None:
                self._hand_back(attempt)
        with anyio.move_on_after(within_s):
            await self._all_closed()
        for attempt in list(self._in_slots.values()):
            self._hand_back(attempt)
        await self._all_closed()

    def _hand_back(self, attempt: _Attempt) -> None:
        number = attempt.work.attempt
        lost = AttemptLost(node=self._tools.node, attempt=number, cause=LossCause.DRAINED)
        self._end(attempt, lost)

    async def _all_closed(self) -> None:
        while self._open:
            self._closed = anyio.Event()
            await self._closed.wait()

    def _end(self, attempt: _Attempt, fact: Canceled | AttemptLost) -> None:
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
        self._put(attempt, self._fact(attempt, result), partial(self._over, attempt, result))

    async def _execute(self, attempt: _Attempt, executor: Executor) -> Result | None:
        """Return what became of the attempt; None: it was ended on request."""
        work = attempt.work
        result: Result | None = None
        voice = self._tools.teller.voice(work.job, work.attempt)

        async def run() -> Result:
            if attempt.leaves_files:
                self._tools.journal.begin(work)
            return await executor.run(work, voice)

        with attempt.scope:
            result = await contained(run, _bug)
        await self._tools.teller.hush(voice)
        return result

    def _fact(self, attempt: _Attempt, result: Result | None) -> JobFact:
        node, number = self._tools.node, attempt.work.attempt
        match result:
            case Made(files=files, stats=stats):
                return Completed(node=node, attempt=number, files=files, stats=stats)
            case Broken():
                return AttemptFailed(
                    node=node,
                    attempt=number,
                    failure=result.failure,
                    message=result.message,
                    exit_status=result.exit_status,
                    stats=result.stats,
                )
            case None:
                assert attempt.ended_by is not None, "an attempt ends by itself or on request"
                return attempt.ended_by
            case _:
                assert_never(result)

    def _over(self, attempt: _Attempt, result: Result | None, seq: int | None) -> None:
        """Promote or discard the files, now that the end is in the log or the attempt is void."""
        if attempt.leaves_files:
            self._tasks.start_soon(self._finish, attempt, result if seq is not None else None)
        else:
            self._close(attempt.key, seq)

    async def _finish(self, attempt: _Attempt, result: Result | None) -> None:
        executor = self._executor(attempt)
        if isinstance(result, Made):
            await self._tools.promoter.promote(attempt.work, executor, result)
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
