"""The jobs that may be assigned, in lines: apart by what they need and by how they rank.

A pass compares the heads of the lines only, so a job that no free node can run never blocks the
ones behind it, and costs nothing while it waits.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from events.ids import JobId
from services.scheduler.state.needs import Need
from services.scheduler.state.ranking import Rank

OUTDATED_MAX = 64
"""A line is cleared of the places of jobs that have left once these are as many as the jobs that
wait, and more than this."""


class Line:
    """The jobs of one need, tenant and weight, as a heap."""

    __slots__ = ("head", "heap", "need", "number", "tenant", "waiting", "weight")

    def __init__(self, number: int, need: Need, rank: Rank) -> None:
        self.number = number
        self.need = need
        self.tenant = rank.tenant
        self.weight = rank.weight
        self.heap: list[Place] = []
        self.waiting = 0
        """How many of the places in the heap are still taken."""
        self.head: Head | None = None
        """As `Lineup` last computed it: holds as long as its place is the first one."""

    def __lt__(self, other: "Line") -> bool:
        """Order lines by their age, so that places can be compared to the end."""
        return self.number < other.number


class Place(NamedTuple):
    """A job's place: the order in which jobs of a line are given out."""

    key: float
    job_no: int
    job: JobId
    line: Line


class Head(NamedTuple):
    """The first place of a line, as it competes with those of other lines of its tenant."""

    order: float
    job_no: int
    number: int
    """Of the line."""
    place: Place


class ReadyQueue:
    """Priority queues, with removal in constant time."""

    def __init__(self) -> None:
        self._lines: dict[Need, dict[tuple[str, float], Line]] = {}
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
        line = self._line(need, rank)
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
            lines = self._lines[line.need]
            del lines[line.tenant, line.weight]
            if not lines:
                del self._lines[line.need]
        elif len(line.heap) - line.waiting > max(line.waiting, OUTDATED_MAX):
            line.heap = [each for each in line.heap if self._places.get(each.job) is each]
            heapq.heapify(line.heap)

    def rank_anew(self, jobs: Iterable[tuple[JobId, int, Need, Rank]]) -> None:
        """Let exactly these jobs wait, as `add` takes them: in time linear in their number."""
        self._lines.clear()
        self._places.clear()
        for job, job_no, need, rank in jobs:
            line = self._line(need, rank)
            place = self._places[job] = Place(rank.key, job_no, job, line)
            line.heap.append(place)
            line.waiting += 1
        for line in self.lines():
            heapq.heapify(line.heap)

    def lines(self) -> list[Line]:
        """Return the lines in which jobs wait."""
        return [line for lines in self._lines.values() for line in lines.values()]

    def needs(self) -> dict[Need, list[Line]]:
        """Return the needs of the jobs that wait, each with its lines."""
        return {need: list(lines.values()) for need, lines in self._lines.items()}

    def place(self, job: JobId) -> Place | None:
        """Return where `job` waits; None: it does not."""
        return self._places.get(job)

    def waiting(self, line: Line) -> Iterator[Place]:
        """Iterate over the places of one line, in no order; to be used up before a change."""
        return (place for place in line.heap if self._places.get(place.job) is place)

    def first(self, line: Line) -> Place:
        """Return the best place of a line in which somebody waits."""
        heap = line.heap
        while self._places.get(heap[0].job) is not heap[0]:
            heapq.heappop(heap)
        return heap[0]

    def ordered(self, line: Line) -> Iterator[Place]:
        """Iterate over the places of one line, best first, changing nothing.

        Costs a logarithm of how many were taken a job, so that taking a few of a million is cheap.
        While such a walk is under way, nothing may change the line. Source: selection in a heap
        from a second one that holds the frontier; Knuth, TAOCP vol. 3, 5.2.3.
        """
        heap, places = line.heap, self._places
        frontier = [(heap[0], 0)] if heap else []
        while frontier:
            place, at = frontier[0]
            below = 2 * at + 1
            if below < len(heap):
                heapq.heapreplace(frontier, (heap[below], below))
                if below + 1 < len(heap):
                    heapq.heappush(frontier, (heap[below + 1], below + 1))
            else:
                heapq.heappop(frontier)
            if places.get(place.job) is place:
                yield place

    def _line(self, need: Need, rank: Rank) -> Line:
        lines = self._lines.setdefault(need, {})
        line = lines.get((rank.tenant, rank.weight))
        if line is None:
            self._made += 1
            line = lines[rank.tenant, rank.weight] = Line(self._made, need, rank)
        return line
