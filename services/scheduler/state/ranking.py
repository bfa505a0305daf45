"""How jobs rank against each other, by the policy of the hour.

`weighted`: a job of weight w is ordered as if it had been submitted w * `aging_s_per_weight`
earlier. Weight and submission are fixed, so the order of two waiting jobs never changes: heaps
serve, nothing is sorted again as time goes by.

Deadlines count among jobs of one weight only. Each weight has its own line, in order of the dates
by which jobs are due; a job is due at its deadline, and no later than `DUE_S` after its
submission, with or without one. Between the lines only their heads are compared, by the head start
above, so a deadline lifts no job over a heavier one.

Nobody starves: a job of weight w is overtaken only by jobs submitted less than
(w_max - w) * `aging_s_per_weight` after it, and `DUE_S` later than that where jobs of its own
weight have deadlines. Proof: of its own line only what is due before it goes first, and a job is
due no earlier than it was submitted [1]; what goes first from a line of weight w' beats the head
of its own line, submitted at most `DUE_S` later, by less than (w' - w) head starts.

[1] A deadline that has passed at submission counts as that instant.

`strict`: by queue, then priority, then submission; deadlines and age count for nothing.
`fair`: tenants take turns (`state.turns`); inside a tenant as `weighted`.
"""

from typing import NamedTuple

from msgspec.structs import asdict

from events.cluster import Policy, PolicyKind
from events.spec import Priority, Queue
from events.state.job import Terms
from services.config import SchedulerSettings

DUE_S = 86_400.0
"""A job without a deadline is due this long after its submission: behind what is due the same day,
before what was submitted the day after."""


class Rank(NamedTuple):
    """Where a job waits: in which of the lines for its need, and where in it."""

    tenant: str
    """Whose turn it takes; empty where tenants take no turns."""
    weight: float
    key: float
    """The smallest goes first; of equal ones the one submitted first."""


class Ranking:
    """A policy, ready to rank jobs by."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        queues, priorities = asdict(policy.queues), asdict(policy.priorities)
        self.weights: dict[tuple[Queue, Priority], float] = {
            (queue, priority): queues[queue] * priorities[priority]
            for queue in Queue
            for priority in Priority
        }
        self.fair = policy.kind is PolicyKind.FAIR
        self.strict = policy.kind is PolicyKind.STRICT

    def weight(self, queue: Queue, priority: Priority) -> float:
        """Return queue weight times priority weight."""
        return self.weights[queue, priority]

    def rank(self, terms: Terms) -> Rank:
        """Return where a job with these terms waits."""
        if self.strict:
            return Rank("", 0.0, _STRICT[terms.queue, terms.priority])
        tenant = terms.spec.tenant if self.fair else ""
        return Rank(tenant, self.weights[terms.queue, terms.priority], _due_s(terms))

    def order(self, terms: Terms) -> float:
        """Return by what the head of a line competes with those of others; smaller first."""
        if self.strict:
            return _STRICT[terms.queue, terms.priority]
        head_start_s = self.weights[terms.queue, terms.priority] * self.policy.aging_s_per_weight
        return terms.submitted_at.timestamp() - head_start_s


_STRICT = {
    (queue, priority): float(number)
    for number, (queue, priority) in enumerate(
        (queue, priority) for queue in Queue for priority in Priority
    )
}


def initial_policy(settings: SchedulerSettings) -> Policy:
    """Return the policy that holds until a request sets another."""
    return Policy(kind=settings.policy, aging_s_per_weight=settings.aging_s_per_weight)


def _due_s(terms: Terms) -> float:
    """Return when the job is due, in seconds of Unix time."""
    submitted_s = terms.submitted_at.timestamp()
    deadline = terms.spec.deadline
    if deadline is None:
        return submitted_s + DUE_S
    return min(max(deadline.timestamp(), submitted_s), submitted_s + DUE_S)
