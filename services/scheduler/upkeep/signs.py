"""Signs of life of nodes: heartbeats, registrations, and connections that the server saw go.

All times are seconds of one monotonic clock: when a sign reached us, not when it was given.
"""

from collections import OrderedDict
from collections.abc import Iterator

from events.ids import NodeId
from services.bus.peers import Line, Told

CROSSING_S = 0.5
"""A heartbeat that arrives this soon after its node's connection has gone may be from before."""


class Signs:
    """What was heard of each node, and when."""

    def __init__(self) -> None:
        self.fresh_s = float("-inf")
        """Before this nothing could be heard here: silence counts from then on, for all nodes."""
        self.speaking: dict[NodeId, None] = {}
        """Nodes whose heartbeats came since somebody last cleared this."""
        self._heard: OrderedDict[NodeId, float] = OrderedDict()
        """Silent for longest first. Of one that was never heard, when it was first asked about."""
        self._beats: dict[NodeId, float] = {}
        self._gone: dict[NodeId, float] = {}
        self._lines: dict[NodeId, dict[Line, float]] = {}

    def beat(self, node: NodeId, now_s: float) -> None:
        """Note a heartbeat: the node lives, unless it was on its way when the node died."""
        self._hear(node, now_s)
        self._beats[node] = now_s
        if now_s - self._gone.get(node, float("-inf")) > CROSSING_S:
            self._gone.pop(node, None)
            self.speaking[node] = None

    def registered(self, node: NodeId, now_s: float) -> None:
        """Note that a worker has registered: it lives."""
        self._hear(node, now_s)
        self._gone.pop(node, None)

    def told(self, told: Told, now_s: float) -> None:
        """Note that a worker's connection has come or gone.

        A connection that was half-open may be seen to go after the one that replaces it has come:
        the node is gone only when none is left.
        """
        node = told.line.node
        lines = self._lines.setdefault(node, {})
        if told.up:
            self._hear(node, now_s)
            lines[told.line] = now_s
            self._gone.pop(node, None)
            return
        lines.pop(told.line, None)
        kept = {line: since_s for line, since_s in lines.items() if since_s >= self.fresh_s}
        self._lines[node] = kept
        if not kept:
            self._gone.setdefault(node, now_s)
            del self._lines[node]

    def beat_since(self, node: NodeId, since_s: float) -> bool:
        """Tell whether a heartbeat came that was surely given after `since_s`."""
        return self._beats.get(node, float("-inf")) > since_s + CROSSING_S

    def noticed(self, now_s: float, quiet_s: float) -> Iterator[NodeId]:
        """Yield the nodes of which there is anything to tell; a node may come more than once.

        Those that are silent for longer than `quiet_s`, that are without a connection, and that
        have spoken: what it costs does not grow with those that live in peace.
        """
        if now_s - self.fresh_s > quiet_s:
            for node, heard_s in self._heard.items():
                if now_s - heard_s <= quiet_s:
                    break
                yield node
        yield from self._gone
        yield from self.speaking

    def silent_s(self, node: NodeId, now_s: float) -> float:
        """Return for how long nothing was heard of the node that could have been heard."""
        return now_s - max(self._heard.setdefault(node, now_s), self.fresh_s)

    def gone_s(self, node: NodeId, now_s: float) -> float | None:
        """Return for how long the node has had no connection; None: it may well have one."""
        gone_s = self._gone.get(node)
        return None if gone_s is None or gone_s < self.fresh_s else now_s - gone_s

    def _hear(self, node: NodeId, now_s: float) -> None:
        self._heard[node] = now_s
        self._heard.move_to_end(node)
