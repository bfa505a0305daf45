"""In which order jobs of several lines are given out: by the heads of the lines."""

import heapq
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import NamedTuple

from events.state.job import Waiting
from services.scheduler.state.ready import Line, Place
from services.scheduler.state.world import World


class _Head(NamedTuple):
    """The first place of a line, as it competes with those of the others."""

    clock: float
    """Of its tenant where tenants take turns; else 0."""
    order: float
    job_no: int
    line: int
    place: Place


class Lineup:
    """A walk over lines at once, best job first; changes nothing, and is to be closed."""

    def __init__(self, world: World, lines: Iterable[Line]) -> None:
        self._world = world
        self._turns = world.turns.copy() if world.ranking.fair else None
        self._walks = [world.ready.ordered(line) for line in lines]
        self._heads: list[_Head] = []
        for line in range(len(self._walks)):
            self._push_next(line)

    def head(self) -> Place | None:
        """Return the job whose turn it is; None: there is none left."""
        while self._heads:
            head = self._heads[0]
            clock = self._clock(head.place)
            if clock == head.clock:
                return head.place
            heapq.heapreplace(self._heads, head._replace(clock=clock))  # its tenant had its turn
        return None

    def take(self) -> None:
        """Give out the head."""
        head = heapq.heappop(self._heads)
        if self._turns is not None:
            self._turns.take(head.place.line.tenant)
        self._push_next(head.line)

    def drop(self) -> None:
        """Look at the line of the head no more."""
        heapq.heappop(self._heads)

    def close(self) -> None:
        """Put everything back where it was."""
        for walk in self._walks:
            walk.close()

    def _clock(self, place: Place) -> float:
        return 0.0 if self._turns is None else self._turns.clock(place.line.tenant)

    def _push_next(self, line: int) -> None:
        place = next(self._walks[line], None)
        if place is not None:
            state = self._world.job(place.job)
            assert isinstance(state, Waiting), "only waiting jobs are ready"
            order = self._world.ranking.order(state.terms)
            head = _Head(self._clock(place), order, place.job_no, line, place)
            heapq.heappush(self._heads, head)


def in_order(world: World, lines: Iterable[Line]) -> Generator[Place, None, None]:
    """Iterate over the jobs of lines in the order in which they would be given out now.

    Nothing may change meanwhile; to be closed when it is left early.
    """
    with closing(Lineup(world, lines)) as lineup:
        while (place := lineup.head()) is not None:
            yield place
            lineup.take()
