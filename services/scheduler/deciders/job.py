"""The decider of one job: a command and the job's state decide facts.

Pure: whatever depends on time or policy comes inside the command. A command that has been carried
out already decides nothing, so repeating one is harmless; one that cannot be carried out is
refused by name.
"""

from datetime import datetime, timedelta
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
    JobStatus,
    Known,
    Pending,
    Waiting,
    status_of,
)
from services.scheduler.deciders.backoff import doubled_s, jittered_s, scattered_s
from services.scheduler.deciders.differing import differing
from services.scheduler.deciders.refusal import Refusal, Refused


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
    """Run a failed or canceled job again.

    The same again is harmless until the job has ended once more: then it is another retry.
    """

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
    crashes_free: int = 2
    """Losses after which a job runs again at once. After the next ones it waits, each job for
    another time, so that those lost with one node do not meet on the next: only the one that ends
    its nodes is to be given up."""


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
        case Submit():
            return _submit(command, state)
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


def _submit(command: Submit, state: JobState) -> tuple[JobFact, ...]:
    """Accept a job once; the same again is the same job, and another one needs an id of its own.

    A request that was refused before it could be read has no specification to compare.
    """
    if isinstance(state, Absent):
        return (Submitted(spec=command.spec, via=command.via),)
    unread = status_of(state) == JobStatus.REJECTED and state.terms.spec == JobSpec()
    paths = () if unread else differing(state.terms.spec, command.spec)
    if paths:
        message = (
            f"a job of this id, or idempotency key, is there already ({status_of(state)}) and "
            f"differs in {', '.join(paths)}: submit this one under another, or exactly as before"
        )
        raise Refused(Refusal.JOB_DIFFERS, message, paths[0])
    return ()


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
            raise _over(state, "only a job that has not ended can be canceled")
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
        raise _over(state, f"only a running job can be {wanted}")
    if isinstance(state, Held | Halted) and state.cancel is not None:
        raise _being_canceled(wanted)
    if not isinstance(state, Held) or state.started_at is None:
        message = f"the job is {status_of(state)}; only a running job can be {wanted}"
        raise Refused(
            Refusal.JOB_NOT_RUNNING, f"{message}: this one can be canceled or ranked anew"
        )
    return state


def _over(state: Ended, needs: str) -> Refused:
    """Return the refusal of what cannot be done to a job that has ended."""
    is_retriable = state.status in RETRIABLE
    possible = "it can be retried" if is_retriable else "submit it anew under another id"
    return Refused(Refusal.JOB_ENDED, f"the job is {state.status} already; {needs}: {possible}")


def _being_canceled(wanted: str) -> Refused:
    message = f"the job is being canceled; it cannot be {wanted} now: it can be retried once it is"
    return Refused(Refusal.JOB_NOT_RUNNING, f"{message} canceled")


def _retry(command: Retry, state: Known) -> tuple[JobFact, ...]:
    if isinstance(state, Held | Halted) and state.cancel is not None:
        raise _being_canceled("retried")
    if not isinstance(state, Ended):
        return ()
    if state.status not in RETRIABLE:
        raise _over(state, "only a failed or canceled job can be retried")
    return (Retried(by=command.by),)


def _reprioritize(command: Reprioritize, state: Known) -> tuple[JobFact, ...]:
    if isinstance(state, Ended):
        raise _over(state, "only one that has not ended can rank anew")
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
    policy, crashes = command.policy, state.crashes
    if ending.cause is LossCause.DRAINED:
        return (Queued(after=QueuedAfter.LOSS),)
    if crashes >= policy.crashes_max:
        reason = f"{crashes} attempts were lost, the last one on {state.node}: {ending.cause}"
        failure = FailureClass.INFRASTRUCTURE
        return (Failed(failure=failure, reason=reason, attempts=state.attempt, poison=True),)
    if crashes <= policy.crashes_free:
        return (Queued(after=QueuedAfter.LOSS),)
    longest_s = doubled_s(policy.base_s, crashes, policy.max_s)
    return _retry_later(command, state, scattered_s(longest_s, f"{command.job}/lost/{crashes}"))


def _settle_failed(
    command: Settle, state: Halted, failure: FailureClass, reason: str, *, last: bool = False
) -> tuple[JobFact, ...]:
    if last or state.failures >= state.terms.spec.attempts_max:
        return (Failed(failure=failure, reason=reason, attempts=state.attempt),)
    return _retry_later(command, state, backoff_s(command.job, state.failures, command.policy))


def _retry_later(command: Settle, state: Halted, delay_s: float) -> tuple[JobFact, ...]:
    return (
        RetryScheduled(
            not_before=command.now + timedelta(seconds=delay_s),
            delay_s=delay_s,
            failures=state.failures,
        ),
    )


def backoff_s(job: JobId, failures: int, policy: RetryPolicy) -> float:
    """Return the wait before the next attempt: min(base * 2^(failures - 1), max), less jitter."""
    longest_s = doubled_s(policy.base_s, failures, policy.max_s)
    return jittered_s(longest_s, f"{job}/{failures}")


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
