"""The state of one job: a fold of its facts.

`evolve` is total and never raises: a fact that does not fit the state (a foreign writer's, or a
loser's of an earlier attempt) leaves everything but the version as it was. Refusing is the
decider's part.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from events import job as facts
from events.codec import Recorded
from events.ids import NodeId
from events.spec import JobSpec, Priority
from events.spec import Queue as QueueName
from events.subjects import is_token


class JobStatus(StrEnum):
    """What people and tables call the state of a job."""

    PENDING = "pending"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    PROCESSING = "processing"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"


TERMINAL = frozenset(
    {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.REJECTED}
)
RETRIABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELED})
"""How a job may have ended that can begin anew."""


class Terms(Struct, frozen=True):
    """What was agreed when the job was accepted."""

    job_no: int
    """Ledger sequence of `Submitted`: the job's number."""
    submitted_at: datetime
    spec: JobSpec
    queue: QueueName
    priority: Priority


class Absent(Struct, frozen=True):
    """Nothing is known of the job; `version` counts only foreign facts on its subject."""

    version: int = 0


class _Known(Struct, frozen=True, kw_only=True):
    """What is known of every job that was submitted."""

    version: int
    """Ledger sequence of the job's last fact: what the next writer must expect."""
    terms: Terms
    attempt: int = 0
    """Assignments so far."""
    failures: int = 0
    """Attempts that failed by themselves."""
    crashes: int = 0
    """Attempts that were lost with their node."""
    avoid: tuple[NodeId, ...] = ()
    """Nodes that lacked what the job needs: not again there while others can run it."""


class Pending(_Known, frozen=True, kw_only=True):
    """Accepted; waits for its start time, its dependencies or the end of a back-off."""

    not_before: datetime | None = None
    backoff: bool = False


class Waiting(_Known, frozen=True, kw_only=True):
    """May be assigned."""

    since: datetime


class Held(_Known, frozen=True, kw_only=True):
    """One node has it."""

    node: NodeId
    assigned_at: datetime
    assigned_seq: int
    started_at: datetime | None = None
    paused: bool = False
    paused_at: datetime | None = None
    """Since when it stands still; None: it does not."""
    paused_s: float = 0.0
    """How long it had stood still before, in all."""
    asked: facts.PauseRequested | facts.ResumeRequested | None = None
    """What was asked of the running attempt and has not been confirmed."""
    cancel: facts.CancelRequested | None = None


class Halted(_Known, frozen=True, kw_only=True):
    """An attempt ended without success; what follows has not been decided yet."""

    node: NodeId
    ending: facts.AttemptFailed | facts.AttemptLost
    cancel: facts.CancelRequested | None = None


class Ended(_Known, frozen=True, kw_only=True):
    """Over. A completed job is `promoted` once its files have their final names."""

    status: JobStatus
    node: NodeId | None = None
    promoted: bool = False


Known: TypeAlias = Pending | Waiting | Held | Halted | Ended
JobState: TypeAlias = Absent | Known
INITIAL: JobState = Absent()


def status_of(state: JobState) -> JobStatus | None:
    """Return the word for `state`; None: there is no such job."""
    match state:
        case Absent():
            return None
        case Pending() | Halted():
            return JobStatus.PENDING
        case Waiting():
            return JobStatus.QUEUED
        case Held(started_at=None):
            return JobStatus.ASSIGNED
        case Held(paused=paused):
            return JobStatus.PAUSED if paused else JobStatus.PROCESSING
        case Ended(status=status):
            return status
        case _:
            assert_never(state)


def evolve(state: JobState, recorded: Recorded) -> JobState:
    """Apply one fact of the job that `state` is of; the version becomes the fact's sequence."""
    handler = _HANDLERS.get(type(recorded.fact))
    after = state if handler is None else handler(state, recorded.fact, recorded)
    return after if after.version == recorded.seq else replace(after, version=recorded.seq)


def _submitted(state: JobState, fact: facts.Submitted, at: Recorded) -> JobState:
    if not isinstance(state, Absent):
        return state
    spec = fact.spec
    return _accepted(Terms(at.seq, at.time, spec, spec.queue, spec.priority), at)


def _rejected(state: JobState, _: facts.Rejected, at: Recorded) -> JobState:
    match state:
        case Absent():
            spec = JobSpec()
            terms = Terms(at.seq, at.time, spec, spec.queue, spec.priority)
            return Ended(version=at.seq, terms=terms, status=JobStatus.REJECTED)
        case Pending() | Waiting() | Halted():
            return _ended(state, at, JobStatus.REJECTED)
        case Held() | Ended():
            return state
        case _:
            assert_never(state)


def _queued(state: JobState, _: facts.Queued, at: Recorded) -> JobState:
    return _waiting(state, at) if isinstance(state, Pending | Halted) else state


def _assigned(state: JobState, fact: facts.Assigned, at: Recorded) -> JobState:
    if not isinstance(state, Waiting) or fact.attempt != state.attempt + 1:
        return state
    if not is_token(fact.node):  # a stranger's: no node could be told of it
        return state
    return Held(
        version=at.seq,
        terms=state.terms,
        attempt=fact.attempt,
        failures=state.failures,
        crashes=state.crashes,
        avoid=state.avoid,
        node=fact.node,
        assigned_at=at.time,
        assigned_seq=at.seq,
    )


def _declined(state: JobState, fact: facts.Declined, at: Recorded) -> JobState:
    held = _holder(state, fact.attempt)
    return state if held is None or held.started_at is not None else _waiting(held, at)


def _started(state: JobState, fact: facts.Started, at: Recorded) -> JobState:
    held = _holder(state, fact.attempt)
    if held is None or held.started_at is not None:
        return state
    return replace(held, version=at.seq, started_at=at.time)


def _pace_asked(
    state: JobState, fact: facts.PauseRequested | facts.ResumeRequested, at: Recorded
) -> JobState:
    held = _holder(state, fact.attempt)
    return state if held is None else replace(held, version=at.seq, asked=fact)


def _paused(state: JobState, fact: facts.Paused, at: Recorded) -> JobState:
    held = _holder(state, fact.attempt)
    if held is None:
        return state
    asked = None if isinstance(held.asked, facts.PauseRequested) else held.asked
    paused_at = held.paused_at or at.time
    return replace(held, version=at.seq, paused=True, paused_at=paused_at, asked=asked)


def _resumed(state: JobState, fact: facts.Resumed, at: Recorded) -> JobState:
    held = _holder(state, fact.attempt)
    if held is None:
        return state
    asked = None if isinstance(held.asked, facts.ResumeRequested) else held.asked
    paused_s = held.paused_s + fact.paused_s
    return replace(
        held, version=at.seq, paused=False, paused_at=None, paused_s=paused_s, asked=asked
    )


def _cancel_requested(state: JobState, fact: facts.CancelRequested, at: Recorded) -> JobState:
    if isinstance(state, Held | Halted):
        return replace(state, version=at.seq, cancel=fact)
    return state


def _canceled(state: JobState, fact: facts.Canceled, at: Recorded) -> JobState:
    if isinstance(state, Absent | Ended) or 0 < fact.attempt < state.attempt:
        return state
    return _ended(state, at, JobStatus.CANCELED)


def _attempt_failed(state: JobState, fact: facts.AttemptFailed, at: Recorded) -> JobState:
    held = _holder(state, fact.attempt)
    if held is None:
        return state
    halted = _halted(held, fact, at, failures=held.failures + 1)
    if fact.failure is not facts.FailureClass.RESOURCE or held.node in held.avoid:
        return halted
    return replace(halted, avoid=(*held.avoid, held.node))


def _attempt_lost(state: JobState, fact: facts.AttemptLost, at: Recorded) -> JobState:
    held = _holder(state, fact.attempt)
    if held is None:
        return state
    if fact.cause in facts.FAULTS_OF_THE_JOB:
        return _halted(held, fact, at, failures=held.failures + 1)
    crashed = 0 if fact.cause is facts.LossCause.DRAINED else 1
    return _halted(held, fact, at, crashes=held.crashes + crashed)


def _retry_scheduled(state: JobState, fact: facts.RetryScheduled, at: Recorded) -> JobState:
    if not isinstance(state, Halted):
        return state
    return Pending(
        version=at.seq,
        terms=state.terms,
        attempt=state.attempt,
        failures=state.failures,
        crashes=state.crashes,
        avoid=state.avoid,
        not_before=fact.not_before,
        backoff=True,
    )


def _reprioritized(state: JobState, fact: facts.Reprioritized, at: Recorded) -> JobState:
    if isinstance(state, Absent | Ended):
        return state
    terms = replace(state.terms, queue=fact.queue, priority=fact.priority)
    return replace(state, version=at.seq, terms=terms)


def _completed(state: JobState, fact: facts.Completed, at: Recorded) -> JobState:
    held = _holder(state, fact.attempt)
    if held is None:
        return state
    ended = _ended(held, at, JobStatus.COMPLETED)
    return ended if fact.files else replace(ended, promoted=True)


def _failed(state: JobState, _: facts.Failed, at: Recorded) -> JobState:
    if isinstance(state, Absent | Ended):
        return state
    return _ended(state, at, JobStatus.FAILED)


def _retried(state: JobState, _: facts.Retried, at: Recorded) -> JobState:
    if not isinstance(state, Ended) or state.status not in RETRIABLE:
        return state
    return _accepted(state.terms, at, attempt=state.attempt)


def _promoted(state: JobState, fact: facts.Promoted, at: Recorded) -> JobState:
    if isinstance(state, Ended) and state.attempt == fact.attempt:
        return replace(state, version=at.seq, promoted=True)
    return state


def _holder(state: JobState, attempt: int) -> Held | None:
    """Return the state if it is of exactly this attempt: the fence."""
    return state if isinstance(state, Held) and state.attempt == attempt else None


def _accepted(terms: Terms, at: Recorded, attempt: int = 0) -> Pending | Waiting:
    """Return how a job begins: at its submission, or anew after an end without success."""
    spec = terms.spec
    if spec.not_before is not None or spec.depends_on:
        return Pending(version=at.seq, terms=terms, attempt=attempt, not_before=spec.not_before)
    return Waiting(version=at.seq, terms=terms, attempt=attempt, since=at.time)


def _waiting(state: Pending | Held | Halted, at: Recorded) -> Waiting:
    return Waiting(
        version=at.seq,
        terms=state.terms,
        attempt=state.attempt,
        failures=state.failures,
        crashes=state.crashes,
        avoid=state.avoid,
        since=at.time,
    )


def _halted(
    held: Held,
    ending: facts.AttemptFailed | facts.AttemptLost,
    at: Recorded,
    *,
    failures: int | None = None,
    crashes: int | None = None,
) -> Halted:
    return Halted(
        version=at.seq,
        terms=held.terms,
        attempt=held.attempt,
        failures=held.failures if failures is None else failures,
        crashes=held.crashes if crashes is None else crashes,
        avoid=held.avoid,
        node=held.node,
        ending=ending,
        cancel=held.cancel,
    )


def _ended(state: Pending | Waiting | Held | Halted, at: Recorded, status: JobStatus) -> Ended:
    return Ended(
        version=at.seq,
        terms=state.terms,
        attempt=state.attempt,
        failures=state.failures,
        crashes=state.crashes,
        avoid=state.avoid,
        status=status,
        node=state.node if isinstance(state, Held | Halted) else None,
    )


_HANDLERS: dict[type, Callable[[JobState, Any, Recorded], JobState]] = {
    facts.Submitted: _submitted,
    facts.Rejected: _rejected,
    facts.Queued: _queued,
    facts.Assigned: _assigned,
    facts.Declined: _declined,
    facts.Started: _started,
    facts.PauseRequested: _pace_asked,
    facts.Paused: _paused,
    facts.ResumeRequested: _pace_asked,
    facts.Resumed: _resumed,
    facts.CancelRequested: _cancel_requested,
    facts.Canceled: _canceled,
    facts.AttemptFailed: _attempt_failed,
    facts.AttemptLost: _attempt_lost,
    facts.RetryScheduled: _retry_scheduled,
    facts.Reprioritized: _reprioritized,
    facts.Completed: _completed,
    facts.Failed: _failed,
    facts.Retried: _retried,
    facts.Promoted: _promoted,
}
