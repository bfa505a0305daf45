"""Reads what ffmpeg writes for `-progress`: bytes in, samples out, whatever the bytes are.

ffmpeg writes `key=value` lines, a block of them every period, each ended by `progress=continue` or
`progress=end`. Values may be `N/A` or padded. `out_time_ms` is in microseconds and not read. With
several outputs, all but the time are those of the first. An end block is no proof of success.

Source: ffmpeg 9 `fftools/ffmpeg.c`, `print_report`.
"""

import math

from services.worker.port import Sample

LINE_BYTES_MAX = 1024
"""A longer line is no progress; it is skipped."""
KEYS_MAX = 256
"""Keys of one block; ffmpeg writes about 12 and one for each stream."""
COUNT_MAX = 2**53
"""A larger number is damage; what reads the log holds no more than 64 bits."""


class ProgressReader:
    """Reads one process's progress; time and percent of its samples never go back."""

    def __init__(self, total_s: float | None) -> None:
        self._total_s = total_s if total_s is not None and total_s > 0 else None
        self._rest = b""
        self._skipping = False
        self._values: dict[str, str] = {}
        self._out_time_s = 0.0

    def feed(self, data: bytes) -> list[Sample]:
        """Take what has come and return the samples it completes."""
        *lines, rest = (self._rest + data).split(b"\n")
        samples: list[Sample] = []
        for line in lines:
            if self._skipping or len(line) > LINE_BYTES_MAX:
                self._skipping = False
                continue
            sample = self._line(line)
            if sample is not None:
                samples.append(sample)
        if len(rest) > LINE_BYTES_MAX:
            self._skipping = True
            rest = b""
        self._rest = rest
        return samples

    def _line(self, line: bytes) -> Sample | None:
        key, _, value = line.decode("utf-8", "replace").partition("=")
        key = key.strip()
        if key == "progress":
            sample = self._sample()
            self._values.clear()
            return sample
        if len(self._values) < KEYS_MAX:
            self._values[key] = value.strip()
        return None

    def _sample(self) -> Sample:
        value = self._values.get
        self._out_time_s = max(self._out_time_s, (_number(value("out_time_us")) or 0.0) / 1e6)
        speed = max(0.0, _number(value("speed"), "x") or 0.0)
        bitrate = _number(value("bitrate"), "kbits/s")
        return Sample(
            out_time_s=self._out_time_s,
            percent=self._percent(),
            frame=_count(value("frame")) or 0,
            fps=max(0.0, _number(value("fps")) or 0.0),
            speed=speed,
            bitrate_bps=None if bitrate is None or bitrate < 0 else bitrate * 1000,
            size_bytes=_count(value("total_size")),
            eta_s=self._eta_s(speed),
            dropped=_count(value("drop_frames")) or 0,
        )

    def _percent(self) -> float | None:
        if self._total_s is None:
            return None
        return min(100.0, 100.0 * self._out_time_s / self._total_s)

    def _eta_s(self, speed: float) -> float | None:
        if self._total_s is None or speed <= 0:
            return None
        eta_s = max(0.0, self._total_s - self._out_time_s) / speed
        return eta_s if math.isfinite(eta_s) else None


def _number(text: str | None, unit: str = "") -> float | None:
    """Return a finite number, or None for `N/A` and everything else."""
    try:
        number = float((text or "").removesuffix(unit))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _count(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None or not 0 <= number <= COUNT_MAX else int(number)
