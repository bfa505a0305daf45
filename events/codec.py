"""Bytes to events and back: CloudEvents 1.0 in JSON, one envelope a fact.

A body is decoded in two steps of one pass each: the envelope, whose `data` stays as it lies, then
the fact that the envelope's `type` names. So a reader that only files events never pays for their
contents. An unknown type is kept and surfaced as `Unknown`; a retired type is upcast to the fact
that took its place.

Source: CloudEvents 1.0.2, core specification and JSON format; W3C Trace Context (`traceparent`).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, TypeAlias, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from events.cluster import ClusterFact
from events.ids import END_OF_TEXT, EventId
from events.job import JobFact
from events.node import NodeFact
from events.spec import Instant
from events.strict import UNREADABLE
from events.subjects import Subject
from events.telemetry import TelemetryFact

Fact: TypeAlias = JobFact | NodeFact | ClusterFact | TelemetryFact

TraceParent: TypeAlias = Annotated[
    str, Meta(pattern="^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}" + END_OF_TEXT)
]
_UNDATED = datetime(1970, 1, 1, tzinfo=UTC)


class Unknown(Struct, frozen=True, kw_only=True):
    """An event this version cannot read: kept as it came, never guessed at."""

    type: str
    """The envelope's type; empty when not even the envelope could be read."""
    problem: str
    body: bytes


class Event(Struct, frozen=True, kw_only=True):
    """A fact in its envelope, as a writer hands it to the log."""

    specversion: str = "1.0"
    id: EventId
    source: str
    """Who wrote it, as `worker/n1` or `scheduler/4f2a`."""
    type: str
    time: Instant
    """When it became true, by the writer's clock."""
    subject: Subject
    traceparent: TraceParent | UnsetType = UNSET
    data: Fact


class Recorded(Struct, frozen=True):
    """An event with its place in the log."""

    seq: int
    subject: Subject
    fact: Fact | Unknown
    time: datetime
    id: EventId
    source: str
    type: str
    traceparent: str | None
    data: Raw
    """The fact as it lies in the log: JSON."""


class _Envelope(Struct, frozen=True):
    id: EventId
    source: str
    type: str
    time: Instant
    subject: str
    data: Raw
    traceparent: str | None = None


FACT_TYPES: dict[str, type[Fact]] = {fact.tag: fact for fact in get_args(Fact)}
"""Every type this version writes, by its tag."""

Upcast: TypeAlias = Callable[[Raw], Fact]
UPCASTS: dict[str, Upcast] = {}
"""Retired tags: from the JSON of the old fact to the fact that took its place."""

_decoders: dict[str, Upcast] = {
    tag: msgspec.json.Decoder(fact).decode for tag, fact in FACT_TYPES.items()
}
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_encode = msgspec.json.Encoder().encode


def encode(event: Event) -> bytes:
    """Return the body under which `event` is stored."""
    return _encode(event)


def decode(seq: int, subject: str, body: bytes) -> Recorded:
    """Return what is stored at `seq`; never raises: what cannot be read is `Unknown`.

    `subject` is where the log filed the body; it wins over what the envelope says.
    """
    try:
        envelope = _decode_envelope(body)
    except UNREADABLE as error:
        unknown = Unknown(type="", problem=f"no event envelope: {error}", body=body)
        return Recorded(
            seq, Subject(subject), unknown, _UNDATED, EventId(""), "", "", None, Raw(b"null")
        )
    return Recorded(
        seq,
        Subject(subject),
        _fact(envelope, body),
        envelope.time,
        envelope.id,
        envelope.source,
        envelope.type,
        envelope.traceparent,
        envelope.data,
    )


def _fact(envelope: _Envelope, body: bytes) -> Fact | Unknown:
    decoder = _decoders.get(envelope.type) or UPCASTS.get(envelope.type)
    if decoder is None:
        return Unknown(type=envelope.type, problem="unknown type", body=body)
    try:
        return decoder(envelope.data)
    except UNREADABLE as error:
        return Unknown(type=envelope.type, problem=str(error), body=body)
