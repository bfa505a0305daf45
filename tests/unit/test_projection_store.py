"""The store: order, ownership, versions, and events that nobody expected."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from events import job as facts
from events.codec import Recorded
from events.spec import JobSpec
from events.state.job import JobState, evolve
from projections import store as store_module
from projections.errors import OutOfOrder, StoreBusy, StoreUnusable
from projections.fold import jobs as job_fold
from projections.storage import resume as resume_module
from projections.store import Store
from tests.projecting import N1, Ledger, apply, everything, fleet, folded, projected, rows

SUBMITTED = facts.Submitted(spec=JobSpec())
REPO = Path(__file__).parents[2]


def file_of(tmp_path: Path) -> Path:
    return tmp_path / "private" / "projection.duckdb"


def test_a_batch_must_follow_the_position_without_a_hole(tmp_path: Path) -> None:
    recorded = fleet().recorded
    store = projected(tmp_path, recorded[:5])
    before = everything(store)
    for wrong, given in (
        (recorded[4:7], 5),
        (recorded[6:8], 7),
        ([recorded[5], recorded[7]], 8),
    ):
        with pytest.raises(OutOfOrder) as caught:
            store.apply(wrong)
        assert caught.value.given == given
    assert everything(store) == before
    store.close()


def test_telemetry_never_goes_back(tmp_path: Path) -> None:
    store = projected(tmp_path, [])
    recorded = fleet().recorded
    store.apply_telemetry(recorded[3:4])
    with pytest.raises(OutOfOrder):
        store.apply_telemetry(recorded[3:4])
    assert store.telemetry_position == 4
    store.close()


def test_an_empty_batch_changes_nothing(tmp_path: Path) -> None:
    store = projected(tmp_path, [])
    assert (store.apply([]), store.apply_telemetry([])) == (0, 0)
    store.close()


def test_the_position_in_the_file_is_the_only_truth(tmp_path: Path) -> None:
    recorded = fleet().recorded
    store = projected(tmp_path, recorded[:5])
    cursor = store.cursor()
    cursor.execute("UPDATE position SET seq = 6 WHERE stream = 'ledger'")
    with pytest.raises(OutOfOrder) as caught:
        store.apply(recorded[5:8])
    assert (caught.value.expected, caught.value.given) == (7, 6)
    assert cursor.execute("SELECT count(*) FROM audit").fetchall() == [(5,)]
    cursor.close()
    store.close()


def test_a_batch_that_fails_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = fleet(2).recorded
    store = projected(tmp_path, recorded[:10])
    before = everything(store)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "sealed", mistaken)
        with pytest.raises(ZeroDivisionError):
            store.apply(recorded[10:])
        patch.setattr(store_module, "astuple", mistaken)
        with pytest.raises(ZeroDivisionError):
            store.apply(recorded[10:])
    assert everything(store) == before
    store.apply(recorded[10:])
    after = everything(store)
    store.close()
    other = projected(tmp_path / "other", recorded)
    assert everything(other) == after
    other.close()


def test_the_directory_is_private(tmp_path: Path) -> None:
    store = projected(tmp_path, [])
    store.close()
    assert file_of(tmp_path).parent.stat().st_mode & 0o777 == 0o700


def test_a_file_has_one_owner_in_a_process(tmp_path: Path) -> None:
    store = projected(tmp_path, [])
    with pytest.raises(StoreBusy, match="is in use by process"):
        Store(file_of(tmp_path))
    store.close()
    Store(file_of(tmp_path)).close()


def test_a_file_has_one_owner_among_processes(tmp_path: Path) -> None:
    store = projected(tmp_path, [])
    code = (
        "from pathlib import Path; import sys; from projections.store import Store\n"
        "from projections.errors import StoreBusy\n"
        "try: Store(Path(sys.argv[1]))\n"
        "except StoreBusy as busy: sys.stdout.write(busy.owner)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(file_of(tmp_path))],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    store.close()
    assert told.stdout == (tmp_path / "private" / "projection.duckdb.lock").read_text()


def test_a_file_that_duckdb_alone_has_locked_is_busy_too(tmp_path: Path) -> None:
    projected(tmp_path, []).close()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file_of(tmp_path))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(StoreBusy):
            Store(file_of(tmp_path))
        other.communicate(b"\n")


@pytest.mark.parametrize("damage", ["version", "tables", "no database"])
def test_a_file_that_does_not_fit_is_set_aside(tmp_path: Path, damage: str) -> None:
    path = file_of(tmp_path)
    recorded = fleet().recorded
    store = projected(tmp_path, recorded)
    expected = everything(store)
    store.close()
    if damage == "no database":
        path.write_bytes(b"x" * 10_000)
    else:
        with duckdb.connect(path) as connection:
            connection.execute(
                "UPDATE schema_version SET digest = 'x'"
                if damage == "version"
                else "DROP TABLE schema_version"
            )
    store = Store(path)
    assert (store.fresh, store.position) == (True, 0)
    apply(store, recorded)
    assert everything(store) == expected
    store.close()
    assert Path(f"{path}.old").exists()


def test_a_file_that_fits_is_kept(tmp_path: Path) -> None:
    projected(tmp_path, fleet().recorded).close()
    store = Store(file_of(tmp_path))
    assert (store.fresh, store.position) == (False, len(fleet().recorded))
    store.close()
    store = Store(file_of(tmp_path), anew=True)
    assert (store.fresh, store.position) == (True, 0)
    store.close()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match="give it a directory of its own"):
        Store(tmp_path / "file" / "projection.duckdb")


def test_every_table_view_and_column_has_a_comment(tmp_path: Path) -> None:
    store = projected(tmp_path, [])
    tables = rows(store, "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL")
    views = rows(
        store, "SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL"
    )
    columns = rows(
        store,
        "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL "
        "AND table_name IN (FROM (SELECT table_name FROM duckdb_tables()))",
    )
    indexes = rows(store, "SELECT count(*) FROM duckdb_indexes()")
    store.close()
    assert (tables, views, columns, indexes) == ([], [], [], [(0,)])


def test_what_cannot_be_read_is_in_the_audit_and_nowhere_else(tmp_path: Path) -> None:
    ledger = Ledger().job("clip", SUBMITTED)
    ledger.raw("ffrtmp.job.clip", b"\xff\x00 no json")
    ledger.raw("ffrtmp.job.clip", b'[1, "json"]')
    ledger.raw(
        "ffrtmp.job.clip",
        b'{"id":"a","source":"s","type":"job.painted.v1","time":"2026-01-01T00:00:00Z",'
        b'"subject":"x","data":{"color":"red"}}',
    )
    ledger.raw("ffrtmp.job.never", b"")
    ledger.raw("strange", b"1")
    store = projected(tmp_path, ledger.recorded)
    found = rows(
        store,
        "SELECT seq, type, kind, entity, job_no, payload, problem[:12] AS problem FROM audit "
        "WHERE seq > 1 ORDER BY seq",
    )
    assert found == [
        (2, "", "job", "clip", 1, '"�\\u0000 no json"', "no event env"),
        (3, "", "job", "clip", 1, '[1, "json"]', "no event env"),
        (4, "job.painted.v1", "job", "clip", 1, '{"color":"red"}', "unknown type"),
        (5, "", "job", "never", None, '""', "no event env"),
        (6, "", "", "strange", None, "1", "no event env"),
    ]
    assert rows(store, "SELECT status, last_seq FROM jobs") == [("queued", 1)]
    assert rows(store, "SELECT count(*) FROM nodes") == [(0,)]
    store.close()


def test_numbers_and_texts_beyond_measure_are_stored_as_near_as_they_can_be(tmp_path: Path) -> None:
    ledger = Ledger().job("clip", facts.Submitted(spec=JobSpec(labels={"a": "\x00 é\U0001f600"})))
    ledger.job("clip", facts.Assigned(node=N1, attempt=1), facts.Started(node=N1, attempt=10**30))
    ledger.job(
        "clip",
        facts.AttemptFailed(
            node=N1, attempt=1, failure=facts.FailureClass.RESOURCE, exit_status=-(10**30)
        ),
    )
    store = projected(tmp_path, ledger.recorded)
    assert rows(store, "SELECT labels, exit_status FROM jobs") == [
        ({"a": "\x00 é\U0001f600"}, -(2**63))
    ]
    assert rows(store, "SELECT attempt FROM audit WHERE seq = 3") == [(2**63 - 1,)]
    store.close()


def mistaken(_: object) -> object:
    raise ZeroDivisionError


def broken_for(job: str) -> "object":
    """Return a fold that has a mistake in it for `Started` of one job."""

    def fold(state: JobState, recorded: Recorded) -> JobState:
        if recorded.subject.endswith(job) and isinstance(recorded.fact, facts.Started):
            raise KeyError("mistake")
        return evolve(state, recorded)

    return fold


def test_an_entity_that_cannot_be_folded_is_parked_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_fold, "evolve", broken_for("bad"))
    monkeypatch.setattr(resume_module, "evolve", broken_for("bad"))
    ledger = Ledger()
    for job in ("bad", "good"):
        ledger.job(
            job,
            SUBMITTED,
            facts.Assigned(node=N1, attempt=1),
            facts.Started(node=N1, attempt=1),
            facts.Completed(node=N1, attempt=1),
        )
    store = projected(tmp_path, ledger.recorded[:3])
    store.close()
    store = Store(file_of(tmp_path))
    store.apply(ledger.recorded[3:])
    assert rows(store, "SELECT job_id, status, last_seq FROM jobs ORDER BY job_id") == [
        ("bad", "assigned", 2),
        ("good", "completed", 8),
    ]
    assert rows(store, "SELECT stream, seq, entity, reason FROM parked") == [
        ("ledger", 3, "ffrtmp.job.bad", "KeyError: 'mistake'")
    ]
    assert rows(store, "SELECT count(*) FROM audit") == [(8,)]
    store.close()


def test_a_late_fact_of_a_settled_job_changes_only_its_last_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SWEEP_JOBS", 1)
    ledger = fleet()
    store = projected(tmp_path, ledger.recorded)
    assert rows(store, "SELECT count(*) FROM jobs_cold") == [(4,)]
    before = folded(store)
    late = len(ledger.recorded) + 1
    ledger.job("good-0", facts.Failed(failure=facts.FailureClass.PERMANENT, reason="late"))
    ledger.job("stopped-0", SUBMITTED)
    store.apply(ledger.recorded[late - 1 :])
    after = folded(store)
    assert after == [
        (*row[:7], {"good-0": late, "stopped-0": late + 1}.get(str(row[1]), row[7]))
        for row in before
    ]
    assert len(rows(store, "FROM jobs")) == len(before)
    numbers = rows(store, f"SELECT job_no FROM audit WHERE seq >= {late} ORDER BY seq")
    assert numbers == [(before[0][0],), (before[3][0],)]
    store.close()


def test_checkpoint_empties_the_write_ahead_log(tmp_path: Path) -> None:
    store = projected(tmp_path, fleet(20).recorded)
    wal = Path(f"{file_of(tmp_path)}.wal")
    assert wal.stat().st_size > 0
    assert store.checkpoint()
    assert not wal.exists() or wal.stat().st_size == 0
    store.close()
