"""Measures what an attempt's processes and files take, in a thread: both may hang in the kernel."""

# psutil ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import anyio
import psutil
from anyio import to_thread

from services.worker.port import Usage

THREADS_MAX = 32
"""Threads that measure; some may hang with the file system they look at."""


async def measure(pid: int | None, files: Sequence[Path]) -> Usage:
    """Return what the process, all it has started, and the files take; what is gone takes nothing.

    Cancelling leaves a thread behind that still waits for the kernel.
    """
    return await to_thread.run_sync(
        _measure, pid, tuple(files), abandon_on_cancel=True, limiter=_threads()
    )


@cache
def _threads() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(THREADS_MAX)


def _measure(pid: int | None, files: Sequence[Path]) -> Usage:
    memory_bytes, cpu_s = 0, 0.0
    for process in [] if pid is None else _family(pid):
        try:
            with process.oneshot():
                memory_bytes += int(process.memory_info().rss)
                times = process.cpu_times()
                cpu_s += float(times.user + times.system)
        except psutil.Error:
            continue  # it has ended meanwhile
    sizes, written = [0], [0]
    for file in files:
        try:
            found = file.stat()
        except OSError:
            continue  # not made yet
        sizes.append(found.st_size)
        written.append(found.st_mtime_ns)
    return Usage(
        memory_bytes=memory_bytes, cpu_s=cpu_s, disk_bytes=sum(sizes), written_ns=max(written)
    )


def _family(pid: int) -> Iterator[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
    except psutil.Error:
        return  # it has ended meanwhile
