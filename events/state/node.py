"""The state of one node: a fold of its facts. Total, never raises: see `events.state.job`."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from events import node as facts
from events.codec import Recorded


class NodeStatus(StrEnum):
    """What people and tables call the state of a node."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    SUSPECTED = "suspected"
    LOST = "lost"
    DRAINED = "drained"
    REMOVED = "removed"
    REFUSED = "refused"
    """Another live worker has its identity or its address."""


class Circuit(StrEnum):
    """Whether the circuit breaker lets work through to a node."""

    CLOSED = "closed"
    """Work flows."""
    OPEN = "open"
    """No work, until a set instant."""
    HALF_OPEN = "half_open"
    """On probation: one attempt at a time."""


class Node(Struct, frozen=True, kw_only=True):
    """One node; `epoch` 0: no worker has registered yet."""

    version: int = 0
    """Ledger sequence of the node's last fact."""
    epoch: int = 0
    status: NodeStatus = NodeStatus.UNKNOWN
    slots: int = 0
    free: int = 0
    """Free slots as the worker last reported them."""
    full: bool = False
    """It declined work: nothing more until it reports free room."""
    cordoned: bool = False
    draining: bool = False
    capabilities: frozenset[str] = frozenset()
    hardware: facts.Hardware = facts.Hardware()
    address: str = ""
    registered_at: datetime | None = None
    registered_seq: int = 0
    fingerprint: str = ""
    encoder_sessions: int = 0
    """Of each GPU."""
    refusing: str = ""
    """Why it takes nothing new for now; empty: it takes what fits."""
    reason: str = ""
    """Why it is suspected, lost or refused, as the fact says; empty: it is none of these."""
    circuit: Circuit = Circuit.CLOSED
    circuit_until: datetime | None = None
    """When an open circuit is to be tried again."""

    @property
    def schedulable(self) -> bool:
        """Whether new work may be given to it, as far as the node's own facts tell."""
        away = self.cordoned or self.draining or bool(self.refusing)
        return self.status is NodeStatus.ONLINE and not away and self.circuit is not Circuit.OPEN


INITIAL = Node()


def evolve(state: Node, recorded: Recorded) -> Node:
    """Apply one fact of the node that `state` is of; the version becomes the fact's sequence."""
    handler = _HANDLERS.get(type(recorded.fact))
    after = state if handler is None else handler(state, recorded.fact, recorded)
    return after if after.version == recorded.seq else replace(after, version=recorded.seq)


def _registered(state: Node, fact: facts.Registered, at: Recorded) -> Node:
    if fact.epoch < state.epoch:
        return state
    return Node(
        version=at.seq,
        epoch=fact.epoch,
        status=NodeStatus.ONLINE,
        slots=fact.slots,
        free=fact.slots,
        cordoned=state.cordoned or state.draining,
        capabilities=frozenset(fact.capabilities),
        hardware=fact.hardware,
        address=fact.address,
        registered_at=at.time,
        registered_seq=at.seq,
        fingerprint=fact.fingerprint,
        encoder_sessions=fact.encoder_sessions,
        circuit=Circuit.CLOSED if state.circuit is Circuit.CLOSED else Circuit.HALF_OPEN,
    )


def _available(state: Node, fact: facts.Available, at: Recorded) -> Node:
    if fact.epoch != state.epoch:
        return state
    full = state.full and fact.free == 0
    return replace(
        state,
        version=at.seq,
        slots=fact.slots,
        free=fact.free,
        full=full,
        refusing=fact.refusing,
    )


def _suspected(state: Node, fact: facts.Suspected, at: Recorded) -> Node:
    if state.status is not NodeStatus.ONLINE:
        return state
    return replace(state, version=at.seq, status=NodeStatus.SUSPECTED, reason=fact.reason)


def _lost(state: Node, fact: facts.Lost, at: Recorded) -> Node:
    if state.status not in {NodeStatus.ONLINE, NodeStatus.SUSPECTED}:
        return state
    return replace(state, version=at.seq, status=NodeStatus.LOST, reason=fact.reason)


def _recovered(state: Node, _: facts.Recovered, at: Recorded) -> Node:
    if state.status not in {NodeStatus.SUSPECTED, NodeStatus.LOST}:
        return state
    return replace(state, version=at.seq, status=NodeStatus.ONLINE, reason="")


def _cordoned(state: Node, _: facts.Cordoned, at: Recorded) -> Node:
    return replace(state, version=at.seq, cordoned=True)


def _uncordoned(state: Node, _: facts.Uncordoned, at: Recorded) -> Node:
    return replace(state, version=at.seq, cordoned=False, draining=False)


def _draining(state: Node, _: facts.Draining, at: Recorded) -> Node:
    return replace(state, version=at.seq, draining=True)


def _drained(state: Node, fact: facts.Drained, at: Recorded) -> Node:
    if fact.epoch != state.epoch:
        return state
    return replace(state, version=at.seq, status=NodeStatus.DRAINED, free=0)


def _removed(state: Node, _: facts.Removed, at: Recorded) -> Node:
    """Take it out, and forget what people had asked of it: it comes back as a new one."""
    status = NodeStatus.REMOVED
    return replace(state, version=at.seq, status=status, free=0, cordoned=False, draining=False)


def _refused(state: Node, fact: facts.Refused, at: Recorded) -> Node:
    """Take out the start that was refused; another's refusal leaves the one that lives alone."""
    if not fact.epoch or fact.epoch != state.epoch:
        return state
    status = NodeStatus.REFUSED
    return replace(state, version=at.seq, status=status, free=0, reason=fact.reason)


def _circuit_opened(state: Node, fact: facts.CircuitOpened, at: Recorded) -> Node:
    return replace(state, version=at.seq, circuit=Circuit.OPEN, circuit_until=fact.until)


def _circuit_half_opened(state: Node, _: facts.CircuitHalfOpened, at: Recorded) -> Node:
    if state.circuit is not Circuit.OPEN:
        return state
    return replace(state, version=at.seq, circuit=Circuit.HALF_OPEN, circuit_until=None)


def _circuit_closed(state: Node, _: facts.CircuitClosed, at: Recorded) -> Node:
    return replace(state, version=at.seq, circuit=Circuit.CLOSED, circuit_until=None)


_HANDLERS: dict[type, Callable[[Node, Any, Recorded], Node]] = {
    facts.Registered: _registered,
    facts.Available: _available,
    facts.Suspected: _suspected,
    facts.Lost: _lost,
    facts.Recovered: _recovered,
    facts.Cordoned: _cordoned,
    facts.Uncordoned: _uncordoned,
    facts.Draining: _draining,
    facts.Drained: _drained,
    facts.Removed: _removed,
    facts.Refused: _refused,
    facts.CircuitOpened: _circuit_opened,
    facts.CircuitHalfOpened: _circuit_half_opened,
    facts.CircuitClosed: _circuit_closed,
}
