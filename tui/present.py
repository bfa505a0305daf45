"""What people see of states, times, sizes and rates: pure functions from values to words.

A state is always a glyph, a word and a colour together, so that nothing is lost without colour or
to a colour-blind eye. Colours are those of Okabe and Ito, "Color Universal Design" (2008), which
stay distinct under every common form of colour blindness. Glyphs are one terminal cell wide.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from msgspec import Struct

from events.state.job import JobStatus
from events.state.node import Circuit, NodeStatus

K = TypeVar("K", bound=str)

UNKNOWN = "-"
"""What stands where a value is not known."""

_GRAY = "#8a8a8a"
_ORANGE = "#e69f00"
_SKY = "#56b4e9"
_GREEN = "#009e73"
_YELLOW = "#f0e442"
_BLUE = "#3b8fd4"
_VERMILION = "#d55e00"
_PURPLE = "#cc79a7"


class Look(Struct, frozen=True):
    """How one state is shown."""

    glyph: str
    word: str
    color: str
    """`#rrggbb`, as Rich and Textual understand it."""

    def __str__(self) -> str:
        return f"{self.glyph} {self.word}"


_JOB_LOOKS = {
    JobStatus.PENDING: Look("◔", "pending", _GRAY),
    JobStatus.QUEUED: Look("◌", "queued", _YELLOW),
    JobStatus.ASSIGNED: Look("▷", "assigned", _BLUE),
    JobStatus.PROCESSING: Look("▶", "processing", _SKY),
    JobStatus.PAUSED: Look("‖", "paused", _ORANGE),
    JobStatus.COMPLETED: Look("✔", "completed", _GREEN),
    JobStatus.FAILED: Look("✖", "failed", _VERMILION),
    JobStatus.CANCELED: Look("⊘", "canceled", _PURPLE),
    JobStatus.REJECTED: Look("⊗", "rejected", _ORANGE),
}
RETRYING = Look("↻", "retrying", _ORANGE)
"""A pending job whose last attempt failed: it waits for the end of its back-off."""

_NODE_LOOKS = {
    NodeStatus.UNKNOWN: Look("?", "unknown", _GRAY),
    NodeStatus.ONLINE: Look("●", "online", _GREEN),
    NodeStatus.SUSPECTED: Look("◐", "suspected", _ORANGE),
    NodeStatus.LOST: Look("✖", "lost", _VERMILION),
    NodeStatus.DRAINED: Look("○", "drained", _BLUE),
    NodeStatus.REMOVED: Look("⊘", "removed", _GRAY),
    NodeStatus.REFUSED: Look("⊗", "refused", _PURPLE),
}
_CIRCUIT_LOOKS = {
    Circuit.CLOSED: Look("●", "closed", _GREEN),
    Circuit.OPEN: Look("✖", "open", _VERMILION),
    Circuit.HALF_OPEN: Look("◐", "half open", _ORANGE),
}


def job_look(status: JobStatus | str, *, retrying: bool = False) -> Look:
    """Return how a job's state is shown; a word of a later version is shown as it is."""
    if retrying and status == JobStatus.PENDING:
        return RETRYING
    return _look(_JOB_LOOKS, status)


def node_look(status: NodeStatus | str) -> Look:
    """Return how a node's state is shown; a word of a later version is shown as it is."""
    return _look(_NODE_LOOKS, status)


def circuit_look(circuit: Circuit | str) -> Look:
    """Return how a node's circuit is shown; a word of a later version is shown as it is."""
    return _look(_CIRCUIT_LOOKS, circuit)


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units; below 10 s with one decimal."""
    if seconds is None or seconds < 0:
        return UNKNOWN
    if seconds < 9.95:  # noqa: PLR2004 - rounds to less than 10.0
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest_s = divmod(whole, 60)
    hours, rest_min = divmod(minutes, 60)
    days, rest_h = divmod(hours, 24)
    if days:
        return f"{days} d {rest_h} h"
    if hours:
        return f"{hours} h {rest_min:02d} min"
    if minutes:
        return f"{minutes} min {rest_s:02d} s"
    return f"{whole} s"


def age(then: datetime | None, now: datetime) -> str:
    """Return how long ago `then` was; a clock that is a little ahead is `now`."""
    if then is None:
        return UNKNOWN
    seconds = (now - then).total_seconds()
    return "now" if seconds < 1 else f"{duration(float(int(seconds)))} ago"


def size(count_bytes: float | None) -> str:
    """Return a number of bytes in decimal units, as disks and networks are sold."""
    return UNKNOWN if count_bytes is None else _scaled(count_bytes, ("B", "kB", "MB", "GB", "TB"))


def bit_rate(bits_per_s: float | None) -> str:
    """Return a bit rate in decimal units."""
    units = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s")
    return UNKNOWN if bits_per_s is None else _scaled(bits_per_s, units)


def speed(factor: float | None) -> str:
    """Return seconds of media made per second of time; 0 is not known."""
    if not factor:
        return UNKNOWN
    return f"{factor:.0f}x" if factor >= 100 else f"{factor:.3g}x"  # noqa: PLR2004 - three digits


def percent(value: float | None) -> str:
    """Return a percentage without decimals; only a finished thing is 100 %."""
    return UNKNOWN if value is None else f"{int(min(max(value, 0.0), 100.0))} %"


def count(number: int | None) -> str:
    """Return a number with its thousands apart."""
    return UNKNOWN if number is None else f"{number:,}"


def bar(value: float | None, width: int) -> str:
    """Return a bar of `width` cells, filled by `value` percent; None is an empty one.

    Heavy lines rather than full blocks: bars of adjacent rows stay apart.
    """
    assert width > 0, width
    halves = round(min(max(value or 0.0, 0.0), 100.0) / 100 * width * 2)
    full, half = divmod(halves, 2)
    filled = "━" * full + "╸" * half
    return filled + "─" * (width - len(filled))


def clock_time(instant: datetime | None) -> str:
    """Return the time of day in UTC, to the millisecond."""
    return UNKNOWN if instant is None else f"{instant:%H:%M:%S}.{instant.microsecond // 1000:03d}"


def shortened(text: str, width: int) -> str:
    """Return `text` in one line of at most `width` cells, its cut end marked."""
    assert width > 0, width
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def printable(text: str) -> str:
    """Return `text` without control characters: what others wrote must not steer a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _look(looks: Mapping[K, Look], status: str) -> Look:
    found = next((look for known, look in looks.items() if known == status), None)
    return Look("?", str(status), _GRAY) if found is None else found


def _scaled(number: float, units: tuple[str, ...]) -> str:
    index = 0
    while abs(number) >= 999.5 and index < len(units) - 1:  # noqa: PLR2004 - rounds to 1,000
        number /= 1000
        index += 1
    if index == 0 or abs(number) >= 99.95:  # noqa: PLR2004 - three digits are enough
        return f"{number:.0f} {units[index]}"
    return f"{number:.1f} {units[index]}"
