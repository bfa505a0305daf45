"""Jobs that wait for other jobs: look at those, then release, fail or skip the one that waits.

Nobody waits for ever: jobs that wait for each other in a circle end when the circle is closed, and
a job that waits for one nobody submits ends after `pending_s`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from events import subjects
from events.codec import Recorded
from events.ids import JobId
from events.state.job import Absent, Ended, JobState, JobStatus, Pending
from services.log.entity import load_job
from services.log.persist import persistently
from services.log.port import EventLog
from services.scheduler.deciders.job import Orphan, Release
from services.scheduler.state.world import World
from services.scheduler.upkeep.alarms import Alarms
from services.scheduler.upkeep.timers import Draft, decided

LOOKED_AT_MAX = 100
"""Most jobs looked at in one pass; the next pass goes on."""
AGAIN_S = 1.0
"""A job of which a fact is on its way is looked at again after this."""
SHOWN_MAX = 12
"""Of a longer circle, what is between is left out of the reason."""


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
        _wait_on(world, job, [needed for needed, status in statuses if status is None])
        broken = [(needed, status) for needed, status in statuses if status not in _GOOD]
        if broken:
            needed, status = broken[0]
            drafts += decided(world, job, Orphan(dependency=needed, status=str(status)))
        elif all(status is JobStatus.COMPLETED for _, status in statuses):
            drafts += decided(world, job, Release(now=now))
    return drafts


def _wait_on(world: World, job: JobId, needed: Sequence[JobId]) -> None:
    """See to it that the job is looked at when these end: one may have been retried meanwhile."""
    if isinstance(world.job(job), Pending):
        for each in needed:
            world.dependents.setdefault(each, {})[job] = None


_GOOD = frozenset({None, JobStatus.COMPLETED})


async def _status(world: World, ledger: EventLog, job: JobId) -> JobStatus | None:
    """Return how the job has ended; None: it has not."""
    if job in world.jobs:
        return None
    state = await persistently(lambda: load_job(ledger, job), "reading dependencies")
    return state.status if isinstance(state, Ended) else None


class Waits:
    """The jobs of one world that wait for others, and for how long yet."""

    def __init__(self, world: World, *, pending_s: float) -> None:
        self._world = world
        self._pending_s = pending_s
        self._alarms = Alarms()
        self._fresh: dict[JobId, None] = {}

    def apply(self, recorded: Recorded) -> None:
        """Take note of a fact that the world has folded."""
        if not subjects.is_job(recorded.subject):
            return
        job = subjects.job_of(recorded.subject)
        state = self._world.job(job)
        if not needs(state):
            self._alarms.clear(job)
            self._fresh.pop(job, None)
            return
        assert isinstance(state, Pending)
        since = max(state.terms.submitted_at, state.not_before or state.terms.submitted_at)
        self._alarms.set(job, since + timedelta(seconds=self._pending_s))
        self._fresh[job] = None

    def circles(self) -> list[Draft]:
        """End the jobs that wait for each other in a circle: none of them could ever begin."""
        drafts: dict[JobId, Draft] = {}
        for job in list(self._fresh)[:LOOKED_AT_MAX]:
            if self._world.claimed(job):
                continue
            del self._fresh[job]
            circle = [] if job in drafts else circle_through(self._world, job)
            for place, member in enumerate(circle):
                way = (*circle[place:], *circle[:place], member)
                for draft in decided(self._world, member, _in_circle(way)):
                    drafts.setdefault(member, draft)
        return list(drafts.values())

    async def overdue(self, ledger: EventLog, now: datetime) -> list[Draft]:
        """End the jobs that have waited long enough for a job that nobody has submitted."""
        drafts: list[Draft] = []
        for job in self._alarms.ring(now, LOOKED_AT_MAX):
            if self._world.claimed(job):
                self._alarms.set(job, now + timedelta(seconds=AGAIN_S))
                continue
            for needed in needs(self._world.job(job)):
                if await self._is_unknown(ledger, needed):
                    status = f"unknown: nobody has submitted it in {self._pending_s:g} s"
                    drafts += decided(self._world, job, Orphan(dependency=needed, status=status))
                    break
        return drafts

    async def _is_unknown(self, ledger: EventLog, job: JobId) -> bool:
        if job in self._world.jobs:
            return False
        state = await persistently(lambda: load_job(ledger, job), "reading dependencies")
        return isinstance(state, Absent)


def needs(state: JobState) -> tuple[JobId, ...]:
    """Return the jobs without which this one does not begin; none: it does not wait for jobs."""
    if not isinstance(state, Pending) or state.backoff:
        return ()
    return state.terms.spec.depends_on


def circle_through(world: World, start: JobId) -> list[JobId]:
    """Return jobs that wait each for the next, and the last for `start`, the first; none: empty.

    Costs nothing unless somebody waits for `start` already, as it must be to close a circle.
    """
    if start not in world.dependents:
        return []
    came_from: dict[JobId, JobId] = {}
    to_see = [start]
    while to_see:
        job = to_see.pop()
        for needed in needs(world.job(job)):
            if needed == start:
                return _way_back(came_from, start, job)
            if needed not in came_from:
                came_from[needed] = job
                to_see.append(needed)
    return []


def _way_back(came_from: dict[JobId, JobId], start: JobId, job: JobId) -> list[JobId]:
    way = [job]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    return way[::-1]


def _in_circle(way: Sequence[JobId]) -> Orphan:
    shown = " -> ".join(way if len(way) <= SHOWN_MAX else (*way[: SHOWN_MAX - 2], "...", way[-1]))
    return Orphan(dependency=way[1], status=f"waiting for this job itself: {shown}")
