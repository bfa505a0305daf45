"""Which jobs go where, now: pure, and in the time it takes to assign them."""

import heapq
from collections.abc import Generator
from datetime import datetime
from typing import TypeAlias

from msgspec import Struct

from events.ids import JobId, NodeId
from events.job import Placement
from events.state.job import Waiting
from services.scheduler.state.ready import Item, Requirement
from services.scheduler.state.weights import weight
from services.scheduler.state.world import World

_Walk: TypeAlias = tuple[Requirement, Generator[Item, None, None]]
_Line: TypeAlias = tuple[float, int, JobId, int]
"""The head of a walk, as an item and the number of its walk."""

PASS_JOBS_MAX = 1_000
"""Most jobs given out in one pass; the next pass follows at once."""


class Choice(Struct, frozen=True):
    """One job for one node, and why."""

    job: JobId
    node: NodeId
    placement: Placement


def place(world: World, now: datetime, jobs_max: int = PASS_JOBS_MAX) -> list[Choice]:
    """Return the best waiting job for each free slot, best first.

    Between requirement sets the earlier order key wins; inside one, so does it. The node is the
    one with most free slots among those that can. Changes nothing; visits only jobs it places.
    """
    rooms = _Rooms(world)
    choices: list[Choice] = []
    lines: list[_Line] = []
    walks: list[_Walk] = []
    for requirement in world.ready.requirements():
        if rooms.candidates(requirement):
            walks.append((requirement, world.ready.ordered(requirement)))
            _push_next(lines, walks, len(walks) - 1)
    while lines and len(choices) < jobs_max:
        _, _, job, line = heapq.heappop(lines)
        chosen = rooms.take(walks[line][0])
        if chosen is None:
            continue  # nobody free can run this set: its other jobs wait too, the rest do not
        choices.append(_choice(world, job, chosen, now))
        _push_next(lines, walks, line)
    for _, walk in walks:
        walk.close()  # puts back what it took
    return choices


class _Room(Struct, frozen=True):
    node: NodeId
    free: int
    candidates: int
    runner_up: str


class _Rooms:
    """Free slots during one pass: a heap of nodes per requirement set, emptiest node first."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._free = dict(world.roomy)
        self._heaps: dict[Requirement, list[tuple[int, NodeId]]] = {}
        self._counts: dict[Requirement, int] = {}

    def candidates(self, requirement: Requirement) -> int:
        """Return how many free nodes can run jobs of this set."""
        if requirement not in self._counts:
            heap = [
                (-free, node)
                for node, free in self._free.items()
                if requirement <= self._world.node(node).capabilities
            ]
            heapq.heapify(heap)
            self._heaps[requirement] = heap
            self._counts[requirement] = len(heap)
        return self._counts[requirement]

    def take(self, requirement: Requirement) -> _Room | None:
        """Take a slot of the emptiest node that can; None: there is none left."""
        heap = self._heaps[requirement]
        node = self._emptiest(heap)
        if node is None:
            return None
        heapq.heappop(heap)
        free = self._free[node]
        runner_up = self._emptiest(heap) or ""
        self._free[node] = free - 1
        if free > 1:
            heapq.heappush(heap, (1 - free, node))
        return _Room(node, free, self._counts[requirement], runner_up)

    def _emptiest(self, heap: list[tuple[int, NodeId]]) -> NodeId | None:
        """Return the node at the head, once the head is true; None: none has a slot left."""
        while heap:
            seen, node = heap[0]
            free = self._free[node]
            if -seen == free:
                return node
            # another set took slots there meanwhile
            heapq.heapreplace(heap, (-free, node)) if free else heapq.heappop(heap)
        return None


def _push_next(lines: list[_Line], walks: list[_Walk], line: int) -> None:
    head = next(walks[line][1], None)
    if head is not None:
        heapq.heappush(lines, (*head, line))


def _choice(world: World, job: JobId, room: _Room, now: datetime) -> Choice:
    state = world.job(job)
    assert isinstance(state, Waiting)
    terms = state.terms
    placement = Placement(
        weight=weight(terms.queue, terms.priority),
        waited_s=max(0.0, round((now - terms.submitted_at).total_seconds(), 3)),
        candidates=room.candidates,
        free=room.free,
        runner_up=room.runner_up,
    )
    return Choice(job, room.node, placement)
