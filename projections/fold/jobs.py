"""Jobs: the pure fold of `events.state.job`, and the row that follows from each step of it.

A job is hot while facts about it are to be expected: until it is over and its files, if it made
any, have their final names. What changes a row is the step of the state, never the fact alone, so
a fact that the fold refused changes nothing but `last_seq`.
"""

from datetime import datetime
from enum import Enum, auto
from typing import assert_never

from events import job as facts
from events.codec import Recorded
from events.media import EncodeStats, MadeFile
from events.spec import JobSpec
from events.state.job import (
    INITIAL,
    Absent,
    Ended,
    Halted,
    Held,
    JobState,
    JobStatus,
    Pending,
    Waiting,
    evolve,
    status_of,
)
from events.telemetry import Progress
from projections.fold.rows import (
    AttemptRow,
    JobRow,
    Micros,
    capped,
    capped_or_none,
    micros,
    seconds_between,
)

PROGRESS_WRITE_S = 2.0
"""Shortest time between two reports of progress that change a job's row."""
_PROGRESS_WRITE_US = int(PROGRESS_WRITE_S * 1_000_000)

_TELLING = frozenset(
    {
        facts.Completed,
        facts.AttemptFailed,
        facts.AttemptLost,
        facts.Failed,
        facts.Canceled,
        facts.Rejected,
    }
)
"""Facts that say why; asked first, for most facts of a short job are not among them."""
_OUTCOMES: dict[type, str] = {
    facts.AttemptFailed: "failed",
    facts.AttemptLost: "lost",
    facts.Declined: "declined",
    facts.Canceled: "canceled",
    facts.Failed: "failed",
}


class Stored(Enum):
    """Which table has the job's row; a settled one stays in the hot one until it is swept."""

    NOWHERE = auto()
    HOT = auto()
    COLD = auto()


class HotJob:
    """One job about which facts are expected: its state, its row, and where the row lies."""

    __slots__ = ("row", "state", "stored")

    def __init__(self, row: JobRow, state: JobState) -> None:
        self.row = row
        self.state = state
        self.stored = Stored.NOWHERE

    @property
    def settled(self) -> bool:
        """Whether no further fact is expected."""
        state = self.state
        return isinstance(state, Ended) and (
            state.promoted or state.status is not JobStatus.COMPLETED
        )


def begun(recorded: Recorded, job_id: str, at: Micros) -> HotJob | None:
    """Return the job that `recorded` brings into being; None: it does not."""
    state = evolve(INITIAL, recorded)
    if isinstance(state, Absent):
        return None
    job = HotJob(_first_row(state.terms.spec, recorded.seq, job_id, at), state)
    _enter(job.row, state, at)
    _reflect(job.row, state)
    _explain(job.row, recorded)
    return job


def step(job: HotJob, recorded: Recorded, at: Micros) -> AttemptRow | None:
    """Apply one more fact to `job`; return the attempt that it ended short of completion."""
    before, row = job.state, job.row
    after = evolve(before, recorded)
    job.state = after
    row.last_seq = recorded.seq
    closed = None
    if type(after) is not type(before):
        if isinstance(before, Held) and not isinstance(recorded.fact, facts.Completed):
            closed = _closed(row, before, recorded, at)
        elif isinstance(before, Ended):
            _reopen(row)
        _enter(row, after, at)
        _explain(row, recorded)
    elif isinstance(before, Held) and isinstance(after, Held):
        _hold(row, before, after, recorded)
    _reflect(row, after)
    return closed


def report(job: HotJob, progress: Progress, at: Micros) -> bool:
    """Take a report of the attempt that runs into the row; return whether the row changed."""
    state, row = job.state, job.row
    if not isinstance(state, Held) or state.attempt != progress.attempt:
        return False
    if row.progress_at is not None and at - row.progress_at < _PROGRESS_WRITE_US:
        return False
    row.progress_at = at
    row.progress_percent = progress.percent
    row.out_time_s = progress.out_time_s
    row.fps = progress.fps
    row.speed = progress.speed
    row.eta_s = progress.eta_s
    row.size_bytes = capped_or_none(progress.size_bytes)
    return True


def _first_row(spec: JobSpec, seq: int, job_id: str, at: Micros) -> JobRow:
    return JobRow(
        job_no=seq,
        job_id=job_id,
        status="",
        queue=spec.queue,
        priority=spec.priority,
        tenant=spec.tenant,
        scenario=spec.scenario,
        engine=spec.engine,
        classification=spec.classification,
        labels=tuple(spec.labels.items()),
        depends_on=spec.depends_on or None,
        input=spec.input if isinstance(spec.input, str) else None,
        attempts_max=spec.attempts_max,
        deadline=_micros_or_none(spec.deadline),
        submitted_at=at,
        first_seq=seq,
        last_seq=seq,
    )


def _enter(row: JobRow, after: JobState, at: Micros) -> None:
    """Write down what becoming `after` means for the row."""
    match after:
        case Waiting():
            row.node = row.not_before = None
            row.queued_at = at
        case Pending(not_before=not_before):
            row.node = None
            row.not_before = _micros_or_none(not_before)
        case Held(node=node):
            _hold_anew(row, node, at)
        case Halted():
            row.node = None
            _stop(row, at)
        case Ended(node=node):
            _stop(row, at)
            row.node = node
            row.not_before = None
            row.ended_at = at
        case Absent():
            return
        case _:
            assert_never(after)


def _hold_anew(row: JobRow, node: str, at: Micros) -> None:
    """Begin an attempt: what was known of the one before is in its own row."""
    row.node = node
    row.assigned_at = at
    row.wait_s += seconds_between(at if row.queued_at is None else row.queued_at, at)
    row.started_at = row.run_s = row.progress_percent = row.progress_at = None
    row.eta_s = row.out_time_s = row.fps = row.speed = row.size_bytes = None
    row.frames = row.wall_s = row.cpu_s = row.encoder = None
    row.paused_s = 0.0


def _reopen(row: JobRow) -> None:
    """Let a job that has ended begin anew: how it ended is in its attempts and in the audit."""
    row.ended_at = row.failure_class = row.failure_reason = row.exit_status = None
    row.cancel_requested = row.poison = False


def _stop(row: JobRow, at: Micros) -> None:
    if row.started_at is not None and row.run_s is None:
        row.run_s = seconds_between(row.started_at, at)


def _hold(row: JobRow, before: Held, after: Held, recorded: Recorded) -> None:
    """Write down what changed while the same node has it."""
    if after.started_at is not None and before.started_at is None:
        row.started_at = micros(after.started_at)
    if before.paused and isinstance(recorded.fact, facts.Resumed):
        row.paused_s += recorded.fact.paused_s


def _reflect(row: JobRow, state: JobState) -> None:
    """Copy what the state says of itself."""
    if isinstance(state, Absent):
        return
    terms = state.terms
    row.status = status_of(state) or ""
    row.queue = terms.queue
    row.priority = terms.priority
    row.attempt = state.attempt
    row.failures = state.failures
    row.crashes = state.crashes
    if isinstance(state, Held | Halted):
        row.cancel_requested = state.cancel is not None
    elif isinstance(state, Ended):
        row.promoted = state.promoted


def _explain(row: JobRow, recorded: Recorded) -> None:
    """Write down why a step was made, where its fact tells."""
    fact = recorded.fact
    if type(fact) not in _TELLING:
        return
    match fact:
        case facts.Completed(files=files, stats=stats):
            row.failure_class = row.failure_reason = row.exit_status = None
            row.outputs = [file.path for file in files]
            row.size_bytes = _size(files)
            row.progress_percent = 100.0
            row.eta_s = None
            _measure(row, stats)
        case facts.AttemptFailed(failure=failure, message=message, exit_status=status, stats=stats):
            row.failure_class, row.failure_reason = failure, message
            row.exit_status = capped_or_none(status)
            _measure(row, stats)
        case facts.AttemptLost(cause=cause, reason=reason):
            row.failure_class, row.failure_reason = cause, reason or None
            row.exit_status = None
        case facts.Failed(failure=failure, reason=reason, poison=poison):
            row.failure_class, row.failure_reason, row.poison = failure, reason, poison
        case facts.Canceled(reason=reason) | facts.Rejected(reason=reason):
            row.failure_class, row.failure_reason = None, reason
        case _:
            pass


def _measure(row: JobRow | AttemptRow, stats: EncodeStats) -> None:
    row.wall_s = stats.wall_s
    row.cpu_s = stats.cpu_s
    row.frames = capped(stats.frames)
    row.fps = stats.fps
    row.speed = stats.speed
    row.encoder = stats.encoder


def _size(files: tuple[MadeFile, ...]) -> int:
    return capped(sum(file.size_bytes for file in files))


def _closed(row: JobRow, held: Held, recorded: Recorded, at: Micros) -> AttemptRow:
    """Return the attempt that `recorded` has ended; `row` is still as it was while it ran."""
    closed = AttemptRow(
        job_no=row.job_no,
        job_id=row.job_id,
        attempt=held.attempt,
        node=held.node,
        assigned_at=row.assigned_at,
        started_at=row.started_at,
        ended_at=at,
        outcome=_OUTCOMES[type(recorded.fact)],
    )
    if row.started_at is not None:
        closed.run_s = seconds_between(row.started_at, at)
    match recorded.fact:
        case facts.AttemptFailed(failure=failure, message=message, exit_status=status, stats=stats):
            closed.failure_class, closed.message = failure, message
            closed.exit_status = capped_or_none(status)
            _measure(closed, stats)
        case facts.AttemptLost(cause=cause, reason=reason):
            closed.failure_class, closed.message = cause, reason or None
        case facts.Declined(reason=reason) | facts.Canceled(reason=reason):
            closed.message = reason
        case facts.Failed(failure=failure, reason=reason):
            closed.failure_class, closed.message = failure, reason
        case _:
            pass
    return closed


def _micros_or_none(instant: datetime | None) -> Micros | None:
    return None if instant is None else micros(instant)
