"""The jobs that may be assigned, in lines: apart by what they need and by how they rank.

A pass compares the heads of the lines only, so a job that no free node can run never blocks the
ones behind it, and costs nothing while it waits.
"""

import heapq
from collections.abc import Generator, Iterable, Iterator
from typing import NamedTuple

from events.ids import JobId
from services.scheduler.state.needs import Need
from services.scheduler.state.ranking import Rank

OUTDATED_MAX = 64
"""A line is cleared of the places of jobs that have left once these are as many as the jobs that
wait, and more than this."""


class Line:
    """The jobs of one need, tenant and weight, as a heap."""

    __slots__ = ("heap", "need", "number", "tenant", "waiting", "weight")

    def __init__(self, number: int, need: Need, rank: Rank) -> None:
        self.number = number
        self.need = need
        self.tenant = rank.tenant
        self.weight = rank.weight
        self.heap: list[Place] = []
        self.waiting = 0
        """How many of the places in the heap are still taken."""

    def __lt__(self, other: "Line") -> bool:
        """Order lines by their age, so that places can be compared to the end."""
        return self.number < other.number


class Place(NamedTuple):
    """A job's place: the order in which jobs of a line are given out."""

    key: float
    job_no: int
    job: JobId
    line: Line


class ReadyQueue:
    """Priority queues, with removal in constant time."""

    def __init__(self) -> None:
        self._lines: dict[tuple[Need, str, float], Line] = {}
        self._places: dict[JobId, Place] = {}
        self._made = 0
        """Lines made so far."""

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._places)

    def __contains__(self, job: JobId) -> bool:
        """Tell whether the job waits."""
        return job in self._places

    def add(self, job: JobId, job_no: int, need: Need, rank: Rank) -> None:
        """Let `job` wait where it ranks; equal keys are ordered by `job_no`."""
        self.remove(job)
        name = (need, rank.tenant, rank.weight)
        line = self._lines.get(name)
        if line is None:
            self._made += 1
            line = self._lines[name] = Line(self._made, need, rank)
        place = self._places[job] = Place(rank.key, job_no, job, line)
        heapq.heappush(line.heap, place)
        line.waiting += 1

    def remove(self, job: JobId) -> None:
        """Take `job` out; nothing happens when it does not wait."""
        place = self._places.pop(job, None)
        if place is None:
            return
        line = place.line
        line.waiting -= 1
        if not line.waiting:
            del self._lines[line.need, line.tenant, line.weight]
        elif len(line.heap) - line.waiting > max(line.waiting, OUTDATED_MAX):
            line.heap = [each for each in line.heap if self._places.get(each.job) is each]
            heapq.heapify(line.heap)

    def rank_anew(self, jobs: Iterable[tuple[JobId, int, Need, Rank]]) -> None:
        """Let exactly these jobs wait, as `add` takes them: in time linear in their number."""
        self._lines.clear()
        self._places.clear()
        for job, job_no, need, rank in jobs:
            name = (need, rank.tenant, rank.weight)
            line = self._lines.get(name)
            if line is None:
                self._made += 1
                line = self._lines[name] = Line(self._made, need, rank)
            place = self._places[job] = Place(rank.key, job_no, job, line)
            line.heap.append(place)
            line.waiting += 1
        for line in self._lines.values():
            heapq.heapify(line.heap)

    def lines(self) -> list[Line]:
        """Return the lines in which jobs wait."""
        return list(self._lines.values())

    def needs(self) -> dict[Need, list[Line]]:
        """Return the needs of the jobs that wait, each with its lines."""
        found: dict[Need, list[Line]] = {}
        for line in self._lines.values():
            found.setdefault(line.need, []).append(line)
        return found

    def place(self, job: JobId) -> Place | None:
        """Return where `job` waits; None: it does not."""
        return self._places.get(job)

    def waiting(self, line: Line) -> Iterator[Place]:
        """Iterate over the places of one line, in no order; to be used up before a change."""
        return (place for place in line.heap if self._places.get(place.job) is place)

    def ordered(self, line: Line) -> Generator[Place, None, None]:
        """Iterate over the places of one line, best first, removing nothing.

        Costs a logarithm of the line a job, so that taking a few of a million is cheap. While one
        such walk is under way, nothing else may change or walk the line.
        """
        heap = line.heap
        taken: list[Place] = []
        try:
            while heap:
                place = heapq.heappop(heap)
                if self._places.get(place.job) is not place:
                    continue
                taken.append(place)
                yield place
        finally:
            for place in taken:
                heapq.heappush(heap, place)
