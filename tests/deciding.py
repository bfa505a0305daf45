"""Jobs in every state, for tests of what is decided about them."""

import functools
from collections.abc import Sequence

from msgspec.structs import replace

from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Canceled,
    CancelRequested,
    Completed,
    Failed,
    FailureClass,
    JobFact,
    LossCause,
    Paused,
    PauseRequested,
    Promoted,
    Rejected,
    ResumeRequested,
    RetryScheduled,
    Started,
    Submitted,
)
from events.media import MadeFile
from events.spec import JobSpec
from events.state.job import INITIAL, JobState, evolve
from services.scheduler.deciders.job import (
    JobCommand,
    RetryPolicy,
    decide,
)
from tests.vocabulary import history, instant

JOB, OTHER = JobId("clip"), JobId("other")
N1, N2 = NodeId("n1"), NodeId("n2")
SPEC = JobSpec()
POLICY = RetryPolicy()
SUBMITTED = Submitted(spec=SPEC)
LATER = Submitted(spec=replace(SPEC, not_before=instant(60)))
DEPENDENT = Submitted(spec=replace(SPEC, depends_on=(OTHER,)))
ASSIGNED = Assigned(node=N1, attempt=1)
STARTED = Started(node=N1, attempt=1)
CANCEL_REQUESTED = CancelRequested(by="ann", reason="wrong clip")
FAILED_ONCE = AttemptFailed(
    node=N1, attempt=1, failure=FailureClass.TRANSIENT, message="connection reset"
)
LOST_ONCE = AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)
RETRY = RetryScheduled(not_before=instant(60), delay_s=5.0, failures=1)
COMPLETED = Completed(node=N1, attempt=1, files=(MadeFile(path="clip.mp4", size_bytes=1),))
REJECTED = Rejected(reason="no node has it")
GIVEN_UP = Failed(failure=FailureClass.PERMANENT, reason="no such input", attempts=1)
CANCELED = Canceled(attempt=0, by="ann")
PAUSE_REQUESTED = PauseRequested(attempt=1, by="ann", reason="lunch")
RESUME_REQUESTED = ResumeRequested(attempt=1, by="ann")

RUNNING = (SUBMITTED, ASSIGNED, STARTED)
GIVEN: dict[str, tuple[JobFact, ...]] = {
    "absent": (),
    "pending": (LATER,),
    "waiting": (SUBMITTED,),
    "assigned": (SUBMITTED, ASSIGNED),
    "running": RUNNING,
    "running, to be paused": (*RUNNING, PAUSE_REQUESTED),
    "paused": (*RUNNING, PAUSE_REQUESTED, Paused(attempt=1)),
    "paused, to be resumed": (*RUNNING, PAUSE_REQUESTED, Paused(attempt=1), RESUME_REQUESTED),
    "running, to be canceled": (*RUNNING, CANCEL_REQUESTED),
    "failed once": (*RUNNING, FAILED_ONCE),
    "lost once": (*RUNNING, LOST_ONCE),
    "backing off": (*RUNNING, FAILED_ONCE, RETRY),
    "completed": (*RUNNING, COMPLETED),
    "promoted": (*RUNNING, COMPLETED, Promoted(node=N1, attempt=1)),
    "failed": (*RUNNING, GIVEN_UP),
    "canceled": (SUBMITTED, CANCELED),
    "rejected": (REJECTED,),
}
ENDED = ("completed", "promoted", "failed", "canceled", "rejected")
BEGUN = ("running", "running, to be paused", "paused", "paused, to be resumed")
HELD = ("assigned", "running, to be canceled", *BEGUN)


def state_after(given: Sequence[JobFact]) -> JobState:
    return functools.reduce(evolve, history(*given), INITIAL)


def decided(*, given: Sequence[JobFact], when: JobCommand) -> tuple[JobFact, ...]:
    return decide(when, state_after(given))


def others(*names: str) -> list[str]:
    """Return the names of all states but these."""
    return [name for name in GIVEN if name not in names]
