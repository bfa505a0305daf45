"""One entity's state, read from the log: what a writer folds before it decides."""

from functools import reduce

from events import subjects
from events.ids import JobId, NodeId
from events.state import node as node_state
from events.state.job import INITIAL, JobState, evolve
from events.state.node import Node
from services.log.port import EventLog


async def load_job(ledger: EventLog, job: JobId, *, before: int | None = None) -> JobState:
    """Return the state of a job as the ledger has it now, or had it before a sequence."""
    facts = await ledger.read(subjects.job(job))
    return reduce(evolve, (each for each in facts if before is None or each.seq < before), INITIAL)


async def load_node(ledger: EventLog, node: NodeId, *, known: Node = node_state.INITIAL) -> Node:
    """Return the state of a node as the ledger has it now.

    `known` is an earlier state of it: only later facts are read then. A node that has worked for
    months has millions of them, for all it was ever given is on its subject.
    """
    later = await ledger.read(subjects.node(node), after=known.version)
    return reduce(node_state.evolve, later, known)
