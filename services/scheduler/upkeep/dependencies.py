"""Jobs that wait for other jobs: look at those, then release, fail or skip the one that waits.

Nobody waits for ever: jobs that wait for each other in a circle end when the circle is closed, and
a job that waits for one nobody submits ends after `pending_s`.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from events import subjects
from events.codec import Recorded
from events.ids import JobId
from events.state.job import Absent, Ended, JobState, JobStatus, Pending
from services.log.entity import load_job
from services.log.persist import persistently
from services.log.port import EventLog
from services.scheduler.deciders.job import Orphan, Release
from services.scheduler.state.world import World
from services.scheduler.upkeep.alarms import Alarms, later
from services.scheduler.upkeep.timers import Draft, decided

LOOKED_AT_MAX = 10_000
"""Most jobs looked at in one pass; the next pass goes on."""
READ_MAX = 100
"""Most jobs read from the ledger in one pass, and those that one more job depends on."""
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
    read = 0
    for job in list(islice(world.unblocked, LOOKED_AT_MAX)):
        if read >= READ_MAX:
            break
        world.unblocked.pop(job, None)
        state = world.job(job)
        if not isinstance(state, Pending):
            continue
        needed = dict.fromkeys(state.terms.spec.depends_on)
        read += sum(each not in world.jobs for each in needed)
        statuses = [(each, await _status(world, ledger, each)) for each in needed]
        drafts += _followed(world, job, statuses, now)
    return drafts


def _followed(
    world: World, job: JobId, statuses: Sequence[tuple[JobId, JobStatus | None]], now: datetime
) -> list[Draft]:
    """Return what follows for a job from what has become of those it depends on."""
    _wait_on(world, job, [needed for needed, status in statuses if status is None])
    broken = [(needed, status) for needed, status in statuses if status not in _GOOD]
    if broken:
        needed, status = broken[0]
        return list(decided(world, job, Orphan(dependency=needed, status=str(status))))
    if all(status is JobStatus.COMPLETED for _, status in statuses):
        return list(decided(world, job, Release(now=now)))
    return []


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
        self._wait(job, state)

    def begin(self) -> None:
        """Look at all of them anew: whoever looked last may not have ended what it had begun."""
        for job, state in self._world.jobs.items():
            if isinstance(state, Pending) and needs(state):
                self._wait(job, state)
                self._world.unblocked[job] = None

    def _wait(self, job: JobId, state: Pending) -> None:
        since = max(state.terms.submitted_at, state.not_before or state.terms.submitted_at)
        self._alarms.set(job, later(since, self._pending_s))
        self._fresh[job] = None

    def circles(self) -> list[Draft]:
        """End the jobs that wait for each other in a circle: none of them could ever begin."""
        drafts: dict[JobId, Draft] = {}
        clear: set[JobId] = set()
        for job in list(islice(self._fresh, LOOKED_AT_MAX)):
            if self._world.claimed(job):
                continue
            del self._fresh[job]
            circle = circle_from(self._world, job, clear)
            clear.update(circle)  # they end now, and so does what waits for them
            for place, member in enumerate(circle):
                way = (*circle[place:], *circle[:place], member)
                for draft in decided(self._world, member, _in_circle(way)):
                    drafts.setdefault(member, draft)
        return list(drafts.values())

    async def overdue(self, ledger: EventLog, now: datetime) -> list[Draft]:
        """End the jobs that have waited long enough for a job that nobody has submitted."""
        drafts: list[Draft] = []
        for job in self._alarms.ring(now, READ_MAX):
            if self._world.claimed(job):
                self._alarms.set(job, later(now, AGAIN_S))
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


def circle_from(world: World, start: JobId, clear: set[JobId]) -> list[JobId]:
    """Return jobs that wait each for the next, and the last for the first; none: empty.

    The circle is one that `start` leads to. `clear` are jobs known to lead to none, and more are
    added: so many searches in one set look at each job once. Costs nothing unless somebody waits
    for `start` already, as it must be to close a circle.
    """
    if start not in world.dependents or start in clear:
        return []
    way = {start: iter(needs(world.job(start)))}
    while way:
        job = next(reversed(way))
        needed = next(way[job], None)
        if needed is None:
            del way[job]
            clear.add(job)
        elif needed in way:
            jobs = list(way)
            return jobs[jobs.index(needed) :]
        elif needed not in clear:
            way[needed] = iter(needs(world.job(needed)))
    return []


def _in_circle(way: Sequence[JobId]) -> Orphan:
    shown = " -> ".join(way if len(way) <= SHOWN_MAX else (*way[: SHOWN_MAX - 2], "...", way[-1]))
    return Orphan(dependency=way[1], status=f"waiting for this job itself: {shown}")
