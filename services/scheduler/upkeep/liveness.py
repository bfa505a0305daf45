"""Which nodes live: heartbeats, and what follows when they stop or come back."""

import structlog

from events import subjects
from events.ids import NodeId
from events.node import Lost, Recovered
from events.state.node import NodeStatus
from services.clock import Clock, Pen
from services.config import SchedulerSettings
from services.log.persist import append, persistently
from services.log.port import Entry, EventLog
from services.scheduler.state.world import World

_log = structlog.get_logger()


class Liveness:
    """Hears the nodes of one world, and records which are lost and which are back."""

    def __init__(
        self, world: World, settings: SchedulerSettings, *, clock: Clock, pen: Pen
    ) -> None:
        self._world = world
        self._settings = settings
        self._clock = clock
        self._pen = pen
        self._heard: dict[NodeId, float] = {}
        """When each node was heard last; for one never heard, when it was first looked at."""
        self._speaking: set[NodeId] = set()
        """Nodes heard since they were last looked at."""

    def registered(self, node: NodeId) -> None:
        """Note that a worker has registered: it lives."""
        self._heard[node] = self._clock.monotonic_s()

    async def listen(self, telemetry: EventLog) -> None:
        """Note which nodes speak."""
        after = await persistently(telemetry.last_seq, "listening")
        heartbeats = subjects.TELEMETRY_NODES
        async with telemetry.follow(after=after, filters=(heartbeats,)) as batches:
            async for batch in batches:
                now_s = self._clock.monotonic_s()
                for recorded in batch:
                    node = subjects.node_of_telemetry(recorded.subject)
                    self._heard[node] = now_s
                    self._speaking.add(node)

    async def watch(self, ledger: EventLog) -> None:
        """Declare silent nodes lost, and those that speak again recovered."""
        now_s = self._clock.monotonic_s()
        entries: list[Entry] = []
        for node_id, node in self._world.nodes.items():
            silent_s = now_s - self._heard.setdefault(node_id, now_s)
            subject = subjects.node(node_id)
            if node.status is NodeStatus.ONLINE and silent_s > self._settings.node_dead_s:
                reason = f"no heartbeat for {silent_s:.1f} s"
                entries.append(Entry(self._pen.write(subject, Lost(reason=reason)), node.version))
                _log.warning("node.lost", node=node_id, silent_s=round(silent_s, 1))
            elif node.status is NodeStatus.LOST and node_id in self._speaking:
                entries.append(Entry(self._pen.write(subject, Recovered()), node.version))
                _log.info("node.recovered", node=node_id)
        self._speaking.clear()
        if entries:
            await append(ledger, entries, "watching nodes")
