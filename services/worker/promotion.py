"""The last step of a winner: its files take their final names, now or after a restart."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeGuard

import anyio
import structlog

from events import subjects
from events.ids import NodeId
from events.job import Completed, Promoted
from events.media import MadeFile
from events.state.job import Ended, JobState, JobStatus
from services.clock import Pen
from services.contain import contained
from services.errors import Conflict
from services.log.entity import load_job
from services.log.persist import append, persistently
from services.log.port import Entry, EventLog
from services.worker.journal import Journal
from services.worker.outcomes import Outcome, Outcomes
from services.worker.port import Executor, Made, Work

TRIES_MAX = 16
STEP_S_MAX = 120.0
"""Renaming or removing the files of one attempt; more is a file system that hangs."""
AGAIN_S = (1.0, 5.0, 30.0, 120.0)
"""How long to wait after each failed renaming, before the next start has to do it."""

_log = structlog.get_logger()


class Promoter:
    """Promotes winners of one node, and clears up after an earlier worker of it."""

    def __init__(
        self, ledger: EventLog, pen: Pen, node: NodeId, *, journal: Journal, outcomes: Outcomes
    ) -> None:
        self._ledger = ledger
        self._pen = pen
        self._node = node
        self._journal = journal
        self._outcomes = outcomes

    async def promote(self, work: Work, executor: Executor, made: Made) -> None:
        """Rename the files, say so in the log, and forget the attempt.

        A failed renaming is logged; the attempt stays in the journal, for the next start to retry.
        """
        if await self._renamed(work, executor, made):
            await self._tell(work)

    async def promote_patiently(self, work: Work, executor: Executor, made: Made) -> None:
        """Promote, again and again for some minutes: a disk that was full or away may come back."""
        for wait_s in AGAIN_S:
            if await self._renamed(work, executor, made):
                await self._tell(work)
                return
            _log.warning("promotion.failed", job=work.job, attempt=work.attempt, again_s=wait_s)
            await anyio.sleep(wait_s)
        await self.promote(work, executor, made)

    async def _renamed(self, work: Work, executor: Executor, made: Made) -> bool:
        return await _succeeds(partial(executor.promote, work, made))

    async def _tell(self, work: Work) -> None:
        """Say in the log that the files have their names, and forget the attempt."""
        for _ in range(TRIES_MAX):
            state = await self._load(work)
            if not _won(state, work) or state.promoted:
                break
            fact = Promoted(node=self._node, attempt=work.attempt)
            entry = Entry(self._pen.write(subjects.job(work.job), fact), state.version)
            (outcome,) = await append(self._ledger, [entry], "promoting")
            if not isinstance(outcome, Conflict):
                break
        self._journal.end(work)

    async def discard(self, work: Work, executor: Executor) -> None:
        """Remove what an attempt that did not win has left, and forget it; see `promote`."""
        if await _succeeds(partial(executor.discard, work)):
            self._journal.end(work)

    async def clear_up(self, work: Work, executor: Executor) -> None:
        """Settle an attempt of an earlier worker: promote the winner, discard any other.

        One that had ended while the log was away is told first, if it still has the job.
        """
        ending = self._journal.ending(work)
        if ending is not None:
            outcome = Outcome(work.job, work.attempt, ending, 0, _nobody)
            settle = partial(self._outcomes.settle, outcome)
            told = await persistently(settle, "reporting") is not None
            _log.info("attempt.ended_before", job=work.job, attempt=work.attempt, told=told)
        state = await self._load(work)
        if not _won(state, work):
            _log.info("attempt.cleared", job=work.job, attempt=work.attempt)
            await self.discard(work, executor)
        elif state.promoted:
            self._journal.end(work)
        else:
            _log.info("promotion.resumed", job=work.job, attempt=work.attempt)
            await self.promote(work, executor, Made(files=await self._files(work)))

    async def _load(self, work: Work) -> JobState:
        return await persistently(lambda: load_job(self._ledger, work.job), "promoting")

    async def _files(self, work: Work) -> tuple[MadeFile, ...]:
        subject = subjects.job(work.job)
        facts = await persistently(lambda: self._ledger.read(subject), "promoting")
        for recorded in facts:
            fact = recorded.fact
            if isinstance(fact, Completed) and fact.attempt == work.attempt:
                return fact.files
        return ()


async def _succeeds(step: Callable[[], Awaitable[None]]) -> bool:
    """Carry out an executor's step; False: it broke or hangs, which ends no worker."""

    async def whole() -> bool:
        with anyio.fail_after(STEP_S_MAX):
            await step()
        return True

    return await contained(whole, lambda _: False)


def _nobody(_: int | None) -> None:
    """Wait for nothing: who settles an outcome itself needs no call back."""


def _won(state: JobState, work: Work) -> TypeGuard[Ended]:
    return (
        isinstance(state, Ended)
        and state.status is JobStatus.COMPLETED
        and state.attempt == work.attempt
    )
