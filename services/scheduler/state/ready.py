"""The jobs that may be assigned, in order, apart by what they require.

Jobs of one requirement set share a heap. A pass compares the heads of the heaps only, so a job that
no free node can run never blocks the ones behind it, and costs nothing while it waits.
"""

import heapq
from collections.abc import Generator
from typing import TypeAlias

from events.ids import JobId

Requirement: TypeAlias = frozenset[str]
Item: TypeAlias = tuple[float, int, JobId]
"""Order key, job number, job: the order in which jobs are given out."""


class ReadyQueue:
    """A priority queue per requirement set, with removal in constant time."""

    def __init__(self) -> None:
        self._heaps: dict[Requirement, list[Item]] = {}
        self._entries: dict[JobId, tuple[Requirement, float, int]] = {}

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._entries)

    def __contains__(self, job: JobId) -> bool:
        """Tell whether the job waits."""
        return job in self._entries

    def add(self, job: JobId, key: float, job_no: int, requirement: Requirement) -> None:
        """Let `job` wait with this order key; equal keys are ordered by `job_no`."""
        self._entries[job] = (requirement, key, job_no)
        heapq.heappush(self._heaps.setdefault(requirement, []), (key, job_no, job))

    def remove(self, job: JobId) -> None:
        """Take `job` out; nothing happens when it does not wait."""
        entry = self._entries.pop(job, None)
        if entry is not None and not self._live(entry[0]):
            self._heaps.pop(entry[0], None)

    def requirements(self) -> list[Requirement]:
        """Return the requirement sets for which jobs wait."""
        return [requirement for requirement in list(self._heaps) if self._live(requirement)]

    def ordered(self, requirement: Requirement) -> Generator[Item, None, None]:
        """Iterate over (key, job_no, job) of one requirement set, best first, removing nothing.

        Costs a logarithm of the heap a job, so that taking a few of a million is cheap.
        """
        heap = self._heaps.get(requirement, [])
        taken: list[Item] = []
        try:
            while heap:
                item = heapq.heappop(heap)
                if self._entries.get(item[2]) != (requirement, item[0], item[1]):
                    continue
                if taken and taken[-1] == item:  # left and came back with the same key
                    continue
                taken.append(item)
                yield item
        finally:
            for item in taken:
                heapq.heappush(heap, item)

    def _live(self, requirement: Requirement) -> bool:
        """Drop outdated heads; tell whether anything is left."""
        heap = self._heaps.get(requirement)
        while heap:
            key, job_no, job = heap[0]
            if self._entries.get(job) == (requirement, key, job_no):
                return True
            heapq.heappop(heap)
        self._heaps.pop(requirement, None)
        return False
