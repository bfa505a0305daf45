"""Reads what an explanation is made from.

Everything is cut at the world's sequence, so an answer is true of one instant: the running
scheduler and a replay of the same ledger to the same sequence answer the same.
"""

from collections.abc import Sequence
from functools import reduce

from events import subjects
from events.codec import Recorded
from events.ids import JobId
from events.state.job import INITIAL, Absent, Ended, JobState, evolve, status_of
from services.log.port import EventLog
from services.scheduler.explaining.case import Dossier
from services.scheduler.state.world import World

READS_MAX = 4
"""How often the job's facts are read while it goes on changing."""


async def gather(world: World, ledger: EventLog, job: JobId) -> Dossier:
    """Return what the ledger says of `job` and of the jobs it depends on, as the world knows it.

    Raises LogUnavailable when the log stays silent.
    """
    needed = tuple(dict.fromkeys(_needed(_state(await _read(world, ledger, job)))))
    ended = {
        each: status_of(_state(await _read(world, ledger, each)))
        for each in needed
        if each not in world.jobs
    }
    facts: Sequence[Recorded] = ()
    for _ in range(READS_MAX):
        facts = await _read(world, ledger, job)
        if _agree(world, job, facts):
            break  # nothing is awaited from here on: facts and world stay of one instant
    statuses = {
        each: status_of(world.jobs[each]) if each in world.jobs else ended.get(each)
        for each in needed
    }
    return Dossier(job=job, facts=facts, dependencies=statuses)


async def _read(world: World, ledger: EventLog, job: JobId) -> Sequence[Recorded]:
    facts = await ledger.read(subjects.job(job))
    return [recorded for recorded in facts if recorded.seq <= world.seq]


def _agree(world: World, job: JobId, facts: Sequence[Recorded]) -> bool:
    """Tell whether the world has seen exactly these facts of the job."""
    known, state = world.jobs.get(job), _state(facts)
    if known is None:
        return isinstance(state, Absent | Ended)
    return known.version == state.version


def _state(facts: Sequence[Recorded]) -> JobState:
    return reduce(evolve, facts, INITIAL)


def _needed(state: JobState) -> Sequence[JobId]:
    return () if isinstance(state, Absent) else state.terms.spec.depends_on
