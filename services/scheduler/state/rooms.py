"""The nodes that may get work now, found by what a job needs, emptiest first.

Nodes are kept by kind, and inside a kind by what is left of them: nodes of which as much is left
are alike. So a search looks at kinds and remainders, of which there are few, and not at nodes; and
a change moves one node in time logarithmic in their number. A kind is the capabilities that some
job has asked for so far, so a label of its own for each node makes no kind of its own for each.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from events.ids import NodeId
from services.scheduler.state.capacity import UNCOUNTED, Resources, cost, covers
from services.scheduler.state.needs import Need

ABLE_MAX = 10_000
"""Most needs for which the kinds of nodes that can do them are remembered."""

REMAINDERS_MAX = 10_000
"""Most remainders that are remembered, so as not to be computed again."""


class Room(NamedTuple):
    """What of a node matters for giving it work."""

    capabilities: frozenset[str]
    hardware_only: frozenset[str]
    """Codecs it makes in hardware alone: see `capacity.cost`."""
    gpu: bool
    size: Resources
    free: Resources


class Remainder(NamedTuple):
    """What nodes that are alike have left, in the order in which they are preferred."""

    gpu: bool
    """Nodes with a GPU come last: they are kept free for work that needs it."""
    taken_share: float
    """Of the scarcest of slots, threads and memory."""
    taken_slots: int
    """Free slots, counted below zero."""
    size: Resources
    free: Resources

    @property
    def free_share(self) -> float:
        """Share of the scarcest resource that is left."""
        return 1.0 - self.taken_share


class _Alike(NamedTuple):
    """Nodes of one kind of which as much is left."""

    remainder: Remainder
    nodes: list[NodeId]
    """In order of their names."""


class _Kind:
    """Nodes that can do the same."""

    def __init__(self, capabilities: frozenset[str], hardware_only: frozenset[str]) -> None:
        self.capabilities = capabilities
        self.hardware_only = hardware_only
        self.order: list[_Alike] = []
        """Preferred first."""
        self._by_remainder: dict[Remainder, _Alike] = {}

    def add(self, node: NodeId, remainder: Remainder) -> _Alike:
        alike = self._by_remainder.get(remainder)
        if alike is None:
            alike = self._by_remainder[remainder] = _Alike(remainder, [node])
            insort(self.order, alike)
        else:
            insort(alike.nodes, node)
        return alike

    def remove(self, node: NodeId, alike: _Alike) -> None:
        nodes = alike.nodes
        if len(nodes) > 1:
            del nodes[bisect_left(nodes, node)]
        else:
            del self._by_remainder[alike.remainder]
            del self.order[bisect_left(self.order, alike)]

    def fitting(self, asked: Resources, most: int) -> list[_Alike]:
        """Return those of which enough is left, preferred first, of `most` nodes."""
        found: list[_Alike] = []
        nodes = 0
        for alike in self.order:
            if covers(alike.remainder.free, asked):
                found.append(alike)
                nodes += len(alike.nodes)
                if nodes >= most:
                    break
        return found


class Rooms:
    """An index of the nodes that may get work now."""

    def __init__(self) -> None:
        self._rooms: dict[NodeId, Room] = {}
        self._kinds: dict[tuple[frozenset[str], frozenset[str]], _Kind] = {}
        self._where: dict[NodeId, tuple[_Kind, _Alike]] = {}
        self._met: set[frozenset[str]] = set()
        """The sets of capabilities that nodes have had."""
        self._offered: set[str] = set()
        """All that is in them."""
        self._asked: frozenset[str] = frozenset()
        """Capabilities that jobs have asked for and nodes have had."""
        self._able_for: dict[Need, Sequence[tuple[_Kind, Resources]]] = {}
        """Which kinds can do what was asked for lately."""

    def __len__(self) -> int:
        """Return how many nodes may get work."""
        return len(self._rooms)

    def set(self, node: NodeId, room: Room | None) -> None:
        """Note what is left of a node; None: it takes nothing for now."""
        before = self._rooms.get(node)
        if before == room:
            return
        if before is not None:
            self._leave(node)
            del self._rooms[node]
        if room is not None:
            self._rooms[node] = room
            self._enter(node, room)
            if room.capabilities not in self._met:
                self._met.add(room.capabilities)
                self._offered |= room.capabilities

    def get(self, node: NodeId) -> Room | None:
        """Return what is left of a node; None: it takes nothing for now."""
        return self._rooms.get(node)

    def slots(self) -> dict[NodeId, int]:
        """Return the free slots of the nodes that may get work."""
        return {node: room.free.slots for node, room in self._rooms.items()}

    def fitting(self, need: Need, most: int) -> list[tuple[NodeId, Remainder]]:
        """Return up to `most` nodes that can take such a job now, preferred first."""
        found: list[_Alike] = []
        for kind, asked in self._able(need):
            if kind.order:
                found += kind.fitting(asked, most + len(need.avoid))
        if len(found) > 1:
            found.sort()
        nodes: list[tuple[NodeId, Remainder]] = []
        for remainder, alike in found:
            for node in alike:
                if node not in need.avoid:
                    nodes.append((node, remainder))
                    if len(nodes) == most:
                        return nodes
        return nodes

    def any(self, need: Need) -> bool:
        """Tell whether a node can take such a job now."""
        if need.avoid:
            return bool(self.fitting(need, 1))
        return any(
            covers(alike.remainder.free, asked)
            for kind, asked in self._able(need)
            for alike in kind.order
        )

    def count(self, need: Need) -> int:
        """Return how many nodes can take such a job now."""
        found = 0
        for kind, asked in self._able(need):
            for alike in kind.order:
                if covers(alike.remainder.free, asked):
                    found += len(alike.nodes)
        return found - sum(self._takes(node, need) for node in need.avoid)

    def ask(self, capabilities: Iterable[str]) -> None:
        """Tell nodes apart by these capabilities from now on, where there is anything to tell."""
        new = frozenset(capabilities) & self._offered - self._asked
        if not new:
            return
        self._asked |= new
        for node, room in self._rooms.items():
            if not new.isdisjoint(room.capabilities):
                self._leave(node)
                self._enter(node, room)
        self._kinds = {name: kind for name, kind in self._kinds.items() if kind.order}
        self._able_for.clear()

    def _able(self, need: Need) -> Sequence[tuple[_Kind, Resources]]:
        """Return the kinds of nodes that can do such a job, and what it takes of one there."""
        if not need.capabilities <= self._asked:
            self.ask(need.capabilities)
        able = self._able_for.get(need)
        if able is None:
            if len(self._able_for) > ABLE_MAX:
                self._able_for.clear()
            able = self._able_for[need] = [
                (kind, cost(need, kind.hardware_only))
                for kind in self._kinds.values()
                if need.capabilities <= kind.capabilities
            ]
        return able

    def _takes(self, node: NodeId, need: Need) -> bool:
        room = self._rooms.get(node)
        if room is None or not need.capabilities <= room.capabilities:
            return False
        return covers(room.free, cost(need, room.hardware_only))

    def _enter(self, node: NodeId, room: Room) -> None:
        name = (room.capabilities & self._asked, room.hardware_only)
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = _Kind(*name)
            self._able_for.clear()
        remainder = _remainder(room.gpu, room.size, room.free)
        self._where[node] = kind, kind.add(node, remainder)

    def _leave(self, node: NodeId) -> None:
        kind, alike = self._where.pop(node)
        kind.remove(node, alike)


@lru_cache(maxsize=REMAINDERS_MAX)
def _remainder(gpu: bool, size: Resources, free: Resources) -> Remainder:  # noqa: FBT001 - field
    share = free[0] / size[0] if size[0] > 0 else 0.0
    for at in (1, 2):
        if size[at] != UNCOUNTED and free[at] < size[at]:
            share = min(share, free[at] / size[at])
    return Remainder(gpu, 1.0 - share, -free[0], size, free)
