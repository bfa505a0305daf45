"""Read, fold, decide, append: the one loop that answers a request about a single job."""

from msgspec import Struct

from events import subjects
from events.ids import JobId
from events.state.job import JobState
from services.clock import Pen
from services.errors import Conflict
from services.log.entity import load_job
from services.log.port import Entry, EventLog
from services.scheduler.deciders.job import JobCommand, decide

TRIES_MAX = 16


class Decided(Struct, frozen=True):
    """What a command led to: the state it met, and the sequence of its last fact."""

    state: JobState
    seq: int
    """0: the command had been carried out already."""


async def transact(
    ledger: EventLog, pen: Pen, job: JobId, command: JobCommand, *, traceparent: str | None = None
) -> Decided:
    """Put `command` to the job's current state and record what was decided.

    Raises Refused as `decide` does, Conflict when others were first `TRIES_MAX` times in a row.
    """
    subject = subjects.job(job)
    for _ in range(TRIES_MAX):
        state = await load_job(ledger, job)
        facts = decide(command, state)
        if not facts:
            return Decided(state, 0)
        entries = [Entry(pen.write(subject, fact, traceparent=traceparent)) for fact in facts]
        entries[0] = Entry(entries[0].event, state.version)
        outcomes = await ledger.append(entries)
        if not any(isinstance(outcome, Conflict) for outcome in outcomes):
            last = outcomes[-1]
            assert isinstance(last, int)
            return Decided(state, last)
    raise Conflict(subject, None)
