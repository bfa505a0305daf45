"""How explanations speak of times, numbers and names: pure functions from values to words."""

from collections.abc import Sequence
from datetime import datetime

NAMED_MAX = 3
"""Most names in a sentence; the others are counted."""
_TEENS = range(11, 14)
_GIB = 2**30


def span(seconds: float) -> str:
    """Return a length of time in its two largest units; what is below none is no time at all."""
    whole = max(round(seconds), 0)
    minutes, rest_s = divmod(whole, 60)
    hours, rest_min = divmod(minutes, 60)
    days, rest_h = divmod(hours, 24)
    for large, large_unit, small, small_unit in (
        (days, "d", rest_h, "h"),
        (hours, "h", rest_min, "min"),
        (minutes, "min", rest_s, "s"),
    ):
        if large:
            return (
                f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"
            )
    return f"{whole} s"


def since(then: datetime, now: datetime) -> str:
    """Return how long something has lasted that began `then`, as `12 s`."""
    return span((now - then).total_seconds())


def ago(then: datetime, now: datetime) -> str:
    """Return how long ago `then` was, as `12 s ago`."""
    seconds = (now - then).total_seconds()
    return f"{span(seconds)} ago" if round(seconds) > 0 else "just now"


def at(instant: datetime, now: datetime) -> str:
    """Return when something is, as `at 14:05:00 UTC, in 3 min`; the date where it is another."""
    far = instant.date() != now.date()
    clock = f"at {instant:%Y-%m-%d %H:%M:%S} UTC" if far else f"at {instant:%H:%M:%S} UTC"
    ahead_s = (instant - now).total_seconds()
    return f"{clock}, in {span(ahead_s)}" if ahead_s > 0 else f"{clock}, {ago(instant, now)}"


def at_clock(instant: datetime) -> str:
    """Return a time of day, as `14:05:00 UTC`."""
    return f"{instant:%H:%M:%S} UTC"


def size(count_bytes: int) -> str:
    """Return a number of bytes, as `1.5 GiB`."""
    return f"{count_bytes / _GIB:.3g} GiB"


def many(number: int, noun: str) -> str:
    """Return a count of things, as `1 job` and `2 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def ordinal(number: int) -> str:
    """Return a place in a line, as `1st`, `2nd`, `11th`."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if number % 100 in _TEENS else ending}"


def listed(names: Sequence[str], total: int | None = None) -> str:
    """Return names in a sentence, as `a, b and c`; of more than `NAMED_MAX` the rest is counted.

    `total` is how many there are where `names` is only the head of them.
    """
    more = (len(names) if total is None else total) - NAMED_MAX
    if more > 0:
        return f"{', '.join(names[:NAMED_MAX])} and {more:,} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def said_by(name: str, reason: str = "") -> str:
    """Return who asked and why, as ` by ann (too early)`; empty: nobody has said."""
    who = f" by {name}" if name else ""
    return f"{who} ({reason})" if reason else who


def sentence(text: str) -> str:
    """Return others' words as one line that ends as a sentence does."""
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?", "…")) else f"{line}."
