"""What the tables say of nodes, and of what nodes and attempts report."""

from datetime import timedelta
from pathlib import Path

from msgspec import Raw, json

from events import job as facts
from events import node as node_facts
from events import subjects
from events.cluster import LeaderElected, LeaderResigned, Policy, PolicyChanged, PolicyKind
from events.codec import Recorded, Unknown, decode
from events.ids import EventId, JobId, NodeId
from events.spec import JobSpec
from events.subjects import Subject
from events.telemetry import GpuLoad, Heartbeat, Progress, TelemetryFact
from projections.store import Store
from tests.projecting import N1, Ledger, instant, projected, rows
from tests.vocabulary import T0

HARDWARE = node_facts.Hardware(
    hostname="box",
    cpu_model="EPYC",
    cpu_threads=8,
    memory_bytes=2**34,
    disk_bytes=2**40,
    gpus=(node_facts.Gpu(index=1, name="B"), node_facts.Gpu(index=0, name="A")),
    ffmpeg="7.1",
)
REGISTERED = node_facts.Registered(
    epoch=1,
    slots=4,
    capabilities=("gpu", "codec:h264"),
    hardware=HARDWARE,
    address="box:1",
    version="0.1",
    fingerprint="5f0c",
    encoder_sessions=8,
)


def reports(*told: tuple[Subject, TelemetryFact], first: int = 1) -> list[Recorded]:
    """Return telemetry of one second after another."""
    return [
        Recorded(
            seq,
            subject,
            fact,
            T0 + timedelta(seconds=seq),
            EventId(f"t-{seq}"),
            "test",
            fact.tag,
            None,
            Raw(json.encode(fact)),
        )
        for seq, (subject, fact) in enumerate(told, first)
    ]


def heartbeat(epoch: int = 1, cpu_percent: float = 0.0) -> tuple[Subject, TelemetryFact]:
    fact = Heartbeat(
        epoch=epoch,
        running=2,
        free=2,
        cpu_percent=cpu_percent,
        memory_free_bytes=7,
        gpus=(GpuLoad(index=0),),
    )
    return subjects.telemetry_of_node(N1), fact


def progress(percent: float, attempt: int = 1, job: str = "clip") -> tuple[Subject, TelemetryFact]:
    fact = Progress(
        node=N1, attempt=attempt, percent=percent, out_time_s=1.0, fps=25.0, speed=2.0, eta_s=9.0
    )
    return subjects.telemetry_of_job(JobId(job)), fact


def running(tmp_path: Path) -> Store:
    """Return a store in which `clip` runs on n1."""
    ledger = Ledger().node("n1", REGISTERED)
    ledger.job(
        "clip",
        facts.Submitted(spec=JobSpec()),
        facts.Assigned(node=N1, attempt=1),
        facts.Started(node=N1, attempt=1),
    )
    return projected(tmp_path, ledger.recorded)


def test_a_registered_node_is_a_whole_row(tmp_path: Path) -> None:
    store = projected(tmp_path, Ledger().node("n1", REGISTERED).recorded)
    found = rows(store, "SELECT * EXCLUDE state FROM nodes")
    store.close()
    since = "2026-01-31 12:00:01+00"
    state = ("n1", "online", True, False, False, "", "", "", "", "closed", None, "")
    room = (1, 4, 4, None, ["codec:h264", "gpu"])
    hardware = ("box", "EPYC", 8, 2**34, 2**40, ["A", "B"], 8, "7.1", "box:1", "5f0c", "0.1")
    assert found == [(*state, *room, *hardware, since, since, None, None, None, 1, 1)]


def test_a_node_follows_its_facts(tmp_path: Path) -> None:
    told = "SELECT status, schedulable, cordoned, draining, epoch, free, last_seq FROM nodes"
    ledger = Ledger().node("n1", REGISTERED)
    store = projected(tmp_path, ledger.recorded)
    for fact, expected in (
        (node_facts.Available(epoch=1, slots=4, free=1), ("online", True, False, False, 1, 1, 2)),
        (node_facts.Cordoned(), ("online", False, True, False, 1, 1, 3)),
        (node_facts.Draining(), ("online", False, True, True, 1, 1, 4)),
        (node_facts.Uncordoned(), ("online", True, False, False, 1, 1, 5)),
        (node_facts.Suspected(), ("suspected", False, False, False, 1, 1, 6)),
        (node_facts.Lost(), ("lost", False, False, False, 1, 1, 7)),
        (REGISTERED, ("online", True, False, False, 1, 4, 8)),
        (node_facts.Removed(), ("removed", False, False, False, 1, 0, 9)),
    ):
        ledger.node("n1", fact)
        store.apply(ledger.recorded[-1:])
        assert rows(store, told) == [expected]
    store.close()


def test_a_node_tells_who_took_it_out_and_why(tmp_path: Path) -> None:
    told = "SELECT status, ordered_by, order_reason, reason FROM nodes"
    ledger = Ledger().node("n1", REGISTERED)
    store = projected(tmp_path, ledger.recorded)
    for fact, expected in (
        (node_facts.Cordoned(by="ann", reason="driver"), ("online", "ann", "driver", "")),
        (REGISTERED, ("online", "ann", "driver", "")),
        (node_facts.Uncordoned(by="bob"), ("online", "", "", "")),
        (node_facts.Draining(by="eve", reason="reboot"), ("online", "eve", "reboot", "")),
        (node_facts.Lost(reason="silent"), ("lost", "eve", "reboot", "silent")),
        (node_facts.Recovered(), ("online", "eve", "reboot", "")),
        (node_facts.Refused(epoch=1, reason="a twin"), ("refused", "eve", "reboot", "a twin")),
    ):
        ledger.node("n1", fact)
        store.apply(ledger.recorded[-1:])
        assert rows(store, told) == [expected]
    store.close()


def test_a_circuit_is_told_with_its_end_and_its_reason(tmp_path: Path) -> None:
    told = "SELECT circuit, circuit_until, circuit_reason, refusing, schedulable FROM nodes"
    ledger = Ledger().node("n1", REGISTERED)
    store = projected(tmp_path, ledger.recorded)
    opened = node_facts.CircuitOpened(
        until=instant(60), failures=8, attempts=10, reason="8 of 10 failed"
    )
    full = node_facts.Available(epoch=1, slots=4, free=4, refusing="disk: 1 GiB free")
    until = "2026-01-31 12:01:00+00"
    for fact, expected in (
        (opened, ("open", until, "8 of 10 failed", "", False)),
        (node_facts.CircuitHalfOpened(), ("half_open", None, "8 of 10 failed", "", True)),
        (full, ("half_open", None, "8 of 10 failed", "disk: 1 GiB free", False)),
        (node_facts.CircuitClosed(), ("closed", None, "", "disk: 1 GiB free", False)),
    ):
        ledger.node("n1", fact)
        store.apply(ledger.recorded[-1:])
        assert rows(store, told) == [expected]
    store.close()


def test_an_open_circuit_survives_a_restart_of_the_projector(tmp_path: Path) -> None:
    opened = node_facts.CircuitOpened(until=instant(60), failures=8, attempts=10)
    ledger = Ledger().node("n1", REGISTERED, opened)
    projected(tmp_path, ledger.recorded).close()
    store = Store(tmp_path / "private" / "projection.duckdb")
    ledger.node("n1", node_facts.Cordoned(by="ann"))
    store.apply(ledger.recorded[-1:])
    found = rows(store, "SELECT circuit, circuit_until, ordered_by FROM nodes")
    store.close()
    assert found == [("open", "2026-01-31 12:01:00+00", "ann")]


def test_changes_of_nodes_are_told_without_what_they_were_given(tmp_path: Path) -> None:
    ledger = Ledger().node(
        "n1",
        REGISTERED,
        node_facts.Assignments(jobs=()),
        node_facts.Available(epoch=1, slots=4, free=1),
        node_facts.Cordoned(by="ann", reason="driver"),
    )
    ledger.node("n2", node_facts.Lost(reason="silent"))
    store = projected(tmp_path, ledger.recorded)
    found = rows(store, "SELECT seq, node_id, change, actor, reason FROM node_changes ORDER BY seq")
    store.close()
    assert found == [
        (1, "n1", "registered", None, None),
        (4, "n1", "cordoned", "ann", "driver"),
        (5, "n2", "lost", None, "silent"),
    ]


def test_what_changed_for_the_fleet_is_in_the_audit_and_told_by_name(tmp_path: Path) -> None:
    ledger = Ledger()
    fair = Policy(kind=PolicyKind.FAIR)
    ledger.add(subjects.LEADER, LeaderElected(scheduler="s1", term=1))
    ledger.add(subjects.POLICY, PolicyChanged(policy=fair, by="ann", reason="elections"))
    ledger.add(subjects.POLICY, PolicyChanged(policy=Policy()))
    ledger.add(subjects.LEADER, LeaderResigned(scheduler="s1", term=1))
    store = projected(tmp_path, ledger.recorded)
    kept = rows(store, "SELECT kind, entity, problem FROM audit ORDER BY seq")
    told = "SELECT seq, topic, change, actor, reason, scheduler, policy FROM cluster_changes"
    found = rows(store, f"{told} ORDER BY seq")
    parked = rows(store, "FROM parked")
    store.close()
    topics = ("leader", "policy", "policy", "leader")
    assert kept == [("cluster", topic, None) for topic in topics]
    assert parked == []
    assert found == [
        (1, "leader", "leader_elected", None, None, "s1", None),
        (2, "policy", "policy_changed", "ann", "elections", None, "fair"),
        (3, "policy", "policy_changed", None, None, None, "weighted"),
        (4, "leader", "leader_resigned", None, None, "s1", None),
    ]


def test_a_heartbeat_tells_the_load_of_the_worker_that_is_registered(tmp_path: Path) -> None:
    store = running(tmp_path)
    store.apply_telemetry(reports(heartbeat(cpu_percent=50.0), heartbeat(9, cpu_percent=1.0)))
    found = rows(store, "SELECT running, cpu_percent, memory_free_bytes, last_seen FROM nodes")
    kept = rows(store, "SELECT seq, node_id, epoch, cpu_percent, gpus FROM heartbeats ORDER BY seq")
    store.close()
    assert found == [(2, 50.0, 7, "2026-01-31 12:00:01+00")]
    assert kept == [(1, "n1", 1, 50.0, '[{"index":0}]'), (2, "n1", 9, 1.0, '[{"index":0}]')]


def test_progress_changes_the_job_at_most_every_two_seconds(tmp_path: Path) -> None:
    store = running(tmp_path)
    told = "SELECT progress_percent, fps, speed, eta_s, progress_at FROM jobs"
    seen: list[object] = []
    for report in reports(*(progress(float(percent)) for percent in range(10, 60, 10))):
        store.apply_telemetry([report])
        seen.append(rows(store, told)[0][0])
    kept = rows(store, "SELECT seq, percent FROM progress ORDER BY seq")
    store.close()
    assert seen == [10.0, 10.0, 30.0, 30.0, 50.0]
    assert kept == [(1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0), (5, 50.0)]


def test_progress_of_another_attempt_or_job_changes_nothing(tmp_path: Path) -> None:
    store = running(tmp_path)
    store.apply_telemetry(reports(progress(10.0, attempt=2), progress(10.0, job="gone")))
    assert rows(store, "SELECT progress_percent FROM jobs") == [(None,)]
    assert rows(store, "SELECT count(*) FROM progress") == [(2,)]
    store.close()


def test_a_new_attempt_begins_without_progress(tmp_path: Path) -> None:
    store = running(tmp_path)
    store.apply_telemetry(reports(progress(10.0)))
    ledger = Ledger()
    ledger.recorded = [decode(seq, "ffrtmp.access.x", b"") for seq in range(1, 5)]
    ledger.job(
        "clip",
        facts.AttemptLost(node=N1, attempt=1, cause=facts.LossCause.STALLED),
        facts.Queued(after=facts.QueuedAfter.BACKOFF),
        facts.Assigned(node=NodeId("n2"), attempt=2),
    )
    store.apply(ledger.recorded[4:])
    found = rows(store, "SELECT node, progress_percent, progress_at, fps, eta_s FROM jobs")
    store.close()
    assert found == [("n2", None, None, None, None)]


def test_unreadable_telemetry_is_parked_and_stops_nothing(tmp_path: Path) -> None:
    store = running(tmp_path)
    strange = decode(1, "ffrtmp.telemetry.node.n1", b"\xff")
    assert isinstance(strange.fact, Unknown)
    store.apply_telemetry([strange, *reports(heartbeat(), first=2)])
    assert rows(store, "SELECT stream, seq, entity FROM parked") == [
        ("telemetry", 1, "ffrtmp.telemetry.node.n1")
    ]
    assert rows(store, "SELECT running FROM nodes") == [(2,)]
    store.close()


def test_telemetry_expires_by_age_and_the_rest_stays(tmp_path: Path) -> None:
    store = running(tmp_path)
    store.apply_telemetry(reports(heartbeat(), progress(1.0), heartbeat(), progress(2.0)))
    store.expire(instant(3))
    assert rows(store, "SELECT seq FROM heartbeats") == [(3,)]
    assert rows(store, "SELECT seq FROM progress") == [(4,)]
    assert rows(store, "SELECT count(*) FROM audit") == [(4,)]
    store.close()


def test_telemetry_may_have_holes_and_its_position_is_its_own(tmp_path: Path) -> None:
    store = running(tmp_path)
    store.apply_telemetry([reports(heartbeat(), first=7)[0], reports(heartbeat(), first=9)[0]])
    assert (store.position, store.telemetry_position) == (4, 9)
    store.close()
