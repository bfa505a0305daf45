"""The audit: every event of the ledger as one row, whether this version can read it or not."""

from collections.abc import Callable
from operator import attrgetter

import msgspec

from events.codec import FACT_TYPES, Recorded, Unknown
from events.codec import decode as decode_event
from projections.fold.rows import BIGINT_MAX, Micros, Row

_KNOWN_TOKENS = 3
"""`ffrtmp.<kind>.<entity>`."""


def entity_of(subject: str) -> tuple[str, str]:
    """Return kind and id of the entity that `subject` is of; of a strange one all is the id."""
    tokens = subject.split(".", 2)
    return (tokens[1], tokens[2]) if len(tokens) == _KNOWN_TOKENS else ("", subject)


def payload_of(recorded: Recorded) -> str:
    """Return the fact as it lies in the log; what is not JSON comes as a JSON string."""
    fact = recorded.fact
    if isinstance(fact, Unknown) and not fact.type:
        return _json_text(fact.body)
    return str(recorded.data, "utf-8", "replace")


def audit_row(recorded: Recorded, at: Micros, *, kind: str, entity: str, job_no: int | None) -> Row:
    """Return the row of `AUDIT_COLUMNS` for one event."""
    fact = recorded.fact
    node, attempt = _NODE_AND_ATTEMPT[type(fact)](fact)
    if attempt is not None and attempt > BIGINT_MAX:
        attempt = BIGINT_MAX
    return (
        recorded.seq,
        at,
        recorded.type,
        kind,
        entity,
        job_no,
        attempt,
        entity if kind == "node" else node,
        recorded.source,
        recorded.id,
        recorded.traceparent,
        payload_of(recorded),
        fact.problem if isinstance(fact, Unknown) else None,
    )


def recorded_of(row: dict[str, object]) -> Recorded:
    """Return the event that a row of the audit was made of; the inverse of `audit_row`.

    Only of rows without a `problem`.
    """
    subject = f"ffrtmp.{row['kind']}.{row['entity']}"
    envelope = {
        "id": row["event_id"],
        "source": row["source"],
        "type": row["type"],
        "time": row["time"],
        "subject": subject,
        "traceparent": row["traceparent"],
        "data": msgspec.Raw(str(row["payload"]).encode()),
    }
    seq = row["seq"]
    assert isinstance(seq, int)
    return decode_event(seq, subject, msgspec.json.encode(envelope))


def _json_text(body: bytes) -> str:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.encode(body.decode("utf-8", "replace")).decode()
    return body.decode()


_Extract = Callable[[object], tuple[str | None, int | None]]


def _neither(_: object) -> tuple[None, None]:
    return (None, None)


def _extractor(kind: type) -> _Extract:
    fields = msgspec.structs.fields(kind)
    names = {field.name for field in fields}
    if {"node", "attempt"} <= names:
        return attrgetter("node", "attempt")
    if "attempt" in names:
        attempt = attrgetter("attempt")
        return lambda fact: (None, attempt(fact))
    return _neither


_NODE_AND_ATTEMPT: dict[type, _Extract] = {
    **{kind: _extractor(kind) for kind in FACT_TYPES.values()},
    Unknown: _neither,
}
