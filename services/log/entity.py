"""One entity's state, read from the log: what a writer folds before it decides."""

from functools import reduce

from events import subjects
from events.ids import JobId, NodeId
from events.state import cluster as cluster_state
from events.state import node as node_state
from events.state.cluster import Cluster
from events.state.job import INITIAL, JobState, evolve
from events.state.node import Node
from services.log.port import EventLog


async def load_job(ledger: EventLog, job: JobId) -> JobState:
    """Return the state of a job as the ledger has it now."""
    return reduce(evolve, await ledger.read(subjects.job(job)), INITIAL)


async def load_node(ledger: EventLog, node: NodeId, *, known: Node = node_state.INITIAL) -> Node:
    """Return the state of a node as the ledger has it now.

    `known` is an earlier state of it: only later facts are read then. A node that has worked for
    months has millions of them, for all it was ever given is on its subject.
    """
    later = await ledger.read(subjects.node(node), after=known.version)
    return reduce(node_state.evolve, later, known)


async def load_policy(ledger: EventLog) -> tuple[Cluster, int]:
    """Return what has been decided on ranking, and the sequence of the last such fact, 0: none."""
    facts = await ledger.read(subjects.POLICY)
    state = reduce(cluster_state.evolve, facts, cluster_state.INITIAL)
    return state, facts[-1].seq if facts else 0
