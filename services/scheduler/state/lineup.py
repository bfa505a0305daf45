"""In which order jobs of several lines are given out: by the heads of the lines."""

from collections.abc import Generator, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple

from events.state.job import Waiting
from services.scheduler.state.ready import Head, Line, Place
from services.scheduler.state.world import World


class _Turn(NamedTuple):
    """The first head of a tenant, as it competes with those of the other tenants."""

    clock: float
    """Of the tenant where tenants take turns; else 0, and there is one for all."""
    head: Head
    heads: list[Head]
    """All of the tenant's, as a heap."""


class Lineup:
    """A walk over lines at once, best job first; changes nothing but its own mind.

    Nothing else may change the lines while it is in use. Where tenants take turns, a turn moves one
    tenant only: what it costs does not grow with the lines.
    """

    def __init__(self, world: World, lines: Iterable[Line]) -> None:
        self._world = world
        self._clocks = world.turns.copy() if world.ranking.fair else None
        self._walks: dict[int, Iterator[Place]] = {}
        tenants: dict[str, list[Head]] = {}
        for line in lines:
            head = self._head(world.ready.first(line))
            tenants.setdefault(line.tenant, []).append(head)
        for heads in tenants.values():
            heapify(heads)
        self._turns = [_Turn(self._clock(heads), heads[0], heads) for heads in tenants.values()]
        heapify(self._turns)

    def head(self) -> Place | None:
        """Return the job whose turn it is; None: there is none left."""
        while self._turns:
            turn = self._turns[0]
            clock = self._clock(turn.heads)
            if clock == turn.clock:
                return turn.head.place
            heapreplace(self._turns, turn._replace(clock=clock))  # its credit has run out
        return None

    def take(self) -> None:
        """Give out the head."""
        heads = self._turns[0].heads
        line = heads[0].place.line
        if self._clocks is not None:
            self._clocks.take(line.tenant)
        following = self._following(line)
        if following is None:
            heappop(heads)
        else:
            heapreplace(heads, self._head(following))
        self._turn()

    def drop(self) -> None:
        """Look at the line of the head no more."""
        heappop(self._turns[0].heads)
        self._turn()

    def _turn(self) -> None:
        """Put the tenant that was first where its next head belongs."""
        heads = self._turns[0].heads
        if heads:
            heapreplace(self._turns, _Turn(self._clock(heads), heads[0], heads))
        else:
            heappop(self._turns)

    def _clock(self, heads: list[Head]) -> float:
        return 0.0 if self._clocks is None else self._clocks.clock(heads[0].place.line.tenant)

    def _following(self, line: Line) -> Place | None:
        """Return the place after the one that was first in the line until now."""
        walk = self._walks.get(line.number)
        if walk is None:
            walk = self._walks[line.number] = self._world.ready.ordered(line)
            next(walk)
        return next(walk, None)

    def _head(self, place: Place) -> Head:
        line = place.line
        head = line.head
        if head is None or head.place is not place:
            state = self._world.job(place.job)
            assert isinstance(state, Waiting), "only waiting jobs are ready"
            order = self._world.ranking.order(state.terms)
            head = line.head = Head(order, place.job_no, line.number, place)
        return head


def in_order(world: World, lines: Iterable[Line]) -> Generator[Place, None, None]:
    """Iterate over the jobs of lines in the order in which they would be given out now.

    Nothing may change meanwhile.
    """
    lineup = Lineup(world, lines)
    while (place := lineup.head()) is not None:
        yield place
        lineup.take()
