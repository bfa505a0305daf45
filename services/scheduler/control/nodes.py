"""Requests about a node that is there: cordon, uncordon, drain, remove.

Each comes on two subjects, one that is answered at once and one that is kept until it is decided.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from events import subjects
from events.ids import NodeId
from events.requests import (
    CordonNode,
    DrainNode,
    Problem,
    RemoveNode,
    Reply,
    UncordonNode,
    decode_request,
)
from events.state.node import INITIAL, Circuit, Node, NodeStatus, evolve
from events.subjects import Subject
from services.bus.port import Request
from services.clock import Pen
from services.log.entity import load_node
from services.log.persist import persistently
from services.log.port import EventLog
from services.scheduler.control.transact import Decided, Matter, once, settle
from services.scheduler.deciders.node import Cordon, Drain, NodeCommand, Remove, Uncordon, decide
from services.scheduler.deciders.refusal import Refused

Asked: TypeAlias = tuple[NodeId, NodeCommand]
NodeReader: TypeAlias = Callable[[bytes], Asked]
"""Reads a request's body. Raises InvalidRequest."""
Known: TypeAlias = Callable[[NodeId], Node]
"""Tells a state that a node has had, from memory: what is read of the log then is only the rest."""


class NodeControl:
    """Carries such requests out."""

    def __init__(self, ledger: EventLog, pen: Pen, known: Known) -> None:
        self._ledger = ledger
        self._pen = pen
        self._known = known

    async def carry_out(self, request: Request, read: NodeReader) -> Reply:
        """Decide on one request; the answer tells the node's state, or why not.

        Raises InvalidRequest when it cannot be read, Conflict when a removal met new facts of the
        node again and again: it lives.
        """
        node, command = read(request.body)
        try:
            decided = await persistently(
                lambda: self._settle(node, command, request), "controlling"
            )
        except Refused as no:
            problem = Problem(code=no.refusal, message=f"{node}: {no.message}", field="$.node_id")
            return Reply(node_id=node, error=problem)
        after = await persistently(lambda: self._load(node), "controlling")
        return Reply(node_id=node, status=standing(after), seq=decided.seq)

    async def _settle(self, node: NodeId, command: NodeCommand, request: Request) -> Decided[Node]:
        """Decide and append; a busy node's subject grows all the time, so orders insist.

        A cordon, a drain and their end are as right whatever the node reports meanwhile; a removal
        is not, for it may meet a worker that has just begun. What comes again is looked for in all
        that the log has of the node.
        """
        known = INITIAL if request.again else self._known(node)
        matter = Matter(
            subject=subjects.node(node),
            begin=known,
            after=known.version,
            evolve=evolve,
            decide=lambda state: decide(command, state),
            insist=not isinstance(command, Remove),
            once=once(request),
            traceparent=request.traceparent,
        )
        return await settle(self._ledger, self._pen, matter)

    async def _load(self, node: NodeId) -> Node:
        return await load_node(self._ledger, node, known=self._known(node))


def standing(node: Node) -> str:
    """Return a node's state in words: whether it lives, and what keeps work away from it."""
    words = [str(node.status)]
    if node.status is NodeStatus.REMOVED:
        return words[0]
    if node.draining and node.status is not NodeStatus.DRAINED:
        words.append("draining")
    elif node.cordoned:
        words.append("cordoned")
    if node.circuit is not Circuit.CLOSED:
        words.append(f"circuit {node.circuit}")
    return ", ".join(words)


def _cordon(body: bytes) -> Asked:
    asked = decode_request(CordonNode, body)
    return asked.node_id, Cordon(by=asked.by, reason=asked.reason)


def _uncordon(body: bytes) -> Asked:
    asked = decode_request(UncordonNode, body)
    return asked.node_id, Uncordon(by=asked.by)


def _drain(body: bytes) -> Asked:
    asked = decode_request(DrainNode, body)
    return asked.node_id, Drain(by=asked.by, reason=asked.reason)


def _remove(body: bytes) -> Asked:
    asked = decode_request(RemoveNode, body)
    return asked.node_id, Remove(by=asked.by)


AT_ONCE: Mapping[Subject, NodeReader] = {
    subjects.API_CORDON: _cordon,
    subjects.API_UNCORDON: _uncordon,
    subjects.API_DRAIN: _drain,
    subjects.API_REMOVE: _remove,
}
DURABLY: Mapping[Subject, NodeReader] = {
    subjects.COMMAND_CORDON: _cordon,
    subjects.COMMAND_UNCORDON: _uncordon,
    subjects.COMMAND_DRAIN: _drain,
    subjects.COMMAND_REMOVE: _remove,
}
