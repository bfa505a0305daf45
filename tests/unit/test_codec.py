"""Bytes to events and back."""

import random

import pytest
from msgspec import Raw, Struct, json

from events import codec
from events.codec import FACT_TYPES, Fact, Unknown, decode, encode
from events.ids import NodeId
from events.job import Assigned, Queued, QueuedAfter, Started
from events.node import Cordoned
from tests.vocabulary import JOB, T0, event

STARTED = (
    b'{"specversion":"1.0","id":"e-1","source":"test","type":"job.started.v1",'
    b'"time":"2026-01-31T12:00:00Z","subject":"ffrtmp.job.clip",'
    b'"data":{"node":"n1","attempt":1}}'
)


class _QueuedBefore(Struct):
    cause: str


@pytest.fixture
def retired_tag(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register the upcast of a tag that stood for `Queued` before."""

    def upcast(data: Raw) -> Fact:
        old = json.decode(data, type=_QueuedBefore)
        return Queued(after=QueuedAfter(old.cause))

    monkeypatch.setitem(codec.UPCASTS, "job.queued.v0", upcast)
    return "job.queued.v0"


class TestEncode:
    def test_a_fact_is_written_as_a_cloud_event(self) -> None:
        assert encode(event(Started(node=NodeId("n1"), attempt=1))) == STARTED

    def test_fields_at_their_default_are_left_out(self) -> None:
        assert encode(event(Cordoned())).endswith(b'"data":{}}')

    def test_every_type_has_a_tag_with_entity_and_version(self) -> None:
        assert [tag for tag in FACT_TYPES if not tag.endswith(".v1")] == []
        assert {tag.split(".")[0] for tag in FACT_TYPES} == {"job", "node", "cluster"}
        assert len(FACT_TYPES) == 42


class TestDecode:
    def test_an_event_is_read_with_its_place(self) -> None:
        read = decode(7, JOB, STARTED)
        assert (read.seq, read.subject, read.time) == (7, JOB, T0)
        assert (read.id, read.source, read.type) == ("e-1", "test", "job.started.v1")
        assert isinstance(read.fact, Started)
        assert (read.fact.node, read.fact.attempt, read.traceparent) == ("n1", 1, None)
        assert bytes(read.data) == b'{"node":"n1","attempt":1}'

    def test_the_subject_of_the_log_wins_over_the_envelope(self) -> None:
        assert decode(7, "ffrtmp.job.other", STARTED).subject == "ffrtmp.job.other"

    def test_unknown_fields_are_ignored(self) -> None:
        later = STARTED.replace(b'"attempt":1', b'"attempt":1,"mood":"fine"')
        assert isinstance(decode(7, JOB, later).fact, Started)

    def test_an_unknown_type_is_kept_as_it_came(self) -> None:
        later = STARTED.replace(b"job.started.v1", b"job.started.v9")
        read = decode(7, JOB, later)
        assert read.fact == Unknown(type="job.started.v9", problem="unknown type", body=later)
        assert (read.type, read.time, read.id) == ("job.started.v9", T0, "e-1")

    def test_a_fact_that_breaks_its_constraints_is_unknown(self) -> None:
        broken = STARTED.replace(b'"attempt":1', b'"attempt":0')
        fact = decode(7, JOB, broken).fact
        assert isinstance(fact, Unknown)
        assert fact.problem == "Expected `int` >= 1 - at `$.attempt`"

    def test_an_instant_without_time_zone_is_unknown(self) -> None:
        naive = STARTED.replace(b"12:00:00Z", b"12:00:00")
        fact = decode(7, JOB, naive).fact
        assert isinstance(fact, Unknown)
        assert "timezone" in fact.problem

    def test_a_retired_type_is_read_as_the_fact_that_took_its_place(self, retired_tag: str) -> None:
        body = STARTED.replace(b"job.started.v1", retired_tag.encode())
        body = body.replace(b'{"node":"n1","attempt":1}', b'{"cause":"backoff"}')
        read = decode(7, JOB, body)
        assert read.fact == Queued(after=QueuedAfter.BACKOFF)
        assert read.type == retired_tag

    def test_a_retired_type_that_cannot_be_read_is_unknown(self, retired_tag: str) -> None:
        body = STARTED.replace(b"job.started.v1", retired_tag.encode())
        assert isinstance(decode(7, JOB, body).fact, Unknown)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"\xff\xfe",
            b'{"id":"\xff"}',
            b"[" * 100_000,
            STARTED[:-1],
            STARTED.replace(b'{"node":"n1","attempt":1}', b"[" * 100_000),
            STARTED.replace(b'"node"', b'"z":' + b"[" * 100_000 + b',"node"'),
            STARTED.replace(b'"attempt":1', b'"attempt":' + b"9" * 5_000),
        ],
        ids=lambda body: repr(body[:12]),
    )
    def test_what_cannot_be_read_is_kept_and_nothing_is_raised(self, body: bytes) -> None:
        fact = decode(7, JOB, body).fact
        assert isinstance(fact, Unknown)
        assert fact.body == body
        assert fact.problem

    def test_one_flipped_byte_never_raises(self) -> None:
        body = encode(event(Assigned(node=NodeId("n1"), attempt=3)))
        dice = random.Random(7)
        for _ in range(2_000):
            damaged = bytearray(body)
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            assert decode(1, JOB, bytes(damaged)).seq == 1
