"""What `jobs list` and `jobs dead` tell of jobs in every state."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec.structs import replace

from events.ids import JobId
from events.job import (
    Assigned,
    AttemptFailed,
    Canceled,
    CancelRequested,
    Completed,
    Failed,
    FailureClass,
    Rejected,
    RetryScheduled,
    Started,
    Submitted,
)
from events.media import EncodeStats, MadeFile
from events.spec import JobSpec, Priority, Queue
from projections.query import QueryGuard
from projections.read import Job
from services.cli.jobs.filtered.listing import hint, retry_words, waited_s
from tests.projecting import LATER, N1, Ledger, instant
from tests.unit.cli_fleet import Recorder, of_job, run
from tests.unit.cli_projection import Projected, projection_of

NOW = instant(100)
DAY = "2026-01-31"
FILE = MadeFile(path="a.mp4", size_bytes=1500)
POISON = Failed(
    failure=FailureClass.INFRASTRUCTURE, reason="5 attempts were lost", attempts=5, poison=True
)
JOB = Job(
    job_no=1,
    job_id="j",
    status="queued",
    queue="default",
    priority="medium",
    tenant="default",
    scenario=None,
    engine="auto",
    classification=None,
    labels={},
    depends_on=None,
    node=None,
    attempt=0,
    attempts_max=3,
    failures=0,
    crashes=0,
    cancel_requested=False,
    poison=False,
    failure_class=None,
    failure_reason=None,
    submitted_at=instant(1),
    not_before=None,
    deadline=None,
    queued_at=None,
    assigned_at=None,
    started_at=None,
    ended_at=None,
    wait_s=0.0,
    run_s=None,
    progress_percent=None,
    eta_s=None,
    fps=None,
    speed=None,
    size_bytes=None,
    cpu_s=None,
    encoder=None,
    outputs=None,
    first_seq=1,
    last_seq=1,
)


def some_jobs() -> Ledger:
    """Return a job in every state that a list has something to say of."""
    ledger = Ledger()
    ledger.job("first", Submitted(spec=JobSpec(queue=Queue.LIVE, priority=Priority.HIGH)))
    ledger.job("first", Assigned(node=N1, attempt=1), Started(node=N1, attempt=1))
    done = EncodeStats(wall_s=2.0, speed=6.25, encoder="libx264")
    ledger.job("first", Completed(node=N1, attempt=1, files=(FILE,), stats=done))
    ledger.job("second", Submitted(spec=JobSpec(depends_on=tuple(map(JobId, ("a", "b", "c"))))))
    ledger.job("third", Submitted(spec=JobSpec(not_before=LATER)))
    ledger.job("fourth", Rejected(reason="no such codec"))
    for number in (1, 2):
        job = f"bad-{number}"
        reason = f"in-{number}.mp4: no such file"
        ledger.job(job, Submitted(spec=JobSpec(tenant="acme")), Assigned(node=N1, attempt=1))
        ledger.job(job, Failed(failure=FailureClass.PERMANENT, reason=reason, attempts=1))
    ledger.job("lost", Submitted(spec=JobSpec()), Assigned(node=N1, attempt=1), POISON)
    ledger.job("stopped", Submitted(spec=JobSpec()), Canceled(reason="not needed"))
    return ledger


@pytest.fixture(scope="module")
def projection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryGuard]:
    with projection_of(tmp_path_factory.mktemp("listing"), some_jobs()) as guard:
        yield guard


@pytest.fixture
def fleet(projection: QueryGuard) -> Recorder:
    return Projected(projection)


class TestList:
    def test_every_job_says_what_there_is_to_say_of_it(self, fleet: Recorder) -> None:
        result = run("jobs", "list", recorder=fleet)
        bad = "✖ failed default/medium n1 - - 1.0 s - -"
        assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
            "job state queue node done speed waited ran size",
            "stopped ⊘ canceled default/medium - - - - - not needed",
            f"lost {bad} poison: 5 attempts were lost",
            f"bad-2 {bad} in-2.mp4: no such file",
            f"bad-1 {bad} in-1.mp4: no such file",
            "fourth ⊗ rejected default/medium - - - - - no such codec",
            "third ◔ pending default/medium - - - - -",
            "second ◔ pending default/medium - - - - - waits for a, b and 1 more",
            "first ✔ completed live/high n1 100 % 6.25x 1.0 s 1.0 s 1.5 kB",
        ]

    def test_json_has_all_that_is_known_of_a_job(self, fleet: Recorder) -> None:
        result = run("jobs", "list", "--state", "completed", "-o", "json", recorder=fleet)
        (job,) = json.loads(result.stdout)
        named = ("job_id", "size_bytes", "failure_class", "poison", "depends_on", "labels")
        assert [job[name] for name in named] == ["first", 1500, None, False, None, {}]

    def test_a_filter_narrows_it(self, fleet: Recorder) -> None:
        options = ("--tenant", "acme", "--status", "failed")
        result = run("jobs", "list", *options, "-o", "json", recorder=fleet)
        assert [job["job_id"] for job in json.loads(result.stdout)] == ["bad-2", "bad-1"]

    def test_a_list_that_is_cut_says_how_many_there_are(self, fleet: Recorder) -> None:
        cut = run("jobs", "list", "--limit", "2", recorder=fleet)
        whole = run("jobs", "list", "--limit", "8", recorder=fleet)
        assert cut.stderr == "ffrtmp: 2 of 8 jobs; --limit shows more, a filter fewer\n"
        assert (len(cut.stdout.splitlines()), whole.stderr) == (3, "")


class TestHint:
    @pytest.mark.parametrize(
        ("job", "told"),
        [
            (replace(JOB, status="pending", not_before=NOW + timedelta(minutes=3)), "12:04:40 UTC"),
            (replace(JOB, status="pending", not_before=NOW + timedelta(days=1)), "02-01 12:01 UTC"),
            (replace(JOB, status="pending", not_before=instant(99)), ""),
            (replace(JOB, status="pending", depends_on=("x",)), "waits for x"),
            (replace(JOB, status="processing", depends_on=("x",)), ""),
            (replace(JOB, status="processing", cancel_requested=True), "being canceled"),
            (replace(JOB, status="canceled", cancel_requested=True, ended_at=NOW), ""),
            (replace(JOB, status="failed", failure_reason="a\x1b[2Jb"), "a\ufffd[2Jb"),
        ],
    )
    def test_it_says_what_is_waited_for_or_why_it_is_over(self, job: Job, told: str) -> None:
        assert hint(job, NOW).endswith(told)
        assert bool(hint(job, NOW)) == bool(told)

    def test_a_back_off_has_its_end_and_its_reason(self) -> None:
        waiting = replace(
            JOB, status="pending", attempt=1, not_before=instant(105), failure_reason="reset"
        )
        assert hint(waiting, NOW) == "until 12:01:45 UTC: reset"


class TestWaited:
    def test_a_queued_job_waits_until_now_and_what_it_had_waited_before(self) -> None:
        assert waited_s(replace(JOB, queued_at=instant(90), wait_s=2.5), NOW) == 12.5

    def test_a_clock_that_is_behind_makes_nobody_wait_less_than_nothing(self) -> None:
        assert waited_s(replace(JOB, queued_at=instant(200)), NOW) == 0.0

    def test_an_assigned_job_has_waited_until_then(self) -> None:
        job = replace(JOB, status="completed", queued_at=NOW, assigned_at=NOW, wait_s=4.0)
        assert waited_s(job, NOW) == 4.0

    @pytest.mark.parametrize("status", ["rejected", "pending", "canceled"])
    def test_a_job_that_no_node_ever_got_has_no_wait(self, status: str) -> None:
        assert waited_s(replace(JOB, status=status), NOW) is None
        assert waited_s(replace(JOB, status=status, queued_at=instant(1)), NOW) is None


class TestDead:
    def test_each_failed_job_has_its_reason_and_whether_a_retry_may_help(
        self, fleet: Recorder
    ) -> None:
        result = run("jobs", "dead", recorder=fleet)
        assert result.stdout.splitlines() == [
            "failed (UTC)         job    class      attempts  node  retry",
            f"{DAY} 12:00:16  lost   poison            1  n1    with care  5 attempts were lost",
            f"{DAY} 12:00:13  bad-2  permanent         1  n1    no         in-2.mp4: no such file",
            f"{DAY} 12:00:10  bad-1  permanent         1  n1    no         in-1.mp4: no such file",
        ]

    def test_a_group_is_what_failed_alike(self, fleet: Recorder) -> None:
        result = run("jobs", "dead", "--group", recorder=fleet)
        assert result.stdout.splitlines() == [
            "jobs  class      retry      last (UTC)           one of them",
            "   2  permanent  no         2026-01-31 12:00:13  bad-2        in-#.mp4: no such file",
            "   1  poison     with care  2026-01-31 12:00:16  lost         # attempts were lost",
        ]

    def test_a_filter_narrows_it(self, fleet: Recorder) -> None:
        result = run("jobs", "dead", "--poison", "-o", "json", recorder=fleet)
        (job,) = json.loads(result.stdout)
        assert (job["job_id"], job["failure_class"], job["retry"]) == (
            "lost",
            "infrastructure",
            "with care",
        )
        grouped = run("jobs", "dead", "--tenant", "acme", "--group", "-o", "json", recorder=fleet)
        assert [group["jobs"] for group in json.loads(grouped.stdout)] == [2]

    def test_a_class_of_a_later_version_is_open(self) -> None:
        assert retry_words("cosmic", poison=False) == "?"
        assert {retry_words(word, poison=False) for word in FailureClass} == {
            "may help",
            "no",
            "where there is room",
        }


class TestStatus:
    STORY = of_job(
        "lost", Submitted(spec=JobSpec()), Assigned(node=N1, attempt=1), Started(node=N1, attempt=1)
    )

    def test_a_poison_job_is_told_apart(self) -> None:
        story = [*self.STORY, *of_job("lost", POISON)]
        assert (
            "poison     its attempts were lost" in run("jobs", "status", "lost", story=story).stdout
        )
        told = json.loads(run("jobs", "status", "lost", "-o", "json", story=story).stdout)
        assert told["poison"] is True

    def test_a_job_that_failed_by_itself_is_not(self) -> None:
        failed = AttemptFailed(node=N1, attempt=1, failure=FailureClass.TRANSIENT, message="x")
        later = RetryScheduled(not_before=LATER, delay_s=5.0, failures=1)
        canceled = (CancelRequested(), Canceled(attempt=1))
        for story in ([failed, later], canceled):
            facts = [*self.STORY, *of_job("lost", *story)]
            told = json.loads(run("jobs", "status", "lost", "-o", "json", story=facts).stdout)
            assert told["poison"] is False
