"""What can be asked of jobs in which state, as lists and previews know it.

The ledger decides; this is what it will decide of a job that has not moved since.
"""

from collections.abc import Mapping

from msgspec import Struct

from events.state.job import RETRIABLE, TERMINAL, JobStatus

GOING = frozenset(JobStatus) - TERMINAL
ON_A_NODE = frozenset({JobStatus.ASSIGNED, JobStatus.PROCESSING, JobStatus.PAUSED})


class Verb(Struct, frozen=True, kw_only=True):
    """One thing that can be asked of jobs."""

    name: str
    usual: frozenset[JobStatus]
    """Jobs in these states are meant when the filter names no state."""
    taken: frozenset[JobStatus]
    """Jobs in these states are not refused; what is so already stays as it is."""
    needs: str
    """What a job must be, for those that are refused."""
    goal: JobStatus | None = None
    """Where a job gets by it that a node has, once the node has done it; None: it is not asked."""


CANCEL = Verb(
    name="cancel",
    usual=GOING,
    taken=GOING | {JobStatus.CANCELED},
    needs="only a job that has not ended can be canceled",
    goal=JobStatus.CANCELED,
)
PAUSE = Verb(
    name="pause",
    usual=frozenset({JobStatus.PROCESSING}),
    taken=frozenset({JobStatus.PROCESSING, JobStatus.PAUSED}),
    needs="only a running job can be paused",
    goal=JobStatus.PAUSED,
)
RESUME = Verb(
    name="resume",
    usual=frozenset({JobStatus.PAUSED}),
    taken=frozenset({JobStatus.PROCESSING, JobStatus.PAUSED}),
    needs="only a paused job can be resumed",
    goal=JobStatus.PROCESSING,
)
RETRY = Verb(
    name="retry",
    usual=RETRIABLE,
    taken=RETRIABLE | GOING,
    needs="only a failed or canceled job can be retried",
)
REPRIORITIZE = Verb(
    name="reprioritize",
    usual=GOING,
    taken=GOING,
    needs="only a job that has not ended can rank anew",
)
VERBS: Mapping[str, Verb] = {
    verb.name: verb for verb in (CANCEL, PAUSE, RESUME, RETRY, REPRIORITIZE)
}


def meant(verb: Verb, states: tuple[str, ...]) -> tuple[str, ...]:
    """Return which states the jobs are in that will be asked; `states` are the filter's, if any."""
    wanted = verb.taken & {JobStatus(word) for word in states} if states else verb.usual
    return tuple(word.value for word in JobStatus if word in wanted)


def come_to(verb: Verb, status: str) -> str:
    """Return what it comes to for a job that took it and is still in this state."""
    if verb.goal is None or status == verb.goal or status not in ON_A_NODE:
        return status
    return f"{status}; its node is told to {verb.name} it"


def left_out(verb: Verb, status: str) -> str:
    """Return why a job in this state, which a filter takes, is not asked."""
    if status in verb.taken:
        return "needs nothing"
    return verb.needs
