"""What is known of the job in question: its own facts, the world around it, and the hour."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from msgspec import Struct

from events.codec import Recorded
from events.ids import JobId
from events.job import JobFact
from events.state.job import JobStatus, Known
from services.config import SchedulerSettings
from services.scheduler.state.world import World

F = TypeVar("F", bound=JobFact)


class Dossier(Struct, frozen=True, kw_only=True):
    """What the ledger says of one job up to the sequence of a world; see `gather`."""

    job: JobId
    facts: Sequence[Recorded] = ()
    """Its own facts, all of them: a job that has ended is no longer in the world."""
    dependencies: Mapping[JobId, JobStatus | None] = {}
    """How the jobs it depends on are; None: nobody has submitted that one."""


class Case(Struct, frozen=True, kw_only=True):
    """One question, why a job is where it is, with all that it takes to answer it."""

    world: World
    settings: SchedulerSettings
    dossier: Dossier
    state: Known
    now: datetime

    @property
    def job(self) -> JobId:
        """The job in question."""
        return self.dossier.job

    def last(self, kind: type[F]) -> tuple[F, datetime] | None:
        """Return the job's last fact of a kind and when it became true; None: there is none."""
        for recorded in reversed(self.dossier.facts):
            if isinstance(recorded.fact, kind):
                return recorded.fact, recorded.time
        return None


class Answer(Struct, frozen=True):
    """What is said for people: why, and what must happen next."""

    summary: str
    next: str
    """Empty: nothing will happen by itself any more."""
