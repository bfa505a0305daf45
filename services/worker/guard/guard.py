"""Watches the attempts of one worker: one loop for all of them, none while there is nothing.

An attempt that does nothing and has no bound of its own (a `noop`) is not watched and costs nothing
here.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

import anyio
import anyio.abc
from msgspec import Struct

from events.ids import JobId
from events.spec import Engine, JobSpec
from events.telemetry import OutputStream
from services.clock import Clock
from services.config import Timeouts
from services.contain import contained
from services.worker.guard.ending import Verdict
from services.worker.guard.watch import Watch
from services.worker.port import Executor, Report, Result, Sample, Work

LOOK_S = 0.5
"""Time between two looks at all watched attempts: how late one is ended at most, and how long it
may use more than it may."""
LATE_S = 5.0
"""A look that comes this much too late was not made by a worker that could listen meanwhile."""
MEASURE_S_MAX = 10.0
"""A measurement that takes longer, as on a file system that hangs, is given up and begun anew."""
MEASURED_MAX = 16
"""Measurements at once; what is too many waits for a later look."""

Key: TypeAlias = tuple[JobId, int]
End: TypeAlias = Callable[[Verdict], None]
"""Ends the attempt for this reason; called once."""


class Voice(Protocol):
    """Where the words of an attempt go."""

    def progress(self, sample: Sample) -> None:
        """Tell how far the attempt has come."""
        ...

    def lines(self, stream: OutputStream, lines: list[str]) -> None:
        """Tell what the attempt's process printed."""
        ...


class _Post(Struct):
    """One watched attempt."""

    work: Work
    executor: Executor
    watch: Watch
    end: End
    measuring: bool = False


class Guard:
    """The bounds of all attempts of one worker."""

    def __init__(self, timeouts: Timeouts, clock: Clock) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._posts: dict[Key, _Post] = {}
        self._wake = anyio.Event()
        self._measured = 0

    def enter(self, work: Work, executor: Executor, voice: Voice, end: End) -> Report:
        """Watch an attempt that begins to run now; return what it shall report to."""
        if not has_bounds(work.spec):
            return _Overheard(voice, None, self._clock)
        watch = Watch(work.spec, self._timeouts, self._clock.monotonic_s())
        self._posts[work.job, work.attempt] = _Post(work, executor, watch, end)
        self._wake.set()
        return _Overheard(voice, watch, self._clock)

    def leave(self, work: Work, result: Result | None) -> Result | None:
        """Forget an attempt that has ended; return its result, as its bounds let it stand."""
        post = self._posts.pop((work.job, work.attempt), None)
        return result if post is None or result is None else post.watch.judge(result)

    def pause(self, work: Work) -> None:
        """Stop the clocks of an attempt."""
        post = self._posts.get((work.job, work.attempt))
        if post is not None:
            post.watch.pause(self._clock.monotonic_s())

    def resume(self, work: Work) -> None:
        """Let the clocks of an attempt go on."""
        post = self._posts.get((work.job, work.attempt))
        if post is not None:
            post.watch.resume(self._clock.monotonic_s())

    async def run(self) -> None:
        """Look after the watched attempts, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                if not self._posts:
                    self._wake = anyio.Event()
                    await self._wake.wait()
                looked_s = self._clock.monotonic_s()
                await anyio.sleep(LOOK_S)
                late_s = self._clock.monotonic_s() - looked_s - LOOK_S
                self._look(tasks, late_s if late_s >= LATE_S else 0.0)

    def _look(self, tasks: anyio.abc.TaskGroup, late_s: float) -> None:
        for key, post in list(self._posts.items()):
            now_s = self._clock.monotonic_s()
            post.watch.excuse(late_s)
            verdict = post.watch.verdict(now_s)
            if verdict is not None:
                del self._posts[key]
                post.end(verdict)
            elif self._may_measure(post) and post.watch.wants_usage(now_s):
                post.measuring = True
                self._measured += 1
                tasks.start_soon(self._measure, post)

    def _may_measure(self, post: _Post) -> bool:
        return not post.measuring and self._measured < MEASURED_MAX

    async def _measure(self, post: _Post) -> None:
        try:
            with anyio.move_on_after(MEASURE_S_MAX):
                usage = await contained(partial(post.executor.usage, post.work), lambda _: None)
                if usage is not None:
                    post.watch.used(usage, self._clock.monotonic_s())
        finally:
            post.measuring = False
            self._measured -= 1


class _Overheard:
    """The report of one attempt: passes on what is said, and lets its watch listen."""

    def __init__(self, voice: Voice, watch: Watch | None, clock: Clock) -> None:
        self._voice = voice
        self._watch = watch
        self._clock = clock

    def progress(self, sample: Sample) -> None:
        self._voice.progress(sample)
        if self._watch is not None:
            self._watch.progress(sample, self._clock.monotonic_s())

    def lines(self, stream: OutputStream, lines: list[str]) -> None:
        self._voice.lines(stream, lines)

    def expects(self, length_s: float | None) -> None:
        if self._watch is not None:
            self._watch.expects(length_s)

    def finishing(self) -> None:
        if self._watch is not None:
            self._watch.finishing(self._clock.monotonic_s())


def has_bounds(spec: JobSpec) -> bool:
    """Tell whether there is anything to watch; doing nothing neither stalls nor uses anything."""
    return spec.engine is not Engine.NOOP or spec.timeout_s is not None
