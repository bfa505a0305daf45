"""When one attempt is ended though it would go on: rules on times and figures it is given.

All ages are seconds since the attempt began to run, pauses not counted, so what stands still is
neither stalled nor late. A sign of life is what no hung process gives: more time, frames or bytes
made; a write to its files; and, until the first frame has come out, work of the CPU, for a slow
encoder may look ahead for minutes.
"""

import math

from events.job import FailureClass, LossCause
from events.spec import Engine, JobSpec, ResourceLimits
from services.config import Timeouts
from services.worker.guard.ending import Exceeded, Lost, Verdict
from services.worker.port import Broken, Made, Result, Sample, Usage

FINISH_S = 600.0
"""How long closing, looking into and syncing what was made may show no life: a file of 50 GB is
read and written once more to move its index to the front."""
LOOKAHEAD_S_MAX = 900.0
"""How long CPU work alone counts as life, before the first frame has come out."""
BUSY_SHARE = 0.1
"""CPU time in that much of the time is work; a process that only waits and says so takes less."""
QUIET_SHARE = 0.5
"""After this share of its stall time without a sign of life an attempt is measured, for others."""


class Watch:
    """One attempt, from the moment it begins to run."""

    def __init__(self, spec: JobSpec, timeouts: Timeouts, now_s: float) -> None:
        self._timeouts = timeouts
        self._stall_s = math.inf if spec.engine is Engine.NOOP else timeouts.stall_s
        self._limits = spec.limits or ResourceLimits()
        self._timeout_s = spec.timeout_s
        self._explicit = spec.timeout_s is not None
        self._begun_s = now_s
        self._paused_s = 0.0
        self._paused_at_s: float | None = None
        self._alive_s = 0.0
        """Age at the last sign of life."""
        self._made = (0.0, 0, 0)
        """Seconds, frames and bytes made: the most that was told of each."""
        self._finishing = False
        self._usage: Usage | None = None
        self._busy_from: tuple[float, float] | None = None
        """Age and CPU time since which work of the CPU is counted."""

    def age_s(self, now_s: float) -> float:
        """Return how long it has run."""
        until_s = now_s if self._paused_at_s is None else self._paused_at_s
        return until_s - self._begun_s - self._paused_s

    def pause(self, now_s: float) -> None:
        """Stop its clocks."""
        if self._paused_at_s is None:
            self._paused_at_s = now_s

    def resume(self, now_s: float) -> None:
        """Let its clocks go on."""
        if self._paused_at_s is not None:
            self._paused_s += now_s - self._paused_at_s
            self._paused_at_s = None

    def excuse(self, late_s: float) -> None:
        """Leave out a time in which the worker itself could not listen; it is no stall."""
        if self._paused_at_s is None:
            self._alive_s += late_s

    def expects(self, length_s: float | None) -> None:
        """Set the time-out by the length of what is made, unless the job has its own."""
        if length_s is not None and not self._explicit:
            timeouts = self._timeouts
            self._timeout_s = max(timeouts.timeout_s_min, timeouts.timeout_factor * length_s)

    def finishing(self, now_s: float) -> None:
        """Expect no more progress: from here on `FINISH_S` holds, where it is more."""
        if not self._finishing:
            self._finishing = True
            self._alive_s = self.age_s(now_s)

    def progress(self, sample: Sample, now_s: float) -> None:
        """Take note of what was made so far."""
        told = (sample.out_time_s, sample.frame, sample.size_bytes or 0)
        if any(new > old for new, old in zip(told, self._made, strict=True)):
            before = self._made
            self._made = (
                max(told[0], before[0]),
                max(told[1], before[1]),
                max(told[2], before[2]),
            )
            self._alive_s = self.age_s(now_s)

    def wants_usage(self, now_s: float) -> bool:
        """Tell whether it has to be measured: for its limits, or because it is quiet."""
        if self._paused_at_s is not None:
            return False
        limited = self._limits.memory_bytes is not None or self._limits.disk_bytes is not None
        quiet_s = self.age_s(now_s) - self._alive_s
        return limited or quiet_s >= QUIET_SHARE * self._stall_s

    def used(self, usage: Usage, now_s: float) -> None:
        """Take note of a measurement."""
        age_s = self.age_s(now_s)
        before, self._usage = self._usage, usage
        if before is not None and usage.written_ns > before.written_ns:
            self._alive_s = age_s
        if self._busy_from is None or usage.cpu_s < self._busy_from[1]:
            self._busy_from = (age_s, usage.cpu_s)  # another process than before
        elif self._works(usage, age_s):
            self._alive_s = age_s
            self._busy_from = (age_s, usage.cpu_s)

    def _works(self, usage: Usage, age_s: float) -> bool:
        assert self._busy_from is not None, "only asked with something to compare with"
        from_s, cpu_s = self._busy_from
        looks_ahead = self._made[1] == 0 and age_s < LOOKAHEAD_S_MAX
        return looks_ahead and usage.cpu_s - cpu_s > BUSY_SHARE * max(1.0, age_s - from_s)

    def verdict(self, now_s: float) -> Verdict | None:
        """Return why the attempt is to be ended now; None: it goes on."""
        age_s = self.age_s(now_s)
        exceeded = self._exceeded()
        if exceeded is not None:
            return exceeded
        if self._timeout_s is not None and age_s >= self._timeout_s:
            whose = "its timeout_s" if self._explicit else "derived from its length"
            return Lost(
                LossCause.TIMED_OUT,
                f"ran for {age_s:.1f} s, allowed: {self._timeout_s:g} s ({whose}); "
                f"out_time was at {self._reached()}",
            )
        return self._stalled(age_s)

    def judge(self, result: Result) -> Result:
        """Return the result, or a failure for one that is larger than the job allows."""
        allowed = self._limits.disk_bytes
        if not isinstance(result, Made) or allowed is None:
            return result
        size_bytes = sum(file.size_bytes for file in result.files)
        if size_bytes <= allowed:
            return result
        over = _too_large(size_bytes, allowed)
        return Broken(failure=over.failure, message=over.message, stats=result.stats)

    def _stalled(self, age_s: float) -> Lost | None:
        silent_s = age_s - self._alive_s
        if silent_s < (max(self._stall_s, FINISH_S) if self._finishing else self._stall_s):
            return None
        phase = " while what was made was closed and looked at" if self._finishing else ""
        reason = f"out_time stood at {self._reached()} for {silent_s:.1f} s{phase}"
        return Lost(LossCause.STALLED, reason)

    def _reached(self) -> str:
        return f"{self._made[0]:.1f} s (frame {self._made[1]})"

    def _exceeded(self) -> Exceeded | None:
        if self._usage is None:
            return None
        memory_bytes = self._limits.memory_bytes
        if memory_bytes is not None and self._usage.memory_bytes > memory_bytes:
            used, allowed = _mib(self._usage.memory_bytes), _mib(memory_bytes)
            return Exceeded(
                FailureClass.RESOURCE,
                f"used {used} of memory; limits.memory_bytes allows {allowed}",
            )
        disk_bytes = self._limits.disk_bytes
        if disk_bytes is not None and self._usage.disk_bytes > disk_bytes:
            return _too_large(self._usage.disk_bytes, disk_bytes)
        return None


def _too_large(size_bytes: int, allowed: int) -> Exceeded:
    """Return the failure of an attempt that wrote too much: it would anywhere, so no retry."""
    return Exceeded(
        FailureClass.PERMANENT,
        f"wrote {_mib(size_bytes)}; limits.disk_bytes allows {_mib(allowed)}",
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
