"""Kept logs: what an earlier release has written, this one reads as it was meant."""

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import Raw, json
from msgspec.structs import replace

from events import codec, subjects
from events.cluster import Policy, PolicyKind
from events.codec import FACT_TYPES, Fact, Recorded, Unknown, decode
from events.ids import JobId, NodeId
from events.job import CancelRequested, Queued, QueuedAfter
from events.node import Gpu, Hardware
from events.spec import JobSpec, Priority, Queue
from events.state import cluster as clusters
from events.state import job as jobs
from events.state import node as nodes
from events.state.cluster import Cluster
from events.state.job import Ended, JobState, JobStatus, Pending, Terms
from events.state.node import Circuit, Node, NodeStatus
from events.telemetry import Heartbeat, LogChunk, Progress
from tests.golden.write import Line, story, write
from tests.vocabulary import T0, instant

GOLDEN = Path(__file__).parent / "golden"
LOGS = sorted(GOLDEN.glob("log-*.jsonl"))
N1, N2 = NodeId("n1"), NodeId("n2")


def read(path: Path) -> list[Recorded]:
    lines = [json.decode(line, type=Line) for line in path.read_bytes().splitlines()]
    return [decode(line.seq, line.subject, bytes(line.event)) for line in lines]


@pytest.fixture(scope="module")
def log() -> list[Recorded]:
    return read(GOLDEN / "log-0.1.jsonl")


@pytest.fixture
def _retired_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this release has replaced `job.queued.v1` and upcasts what is on disk."""

    def upcast(data: Raw) -> Fact:
        assert bytes(data).startswith(b'{"after":')
        return Queued(after=QueuedAfter.DEPENDENCIES)

    monkeypatch.delitem(vars(codec)["_decoders"], "job.queued.v1")
    monkeypatch.setitem(codec.UPCASTS, "job.queued.v1", upcast)


def job_state(log: list[Recorded], job: str) -> JobState:
    state: JobState = jobs.INITIAL
    for at in log:
        if at.subject == subjects.job(JobId(job)):
            state = jobs.evolve(state, at)
    return state


def node_state(log: list[Recorded], node: NodeId) -> Node:
    state = nodes.INITIAL
    for at in log:
        if at.subject == subjects.node(node):
            state = nodes.evolve(state, at)
    return state


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_every_kept_log_is_read_whole(path: Path) -> None:
    log = read(path)
    assert [at.seq for at in log] == list(range(1, len(log) + 1))
    assert [at for at in log if isinstance(at.fact, Unknown)] == []


def test_the_log_of_this_release_has_every_type(log: list[Recorded]) -> None:
    assert {at.type for at in log} == set(FACT_TYPES)


def test_the_log_holds_exactly_the_story(log: list[Recorded]) -> None:
    assert [(at.subject, at.fact) for at in log] == story()


def test_envelopes_are_read_as_they_were_written(log: list[Recorded]) -> None:
    first, last = log[0], log[-1]
    assert (first.id, first.source, first.time) == ("golden-1", "golden/0", instant(1))
    assert first.traceparent == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert (last.id, last.time, last.traceparent) == ("golden-3a", instant(58), None)


def test_a_kept_log_is_never_written_again() -> None:
    with pytest.raises(FileExistsError):
        write(GOLDEN / "log-0.1.jsonl")


def test_the_successful_job_is_completed_and_promoted(log: list[Recorded]) -> None:
    state = job_state(log, "clip")
    assert isinstance(state, Ended)
    spec = state.terms.spec
    assert state == Ended(
        version=23,
        terms=Terms(15, instant(15), spec, Queue.LIVE, Priority.HIGH),
        attempt=1,
        status=JobStatus.COMPLETED,
        node=N1,
        promoted=True,
    )
    assert (spec.scenario, spec.labels) == ("1080p30-h264", {"show": "news"})


def test_the_failing_job_has_failed_in_every_way_and_begins_anew(log: list[Recorded]) -> None:
    spec = JobSpec(
        not_before=T0 + timedelta(minutes=1), depends_on=(JobId("clip"),), attempts_max=2
    )
    terms = Terms(24, instant(24), spec, Queue.DEFAULT, Priority.MEDIUM)
    assert job_state(log[:39], "flaky") == Ended(
        version=39,
        terms=terms,
        attempt=4,
        failures=2,
        crashes=1,
        status=JobStatus.FAILED,
        node=N2,
    )
    anew = Pending(version=40, terms=terms, attempt=4, not_before=spec.not_before)
    assert job_state(log, "flaky") == anew


def test_the_stopped_job_is_canceled_under_its_new_rank(log: list[Recorded]) -> None:
    ended = Ended(
        version=46,
        terms=Terms(41, instant(41), JobSpec(), Queue.BATCH, Priority.LOW),
        attempt=1,
        status=JobStatus.CANCELED,
        node=N2,
    )
    assert job_state(log, "stopped") == ended
    asked = job_state(log[:45], "stopped")
    assert isinstance(asked, jobs.Held)
    assert asked.cancel == CancelRequested(by="ann", reason="wrong input")


def test_the_bad_request_is_a_rejected_job(log: list[Recorded]) -> None:
    assert job_state(log, "bad") == Ended(
        version=47,
        terms=Terms(47, instant(47), JobSpec(), Queue.DEFAULT, Priority.MEDIUM),
        status=JobStatus.REJECTED,
    )


def test_the_first_node_is_drained(log: list[Recorded]) -> None:
    assert node_state(log, N1) == Node(
        version=14,
        epoch=1,
        status=NodeStatus.DRAINED,
        slots=4,
        free=0,
        draining=True,
        capabilities=frozenset({"engine:ffmpeg", "encoder:libx265", "label:zone=eu"}),
        hardware=Hardware(
            hostname="box-1",
            cpu_model="Xeon",
            cpu_threads=8,
            memory_bytes=2**34,
            disk_bytes=2**38,
            gpus=(Gpu(index=0, name="L4", uuid="GPU-1", memory_bytes=24 * 2**30),),
            ffmpeg="8.0",
        ),
        address="127.0.0.1:9091",
        registered_at=instant(1),
        registered_seq=1,
        fingerprint="5f0c",
        encoder_sessions=8,
        refusing="disk: 1 GiB free",
    )


def test_the_circuit_of_the_first_node_was_open_then_on_probation_then_closed(
    log: list[Recorded],
) -> None:
    states = [node_state(log[:seq], N1) for seq in (9, 10, 11, 12)]
    assert [(state.circuit, state.circuit_until) for state in states] == [
        (Circuit.CLOSED, None),
        (Circuit.OPEN, T0 + timedelta(minutes=5)),
        (Circuit.HALF_OPEN, None),
        (Circuit.CLOSED, None),
    ]


def test_the_second_node_is_removed(log: list[Recorded]) -> None:
    registered = Node(
        version=48,
        epoch=3,
        status=NodeStatus.ONLINE,
        slots=2,
        free=2,
        registered_at=instant(48),
        registered_seq=48,
    )
    assert node_state(log[:48], N2) == registered
    assert node_state(log[:49], N2) == replace(registered, version=49)
    removed = replace(
        registered,
        version=52,
        status=NodeStatus.REMOVED,
        free=0,
        reason="silent for 15 s",
    )
    assert node_state(log, N2) == removed


def test_the_fleet_has_a_policy_and_its_leader_has_resigned(log: list[Recorded]) -> None:
    state = clusters.INITIAL
    for at in log:
        if subjects.is_cluster(at.subject):
            state = clusters.evolve(state, at)
    fair = Policy(kind=PolicyKind.FAIR, shares={"news": 3.0})
    assert state == Cluster(policy=fair, leader="", term=1)


def test_telemetry_is_read_too(log: list[Recorded]) -> None:
    heartbeat, progress, lines = (at.fact for at in log[-3:])
    assert isinstance(heartbeat, Heartbeat)
    assert isinstance(progress, Progress)
    assert isinstance(lines, LogChunk)
    assert (heartbeat.free, progress.percent, lines.lines) == (3, 50.0, ("a", "ü"))


@pytest.mark.usefixtures("_retired_queued")
def test_a_retired_type_in_a_kept_log_is_upcast(log: list[Recorded]) -> None:
    before = [at.fact for at in log if at.type == "job.queued.v1"]
    waits = (QueuedAfter.START_TIME, QueuedAfter.BACKOFF, QueuedAfter.LOSS)
    assert before == [Queued(after=wait) for wait in waits]
    after = [at.fact for at in read(GOLDEN / "log-0.1.jsonl") if at.type == "job.queued.v1"]
    assert after == [Queued(after=QueuedAfter.DEPENDENCIES)] * 3


def test_a_type_of_a_later_release_changes_nothing_but_versions(log: list[Recorded]) -> None:
    body = b'{"id":"x","source":"s","type":"job.sang.v1","time":"2027-01-01T00:00:00Z",'
    body += b'"subject":"ffrtmp.job.clip","data":{"song":1}}'
    later = decode(59, subjects.job(JobId("clip")), body)
    assert later.fact == Unknown(type="job.sang.v1", problem="unknown type", body=body)
    state = job_state(log, "clip")
    assert job_state([*log, later], "clip") == replace(state, version=59)
