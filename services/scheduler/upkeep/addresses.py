"""No two nodes at one address: the newcomer is refused once the earlier one is known to live."""

from collections.abc import Iterator

import structlog

from events.ids import NodeId
from events.node import Refused
from events.state.node import Node, NodeStatus
from services.scheduler.state.world import World
from services.scheduler.upkeep.signs import Signs

_log = structlog.get_logger()


class Addresses:
    """Which nodes claim which address.

    A newcomer is watched for as long as a silent node counts as alive. Until then the earlier one
    has either spoken again, and the newcomer is refused, or it is dead, and its address free.
    """

    def __init__(self, world: World, signs: Signs, *, node_dead_s: float) -> None:
        self._world = world
        self._signs = signs
        self._node_dead_s = node_dead_s
        self._claimants: dict[str, dict[NodeId, None]] = {}
        self._newcomers: dict[NodeId, float] = {}

    def registered(self, node_id: NodeId, now_s: float) -> None:
        """Note where a worker that has just registered says it is."""
        address = self._world.node(node_id).address
        if has_port(address):
            self._claimants.setdefault(address, {})[node_id] = None
            self._newcomers[node_id] = now_s

    def refusals(self, now_s: float) -> Iterator[tuple[NodeId, Refused]]:
        """Yield the refusals of newcomers at an address where another node lives."""
        for newcomer, since_s in list(self._newcomers.items()):
            node = self._world.node(newcomer)
            if now_s - since_s > self._node_dead_s or node.status is not NodeStatus.ONLINE:
                del self._newcomers[newcomer]
                continue
            earlier = self._living_at(node, since_s)
            if earlier is not None:
                _log.error("node.refused", node=newcomer, address=node.address, lives=earlier)
                yield newcomer, _refused(node, earlier)

    def _living_at(self, node: Node, since_s: float) -> NodeId | None:
        claimants = self._claimants.get(node.address, {})
        for other_id in list(claimants):
            other = self._world.node(other_id)
            if other.address != node.address:
                del claimants[other_id]
            elif _is_earlier(other, node) and self._signs.beat_since(other_id, since_s):
                return other_id
        return None


def has_port(address: str) -> bool:
    """Tell whether `address` is one place, as `host:port`, and not just a machine."""
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdigit()


def _is_earlier(other: Node, node: Node) -> bool:
    return other.status is NodeStatus.ONLINE and other.registered_seq < node.registered_seq


def _refused(node: Node, earlier: NodeId) -> Refused:
    reason = (
        f"node {earlier} lives at {node.address}; give this worker an address of its own, or stop "
        "the other one, and start it again"
    )
    return Refused(
        address=node.address, reason=reason, epoch=node.epoch, fingerprint=node.fingerprint
    )
