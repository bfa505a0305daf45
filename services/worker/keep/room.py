"""Whether there is room on disk for new work; what runs is never touched for lack of it."""

from collections.abc import Sequence

from services.worker.port import Disk

AGAIN_FACTOR = 1.25
"""Work is taken again when there is this much more than the least: a file that grows and one that
is removed shall not make a node come and go."""
GIB = 2**30


class Room:
    """Remembers that room was short until there is clearly enough again."""

    def __init__(self, bytes_min: int) -> None:
        self._bytes_min = bytes_min
        self._refusal = ""

    def refusal(self, disks: Sequence[Disk]) -> str:
        """Return why nothing new can be taken; empty: there is room.

        The figures are those of when it began, so that the reason changes once and not all the
        time. No disks is not known: then what was true stays true.
        """
        if not disks:
            return self._refusal
        least = self._bytes_min * (AGAIN_FACTOR if self._refusal else 1.0)
        short = [disk for disk in disks if disk.free_bytes < least]
        if not short:
            self._refusal = ""
        elif not self._refusal:
            worst = min(short, key=lambda disk: disk.free_bytes)
            self._refusal = (
                f"disk: {worst.free_bytes / GIB:.1f} GiB free in {worst.path}, "
                f"needs {self._bytes_min / GIB:g} GiB"
            )
        return self._refusal
