"""Jobs that wait for other jobs: look at those, then release, fail or skip the one that waits."""

from datetime import datetime

from events.ids import JobId
from events.state.job import Ended, JobStatus, Pending
from services.log.entity import load_job
from services.log.persist import persistently
from services.log.port import EventLog
from services.scheduler.deciders.job import Orphan, Release
from services.scheduler.state.world import World
from services.scheduler.upkeep.timers import Draft, decided

LOOKED_AT_MAX = 100
"""Most jobs looked at in one pass; the next pass goes on."""


async def dependency_drafts(world: World, ledger: EventLog, now: datetime) -> list[Draft]:
    """Decide about the pending jobs one of whose dependencies has changed.

    Dependencies that have ended are no longer in the world: they are read from the ledger. One
    that was never submitted is waited for.
    """
    drafts: list[Draft] = []
    for job in list(world.unblocked)[:LOOKED_AT_MAX]:
        world.unblocked.pop(job, None)
        state = world.job(job)
        if not isinstance(state, Pending):
            continue
        statuses = [
            (needed, await _status(world, ledger, needed)) for needed in state.terms.spec.depends_on
        ]
        broken = [(needed, status) for needed, status in statuses if status not in _GOOD]
        if broken:
            needed, status = broken[0]
            drafts += decided(world, job, Orphan(dependency=needed, status=str(status)))
        elif all(status is JobStatus.COMPLETED for _, status in statuses):
            drafts += decided(world, job, Release(now=now))
    return drafts


_GOOD = frozenset({None, JobStatus.COMPLETED})


async def _status(world: World, ledger: EventLog, job: JobId) -> JobStatus | None:
    """Return how the job has ended; None: it has not."""
    if job in world.jobs:
        return None
    state = await persistently(lambda: load_job(ledger, job), "reading dependencies")
    return state.status if isinstance(state, Ended) else None
