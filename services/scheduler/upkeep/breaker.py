"""The circuit breaker: a node whose attempts fail far more often than others' gets no work.

Closed, it gets work as any other. Opened, none, for `breaker_s` and twice as long each time it is
opened again. Then, half open, one attempt at a time: the first one decides. Source: M. Nygard,
"Release It!", circuit breaker.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog

from events.ids import NodeId
from events.node import CircuitClosed, CircuitHalfOpened, CircuitOpened, NodeFact
from events.state.node import Circuit, Node
from services.scheduler.state.health import Finding, Health, Kind
from services.scheduler.state.world import World

BREAKER_S_MAX = 3600.0
"""No circuit stays open for longer, however often it was opened before."""

_log = structlog.get_logger()


def judge(
    world: World, health: Health, now: datetime, breaker_s: float
) -> Iterator[tuple[NodeId, NodeFact]]:
    """Yield whose circuit opens, is tried and closes, as the ledger's attempts have it."""
    for node_id, passed in health.taken_out():
        pause_s = _pause_s(health, node_id, breaker_s)
        fact = _tried(world.node(node_id), now, passed=passed, pause_s=pause_s)
        if fact is not None:
            yield node_id, fact
    for node_id in list(health.failing):
        opened = _found_sick(world, health, node_id, now=now, breaker_s=breaker_s)
        if opened is None:
            del health.failing[node_id]
        else:
            yield node_id, opened


def _tried(node: Node, now: datetime, *, passed: bool | None, pause_s: float) -> NodeFact | None:
    """Return what follows for a node that was taken out; None: its time has not come."""
    if node.circuit is Circuit.OPEN:
        due = node.circuit_until is not None and node.circuit_until <= now
        return CircuitHalfOpened() if due else None
    if node.circuit is not Circuit.HALF_OPEN or passed is None:
        return None
    reason = "the attempt it was tried with failed"
    return CircuitClosed() if passed else _opened(now, pause_s, Finding(1, 1, 0.0, ()), reason)


def _found_sick(
    world: World, health: Health, node_id: NodeId, *, now: datetime, breaker_s: float
) -> CircuitOpened | None:
    """Return how the node is taken out; None: it stays, being well enough or the only one."""
    if world.node(node_id).circuit is not Circuit.CLOSED:
        return None
    finding = health.finding(node_id)
    if not finding.sick:
        return None
    alone = next((kind for kind in finding.kinds if not _others(world, node_id, kind)), None)
    if alone is not None:
        work = ", ".join(sorted(alone))
        _log.warning("circuit.kept_closed", node=node_id, why=f"no other node can do {work}")
        return None
    pause_s = _pause_s(health, node_id, breaker_s)
    return _opened(now, pause_s, finding, _in_words(finding))


def _others(world: World, node_id: NodeId, kind: Kind) -> bool:
    """Tell whether another node may get such work now."""
    return any(other_id != node_id and _can(other, kind) for other_id, other in world.nodes.items())


def _can(node: Node, kind: Kind) -> bool:
    return node.schedulable and node.circuit is Circuit.CLOSED and kind <= node.capabilities


def _pause_s(health: Health, node_id: NodeId, breaker_s: float) -> float:
    return min(breaker_s * 2.0 ** min(health.openings(node_id), 32), BREAKER_S_MAX)


def _opened(now: datetime, pause_s: float, found: Finding, reason: str) -> CircuitOpened:
    return CircuitOpened(
        until=now + timedelta(seconds=pause_s),
        failures=found.failures,
        attempts=found.attempts,
        reason=reason,
    )


def _in_words(finding: Finding) -> str:
    return (
        f"{finding.failures} of the last {finding.attempts} attempts failed here; the other nodes "
        f"would have failed {finding.expected:.1f} of the same work"
    )
