import pytest

from events import subjects
from events.codec import Event, Recorded, decode, encode
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    FailureClass,
    JobFact,
    Queued,
    QueuedAfter,
    RetryScheduled,
    Started,
    Submitted,
)
from events.spec import JobSpec
from events.telemetry import Progress, TelemetryFact
from services.cli.jobs.follow import Observer, Sight, follow
from services.clock import Pen, SystemClock
from services.log.port import Entry
from services.memory import memory_backbone
from tests.unit.test_cli_jobs import BADLY, WELL

J1, N1 = JobId("j1"), NodeId("n1")
PEN = Pen("test", SystemClock(), "f")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def recorded(seq: int, event: Event) -> Recorded:
    return decode(seq, event.subject, encode(event))


def seen(*facts: JobFact) -> Observer:
    observer = Observer([J1])
    for seq, fact in enumerate(facts, start=1):
        observer.fact(recorded(seq, PEN.write(subjects.job(J1), fact)))
    return observer


def report(attempt: int, percent: float) -> Recorded:
    fact: TelemetryFact = Progress(node=N1, attempt=attempt, percent=percent, speed=2.0)
    return recorded(1, PEN.write(subjects.telemetry_of_job(J1), fact))


RUNNING: tuple[JobFact, ...] = (
    Submitted(spec=JobSpec()),
    Assigned(node=N1, attempt=1),
    Started(node=N1, attempt=1),
)
RETRIED: tuple[JobFact, ...] = (
    *RUNNING,
    AttemptFailed(node=N1, attempt=1, failure=FailureClass.TRANSIENT, message="reset by peer"),
    RetryScheduled(not_before=SystemClock().now(), delay_s=5.0, failures=1),
)


def test_progress_of_the_running_attempt_is_seen() -> None:
    sight = seen(*RUNNING).progress(report(1, 40.0))
    assert sight == Sight(
        job_id=J1,
        status="processing",
        seq=3,
        attempt=1,
        node="n1",
        percent=40.0,
        speed=2.0,
        fps=0.0,
    )


def test_progress_of_another_attempt_or_of_none_changes_nothing() -> None:
    assert seen(*RUNNING).progress(report(2, 40.0)) is None
    assert seen(*RETRIED).progress(report(1, 40.0)) is None


def test_a_new_attempt_begins_without_the_progress_of_the_old() -> None:
    observer = seen(*RUNNING)
    observer.progress(report(1, 90.0))
    again: tuple[JobFact, ...] = (
        *RETRIED[3:],
        Queued(after=QueuedAfter.BACKOFF),
        Assigned(node=N1, attempt=2),
    )
    for seq, fact in enumerate(again, start=4):
        observer.fact(recorded(seq, PEN.write(subjects.job(J1), fact)))
    assert (observer.sights[J1].attempt, observer.sights[J1].percent) == (2, None)


def test_a_job_in_back_off_tells_why_and_is_not_over() -> None:
    sight = seen(*RETRIED).sights[J1]
    assert (sight.status, sight.retrying, sight.reason) == ("pending", True, "reset by peer")
    assert not sight.over


@pytest.mark.anyio
async def test_following_ends_when_every_job_has_ended() -> None:
    backbone = memory_backbone()
    other = [(subjects.job(JobId("j2")), fact) for _, fact in BADLY]
    entries = [Entry(PEN.write(subject, fact)) for subject, fact in [*WELL, *other]]
    await backbone.ledger.append(entries)
    sights: list[Sight] = []
    ends = await follow(backbone, [J1, JobId("j2")], sights.append)
    assert [(end.job_id, end.well, end.reason) for end in ends] == [
        ("j1", True, ""),
        ("j2", False, "moov not found"),
    ]
    assert len(sights) == 10


@pytest.mark.anyio
async def test_more_jobs_than_filters_are_picked_out_of_all() -> None:
    backbone = memory_backbone()
    jobs = [JobId(f"job-{number}") for number in range(20)]
    story = [(subjects.job(job), fact) for job in [*jobs, JobId("stranger")] for _, fact in WELL]
    await backbone.ledger.append([Entry(PEN.write(subject, fact)) for subject, fact in story])
    sights: list[Sight] = []
    ends = await follow(backbone, jobs, sights.append)
    assert [end.well for end in ends] == [True] * 20
    assert "stranger" not in {sight.job_id for sight in sights}
