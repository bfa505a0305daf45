"""How attempts end in the log: each outcome appended once, against the fence, many at a time.

An outcome expects the sequence its worker knows. When that has moved on, the job is read again: if
the attempt still holds it, the outcome is appended to the newer version; if not, the attempt was
superseded and its work is void.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import anyio
import structlog
from msgspec import Struct

from events import subjects
from events.ids import JobId
from events.job import Canceled, Completed, Declined, JobFact, Paused, Resumed, Started
from events.state.job import Ended, Held, JobState, JobStatus
from services.clock import Pen
from services.errors import Conflict, LogUnavailable
from services.log.entity import load_job
from services.log.persist import append, persistently
from services.log.port import Entry, EventLog

TOGETHER_MAX = 500
"""Most outcomes in one append."""
TRIES_MAX = 16

_log = structlog.get_logger()

Then: TypeAlias = Callable[[int | None], None]
"""Called when the outcome is settled: with its sequence, or None: the attempt was superseded."""


class Outcome(Struct, frozen=True):
    """A fact that ends an attempt, begins it, or is a step in between."""

    job: JobId
    attempt: int
    fact: JobFact
    expected: int
    """Sequence of the job's last fact; 0: it is not known, so the job is read first."""
    then: Then


class Outcomes:
    """Collects the outcomes of one worker and appends them together."""

    def __init__(self, ledger: EventLog, pen: Pen) -> None:
        self._ledger = ledger
        self._pen = pen
        self._waiting: list[Outcome] = []
        self._wake = anyio.Event()

    def put(self, outcome: Outcome) -> None:
        """Let the outcome be appended with the next ones."""
        self._waiting.append(outcome)
        self._wake.set()

    async def holds(self, job: JobId, attempt: int) -> bool:
        """Tell whether the attempt still has the job, as the ledger has it now."""
        state = await persistently(lambda: load_job(self._ledger, job), "reading a job")
        return isinstance(state, Held) and state.attempt == attempt

    async def run(self) -> None:
        """Append outcomes as they come, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._waiting:
                await self._append(self._take())

    def _take(self) -> list[Outcome]:
        """Take out what may be appended together: of each job one outcome, the earliest."""
        together: dict[JobId, Outcome] = {}
        later: list[Outcome] = []
        for outcome in self._waiting:
            if len(together) < TOGETHER_MAX and outcome.job not in together:
                together[outcome.job] = outcome
            else:
                later.append(outcome)
        self._waiting = later
        return list(together.values())

    async def _append(self, outcomes: list[Outcome]) -> None:
        entries = [
            Entry(self._pen.write(subjects.job(outcome.job), outcome.fact), outcome.expected)
            for outcome in outcomes
        ]
        results = await append(self._ledger, entries, "reporting outcomes")
        for outcome, result in zip(outcomes, results, strict=True):
            settled: int | None
            if isinstance(result, Conflict):
                settled = await persistently(partial(self.settle, outcome), "reporting outcomes")
            else:
                settled = result
            outcome.then(settled)

    async def settle(self, outcome: Outcome) -> int | None:
        """Append to the job as it is, while the attempt still holds it; return the sequence.

        None: it was superseded. The outcome is not called back. Raises LogUnavailable when others
        write to the job all the time.
        """
        for _ in range(TRIES_MAX):
            state = await persistently(lambda: load_job(self._ledger, outcome.job), "reading a job")
            if _is_winner(state, outcome):
                return state.version
            fact = standing(state, outcome)
            if fact is None:
                _log.info("attempt.superseded", job=outcome.job, attempt=outcome.attempt)
                return None
            event = self._pen.write(subjects.job(outcome.job), fact)
            (result,) = await append(self._ledger, [Entry(event, state.version)], "reporting")
            if not isinstance(result, Conflict):
                return result if type(fact) is type(outcome.fact) else None
        raise LogUnavailable(f"job {outcome.job}: others wrote first, {TRIES_MAX} times")


def standing(state: JobState, outcome: Outcome) -> JobFact | None:
    """Return what the attempt may still say of a job in `state`; None: it holds it no more.

    A start or a refusal of a job that is to be canceled becomes its cancellation: nothing has run.
    A cancellation says who asked for it, and why.
    """
    if not isinstance(state, Held) or state.attempt != outcome.attempt:
        return None
    if isinstance(outcome.fact, Paused | Resumed):
        return None if state.paused is isinstance(outcome.fact, Paused) else outcome.fact
    if isinstance(outcome.fact, Started | Declined) and state.started_at is not None:
        return None
    if isinstance(outcome.fact, Started | Declined | Canceled) and state.cancel is not None:
        return Canceled(attempt=state.attempt, by=state.cancel.by, reason=state.cancel.reason)
    return outcome.fact


def _is_winner(state: JobState, outcome: Outcome) -> bool:
    """Tell whether the completion is in the log already; only its attempt can have written it."""
    return (
        isinstance(outcome.fact, Completed)
        and isinstance(state, Ended)
        and state.status is JobStatus.COMPLETED
        and state.attempt == outcome.attempt
    )
