"""The life of one job, as facts.

The tags below are on disk. Never rename one, never reuse one, never change the meaning of a field:
add a field with a default, or a tag with the next version and an upcast in `events.codec`.
A fact's job is the subject it is filed under; its instant and sequence are in the envelope.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

from msgspec import Meta, Struct

from events.ids import NodeId
from events.media import EncodeStats, MadeFile
from events.spec import Instant, JobSpec, Priority, Queue

Attempt: TypeAlias = Annotated[int, Meta(ge=1)]
"""Counts the assignments of a job from 1; it is the fence: a smaller one is out of date."""


class FailureClass(StrEnum):
    """What kind of failure ended an attempt; decides whether another may help."""

    TRANSIENT = "transient"
    """Network, server, rate limit: the same again may work."""
    PERMANENT = "permanent"
    """Bad input, arguments or codec: the same again fails the same."""
    RESOURCE = "resource"
    """Memory, disk, encoder sessions of this node: another node may do."""
    INFRASTRUCTURE = "infrastructure"
    """The worker itself could not run the attempt."""


class LossCause(StrEnum):
    """Why an attempt is given up without an end of its own."""

    NODE_LOST = "node_lost"
    NODE_RESTARTED = "node_restarted"
    STALLED = "stalled"
    """It ran and made no progress; counts as a failure of the job, not as a crash."""
    TIMED_OUT = "timed_out"
    """It ran for longer than it may; counts as a failure of the job, not as a crash."""
    NOT_STARTED = "not_started"
    DRAINED = "drained"
    """The worker was asked to stop and handed the attempt back; no crash."""


FAULTS_OF_THE_JOB = frozenset({LossCause.STALLED, LossCause.TIMED_OUT})
"""Losses that count against the job's attempts; all others are its node's."""


class QueuedAfter(StrEnum):
    """What a pending job had been waiting for."""

    DEPENDENCIES = "dependencies"
    START_TIME = "start_time"
    BACKOFF = "backoff"
    LOSS = "loss"
    """Its node went away with the attempt; no back-off, the job is not at fault."""


class _Fact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact of a job; `tag` is its type on the wire."""

    tag: ClassVar[str]


class Placement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why this job now, and why there."""

    weight: float = 0.0
    """Queue weight times priority weight."""
    waited_s: float = 0.0
    candidates: int = 0
    """How many nodes could have taken it."""
    free: int = 0
    """Free slots of the chosen node before this job."""
    runner_up: str = ""
    """The next best node; empty when there was none."""
    score: float = 0.0
    """What the node was chosen by: free share, plus relative speed, less 1 for a GPU not needed,
    less half the share of its CPU that is busy."""
    speed: float = 0.0
    """Seconds of media it has made per second at work of this kind, in the mean; 0: not known."""


class Submitted(_Fact, frozen=True):
    """A request was accepted; it may be assigned unless it has to wait for something."""

    tag: ClassVar[str] = "job.submitted.v1"
    spec: JobSpec
    via: str = "api"
    """How it came: `api` or `command`."""


class Rejected(_Fact, frozen=True):
    """The request was not accepted, or no node could ever run the job; nothing will run."""

    tag: ClassVar[str] = "job.rejected.v1"
    reason: str
    """What was given, what is allowed, what to do."""
    field: str = ""
    """Where in the request, as `$.parameters.video.width`; empty when it is no field's fault."""
    request: str = ""
    """The head of the refused request, so that the sender can be found."""


class Queued(_Fact, frozen=True):
    """What the job waited for is there; it may be assigned."""

    tag: ClassVar[str] = "job.queued.v1"
    after: QueuedAfter


class Assigned(_Fact, frozen=True):
    """One node may run the job as this attempt, and no other."""

    tag: ClassVar[str] = "job.assigned.v1"
    node: NodeId
    attempt: Attempt
    placement: Placement = Placement()


class Declined(_Fact, frozen=True):
    """The node had no room for it; the job waits again, at no cost."""

    tag: ClassVar[str] = "job.declined.v1"
    node: NodeId
    attempt: Attempt
    reason: str = ""


class Started(_Fact, frozen=True):
    """The node runs the attempt."""

    tag: ClassVar[str] = "job.started.v1"
    node: NodeId
    attempt: Attempt


class PauseRequested(_Fact, frozen=True):
    """Somebody asked to stop the clock of this attempt."""

    tag: ClassVar[str] = "job.pause_requested.v1"
    attempt: Attempt
    by: str = ""
    reason: str = ""


class Paused(_Fact, frozen=True):
    """The attempt's processes are stopped; its time-outs stand still."""

    tag: ClassVar[str] = "job.paused.v1"
    attempt: Attempt


class ResumeRequested(_Fact, frozen=True):
    """Somebody asked the paused attempt to go on."""

    tag: ClassVar[str] = "job.resume_requested.v1"
    attempt: Attempt
    by: str = ""


class Resumed(_Fact, frozen=True):
    """The attempt's processes run again."""

    tag: ClassVar[str] = "job.resumed.v1"
    attempt: Attempt
    paused_s: Annotated[float, Meta(ge=0)] = 0.0


class CancelRequested(_Fact, frozen=True):
    """Somebody asked to end the running job; `Canceled` follows when the process is gone."""

    tag: ClassVar[str] = "job.cancel_requested.v1"
    by: str = ""
    reason: str = ""


class Canceled(_Fact, frozen=True):
    """The job is ended on request; nothing of it runs."""

    tag: ClassVar[str] = "job.canceled.v1"
    attempt: int = 0
    """The attempt that was ended; 0 when none had begun."""
    by: str = ""
    reason: str = ""


class AttemptFailed(_Fact, frozen=True):
    """The attempt ended without its output."""

    tag: ClassVar[str] = "job.attempt_failed.v1"
    node: NodeId
    attempt: Attempt
    failure: FailureClass
    message: str = ""
    """The telling line of the encoder's own words."""
    exit_status: int | None = None
    """As the shell counts; negative is the signal that ended it."""
    stats: EncodeStats = EncodeStats()


class AttemptLost(_Fact, frozen=True):
    """The attempt is given up: its node is silent, it made no progress, or its time is over."""

    tag: ClassVar[str] = "job.attempt_lost.v1"
    node: NodeId
    attempt: Attempt
    cause: LossCause
    reason: str = ""
    """The figures behind the cause, in words; empty where the cause says it all."""


class RetryScheduled(_Fact, frozen=True):
    """Another attempt may be assigned from `not_before` on."""

    tag: ClassVar[str] = "job.retry_scheduled.v1"
    not_before: Instant
    delay_s: Annotated[float, Meta(ge=0)]
    failures: Annotated[int, Meta(ge=0)]
    """Attempts that have failed so far."""


class Reprioritized(_Fact, frozen=True):
    """The job ranks anew."""

    tag: ClassVar[str] = "job.reprioritized.v1"
    queue: Queue
    priority: Priority
    by: str = ""


class Completed(_Fact, frozen=True):
    """The attempt has made its output; the job's one and only winner."""

    tag: ClassVar[str] = "job.completed.v1"
    node: NodeId
    attempt: Attempt
    files: tuple[MadeFile, ...] = ()
    stats: EncodeStats = EncodeStats()


class Failed(_Fact, frozen=True):
    """The job is given up: no retry can heal it, or none is left."""

    tag: ClassVar[str] = "job.failed.v1"
    failure: FailureClass
    reason: str
    attempts: Annotated[int, Meta(ge=0)] = 0
    poison: bool = False
    """Too many of its attempts were lost with their nodes: it may be what ends them."""


class Retried(_Fact, frozen=True):
    """A failed or canceled job begins anew: its failures are forgotten, attempts count on."""

    tag: ClassVar[str] = "job.retried.v1"
    by: str = ""


class Promoted(_Fact, frozen=True):
    """The winner's files have taken their final names."""

    tag: ClassVar[str] = "job.promoted.v1"
    node: NodeId
    attempt: Attempt


JobFact: TypeAlias = (
    Submitted
    | Rejected
    | Queued
    | Assigned
    | Declined
    | Started
    | PauseRequested
    | Paused
    | ResumeRequested
    | Resumed
    | CancelRequested
    | Canceled
    | AttemptFailed
    | AttemptLost
    | RetryScheduled
    | Reprioritized
    | Completed
    | Failed
    | Retried
    | Promoted
)
