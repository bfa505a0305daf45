"""Follows jobs live: folds their facts and their progress until all have ended."""

from collections.abc import Callable, Iterable, Sequence

import anyio
from msgspec import Struct
from msgspec.structs import replace

from events import subjects
from events.codec import Recorded
from events.ids import JobId
from events.job import (
    AttemptFailed,
    AttemptLost,
    Canceled,
    Completed,
    Declined,
    Failed,
    Rejected,
    Retried,
)
from events.state.job import (
    INITIAL,
    Absent,
    Ended,
    Held,
    JobState,
    JobStatus,
    Pending,
    evolve,
    status_of,
)
from events.subjects import Filter
from events.telemetry import Progress
from services.backbone import Backbone

EXACT_FILTERS_MAX = 16
"""More jobs than this are picked out of all facts by the reader."""


class Sight(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be seen of one job now; None and empty: nothing yet."""

    job_id: JobId
    status: str = ""
    seq: int = 0
    """Ledger sequence of the fact that led here."""
    attempt: int = 0
    node: str = ""
    percent: float | None = None
    speed: float | None = None
    fps: float | None = None
    eta_s: float | None = None
    reason: str = ""
    """Why it failed, was rejected or canceled, or why its last attempt failed."""
    retrying: bool = False
    promoted: bool = False
    """Its files have their final names."""
    files: tuple[str, ...] = ()
    """Paths of what it made, below the output root of its node."""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        match self.status:
            case JobStatus.COMPLETED:
                return self.promoted
            case JobStatus.FAILED | JobStatus.CANCELED | JobStatus.REJECTED:
                return True
            case _:
                return False

    @property
    def well(self) -> bool:
        """Whether it has its output."""
        return self.status == JobStatus.COMPLETED and self.promoted


OnSight = Callable[[Sight], None]


class Observer:
    """Folds facts and progress of some jobs into what is to be seen of them."""

    def __init__(self, jobs: Iterable[JobId]) -> None:
        self._states: dict[JobId, JobState] = dict.fromkeys(jobs, INITIAL)
        self.sights = {job: Sight(job_id=job) for job in self._states}

    @property
    def over(self) -> bool:
        """Whether all jobs have ended."""
        return all(sight.over for sight in self.sights.values())

    def add(self, job: JobId) -> None:
        """Watch this job too; one that is watched already stays as it is."""
        if job not in self._states:
            self._states[job] = INITIAL
            self.sights[job] = Sight(job_id=job)

    def fact(self, recorded: Recorded) -> Sight | None:
        """Apply one fact of the ledger; return what changed, None: it is about others."""
        job = subjects.job_of(recorded.subject)
        state = self._states.get(job)
        if state is None:
            return None
        after = self._states[job] = evolve(state, recorded)
        sight = _seen(self.sights[job], after, recorded)
        self.sights[job] = sight
        return sight

    def progress(self, recorded: Recorded) -> Sight | None:
        """Apply one report of progress; one of an attempt that is over changes nothing."""
        fact = recorded.fact
        job = JobId(recorded.subject.rpartition(".")[2])
        state = self._states.get(job)
        if not isinstance(fact, Progress) or not isinstance(state, Held):
            return None
        if state.attempt != fact.attempt:
            return None
        sight = replace(
            self.sights[job],
            percent=fact.percent,
            speed=fact.speed,
            fps=fact.fps,
            eta_s=fact.eta_s,
        )
        self.sights[job] = sight
        return sight


async def follow(
    backbone: Backbone, jobs: Sequence[JobId], on_sight: OnSight, *, after: int = 0
) -> list[Sight]:
    """Watch jobs until all have ended; return how, in the order given.

    `after` is a ledger sequence before the first fact of any of them.
    """
    observer = Observer(jobs)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_progress, backbone, observer, on_sight)
        async with backbone.ledger.follow(
            after=after, filters=_filters(jobs, subjects.job, subjects.ALL_JOBS)
        ) as batches:
            async for batch in batches:
                for recorded in batch:
                    sight = observer.fact(recorded)
                    if sight is not None:
                        on_sight(sight)
                if observer.over:
                    break
        tasks.cancel_scope.cancel()
    return [observer.sights[job] for job in jobs]


async def _watch_progress(backbone: Backbone, observer: Observer, on_sight: OnSight) -> None:
    filters = _filters(tuple(observer.sights), subjects.telemetry_of_job, subjects.TELEMETRY_JOBS)
    last = await backbone.telemetry.last_seq()
    after = 0 if len(observer.sights) <= EXACT_FILTERS_MAX else last
    async with backbone.telemetry.follow(after=after, filters=filters) as batches:
        async for batch in batches:
            for recorded in batch:
                sight = observer.progress(recorded)
                if sight is not None:
                    on_sight(sight)


def _filters(
    jobs: Sequence[JobId], subject_of: Callable[[JobId], subjects.Subject], wide: Filter
) -> tuple[Filter, ...]:
    if len(jobs) > EXACT_FILTERS_MAX:
        return (wide,)
    return tuple(subjects.only(subject_of(job)) for job in jobs)


def _seen(sight: Sight, state: JobState, recorded: Recorded) -> Sight:
    if isinstance(state, Absent):
        return sight
    held = isinstance(state, Held)
    return replace(
        sight,
        status=str(status_of(state)),
        seq=recorded.seq,
        attempt=state.attempt,
        node=state.node if isinstance(state, Held) else sight.node,
        reason="" if isinstance(recorded.fact, Retried) else _reason(recorded) or sight.reason,
        retrying=isinstance(state, Pending) and state.backoff,
        promoted=isinstance(state, Ended) and state.promoted,
        files=_files(recorded) or sight.files,
        percent=sight.percent if held and state.attempt == sight.attempt else None,
        eta_s=sight.eta_s if held else None,
    )


def _files(recorded: Recorded) -> tuple[str, ...]:
    fact = recorded.fact
    return tuple(file.path for file in fact.files) if isinstance(fact, Completed) else ()


def _reason(recorded: Recorded) -> str:
    match recorded.fact:
        case Failed(reason=reason) | Rejected(reason=reason) | Canceled(reason=reason):
            return reason
        case AttemptFailed(message=message):
            return message
        case AttemptLost(cause=cause):
            return str(cause)
        case Declined(reason=reason):
            return reason
        case _:
            return ""
