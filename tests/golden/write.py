"""Write a golden log: `python -m tests.golden.write 0.2`. All streams are in one file.

One file a release, written once and never again: later releases must read what this one wrote.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from msgspec import Raw, Struct, json

from events import cluster, job, node, subjects, telemetry
from events.codec import Fact, encode
from events.ids import JobId, NodeId
from events.media import EncodeStats, MadeFile, Output, Parameters, TestSource, Video, VideoCodec
from events.spec import Confidence, JobSpec, Priority, Queue, ResourceLimits
from events.subjects import Subject
from services.clock import Pen
from tests.vocabulary import T0

N1, N2 = NodeId("n1"), NodeId("n2")
CLIP, FLAKY, STOPPED = JobId("clip"), JobId("flaky"), JobId("stopped")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Line(Struct, frozen=True):
    """One line of a golden log: an event as it lies in the log, and its place."""

    seq: int
    subject: str
    event: Raw


class SteppingClock:
    """A clock that moves by one second with every look."""

    def __init__(self) -> None:
        self._now = T0

    def now(self) -> datetime:
        """Return the instant."""
        self._now += timedelta(seconds=1)
        return self._now

    def monotonic_s(self) -> float:
        """Return seconds since the start."""
        return (self._now - T0).total_seconds()


def story() -> list[tuple[Subject, Fact]]:
    """Return facts of every type: two nodes, and jobs with every kind of end."""
    return [
        *((subjects.node(N1), fact) for fact in _of_the_first_node()),
        *((subjects.job(CLIP), fact) for fact in _of_a_success()),
        *((subjects.job(FLAKY), fact) for fact in _of_a_failure()),
        *((subjects.job(STOPPED), fact) for fact in _of_a_cancellation()),
        (subjects.job(JobId("bad")), _REJECTED),
        *((subjects.node(N2), fact) for fact in _of_the_second_node()),
        *_of_the_fleet(),
        *_telemetry(),
    ]


_REJECTED = job.Rejected(
    reason="$.queue: Invalid enum value 'soon'; given: \"soon\"; allowed: live, default, batch",
    field="$.queue",
    request='{"queue":"soon"}',
)
_CLIP_SPEC = JobSpec(
    scenario="1080p30-h264",
    parameters=Parameters(
        video=Video(codec=VideoCodec.HEVC, encoder="libx265", width=1280, height=720, crf=24),
        start_s=1.5,
        duration_s=10.0,
    ),
    input=TestSource(width=640, height=360, rate=25.0),
    outputs=(Output(path="out/clip.mp4"), Output(path="out/clip.mkv")),
    queue=Queue.LIVE,
    priority=Priority.HIGH,
    confidence=Confidence.HIGH,
    labels={"show": "news"},
    requires=("encoder:libx265",),
    limits=ResourceLimits(cpu_threads=2, memory_bytes=2**30),
    timeout_s=600.0,
    deadline=T0 + timedelta(days=1),
    idempotency_key="clip-1",
)
_STATS = EncodeStats(wall_s=5.0, cpu_s=9.5, frames=250, fps=50.0, speed=2.0, encoder="libx265")


def _of_the_first_node() -> list[Fact]:
    hardware = node.Hardware(
        hostname="box-1",
        cpu_model="Xeon",
        cpu_threads=8,
        memory_bytes=2**34,
        disk_bytes=2**38,
        gpus=(node.Gpu(index=0, name="L4", uuid="GPU-1", memory_bytes=24 * 2**30),),
        ffmpeg="8.0",
    )
    registered = node.Registered(
        epoch=1,
        slots=4,
        capabilities=("engine:ffmpeg", "encoder:libx265", "label:zone=eu"),
        hardware=hardware,
        address="127.0.0.1:9091",
        version="0.1.0",
        fingerprint="5f0c",
        encoder_sessions=8,
    )
    assignment = node.Assignment(job=CLIP, attempt=1, seq=12, spec=_CLIP_SPEC)
    return [
        registered,
        node.Available(epoch=1, slots=4, free=3),
        node.Assignments(jobs=(assignment,)),
        node.Signal(job=CLIP, attempt=1, action=node.Action.PAUSE),
        node.Suspected(reason="no heartbeat for 10 s"),
        node.Recovered(),
        node.Cordoned(by="ann", reason="new driver"),
        node.Uncordoned(by="ann"),
        node.Available(epoch=1, slots=4, free=0, refusing="disk: 1 GiB free"),
        node.CircuitOpened(
            until=T0 + timedelta(minutes=5), failures=8, attempts=10, reason="8 of 10 failed"
        ),
        node.CircuitHalfOpened(),
        node.CircuitClosed(by="ann"),
        node.Draining(by="ann", reason="reboot"),
        node.Drained(epoch=1),
    ]


def _of_a_success() -> list[Fact]:
    placement = job.Placement(weight=30.0, waited_s=0.5, candidates=2, free=4, runner_up="n2")
    files = (
        MadeFile(path="out/clip.mp4", size_bytes=123_456, duration_s=10.0),
        MadeFile(path="out/clip.mkv", size_bytes=123_000, duration_s=10.0),
    )
    return [
        job.Submitted(spec=_CLIP_SPEC),
        job.Assigned(node=N1, attempt=1, placement=placement),
        job.Started(node=N1, attempt=1),
        job.PauseRequested(attempt=1, by="ann", reason="lunch"),
        job.Paused(attempt=1),
        job.ResumeRequested(attempt=1, by="ann"),
        job.Resumed(attempt=1, paused_s=2.0),
        job.Completed(node=N1, attempt=1, files=files, stats=_STATS),
        job.Promoted(node=N1, attempt=1),
    ]


def _of_a_failure() -> list[Fact]:
    spec = JobSpec(not_before=T0 + timedelta(minutes=1), depends_on=(CLIP,), attempts_max=2)
    return [
        job.Submitted(spec=spec, via="command"),
        job.Queued(after=job.QueuedAfter.START_TIME),
        job.Assigned(node=N1, attempt=1),
        job.Declined(node=N1, attempt=1, reason="no free slot"),
        job.Assigned(node=N1, attempt=2),
        job.Started(node=N1, attempt=2),
        job.AttemptFailed(
            node=N1,
            attempt=2,
            failure=job.FailureClass.TRANSIENT,
            message="Connection reset by peer",
            exit_status=1,
            stats=EncodeStats(wall_s=1.0),
        ),
        job.RetryScheduled(not_before=T0 + timedelta(minutes=2), delay_s=5.0, failures=1),
        job.Queued(after=job.QueuedAfter.BACKOFF),
        job.Assigned(node=N2, attempt=3),
        job.AttemptLost(node=N2, attempt=3, cause=job.LossCause.NODE_LOST),
        job.Queued(after=job.QueuedAfter.LOSS),
        job.Assigned(node=N2, attempt=4),
        job.Started(node=N2, attempt=4),
        job.AttemptLost(
            node=N2, attempt=4, cause=job.LossCause.STALLED, reason="at 12.0 s for 60 s"
        ),
        job.Failed(failure=job.FailureClass.INFRASTRUCTURE, reason="given up", attempts=4),
        job.Retried(by="ann"),
    ]


def _of_a_cancellation() -> list[Fact]:
    return [
        job.Submitted(spec=JobSpec()),
        job.Reprioritized(queue=Queue.BATCH, priority=Priority.LOW, by="ann"),
        job.Assigned(node=N2, attempt=1),
        job.Started(node=N2, attempt=1),
        job.CancelRequested(by="ann", reason="wrong input"),
        job.Canceled(attempt=1, by="ann", reason="wrong input"),
    ]


def _of_the_second_node() -> list[Fact]:
    return [
        node.Registered(epoch=3, slots=2),
        node.Refused(
            address="127.0.0.2:9091", reason="n2 is alive at 127.0.0.1", epoch=0, fingerprint="77"
        ),
        node.Suspected(),
        node.Lost(reason="silent for 15 s"),
        node.Removed(by="ann"),
    ]


def _of_the_fleet() -> list[tuple[Subject, Fact]]:
    fair = cluster.Policy(kind=cluster.PolicyKind.FAIR, shares={"news": 3.0})
    return [
        (subjects.LEADER, cluster.LeaderElected(scheduler="s1", term=1)),
        (subjects.POLICY, cluster.PolicyChanged(policy=fair, by="ann", reason="the elections")),
        (subjects.LEADER, cluster.LeaderResigned(scheduler="s1", term=1)),
    ]


def _telemetry() -> list[tuple[Subject, Fact]]:
    heartbeat = telemetry.Heartbeat(
        epoch=1,
        running=1,
        free=3,
        cpu_percent=12.5,
        memory_free_bytes=2**33,
        disk_free_bytes=2**37,
        gpus=(telemetry.GpuLoad(index=0, utilization_percent=40.0, memory_used_bytes=2**30),),
    )
    progress = telemetry.Progress(
        node=N1, attempt=1, percent=50.0, out_time_s=5.0, frame=125, fps=50.0, speed=2.0, eta_s=2.5
    )
    lines = telemetry.LogChunk(
        node=N1, attempt=1, number=0, stream=telemetry.OutputStream.STDERR, lines=("a", "ü")
    )
    return [
        (subjects.telemetry_of_node(N1), heartbeat),
        (subjects.telemetry_of_job(CLIP), progress),
        (subjects.logs(CLIP, 1), lines),
    ]


def write(path: Path) -> None:
    """Write the story to `path`, which must not be there."""
    pen = Pen("golden/0", SteppingClock(), prefix="golden")
    with path.open("xb") as file:
        for seq, (subject, fact) in enumerate(story(), start=1):
            traceparent = TRACE if seq == 1 else None
            event = pen.write(subject, fact, traceparent=traceparent)
            line = Line(seq, subject, Raw(encode(event)))
            file.write(json.encode(line) + b"\n")


if __name__ == "__main__":
    write(Path(__file__).with_name(f"log-{sys.argv[1]}.jsonl"))
