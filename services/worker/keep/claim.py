"""Registering under a node id that is free, or this worker's own.

The same fingerprint is a restart and registers at once. Another one is refused while a worker under
it lives, that is: while its heartbeats come. The registration expects the node as it was read, so
of two workers that start at the same moment one reads again, and hears the other.
"""

from collections.abc import Callable

import anyio
import structlog
from msgspec import Struct

from events import subjects
from events.ids import NodeId
from events.node import Refused, Registered
from events.state.node import Node, NodeStatus
from events.telemetry import Heartbeat
from services.backbone import Backbone
from services.clock import Pen
from services.errors import ConfigurationError, Conflict, LogUnavailable
from services.log.entity import load_node
from services.log.persist import append, persistently
from services.log.port import Entry

TRIES_MAX = 64
"""Each other fact of the node that comes in between costs one; they are few."""

_log = structlog.get_logger()


class Claimed(Struct, frozen=True):
    """A registration that stands."""

    epoch: int
    seq: int
    before: Node
    """The node as it was before."""


class Claim:
    """One worker's claim to its node id."""

    def __init__(self, backbone: Backbone, node: NodeId, pen: Pen, *, node_dead_s: float) -> None:
        self._ledger = backbone.ledger
        self._telemetry = backbone.telemetry
        self._node = node
        self._pen = pen
        self._dead_s = node_dead_s
        """A worker that has not spoken for so long is gone."""

    async def register(self, offer: Callable[[Node], Registered]) -> Claimed:
        """Append what `offer` makes of the node as it is.

        Raises ConfigurationError when another worker lives under this id, after it has said so in
        the log; LogUnavailable when others write to the node all the time.
        """
        subject = subjects.node(self._node)
        for _ in range(TRIES_MAX):
            before = await persistently(lambda: load_node(self._ledger, self._node), "registering")
            fact = offer(before)
            if await self._is_taken(before, fact):
                await self._refuse(before, fact)
            entry = Entry(self._pen.write(subject, fact), before.version)
            (outcome,) = await append(self._ledger, [entry], "registering")
            if not isinstance(outcome, Conflict):
                return Claimed(fact.epoch, outcome, before)
        raise LogUnavailable(f"{subject}: others wrote first, {TRIES_MAX} times")

    async def _is_taken(self, before: Node, fact: Registered) -> bool:
        """Tell whether another worker lives here; an unknown fingerprint is nobody's."""
        if before.fingerprint in {"", fact.fingerprint} or not fact.fingerprint:
            return False
        if before.status is NodeStatus.DRAINED:
            return False
        _log.warning(
            "node.claimed_by_another", node=self._node, where=_place(before), wait_s=self._dead_s
        )
        return await self._is_heard(before.epoch)

    async def _is_heard(self, epoch: int) -> bool:
        """Wait for a heartbeat of the worker that registered last; False: none came in time."""
        heartbeats = (subjects.only(subjects.telemetry_of_node(self._node)),)
        after = await persistently(self._telemetry.last_seq, "registering")
        with anyio.move_on_after(self._dead_s):
            async with self._telemetry.follow(after=after, filters=heartbeats) as batches:
                async for batch in batches:
                    facts = [recorded.fact for recorded in batch]
                    if any(isinstance(beat, Heartbeat) and beat.epoch == epoch for beat in facts):
                        return True
        return False

    async def _refuse(self, before: Node, fact: Registered) -> None:
        reason = f"a worker with another fingerprint lives here: {_place(before)}"
        refused = Refused(address=fact.address, reason=reason, fingerprint=fact.fingerprint)
        event = self._pen.write(subjects.node(self._node), refused)
        await append(self._ledger, [Entry(event)], "telling that this worker is refused")
        raise ConfigurationError(
            f"node_id: given: {self._node}; under this id a worker lives already: "
            f"{_place(before)}; choose another --node-id, or stop that one first"
        )


def _place(node: Node) -> str:
    """Return where a worker lives, for people."""
    host = node.hardware.hostname or "unknown host"
    where = node.address if node.address.startswith(host) else f"{host} {node.address}".strip()
    since = f", registered {node.registered_at:%Y-%m-%d %H:%M:%S}" if node.registered_at else ""
    return f"{where}, fingerprint {node.fingerprint}{since}"
