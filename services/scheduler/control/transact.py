"""Read, fold, decide, append: the one loop that answers a request about a single entity."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from events import subjects
from events.codec import Fact
from events.ids import JobId
from events.state.job import JobState
from events.subjects import Subject
from services.clock import Pen
from services.errors import Conflict
from services.log.entity import load_job
from services.log.port import Entry, EventLog
from services.scheduler.deciders.job import JobCommand, decide

TRIES_MAX = 16

S = TypeVar("S")


class Matter(Struct, Generic[S], frozen=True, kw_only=True):
    """One command on one entity."""

    subject: Subject
    load: Callable[[], Awaitable[tuple[S, int]]]
    """Reads the entity's state and its version: the sequence of its last fact, 0: none."""
    decide: Callable[[S], Sequence[Fact]]
    insist: bool = False
    """The last try is appended whatever was appended meanwhile: for what is right in any state."""
    traceparent: str | None = None


class Decided(Struct, Generic[S], frozen=True):
    """What a command led to: the state it met, and the sequence of its last fact."""

    state: S
    seq: int
    """0: the command had been carried out already."""


async def settle(ledger: EventLog, pen: Pen, matter: Matter[S]) -> Decided[S]:
    """Put a command to its entity's current state and record what was decided.

    Raises Refused as deciders do, Conflict when others were first `TRIES_MAX` times in a row.
    """
    for left in reversed(range(TRIES_MAX)):
        state, version = await matter.load()
        facts = matter.decide(state)
        if not facts:
            return Decided(state, 0)
        entries = [
            Entry(pen.write(matter.subject, fact, traceparent=matter.traceparent)) for fact in facts
        ]
        if left or not matter.insist:
            entries[0] = Entry(entries[0].event, version)
        outcomes = await ledger.append(entries)
        if not any(isinstance(outcome, Conflict) for outcome in outcomes):
            last = outcomes[-1]
            assert isinstance(last, int)
            return Decided(state, last)
    raise Conflict(matter.subject, None)


async def transact(
    ledger: EventLog, pen: Pen, job: JobId, command: JobCommand, *, traceparent: str | None = None
) -> Decided[JobState]:
    """Put `command` to a job's current state and record what was decided; raises as `settle`."""

    async def load() -> tuple[JobState, int]:
        state = await load_job(ledger, job)
        return state, state.version

    matter = Matter(
        subject=subjects.job(job),
        load=load,
        decide=lambda state: decide(command, state),
        traceparent=traceparent,
    )
    return await settle(ledger, pen, matter)
