"""A point in the ledger, as people write it."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from msgspec import Struct

from services.clock import SystemClock

_ALLOWED = (
    "a sequence as 1234, an instant as 2026-01-31T12:00:00Z, a time of day in UTC as 03:12, a time "
    "ago as -10m or -1h30m, or now"
)
_ago = re.compile(
    r"-(?=\d)(?:(?P<days>\d{1,5})d)?(?:(?P<hours>\d{1,5})h)?(?:(?P<minutes>\d{1,5})m(?:in)?)?"
    r"(?:(?P<seconds>\d{1,7})s)?"
).fullmatch
_sequence = re.compile(r"#?(\d{1,15})").fullmatch
_time_of_day = re.compile(r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?").fullmatch


class Point(Struct, frozen=True):
    """A place in the ledger: exactly one of both is given."""

    seq: int | None = None
    time: datetime | None = None


class PointType(click.ParamType[Point]):
    """A place in the ledger as people write it."""

    name = "SEQ|TIME"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's own signature
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Point:
        """Read it; the answer lies in the past, or is now."""
        if isinstance(value, Point):
            return value
        now = SystemClock().now()
        point = point_of(str(value), now)
        if point is None:
            self.fail(f"given: {value!r}; allowed: {_ALLOWED}", param, ctx)
        if point.time is not None and point.time > now:
            self.fail(f"given: {value!r}, {point.time:%Y-%m-%d %H:%M:%S} UTC; it lies ahead", param)
        return point


def point_of(text: str, now: datetime) -> Point | None:
    """Return the place that `text` means; None: it means none.

    A time of day is the last one before `now`; an instant without a time zone is in UTC.
    """
    text = text.strip()
    sequence = _sequence(text)
    if sequence:
        return Point(seq=int(sequence[1]))
    ago = _ago(text)
    if ago:
        parts = {unit: int(count) for unit, count in ago.groupdict().items() if count}
        return Point(time=now - timedelta(**parts))
    if text == "now":
        return Point(time=now)
    time = _instant(text, now)
    return None if time is None else Point(time=time)


def _instant(text: str, now: datetime) -> datetime | None:
    of_day = _time_of_day(text) is not None
    try:
        time = datetime.fromisoformat(f"{now.date()}T{text:0>5}" if of_day else text)
    except ValueError:
        return None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time - timedelta(days=1) if of_day and time > now else time
