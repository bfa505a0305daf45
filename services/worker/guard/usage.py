"""Measures what an attempt's processes and files take, in a thread: both may hang in the kernel."""

# psutil ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import psutil

from services.worker.guard.threads import Threads
from services.worker.port import Usage

HANGING_MAX = 32
"""Looks that may hang with the file system they look at; then files are left out, and processes
still measured."""


async def measure(pid: int | None, files: Sequence[Path]) -> Usage:
    """Return what the process, all it has started, and the files take; what is gone takes nothing.

    Cancelling leaves a thread behind that still waits for the kernel.
    """
    threads, looked_at = _threads(), tuple(files)
    if threads.exhausted:
        threads, looked_at = _threads_without_files(), ()
    return await threads.run(partial(_measure, pid, looked_at))


@cache
def _threads() -> Threads:
    return Threads(HANGING_MAX)


@cache
def _threads_without_files() -> Threads:
    return Threads(HANGING_MAX)


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
