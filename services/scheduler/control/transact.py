"""Read, fold, decide, append: the one loop that answers a request about a single entity.

A request that has a name of its own, and every durable command has one, is carried out once: the
events it leads to are named after it, and where they are stored already nothing more is decided. So
a command that comes again after its answer got lost does no harm, whatever has happened since.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from hashlib import blake2b
from typing import Generic, TypeVar

from msgspec import Struct

from events import subjects
from events.codec import Fact, Recorded
from events.ids import EventId, JobId
from events.state.job import INITIAL, JobState, evolve
from events.subjects import Subject
from services.bus.port import Request
from services.clock import Pen
from services.errors import Conflict
from services.log.port import Entry, EventLog
from services.scheduler.deciders.job import JobCommand, decide

TRIES_MAX = 16

S = TypeVar("S")


class Matter(Struct, Generic[S], frozen=True, kw_only=True):
    """One command on one entity."""

    subject: Subject
    begin: S
    """A state that the entity has had; the rest of its facts is read."""
    after: int = 0
    """Sequence of the last fact that `begin` has."""
    evolve: Callable[[S, Recorded], S]
    decide: Callable[[S], Sequence[Fact]]
    insist: bool = False
    """The last try is appended whatever was appended meanwhile: for what is right in any state."""
    once: str | None = None
    """What the events are named after; None: the same again is another command."""
    traceparent: str | None = None


class Decided(Struct, Generic[S], frozen=True):
    """What a command led to: the state it met, and the sequence of its last fact."""

    state: S
    seq: int
    """0: the command had been carried out already."""


def once(request: Request) -> str | None:
    """Return what the events of a request are named after; None: it has no name of its own."""
    if not request.message_id:
        return None
    name = f"{request.subject}\x1f{request.message_id}"
    return blake2b(name.encode(), digest_size=16).hexdigest()


async def settle(ledger: EventLog, pen: Pen, matter: Matter[S]) -> Decided[S]:
    """Put a command to its entity's current state and record what was decided.

    Raises Refused as deciders do, Conflict when others were first `TRIES_MAX` times in a row.
    """
    for left in reversed(range(TRIES_MAX)):
        met = await ledger.read(matter.subject, after=matter.after)
        state = reduce(matter.evolve, met, matter.begin)
        if matter.once is not None and any(each.id == _name(matter.once, 1) for each in met):
            return Decided(state, 0)
        facts = matter.decide(state)
        if not facts:
            return Decided(state, 0)
        entries = _entries(pen, matter, facts)
        if left or not matter.insist:
            version = met[-1].seq if met else matter.after
            entries[0] = Entry(entries[0].event, version)
        outcomes = await ledger.append(entries)
        if not any(isinstance(outcome, Conflict) for outcome in outcomes):
            last = outcomes[-1]
            assert isinstance(last, int)
            return Decided(state, last)
    raise Conflict(matter.subject, None)


async def transact(
    ledger: EventLog, pen: Pen, job: JobId, command: JobCommand, *, request: Request | None = None
) -> Decided[JobState]:
    """Put `command` to a job's current state and record what was decided; raises as `settle`.

    `request` is what asked for it: it gives its name and its trace.
    """
    matter = Matter(
        subject=subjects.job(job),
        begin=INITIAL,
        evolve=evolve,
        decide=lambda state: decide(command, state),
        once=None if request is None else once(request),
        traceparent=None if request is None else request.traceparent,
    )
    return await settle(ledger, pen, matter)


def _entries(pen: Pen, matter: Matter[S], facts: Sequence[Fact]) -> list[Entry]:
    """Return the facts as entries without expectations."""
    return [
        Entry(
            pen.write(
                matter.subject,
                fact,
                traceparent=matter.traceparent,
                event_id=None if matter.once is None else _name(matter.once, number),
            )
        )
        for number, fact in enumerate(facts, start=1)
    ]


def _name(name: str, number: int) -> EventId:
    """Return the id of the event that is this one of those a command leads to, from 1."""
    return EventId(f"{name}-{number}")
