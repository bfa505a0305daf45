"""Which nodes live: heartbeats, the server's word on connections, and what follows.

A node is lost when it is silent for `node_dead_s`, or when its connection has been gone for
`disconnect_s`. Neither counts while this process could not hear: its own line was down, or it stood
still. And when many nodes fall silent at once the cause is on our side more likely than on theirs:
they all get one more `node_dead_s`.
"""

from collections.abc import Sequence

import anyio
import structlog
from msgspec import Struct, field

from events import subjects
from events.ids import NodeId
from events.node import Lost, NodeFact, Recovered, Suspected
from events.state.node import Node, NodeStatus
from events.telemetry import Heartbeat
from services.backbone import Backbone
from services.bus.peers import told_of_worker
from services.clock import Clock, Pen
from services.config import SchedulerSettings
from services.errors import LogUnavailable
from services.log.persist import persistently
from services.log.port import Entry, EventLog
from services.scheduler.state.world import World
from services.scheduler.upkeep.addresses import Addresses
from services.scheduler.upkeep.signs import Signs

SUSPECT_S = 0.5
"""A client that lost its connection is back by then; a node that is not gets nothing new."""
QUIET_PORTION = 2 / 3
"""Of `node_dead_s`: nodes that will be due next, when one is, are silent for that long already."""
MASS_PORTION = 0.3
MASS_NODES_MIN = 3
"""So many of the living, and so many at least, fall silent at once only by our own fault."""
PULSE_S = 0.5
STOOD_STILL_S = 2.0
"""A pulse that comes this late shows that the process stood still, or its machine slept."""

_ALIVE = frozenset({NodeStatus.ONLINE, NodeStatus.SUSPECTED})
_log = structlog.get_logger()


class _Round(Struct):
    """What one look at the nodes has found."""

    quiet: int = 0
    """Of the living, those that are silent for long or without a connection."""
    alarms: dict[NodeId, NodeFact] = field(default_factory=dict[NodeId, NodeFact])
    """Nodes to be suspected or given up."""
    returns: list[NodeId] = field(default_factory=list[NodeId])


class Liveness:
    """Hears the nodes of one world, and records which are suspected, lost and back."""

    def __init__(
        self,
        world: World,
        backbone: Backbone,
        settings: SchedulerSettings,
        *,
        clock: Clock,
        pen: Pen,
    ) -> None:
        self._world = world
        self._bus = backbone.bus
        self._telemetry = backbone.telemetry
        self._settings = settings
        self._clock = clock
        self._pen = pen
        self._signs = Signs()
        self._addresses = Addresses(world, self._signs, node_dead_s=settings.node_dead_s)
        self._pulse_s: float | None = None
        self._mass_since_s: float | None = None

    def begin(self) -> None:
        """Prepare to watch: what this scheduler heard while another one watched is history."""
        self._signs.speaking.clear()
        self._mass_since_s = None

    def registered(self, node: NodeId) -> None:
        """Note that a worker has registered: it lives."""
        now_s = self._clock.monotonic_s()
        self._signs.registered(node, now_s)
        self._addresses.registered(node, now_s)

    async def listen(self) -> None:
        """Note which nodes speak, and which connections the server sees come and go."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hear_heartbeats)
            tasks.start_soon(self._hear_server)
            tasks.start_soon(self._pulse)

    async def watch(self, ledger: EventLog) -> None:
        """Record which nodes are suspected, lost, back or refused; nothing while deaf."""
        now_s = self._clock.monotonic_s()
        if not self._hears(now_s):
            return
        found = self._look(now_s)
        facts: list[tuple[NodeId, NodeFact]] = [(node, Recovered()) for node in found.returns]
        if not self._mistrusts(found, now_s):
            facts += found.alarms.items()
        facts += self._addresses.refusals(now_s)
        self._signs.speaking.clear()
        await self._record(ledger, facts)

    def _hears(self, now_s: float) -> bool:
        """Tell whether silence means anything now; it counts from when it began to."""
        up_since_s = self._bus.up_since_s
        if up_since_s is None:
            return False
        self._signs.fresh_s = max(self._signs.fresh_s, up_since_s)
        return self._pulse_s is None or now_s - self._pulse_s < PULSE_S + STOOD_STILL_S

    def _look(self, now_s: float) -> _Round:
        found = _Round()
        quiet_s = self._settings.node_dead_s * QUIET_PORTION
        for node_id in dict.fromkeys(self._signs.noticed(now_s, quiet_s)):
            node = self._world.node(node_id)
            if node.status in _ALIVE:
                self._look_at(node_id, node, now_s, found)
            elif node.status is NodeStatus.LOST and node_id in self._signs.speaking:
                found.returns.append(node_id)
        return found

    def _look_at(self, node_id: NodeId, node: Node, now_s: float, found: _Round) -> None:
        silent_s = self._signs.silent_s(node_id, now_s)
        gone_s = self._signs.gone_s(node_id, now_s)
        dead_s = self._settings.node_dead_s
        found.quiet += gone_s is not None or silent_s > dead_s * QUIET_PORTION
        if silent_s > dead_s:
            found.alarms[node_id] = Lost(reason=f"no heartbeat for {silent_s:.1f} s")
        elif gone_s is not None and gone_s > self._settings.disconnect_s:
            found.alarms[node_id] = Lost(reason=f"its connection has been gone for {gone_s:.1f} s")
        elif node.status is NodeStatus.SUSPECTED:
            if node_id in self._signs.speaking:
                found.returns.append(node_id)
        elif gone_s is not None and gone_s > SUSPECT_S:
            found.alarms[node_id] = Suspected(reason="the server saw its connection go")

    def _mistrusts(self, found: _Round, now_s: float) -> bool:
        """Tell whether too many alarms came at once, and not long enough ago, to be believed."""
        live = self._live() if found.quiet >= MASS_NODES_MIN else 0
        if not live or found.quiet <= MASS_PORTION * live:
            self._mass_since_s = None
            return False
        if not found.alarms:
            return False
        if self._mass_since_s is None:
            self._mass_since_s = now_s
            _log.error(
                "nodes.fell_silent_together",
                silent=found.quiet,
                of=live,
                given_up_in_s=self._settings.node_dead_s,
            )
        return now_s - self._mass_since_s <= self._settings.node_dead_s

    def _live(self) -> int:
        return sum(node.status in _ALIVE for node in self._world.nodes.values())

    async def _record(self, ledger: EventLog, facts: Sequence[tuple[NodeId, NodeFact]]) -> None:
        """Append against the versions looked at."""
        entries: list[Entry] = []
        for node_id, fact in facts:
            version = self._world.node(node_id).version
            entries.append(Entry(self._pen.write(subjects.node(node_id), fact), version))
            _log.warning(
                fact.tag.removesuffix(".v1"), node=node_id, why=getattr(fact, "reason", "")
            )
        if entries:
            await record(ledger, entries, "watching nodes")

    async def _hear_heartbeats(self) -> None:
        after = await persistently(self._telemetry.last_seq, "listening")
        heartbeats = subjects.TELEMETRY_NODES
        async with self._telemetry.follow(after=after, filters=(heartbeats,)) as batches:
            async for batch in batches:
                now_s = self._clock.monotonic_s()
                for recorded in batch:
                    node = subjects.node_of_telemetry(recorded.subject)
                    self._signs.beat(node, now_s)
                    if isinstance(recorded.fact, Heartbeat) and node in self._world.nodes:
                        self._world.loads[node] = recorded.fact.cpu_percent / 100

    async def _hear_server(self) -> None:
        async with self._bus.listen(subjects.SERVER_EVENTS) as messages:
            async for message in messages:
                told = told_of_worker(message)
                if told is not None:
                    self._signs.told(told, self._clock.monotonic_s())

    async def _pulse(self) -> None:
        """Notice when the process stood still: what was said meanwhile was not heard."""
        self._pulse_s = self._clock.monotonic_s()
        while True:
            await anyio.sleep(PULSE_S)
            now_s = self._clock.monotonic_s()
            late_s = now_s - self._pulse_s - PULSE_S
            if late_s >= STOOD_STILL_S:
                _log.warning("scheduler.stood_still", for_s=round(late_s, 1))
                self._signs.fresh_s = now_s
            self._pulse_s = now_s


async def record(ledger: EventLog, entries: Sequence[Entry], what: str) -> None:
    """Append once: what loses its race, or meets an outage, is decided anew, not repeated."""
    try:
        await ledger.append(entries)
    except LogUnavailable as outage:
        _log.warning("log.unavailable", during=what, error=str(outage))
