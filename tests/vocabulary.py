"""Helpers of the tests of the vocabulary: events at given places, and strategies for all types."""

import math
from datetime import UTC, datetime, timedelta
from typing import cast

from hypothesis import strategies as st
from msgspec import Raw, Struct, inspect, json
from msgspec.structs import replace

from events import job, subjects
from events.codec import Event, Fact, Recorded, Unknown
from events.ids import END_OF_TEXT, EventId, JobId
from events.subjects import Subject

T0 = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
JOB = subjects.job(JobId("clip"))


def instant(seq: int) -> datetime:
    """Return the instant of the event at `seq`: one second after another."""
    return T0 + timedelta(seconds=seq)


def recorded(seq: int, fact: Fact | Unknown, subject: Subject = JOB) -> Recorded:
    """Return `fact` as it lies in a log at `seq`."""
    kind = fact.type if isinstance(fact, Unknown) else fact.tag
    data = Raw(b"{}" if isinstance(fact, Unknown) else json.encode(fact))
    event_id = EventId(f"e-{seq}")
    return Recorded(seq, subject, fact, instant(seq), event_id, "test", kind, None, data)


def event(fact: Fact, subject: Subject = JOB) -> Event:
    """Return `fact` in an envelope."""
    return Event(
        id=EventId("e-1"), source="test", type=fact.tag, time=T0, subject=subject, data=fact
    )


def history(*facts: Fact, first: int = 1) -> list[Recorded]:
    """Return facts of one job as they lie in the log, from sequence `first` on."""
    return [recorded(first + number, fact) for number, fact in enumerate(facts)]


def values(kind: type[Struct]) -> st.SearchStrategy[Struct]:
    """Return a strategy for all values of a struct that its constraints allow."""
    return cast("st.SearchStrategy[Struct]", _strategy(inspect.type_info(kind)))


def facts(kind: type[Fact]) -> st.SearchStrategy[Fact]:
    """Return a strategy for all facts of a type."""
    return cast("st.SearchStrategy[Fact]", values(kind))


def job_facts(kinds: tuple[type[Fact], ...]) -> st.SearchStrategy[Fact]:
    """Return a strategy for facts of a job whose attempts are small enough to meet each other."""
    return st.tuples(st.one_of(*map(facts, kinds)), st.integers(1, 3)).map(_with_small_attempt)


def _with_small_attempt(drawn: tuple[Fact, int]) -> Fact:
    fact, attempt = drawn
    if isinstance(fact, job.Failed) or "attempt" not in fact.__struct_fields__:
        return fact
    return replace(fact, attempt=attempt)


def _strategy(info: inspect.Type) -> st.SearchStrategy[object]:
    match info:
        case inspect.Metadata(type=inner):
            return _strategy(inner)
        case inspect.UnionType(types=types):
            return st.one_of(*map(_strategy, types))
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: _strategy(field.type) for field in fields})
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            size = min(high or 3, 3)
            return st.lists(_strategy(item), min_size=low or 0, max_size=size).map(tuple)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_strategy(key), _strategy(value), max_size=3)
        case _:
            return _scalar(info)


def _scalar(info: inspect.Type) -> st.SearchStrategy[object]:
    match info:
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.DateTimeType():
            return st.datetimes(timezones=st.just(UTC))
        case inspect.IntType(ge=low, le=high, multiple_of=step):
            factor = step or 1
            bottom = math.ceil((-(2**63) if low is None else low) / factor)
            top = (2**63 - 1 if high is None else high) // factor
            return st.integers(bottom, top).map(lambda n: n * factor)
        case inspect.FloatType(gt=above, ge=low, le=high):
            return st.floats(
                min_value=above if above is not None else low,
                max_value=high,
                exclude_min=above is not None,
                allow_nan=False,
                allow_infinity=False,
            )
        case inspect.StrType(pattern=str() as pattern):
            return st.from_regex(pattern.replace(END_OF_TEXT, r"\Z"))
        case inspect.StrType(min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=min(high or 20, 20))
        case _:
            raise AssertionError(info)
