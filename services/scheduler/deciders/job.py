"""The decider of one job: a command and the job's state decide facts.

Pure: whatever depends on time or policy comes inside the command. A command that has been carried
out already decides nothing, so repeating one is harmless; one that cannot be carried out is
refused by name.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import TypeAlias, assert_never

from msgspec import Struct

from events.ids import JobId, NodeId
from events.job import (
    FAULTS_OF_THE_JOB,
    Assigned,
    AttemptFailed,
    AttemptLost,
    Canceled,
    CancelRequested,
    Failed,
    FailureClass,
    JobFact,
    LossCause,
    PauseRequested,
    Placement,
    Queued,
    QueuedAfter,
    Rejected,
    Reprioritized,
    ResumeRequested,
    Retried,
    RetryScheduled,
    Submitted,
)
from events.spec import JobSpec, OnDependencyFailure, Priority, Queue
from events.state.job import (
    RETRIABLE,
    Absent,
    Ended,
    Halted,
    Held,
    JobState,
    Known,
    Pending,
    Waiting,
    status_of,
)


class Refusal(StrEnum):
    """Why a command was refused; stable, a metric label and the code of a reply."""

    JOB_UNKNOWN = "job_unknown"
    JOB_ENDED = "job_ended"
    JOB_NOT_RUNNING = "job_not_running"


class Refused(Exception):
    """The command is understood and refused; the log is unchanged."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal
        self.message = message


class Submit(Struct, frozen=True, kw_only=True):
    """Accept this specification."""

    spec: JobSpec
    via: str


class Reject(Struct, frozen=True, kw_only=True):
    """Record that a request was not accepted."""

    reason: str
    field: str = ""
    request: str = ""


class Cancel(Struct, frozen=True, kw_only=True):
    """End the job, wherever it is."""

    by: str = ""
    reason: str = ""


class Pause(Struct, frozen=True, kw_only=True):
    """Stop the running attempt's processes where they are."""

    by: str = ""
    reason: str = ""


class Resume(Struct, frozen=True, kw_only=True):
    """Let the paused attempt go on."""

    by: str = ""


class Retry(Struct, frozen=True, kw_only=True):
    """Run a failed or canceled job again."""

    by: str = ""


class Reprioritize(Struct, frozen=True, kw_only=True):
    """Rank the job anew; None: as it is."""

    queue: Queue | None = None
    priority: Priority | None = None
    by: str = ""


class Assign(Struct, frozen=True, kw_only=True):
    """Give the waiting job to a node."""

    node: NodeId
    placement: Placement


class GiveUp(Struct, frozen=True, kw_only=True):
    """The attempt will not end by itself any more."""

    attempt: int
    cause: LossCause
    reason: str = ""


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """When another attempt may help, and how long to wait for it."""

    base_s: float = 5.0
    max_s: float = 300.0
    crashes_max: int = 5


class Settle(Struct, frozen=True, kw_only=True):
    """Decide what follows an attempt that ended without success."""

    job: JobId
    now: datetime
    policy: RetryPolicy


class Release(Struct, frozen=True, kw_only=True):
    """Let a pending job be assigned if all it waited for is there."""

    now: datetime
    dependencies_met: bool = True


class Orphan(Struct, frozen=True, kw_only=True):
    """A job this one depends on has not succeeded."""

    dependency: JobId
    status: str


Control: TypeAlias = Cancel | Pause | Resume | Retry | Reprioritize
"""What people ask of a job that is there; refused by name where it cannot be."""
JobCommand: TypeAlias = Submit | Reject | Control | Assign | GiveUp | Settle | Release | Orphan


def decide(command: JobCommand, state: JobState) -> tuple[JobFact, ...]:
    """Return the facts that follow; none: the command is carried out already, or void by now.

    Raises Refused where somebody must be told no.
    """
    match command:
        case Submit(spec=spec, via=via):
            return (Submitted(spec=spec, via=via),) if isinstance(state, Absent) else ()
        case Reject():
            return _reject(command, state)
        case Cancel() | Pause() | Resume() | Retry() | Reprioritize():
            return _control(command, state)
        case Assign():
            return _assign(command, state)
        case GiveUp():
            return _give_up(command, state)
        case Settle():
            return _settle(command, state)
        case Release():
            return _release(command, state)
        case Orphan():
            return _orphan(command, state)
        case _:
            assert_never(command)


def _reject(command: Reject, state: JobState) -> tuple[JobFact, ...]:
    if not isinstance(state, Absent | Pending | Waiting):
        return ()
    return (Rejected(reason=command.reason, field=command.field, request=command.request),)


def _assign(command: Assign, state: JobState) -> tuple[JobFact, ...]:
    if not isinstance(state, Waiting):
        return ()
    attempt = state.attempt + 1
    return (Assigned(node=command.node, attempt=attempt, placement=command.placement),)


def _give_up(command: GiveUp, state: JobState) -> tuple[JobFact, ...]:
    if not isinstance(state, Held) or state.attempt != command.attempt:
        return ()
    return (
        AttemptLost(
            node=state.node, attempt=state.attempt, cause=command.cause, reason=command.reason
        ),
    )


def _control(command: Control, state: JobState) -> tuple[JobFact, ...]:
    if isinstance(state, Absent):
        raise Refused(Refusal.JOB_UNKNOWN, "there is no such job; look at `ffrtmp jobs list`")
    match command:
        case Cancel():
            return _cancel(command, state)
        case Pause():
            return _pause(command, state)
        case Resume():
            return _resume(command, state)
        case Retry():
            return _retry(command, state)
        case Reprioritize():
            return _reprioritize(command, state)
        case _:
            assert_never(command)


def _cancel(command: Cancel, state: Known) -> tuple[JobFact, ...]:
    match state:
        case Ended(status=status):
            if status == "canceled":
                return ()
            message = f"the job is {status} already; only a job that has not ended can be canceled"
            raise Refused(Refusal.JOB_ENDED, message)
        case Held(cancel=None):
            return (CancelRequested(by=command.by, reason=command.reason),)
        case Held():
            return ()
        case Pending() | Waiting() | Halted():
            return (Canceled(attempt=state.attempt, by=command.by, reason=command.reason),)
        case _:
            assert_never(state)


def _pause(command: Pause, state: Known) -> tuple[JobFact, ...]:
    held = _running(state, "paused")
    if isinstance(held.asked, PauseRequested) or (held.paused and held.asked is None):
        return ()
    return (PauseRequested(attempt=held.attempt, by=command.by, reason=command.reason),)


def _resume(command: Resume, state: Known) -> tuple[JobFact, ...]:
    held = _running(state, "resumed")
    if isinstance(held.asked, ResumeRequested) or not (held.paused or held.asked):
        return ()
    return (ResumeRequested(attempt=held.attempt, by=command.by),)


def _running(state: Known, wanted: str) -> Held:
    """Return the state of a job that runs and is to go on running. Raises Refused for others."""
    if isinstance(state, Ended):
        message = f"the job is {state.status} already; only a running job can be {wanted}"
        raise Refused(Refusal.JOB_ENDED, message)
    if not isinstance(state, Held) or state.started_at is None:
        message = f"the job is {status_of(state)}; only a running job can be {wanted}"
        raise Refused(Refusal.JOB_NOT_RUNNING, f"{message}, any that has not ended canceled")
    if state.cancel is not None:
        message = f"the job is being canceled; it cannot be {wanted}, but retried once it is over"
        raise Refused(Refusal.JOB_NOT_RUNNING, message)
    return state


def _retry(command: Retry, state: Known) -> tuple[JobFact, ...]:
    if not isinstance(state, Ended):
        return ()
    if state.status not in RETRIABLE:
        message = f"the job is {state.status}; only a failed or canceled job can be retried"
        raise Refused(Refusal.JOB_ENDED, f"{message}: submit it anew under another id")
    return (Retried(by=command.by),)


def _reprioritize(command: Reprioritize, state: Known) -> tuple[JobFact, ...]:
    if isinstance(state, Ended):
        message = f"the job is {state.status} already; only one that has not ended can rank anew"
        raise Refused(Refusal.JOB_ENDED, message)
    terms = state.terms
    queue, priority = command.queue or terms.queue, command.priority or terms.priority
    if (queue, priority) == (terms.queue, terms.priority):
        return ()
    return (Reprioritized(queue=queue, priority=priority, by=command.by),)


def _settle(command: Settle, state: JobState) -> tuple[JobFact, ...]:
    if not isinstance(state, Halted):
        return ()
    if state.cancel is not None:
        return (Canceled(attempt=state.attempt, by=state.cancel.by, reason=state.cancel.reason),)
    ending = state.ending
    if isinstance(ending, AttemptFailed):
        permanent = ending.failure is FailureClass.PERMANENT
        return _settle_failed(command, state, ending.failure, ending.message, last=permanent)
    if ending.cause in FAULTS_OF_THE_JOB:
        reason = ending.reason or str(ending.cause)
        return _settle_failed(command, state, FailureClass.TRANSIENT, reason)
    return _settle_lost(command, state, ending)


def _settle_lost(command: Settle, state: Halted, ending: AttemptLost) -> tuple[JobFact, ...]:
    if state.crashes < command.policy.crashes_max:
        return (Queued(after=QueuedAfter.LOSS),)
    reason = f"{state.crashes} attempts were lost, the last one on {state.node}: {ending.cause}"
    return (Failed(failure=FailureClass.INFRASTRUCTURE, reason=reason, attempts=state.attempt),)


def _settle_failed(
    command: Settle, state: Halted, failure: FailureClass, reason: str, *, last: bool = False
) -> tuple[JobFact, ...]:
    if last or state.failures >= state.terms.spec.attempts_max:
        return (Failed(failure=failure, reason=reason, attempts=state.attempt),)
    delay_s = backoff_s(command.job, state.failures, command.policy)
    return (
        RetryScheduled(
            not_before=command.now + timedelta(seconds=delay_s),
            delay_s=delay_s,
            failures=state.failures,
        ),
    )


def backoff_s(job: JobId, failures: int, policy: RetryPolicy) -> float:
    """Return the wait before the next attempt: min(base * 2^(failures - 1), max), less jitter.

    The jitter takes off up to a quarter and follows from the job's id and the count alone, so that
    every scheduler decides the same and jobs that failed together do not return together.
    """
    longest = min(policy.base_s * 2.0 ** min(failures - 1, 32), policy.max_s)
    digest = blake2b(f"{job}/{failures}".encode(), digest_size=2).digest()
    return round(longest * (1 - int.from_bytes(digest) / 0xFFFF / 4), 3)


def _release(command: Release, state: JobState) -> tuple[JobFact, ...]:
    if not isinstance(state, Pending):
        return ()
    if state.not_before is not None and command.now < state.not_before:
        return ()
    if state.backoff:
        return (Queued(after=QueuedAfter.BACKOFF),)
    if not command.dependencies_met:
        return ()
    waited_for_jobs = bool(state.terms.spec.depends_on)
    after = QueuedAfter.DEPENDENCIES if waited_for_jobs else QueuedAfter.START_TIME
    return (Queued(after=after),)


def _orphan(command: Orphan, state: JobState) -> tuple[JobFact, ...]:
    if not isinstance(state, Pending):
        return ()
    reason = f"depends on {command.dependency}, which is {command.status}"
    if state.terms.spec.on_dependency_failure is OnDependencyFailure.SKIP:
        return (Canceled(attempt=state.attempt, by="scheduler", reason=reason),)
    return (Failed(failure=FailureClass.PERMANENT, reason=reason, attempts=state.attempt),)
