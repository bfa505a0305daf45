"""The decider of one node: what an operator orders and the node's state decide facts.

Pure. An order that has been carried out already decides nothing; one that cannot be is refused by
name. Orders are about nodes that have been seen: there is nothing to say of one that has not.
"""

from typing import TypeAlias, assert_never

from msgspec import Struct

from events.node import CircuitClosed, Cordoned, Draining, NodeFact, Removed, Uncordoned
from events.state.node import Circuit, Node, NodeStatus
from services.scheduler.deciders.refusal import Refusal, Refused

ALIVE = frozenset({NodeStatus.ONLINE, NodeStatus.SUSPECTED})
"""States in which a worker runs there, as far as anybody knows."""


class Cordon(Struct, frozen=True, kw_only=True):
    """Give the node nothing new; what runs there goes on."""

    by: str = ""
    reason: str = ""


class Uncordon(Struct, frozen=True, kw_only=True):
    """Let the node have work again, whoever or whatever took it out."""

    by: str = ""


class Drain(Struct, frozen=True, kw_only=True):
    """Let the node finish what runs, give it nothing new, and end its worker."""

    by: str = ""
    reason: str = ""


class Remove(Struct, frozen=True, kw_only=True):
    """Forget the node; it comes back by registering."""

    by: str = ""


NodeCommand: TypeAlias = Cordon | Uncordon | Drain | Remove


def decide(command: NodeCommand, node: Node) -> tuple[NodeFact, ...]:
    """Return the facts that follow; none: the order has been carried out already.

    Raises Refused for a node that nobody has registered or that was removed, and where a node that
    lives is to be removed.
    """
    if node.status is NodeStatus.UNKNOWN:
        message = "no worker has registered under this id; look at `ffrtmp nodes list`"
        raise Refused(Refusal.NODE_UNKNOWN, message)
    match command:
        case Remove():
            return _remove(command, node)
        case Cordon() | Uncordon() | Drain() if node.status is NodeStatus.REMOVED:
            message = "the node has been removed; it comes back when its worker registers"
            raise Refused(Refusal.NODE_REMOVED, message)
        case Cordon():
            return _cordon(node, command.by, command.reason)
        case Uncordon():
            return _uncordon(command, node)
        case Drain():
            return _drain(command, node)
        case _:
            assert_never(command)


def _cordon(node: Node, by: str, reason: str) -> tuple[NodeFact, ...]:
    """Cordon a node unless it is; one that drains takes nothing new, now or after a restart."""
    if node.cordoned or node.draining:
        return ()
    return (Cordoned(by=by, reason=reason),)


def _uncordon(command: Uncordon, node: Node) -> tuple[NodeFact, ...]:
    """Lift the cordon or the drain, and close the circuit: whatever keeps work away."""
    facts: list[NodeFact] = []
    if node.cordoned or node.draining:
        facts.append(Uncordoned(by=command.by))
    if node.circuit is not Circuit.CLOSED:
        facts.append(CircuitClosed(by=command.by))
    return tuple(facts)


def _drain(command: Drain, node: Node) -> tuple[NodeFact, ...]:
    """Drain a node that lives. Elsewhere nothing runs: it only has to stay out when it is back."""
    if node.status not in ALIVE:
        return _cordon(node, command.by, command.reason)
    return () if node.draining else (Draining(by=command.by, reason=command.reason),)


def _remove(command: Remove, node: Node) -> tuple[NodeFact, ...]:
    if node.status is NodeStatus.REMOVED:
        return ()
    if node.status not in ALIVE:
        return (Removed(by=command.by),)
    if node.draining:
        advice = "it is draining: wait until it is drained"
    elif node.status is NodeStatus.SUSPECTED:
        advice = "wait until it is lost, or drain it first, as by `ffrtmp nodes drain --wait`"
    else:
        advice = "drain it first, as by `ffrtmp nodes drain --wait`"
    raise Refused(Refusal.NODE_ALIVE, f"the node is {node.status}; {advice}")
