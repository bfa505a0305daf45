"""Instants at which something is to be looked at again: one of each job, the earliest first."""

import heapq
from datetime import UTC, datetime, timedelta

from events.ids import JobId

SLACK_MAX = 1_000
"""Alarms that were set anew or cleared, beyond as many as are set, before they are swept out."""

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def later(since: datetime, seconds: float) -> datetime:
    """Return the instant so many seconds after another; past the last one there is, the last one.

    Instants and durations come from specifications and facts: any that can be written can come.
    """
    try:
        return since + timedelta(seconds=seconds)
    except OverflowError:
        return END_OF_TIME


class Alarms:
    """A heap of instants; setting and clearing cost a logarithm, whatever was set before is void.

    Alarms of one instant ring in the order they were set.
    """

    def __init__(self) -> None:
        self._set: dict[JobId, tuple[datetime, int]] = {}
        self._heap: list[tuple[datetime, int, JobId]] = []
        self._count = 0

    def __len__(self) -> int:
        """Return how many jobs have an alarm."""
        return len(self._set)

    @property
    def kept(self) -> int:
        """How many instants are kept, void ones among them."""
        return len(self._heap)

    def set(self, job: JobId, at: datetime) -> None:
        """Let the alarm of `job` ring at this instant, and at no other."""
        self._count += 1
        self._set[job] = (at, self._count)
        heapq.heappush(self._heap, (at, self._count, job))
        if len(self._heap) > 2 * len(self._set) + SLACK_MAX:
            self._heap = [(at, count, job) for job, (at, count) in self._set.items()]
            heapq.heapify(self._heap)

    def clear(self, job: JobId) -> None:
        """Let no alarm ring for `job`."""
        self._set.pop(job, None)

    def ring(self, now: datetime, most: int) -> list[JobId]:
        """Take out, at most `most`, the jobs whose instant has come."""
        rung: list[JobId] = []
        while self._heap and self._heap[0][0] <= now and len(rung) < most:
            at, count, job = heapq.heappop(self._heap)
            if self._set.get(job) == (at, count):
                del self._set[job]
                rung.append(job)
        return rung
