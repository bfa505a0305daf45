"""Attempts that were given up while their process may still run: their nodes are told to end them.

A fold of the ledger: an attempt is a stray from when a scheduler gives it up until its node is told
so, or starts anew. So what one scheduler gave up and did not tell, the next one tells. What the
worker makes of it is void by then: it only stops to burn its machine.
"""

from events import subjects
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import AttemptLost, LossCause
from events.node import Action, Registered, Signal
from events.state.node import NodeStatus
from services.clock import Pen
from services.log.port import Entry
from services.scheduler.state.world import World

MAY_STILL_RUN = frozenset({LossCause.NODE_LOST, LossCause.NOT_STARTED, LossCause.TIMED_OUT})
OF_ONE_NODE_MAX = 10_000
"""Strays remembered of one node that does not come back; the oldest is forgotten first."""

_WORKER = "worker/"
"""How the source of a worker's facts begins: what a worker gave up itself does not run."""
_GONE_FOR_GOOD = frozenset({NodeStatus.DRAINED, NodeStatus.REMOVED, NodeStatus.REFUSED})


class Strays:
    """What is to be ended on the nodes of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._strays: dict[NodeId, dict[tuple[JobId, int], bool]] = {}
        """Of each, whether the word for its node is on its way."""

    def apply(self, recorded: Recorded) -> None:
        """Take note of a fact that the world has folded."""
        fact = recorded.fact
        if subjects.is_job(recorded.subject):
            if isinstance(fact, AttemptLost) and not recorded.source.startswith(_WORKER):
                self._lost(subjects.job_of(recorded.subject), fact)
        elif subjects.is_node(recorded.subject):
            node = subjects.node_of(recorded.subject)
            gone = self._world.node(node).status in _GONE_FOR_GOOD
            if gone or isinstance(fact, Registered):
                self._strays.pop(node, None)
            elif isinstance(fact, Signal) and fact.action is Action.CANCEL:
                self._forget(node, (fact.job, fact.attempt))

    def begin(self) -> None:
        """Take it that nothing is on its way: another scheduler may have been at it."""
        for strays in self._strays.values():
            strays.update(dict.fromkeys(strays, False))

    def entries(self, pen: Pen) -> list[Entry]:
        """Return what to tell the nodes that are there, each once."""
        entries: list[Entry] = []
        for node, strays in self._strays.items():
            if self._world.node(node).status is not NodeStatus.ONLINE:
                continue
            for (job, attempt), under_way in strays.items():
                if not under_way:
                    strays[job, attempt] = True
                    signal = Signal(job=job, attempt=attempt, action=Action.CANCEL)
                    entries.append(Entry(pen.write(subjects.node(node), signal)))
        return entries

    def _lost(self, job: JobId, fact: AttemptLost) -> None:
        if fact.cause not in MAY_STILL_RUN:
            return
        strays = self._strays.setdefault(fact.node, {})
        strays[job, fact.attempt] = False
        if len(strays) > OF_ONE_NODE_MAX:
            del strays[next(iter(strays))]

    def _forget(self, node: NodeId, stray: tuple[JobId, int]) -> None:
        strays = self._strays.get(node, {})
        strays.pop(stray, None)
        if not strays:
            self._strays.pop(node, None)
