"""A job that begins anew: worlds forget jobs that have ended, and take this one back."""

from events import subjects
from events.codec import Recorded
from services.log.entity import load_job
from services.log.port import EventLog
from services.scheduler.state.world import World


async def recall(world: World, ledger: EventLog, retried: Recorded) -> None:
    """Give the world back the job that `retried` is about, as it was before this fact."""
    if not subjects.is_job(retried.subject):
        return  # a stranger's: no job begins anew by it
    job = subjects.job_of(retried.subject)
    if subjects.is_token(job):
        world.recall(job, await load_job(ledger, job, before=retried.seq))
