"""One entity's state, read from the log: what a writer folds before it decides."""

from functools import reduce

from events import subjects
from events.ids import JobId
from events.state.job import INITIAL, JobState, evolve
from services.log.port import EventLog


async def load_job(ledger: EventLog, job: JobId) -> JobState:
    """Return the state of a job as the ledger has it now."""
    return reduce(evolve, await ledger.read(subjects.job(job)), INITIAL)
