"""What the tables say of jobs after given facts: whole rows, exactly."""

from pathlib import Path

import pytest

from events import job as facts
from events.ids import JobId
from events.job import FailureClass, LossCause
from events.media import EncodeStats, MadeFile
from events.node import Registered
from events.spec import Classification, JobSpec, Priority, Queue
from projections.store import Store
from tests.projecting import N1, N2, Ledger, fleet, folded, projected, rows

STATS = EncodeStats(wall_s=2.0, cpu_s=3.5, frames=60, fps=30.0, speed=1.5, encoder="libx264")
FILES = (MadeFile(path="a.mp4", size_bytes=600), MadeFile(path="b.mp4", size_bytes=400))


def one(store: Store, sql: str) -> dict[str, object]:
    """Return the only row of a query, by column."""
    cursor = store.cursor()
    columns = cursor.sql(sql).columns
    cursor.close()
    (row,) = rows(store, sql)
    return dict(zip(columns, row, strict=True))


def test_a_submitted_job_is_a_whole_row(tmp_path: Path) -> None:
    spec = JobSpec(
        scenario="1080p30-h264",
        queue=Queue.LIVE,
        priority=Priority.HIGH,
        tenant="news",
        classification=Classification.TEST,
        labels={"team": "a", "show": "b"},
        input="in.mp4",
        attempts_max=2,
    )
    store = projected(tmp_path, Ledger().job("clip", facts.Submitted(spec=spec)).recorded)
    row = one(store, "FROM jobs")
    store.close()
    assert row == dict.fromkeys(row) | {
        "job_no": 1,
        "job_id": "clip",
        "status": "queued",
        "queue": "live",
        "priority": "high",
        "tenant": "news",
        "scenario": "1080p30-h264",
        "engine": "auto",
        "classification": "test",
        "labels": {"team": "a", "show": "b"},
        "input": "in.mp4",
        "attempts_max": 2,
        "attempt": 0,
        "failures": 0,
        "crashes": 0,
        "cancel_requested": False,
        "promoted": False,
        "poison": False,
        "submitted_at": "2026-01-31 12:00:01+00",
        "queued_at": "2026-01-31 12:00:01+00",
        "wait_s": 0.0,
        "paused_s": 0.0,
        "first_seq": 1,
        "last_seq": 1,
    }


def test_a_completed_job_tells_its_times_files_and_costs(tmp_path: Path) -> None:
    ledger = Ledger().job(
        "clip",
        facts.Submitted(spec=JobSpec()),
        facts.Assigned(node=N1, attempt=1),
        facts.Started(node=N1, attempt=1),
        facts.Completed(node=N1, attempt=1, files=FILES, stats=STATS),
        facts.Promoted(node=N1, attempt=1),
    )
    store = projected(tmp_path, ledger.recorded)
    row = one(store, "FROM jobs")
    attempt = one(store, "FROM attempts")
    store.close()
    told = ("status", "node", "wait_s", "run_s", "cpu_s", "outputs", "size_bytes", "promoted")
    assert [row[name] for name in told] == [
        "completed",
        "n1",
        1.0,
        1.0,
        3.5,
        ["a.mp4", "b.mp4"],
        1000,
        True,
    ]
    assert row["progress_percent"] == 100.0
    assert row["ended_at"] == "2026-01-31 12:00:04+00"
    assert row["last_seq"] == 5
    assert attempt == {
        "job_no": 1,
        "job_id": "clip",
        "attempt": 1,
        "node": "n1",
        "assigned_at": "2026-01-31 12:00:02+00",
        "started_at": "2026-01-31 12:00:03+00",
        "ended_at": "2026-01-31 12:00:04+00",
        "outcome": "completed",
        "failure_class": None,
        "message": None,
        "exit_status": None,
        "run_s": 1.0,
        "wall_s": 2.0,
        "cpu_s": 3.5,
        "frames": 60,
        "fps": 30.0,
        "speed": 1.5,
        "encoder": "libx264",
    }


def test_every_attempt_has_its_own_row_and_outcome(tmp_path: Path) -> None:
    store = projected(tmp_path, fleet().recorded)
    found = rows(
        store,
        "SELECT attempt, node, outcome, failure_class, message, exit_status, run_s "
        "FROM attempts WHERE job_id = 'hard-0' ORDER BY attempt",
    )
    others = rows(
        store,
        "SELECT job_id, outcome, message FROM attempts WHERE job_id <> 'hard-0' ORDER BY job_id",
    )
    store.close()
    assert found == [
        (1, "n1", "declined", None, "full", None, None),
        (2, "n2", "lost", "node_lost", None, None, 1.0),
        (3, "n1", "failed", "transient", "reset", 1, 3.0),
        (4, "n1", "failed", "permanent", "no codec", None, 1.0),
    ]
    assert others == [
        ("good-0", "completed", None),
        ("running-0", "processing", None),
        ("stopped-0", "canceled", "not needed"),
    ]


def test_waiting_counts_only_the_time_in_which_the_job_could_have_been_assigned(
    tmp_path: Path,
) -> None:
    ledger = Ledger().job(
        "clip",
        facts.Submitted(spec=JobSpec(depends_on=(JobId("x"),))),  # 1
        facts.Queued(after=facts.QueuedAfter.DEPENDENCIES),  # 2
    )
    ledger.node("n1", Registered(epoch=1, slots=1))  # 3
    ledger.job(
        "clip",
        facts.Assigned(node=N1, attempt=1),  # 4: waited 2 s
        facts.Declined(node=N1, attempt=1),  # 5
        facts.Assigned(node=N2, attempt=2),  # 6: and 1 s
    )
    store = projected(tmp_path, ledger.recorded)
    found = rows(store, "SELECT wait_s, submitted_at, queued_at, assigned_at, node FROM jobs")
    store.close()
    assert found == [
        (
            3.0,
            "2026-01-31 12:00:01+00",
            "2026-01-31 12:00:05+00",
            "2026-01-31 12:00:06+00",
            "n2",
        )
    ]


def test_pauses_are_counted_for_the_attempt_that_made_them(tmp_path: Path) -> None:
    ledger = fleet()
    store = projected(tmp_path, ledger.recorded[: ledger.recorded.index(ledger.recorded[23]) + 1])
    found = rows(store, "SELECT paused_s, status FROM jobs WHERE job_id = 'hard-0'")
    store.close()
    assert found == [(1.0, "pending")]


def test_a_failure_is_told_until_the_job_heals(tmp_path: Path) -> None:
    failed = facts.AttemptFailed(
        node=N1, attempt=1, failure=FailureClass.RESOURCE, message="no space", exit_status=-9
    )
    ledger = Ledger().job(
        "clip", facts.Submitted(spec=JobSpec()), facts.Assigned(node=N1, attempt=1), failed
    )
    store = projected(tmp_path, ledger.recorded)
    told = "SELECT status, node, failure_class, failure_reason, exit_status FROM jobs"
    assert rows(store, told) == [("pending", None, "resource", "no space", -9)]
    ledger.job(
        "clip",
        facts.Queued(after=facts.QueuedAfter.BACKOFF),
        facts.Assigned(node=N1, attempt=2),
        facts.Completed(node=N1, attempt=2),
    )
    store.apply(ledger.recorded[3:])
    assert rows(store, told) == [("completed", "n1", None, None, None)]
    store.close()


def test_a_lost_attempt_names_the_cause_as_its_class(tmp_path: Path) -> None:
    ledger = Ledger().job(
        "clip",
        facts.Submitted(spec=JobSpec()),
        facts.Assigned(node=N1, attempt=1),
        facts.AttemptLost(node=N1, attempt=1, cause=LossCause.STALLED, reason="at 12.0 s for 60 s"),
    )
    store = projected(tmp_path, ledger.recorded)
    found = rows(store, "SELECT failure_class, failure_reason, failures, crashes FROM jobs")
    store.close()
    assert found == [("stalled", "at 12.0 s for 60 s", 1, 0)]


def test_the_oracle_agrees_with_the_fold(tmp_path: Path) -> None:
    store = projected(tmp_path, fleet(3).recorded)
    found = folded(store)
    store.close()
    assert [row[1:7] for row in found[:6]] == [
        ("good-0", "completed", "live", 1, 0, 0),
        ("hard-0", "failed", "batch", 4, 2, 1),
        ("refused-0", "rejected", "default", 0, 0, 0),
        ("stopped-0", "canceled", "default", 1, 0, 0),
        ("running-0", "processing", "default", 1, 0, 0),
        ("waiting-0", "pending", "default", 0, 0, 0),
    ]


def test_a_rejected_request_is_a_job_with_a_reason(tmp_path: Path) -> None:
    store = projected(tmp_path, fleet().recorded)
    found = rows(
        store, "SELECT status, failure_class, failure_reason FROM jobs WHERE job_id = 'refused-0'"
    )
    store.close()
    assert found == [("rejected", None, "no such field")]


def test_every_decision_is_an_assignment_with_its_reason(tmp_path: Path) -> None:
    placement = facts.Placement(weight=6.0, waited_s=1.5, candidates=3, free=2, runner_up="n2")
    ledger = Ledger().job(
        "clip",
        facts.Submitted(spec=JobSpec(queue=Queue.LIVE)),
        facts.Assigned(node=N1, attempt=1, placement=placement),
        facts.Declined(node=N1, attempt=1),
        facts.Assigned(node=N2, attempt=2),
    )
    store = projected(tmp_path, ledger.recorded)
    found = rows(store, "SELECT * EXCLUDE time FROM assignments ORDER BY seq")
    store.close()
    assert found == [
        (2, 1, "clip", 1, "n1", "live", "medium", 6.0, 1.5, 3, 2, "n2"),
        (4, 1, "clip", 2, "n2", "live", "medium", 0.0, 0.0, 0, 0, None),
    ]


def test_queue_depth_counts_what_is_not_over(tmp_path: Path) -> None:
    store = projected(tmp_path, fleet(2).recorded)
    found = rows(store, "SELECT queue, status, jobs FROM queue_depth ORDER BY status")
    active = rows(store, "SELECT count(*) FROM jobs_active")
    done = rows(store, "SELECT count(*) FROM jobs_done")
    store.close()
    assert found == [("default", "pending", 2), ("default", "processing", 2)]
    assert (active, done) == ([(4,)], [(8,)])


def test_submissions_tell_what_was_asked_and_whether_it_was_accepted(tmp_path: Path) -> None:
    store = projected(tmp_path, fleet().recorded)
    found = rows(store, "SELECT job_id, accepted, queue, scenario, reason FROM submissions")
    store.close()
    assert found[:3] == [
        ("good-0", True, "live", "1080p30-h264", None),
        ("hard-0", True, "default", None, None),
        ("refused-0", False, "default", None, "no such field"),
    ]


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a restart"])
def test_a_retried_job_is_an_open_one_again(tmp_path: Path, *, again: bool) -> None:
    ledger = Ledger().job(
        "clip",
        facts.Submitted(spec=JobSpec()),
        facts.Assigned(node=N1, attempt=1),
        facts.Started(node=N1, attempt=1),
        facts.CancelRequested(by="ann", reason="wrong clip"),
        facts.Canceled(attempt=1, by="ann", reason="wrong clip"),
    )
    store = projected(tmp_path, ledger.recorded)
    canceled = one(store, "FROM jobs")
    if again:
        store.close()
        store = Store(tmp_path / "private" / "projection.duckdb")
    store.apply(ledger.job("clip", facts.Retried(by="bob")).recorded[5:])
    retried = one(store, "FROM jobs")
    store.apply(ledger.job("clip", facts.Assigned(node=N1, attempt=2)).recorded[6:])
    assigned = one(store, "FROM jobs_active")
    attempts = rows(store, "SELECT attempt, outcome FROM attempts ORDER BY attempt")
    store.close()
    assert (canceled["status"], canceled["cancel_requested"]) == ("canceled", True)
    assert retried == canceled | {
        "status": "queued",
        "node": None,
        "cancel_requested": False,
        "failure_reason": None,
        "queued_at": "2026-01-31 12:00:06+00",
        "ended_at": None,
        "last_seq": 6,
    }
    assert (assigned["status"], assigned["attempt"]) == ("assigned", 2)
    assert attempts == [(1, "canceled"), (2, "assigned")]
