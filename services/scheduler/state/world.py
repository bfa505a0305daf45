"""The scheduler's state: a fold of the whole ledger, indexed for deciding.

Only jobs that have not ended are kept. Where order matters there are dictionaries instead of sets:
it is the ledger's then, so that one ledger leads to the same decisions everywhere.

Beside the fold there are claims: jobs for which a fact is on its way into the log, so that the next
pass does not decide about them again before the log has answered. A claim ends with the next fact
of its job, or when its append lost a race.
"""

import heapq
from collections.abc import Hashable, Iterator
from datetime import datetime

from msgspec.structs import replace

from events import subjects
from events.cluster import Policy, PolicyChanged
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import Completed, Declined
from events.state import cluster as cluster_state
from events.state import job as job_state
from events.state import node as node_state
from events.state.job import Absent, Ended, Halted, Held, JobState, Pending, Waiting
from events.state.node import Node, NodeStatus
from services.scheduler.state import capacity
from services.scheduler.state.capacity import NOTHING, Resources, minus, plus
from services.scheduler.state.needs import Need, need_of
from services.scheduler.state.ranking import Rank, Ranking
from services.scheduler.state.ready import ReadyQueue
from services.scheduler.state.rooms import Room, Rooms
from services.scheduler.state.speed import Speeds, kind_of
from services.scheduler.state.turns import Turns


class World:
    """All jobs that have not ended, all nodes, and who holds what."""

    def __init__(self, policy: Policy) -> None:
        self.seq = 0
        """Last ledger sequence folded: the version of this world."""
        self.cluster = cluster_state.INITIAL
        self.ranking = Ranking(policy)
        """By the policy given, until a fact sets another."""
        self.jobs: dict[JobId, JobState] = {}
        self.nodes: dict[NodeId, Node] = {}
        self.held: dict[NodeId, dict[JobId, Resources]] = {}
        """What the jobs that a node has take of it."""
        self.taken: dict[NodeId, Resources] = {}
        """What is taken of each node, by claims too."""
        self.halted: set[JobId] = set()
        self.ready = ReadyQueue()
        self.rooms = Rooms()
        """The nodes that may get work now."""
        self._sizes: dict[NodeId, Resources] = {}
        """Of all nodes."""
        self._offers: dict[NodeId, Room] = {}
        """What these would have room for if they were empty."""
        self.speeds = Speeds()
        self.loads: dict[NodeId, float] = {}
        """Share of each node's CPU that is busy, as far as it was heard: not of the ledger, so it
        only weighs nodes that could all have the job."""
        self.turns = Turns(policy.shares)
        self.dependents: dict[JobId, dict[JobId, None]] = {}
        """Which pending jobs wait for a job."""
        self.unblocked: dict[JobId, None] = {}
        """Pending jobs whose dependencies are to be looked at."""
        self._due: list[tuple[datetime, JobId]] = []
        self._claims: dict[JobId, tuple[NodeId, Resources] | None] = {}
        self._backlog: dict[str, int] = {}
        """How many jobs of each tenant wait to be assigned, claimed or not."""

    @property
    def roomy(self) -> dict[NodeId, int]:
        """Free slots of the nodes that may get work now."""
        return self.rooms.slots()

    def apply(self, recorded: Recorded) -> None:
        """Fold one event of the ledger; what is of no job, node or fleet only counts."""
        self.seq = recorded.seq
        subject = recorded.subject
        if not subjects.is_token(subject.rpartition(".")[2]):
            return  # a stranger's: no job or node that could be told anything
        if subjects.is_job(subject):
            self._apply_job(subjects.job_of(subject), recorded)
        elif subjects.is_node(subject):
            self._apply_node(subjects.node_of(subject), recorded)
        elif subjects.is_cluster(subject):
            self.cluster = cluster_state.evolve(self.cluster, recorded)
            if isinstance(recorded.fact, PolicyChanged):
                self._rank_anew(recorded.fact.policy)

    def job(self, job: JobId) -> JobState:
        """Return the state of a job; Absent also for one that has ended."""
        return self.jobs.get(job, job_state.INITIAL)

    def before(self, recorded: Recorded) -> JobState:
        """Return the state of the job that a fact is about, before it; Absent for others' facts."""
        subject = recorded.subject
        return self.job(subjects.job_of(subject)) if subjects.is_job(subject) else job_state.INITIAL

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

    def need(self, job: JobId) -> Need:
        """Return what the job needs of a node; it must not be absent."""
        state = self.job(job)
        assert not isinstance(state, Absent)
        return need_of(state.terms.spec, state.avoid)

    def why_not(self, node: NodeId, need: Need) -> str | None:
        """Return why the node cannot take such a job now; None: it can. See `capacity.why_not`.

        `avoided`: the job lacked something there, and another node that lives can run it.
        """
        reason = capacity.why_not(self.node(node), need, self.taken.get(node, NOTHING))
        if reason is None and node in need.avoid and self.elsewhere(need):
            return "avoided"
        return reason

    def alike(self, node_id: NodeId, need: Need) -> Hashable:
        """Return what `why_not` follows from: it is the same for nodes of which this is equal."""
        if node_id in need.avoid:
            return node_id
        node = self.node(node_id)
        closed = capacity.closed(node)
        if closed:
            return closed
        if not need.capabilities <= node.capabilities:
            return need.capabilities - node.capabilities
        size, alone = self._sizes[node_id], capacity.hardware_only(node.capabilities)
        return size, alone, self.taken.get(node_id, NOTHING), node.full, node.circuit

    def elsewhere(self, need: Need) -> bool:
        """Tell whether a node that lives, and is not to be avoided, could ever run such a job."""
        return any(
            capacity.live(node) and name not in need.avoid and capacity.fits_ever(node, need)
            for name, node in self.nodes.items()
        )

    def claim(self, job: JobId, node: NodeId | None = None) -> None:
        """Note that a fact of `job` is on its way; `node`: and as good as there."""
        place = self.ready.place(job)
        self.ready.remove(job)
        if node is None:
            self._claims[job] = None
            return
        cost = self._cost(self.need(job) if place is None else place.line.need, node)
        self._claims[job] = node, cost
        self._take(node, cost)

    def claimed(self, job: JobId) -> bool:
        """Tell whether a fact of `job` is on its way."""
        return job in self._claims

    def unclaim(self, job: JobId) -> None:
        """Give the job back: its append came to nothing."""
        if job in self._claims:
            claim = self._claims.pop(job)
            if claim is not None:
                self._give_back(*claim)
            self._enter(job, self.job(job))

    def unclaim_all(self) -> None:
        """Give all jobs back, and look at all dependencies anew: nothing is on its way."""
        for job in list(self._claims):
            self.unclaim(job)
        for waiting in self.dependents.values():
            self.unblocked.update(waiting)

    def _apply_job(self, job: JobId, recorded: Recorded) -> None:
        before = self.job(job)
        after = job_state.evolve(before, recorded)
        claim = self._claims.pop(job, None)
        if claim is not None and not self._kept(job, claim, after):
            self._give_back(*claim)
        self._leave(job, before, after)
        if isinstance(after, Ended):
            self.jobs.pop(job, None)
            self.unblocked |= self.dependents.pop(job, {})
        elif not isinstance(after, Absent):  # the promotion of a job that has ended, or garbage
            self.jobs[job] = after
            self._enter(job, after)
        self._count(before, after)
        if isinstance(before, Held) and not isinstance(after, Held):
            self._learn(before, after, recorded)

    def _kept(self, job: JobId, claim: tuple[NodeId, Resources], after: JobState) -> bool:
        """Let the node keep what was claimed there, if that is what has become of the claim."""
        node, cost = claim
        if not isinstance(after, Held) or after.node != node:
            return False
        self.held.setdefault(node, {})[job] = cost
        return True

    def _apply_node(self, node_id: NodeId, recorded: Recorded) -> None:
        node = self.nodes[node_id] = node_state.evolve(self.node(node_id), recorded)
        if node.status is NodeStatus.REMOVED:
            self.speeds.forget(node_id)
            self.loads.pop(node_id, None)
        self._offer_anew(node_id)

    def _rank_anew(self, policy: Policy) -> None:
        """Rank the waiting jobs by another policy; turns begin anew."""
        self.ranking = Ranking(policy)
        self.turns = Turns(policy.shares)
        waiting = (
            (job, state.terms.job_no, *self._standing(state))
            for job, state in self.jobs.items()
            if isinstance(state, Waiting) and job not in self._claims
        )
        self.ready.rank_anew(waiting)

    def _standing(self, state: Waiting) -> tuple[Need, Rank]:
        return need_of(state.terms.spec, state.avoid), self.ranking.rank(state.terms)

    def _leave(self, job: JobId, before: JobState, after: JobState) -> None:
        match before:
            case Waiting():
                self.ready.remove(job)
            case Held(node=node) if not isinstance(after, Held):
                self._give_back(node, self.held[node].pop(job))
            case Halted():
                self.halted.discard(job)
            case Pending():
                self._wait_no_more(job, before)
            case _:
                pass

    def _enter(self, job: JobId, after: JobState) -> None:
        match after:
            case Waiting(terms=terms):
                self.ready.add(job, terms.job_no, *self._standing(after))
            case Held(node=node) if job not in self.held.get(node, ()):
                cost = self._cost(need_of(after.terms.spec), node)
                self.held.setdefault(node, {})[job] = cost
                self._take(node, cost)
            case Halted():
                self.halted.add(job)
            case Pending():
                self._wait(job, after)
            case _:
                pass

    def _count(self, before: JobState, after: JobState) -> None:
        """Keep the tenants' turns: who has something waiting, and who was given something."""
        if isinstance(before, Waiting) is isinstance(after, Waiting):
            return
        if isinstance(after, Waiting):
            tenant = after.terms.spec.tenant
            waiting = self._backlog.get(tenant, 0)
            self._backlog[tenant] = waiting + 1
            if not waiting:
                self.turns.begin(tenant)
        elif isinstance(before, Waiting):
            tenant = before.terms.spec.tenant
            self._backlog[tenant] -= 1
            if not self._backlog[tenant]:
                del self._backlog[tenant]
            if isinstance(after, Held) and self.ranking.fair:
                self.turns.take(tenant)

    def _learn(self, before: Held, after: JobState, recorded: Recorded) -> None:
        match recorded.fact:
            case Completed(stats=stats) if isinstance(after, Ended):
                self.speeds.learn(before.node, kind_of(before.terms.spec), stats.speed)
            case Declined() if isinstance(after, Waiting):
                # nothing more until it reports free room: it knows better
                self.nodes[before.node] = replace(self.node(before.node), full=True)
                self._offer_anew(before.node)
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

    def _cost(self, need: Need, node: NodeId) -> Resources:
        """Return what such a job takes on the node."""
        return capacity.cost(need, capacity.hardware_only(self.node(node).capabilities))

    def _take(self, node: NodeId, cost: Resources) -> None:
        self.taken[node] = plus(self.taken.get(node, NOTHING), cost)
        self._refresh(node)

    def _give_back(self, node: NodeId, cost: Resources) -> None:
        self.taken[node] = minus(self.taken[node], cost)
        self._refresh(node)

    def _refresh(self, node_id: NodeId) -> None:
        """Bring `rooms` up to date after what is taken of the node has changed."""
        whole = self._offers.get(node_id)
        if whole is None:
            return
        node = self.nodes[node_id]
        free = capacity.free(node, self.taken.get(node_id, NOTHING), whole.size)
        room = Room(*whole[:-1], free) if free.slots > 0 else None
        self.rooms.set(node_id, room)

    def _offer_anew(self, node_id: NodeId) -> None:
        """Bring `rooms` up to date after anything else about the node has changed."""
        node = self.node(node_id)
        size = self._sizes[node_id] = capacity.size(node)
        if node.schedulable and not node.full:
            alone = capacity.hardware_only(node.capabilities)
            gpu = capacity.has_gpu(node)
            self._offers[node_id] = Room(node.capabilities, alone, gpu, size, size)
            self._refresh(node_id)
        else:
            self._offers.pop(node_id, None)
            self.rooms.set(node_id, None)
