"""The scheduler's state: a fold of the whole ledger, indexed for deciding.

Only jobs that have not ended are kept. Where order matters there are dictionaries instead of sets:
it is the ledger's then, so that one ledger leads to the same decisions everywhere.

Beside the fold there are claims: jobs for which a fact is on its way into the log, so that the next
pass does not decide about them again before the log has answered. A claim ends with the next fact
of its job, or when its append lost a race.
"""

import heapq
from collections.abc import Iterator
from datetime import datetime

from msgspec.structs import replace

from events import subjects
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import Declined
from events.state import job as job_state
from events.state import node as node_state
from events.state.job import Absent, Ended, Halted, Held, JobState, Pending, Waiting
from events.state.node import Node
from services.scheduler.state.ready import ReadyQueue
from services.scheduler.state.weights import order_key, requirements


class World:
    """All jobs that have not ended, all nodes, and who holds what."""

    def __init__(self, *, aging_s_per_weight: float) -> None:
        self.seq = 0
        """Last ledger sequence folded: the version of this world."""
        self.jobs: dict[JobId, JobState] = {}
        self.nodes: dict[NodeId, Node] = {}
        self.held: dict[NodeId, dict[JobId, None]] = {}
        self.halted: set[JobId] = set()
        self.ready = ReadyQueue()
        self.roomy: dict[NodeId, int] = {}
        """Free slots of the nodes that may get work now."""
        self.dependents: dict[JobId, dict[JobId, None]] = {}
        """Which pending jobs wait for a job."""
        self.unblocked: dict[JobId, None] = {}
        """Pending jobs whose dependencies are to be looked at."""
        self._due: list[tuple[datetime, JobId]] = []
        self._claims: dict[JobId, NodeId | None] = {}
        self._claimed_on: dict[NodeId, int] = {}
        self._aging = aging_s_per_weight

    def apply(self, recorded: Recorded) -> None:
        """Fold one event of the ledger; what is neither a job's nor a node's only counts."""
        self.seq = recorded.seq
        subject = recorded.subject
        if subjects.is_job(subject):
            self._apply_job(subjects.job_of(subject), recorded)
        elif subjects.is_node(subject):
            node_id = subjects.node_of(subject)
            self.nodes[node_id] = node_state.evolve(self.node(node_id), recorded)
            self._refresh(node_id)

    def job(self, job: JobId) -> JobState:
        """Return the state of a job; Absent also for one that has ended."""
        return self.jobs.get(job, job_state.INITIAL)

    def node(self, node: NodeId) -> Node:
        """Return the state of a node."""
        return self.nodes.get(node, node_state.INITIAL)

    def recall(self, job: JobId, state: JobState) -> None:
        """Take back a job that has ended, as the fact that it begins anew needs it."""
        if isinstance(state, Ended):
            self.jobs[job] = state

    def holders(self) -> Iterator[tuple[JobId, Held]]:
        """Iterate over the jobs that nodes have."""
        for jobs in self.held.values():
            for job in jobs:
                state = self.jobs[job]
                assert isinstance(state, Held)
                yield job, state

    def due(self, now: datetime) -> list[JobId]:
        """Take out the pending jobs whose start time or back-off has come, each once."""
        found: dict[JobId, None] = {}
        while self._due and self._due[0][0] <= now:
            found[heapq.heappop(self._due)[1]] = None
        return list(found)

    def claim(self, job: JobId, node: NodeId | None = None) -> None:
        """Note that a fact of `job` is on its way; `node`: and a slot there is as good as taken."""
        self._claims[job] = node
        self.ready.remove(job)
        if node is not None:
            self._claimed_on[node] = self._claimed_on.get(node, 0) + 1
            self._refresh(node)

    def claimed(self, job: JobId) -> bool:
        """Tell whether a fact of `job` is on its way."""
        return job in self._claims

    def unclaim(self, job: JobId) -> None:
        """Give the job back: its append came to nothing."""
        if job in self._claims:
            self._drop_claim(job)
            self._enter(job, self.job(job))

    def _apply_job(self, job: JobId, recorded: Recorded) -> None:
        before = self.job(job)
        after = job_state.evolve(before, recorded)
        if job in self._claims:
            self._drop_claim(job)
        self._leave(job, before, after)
        if isinstance(after, Ended):
            self.jobs.pop(job, None)
            self.unblocked |= self.dependents.pop(job, {})
        elif not isinstance(after, Absent):  # the promotion of a job that has ended, or garbage
            self.jobs[job] = after
            self._enter(job, after)
        declined = isinstance(recorded.fact, Declined) and isinstance(after, Waiting)
        if declined and isinstance(before, Held):
            self._declined_by(before.node)

    def _leave(self, job: JobId, before: JobState, after: JobState) -> None:
        match before:
            case Waiting():
                self.ready.remove(job)
            case Held(node=node) if not isinstance(after, Held):
                del self.held[node][job]
                self._refresh(node)
            case Halted():
                self.halted.discard(job)
            case Pending():
                self._wait_no_more(job, before)
            case _:
                pass

    def _enter(self, job: JobId, after: JobState) -> None:
        match after:
            case Waiting(terms=terms):
                key = order_key(terms, self._aging)
                self.ready.add(job, key, terms.job_no, requirements(terms.spec))
            case Held(node=node, started_at=None):
                self.held.setdefault(node, {})[job] = None
                self._refresh(node)
            case Halted():
                self.halted.add(job)
            case Pending():
                self._wait(job, after)
            case _:
                pass

    def _wait(self, job: JobId, state: Pending) -> None:
        if state.not_before is not None:
            heapq.heappush(self._due, (state.not_before, job))
        if not state.backoff and state.terms.spec.depends_on:
            self.unblocked[job] = None
            for needed in state.terms.spec.depends_on:
                self.dependents.setdefault(needed, {})[job] = None

    def _wait_no_more(self, job: JobId, state: Pending) -> None:
        self.unblocked.pop(job, None)
        for needed in state.terms.spec.depends_on:
            waiting = self.dependents.get(needed, {})
            waiting.pop(job, None)
            if not waiting:
                self.dependents.pop(needed, None)

    def _declined_by(self, node_id: NodeId) -> None:
        """Give the node nothing more until it reports free room: it knows better."""
        self.nodes[node_id] = replace(self.node(node_id), full=True)
        self._refresh(node_id)

    def _drop_claim(self, job: JobId) -> None:
        node = self._claims.pop(job)
        if node is not None:
            self._claimed_on[node] -= 1
            if not self._claimed_on[node]:
                del self._claimed_on[node]
            self._refresh(node)

    def _refresh(self, node_id: NodeId) -> None:
        """Bring `roomy` up to date after anything about the node has changed."""
        node = self.node(node_id)
        taken = len(self.held.get(node_id, ())) + self._claimed_on.get(node_id, 0)
        room = node.slots - taken
        if room > 0 and node.schedulable and not node.full:
            self.roomy[node_id] = room
        else:
            self.roomy.pop(node_id, None)
