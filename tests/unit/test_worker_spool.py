"""What the log did not take waits on disk: in order, bounded, over restarts and torn files."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from events import subjects
from events.codec import Event
from events.ids import EventId, JobId, NodeId
from events.telemetry import LogChunk, OutputStream
from services.worker.keep import spool as module
from services.worker.keep.spool import SPOOL_FILE, Spool

T0 = datetime(2026, 1, 31, tzinfo=UTC)
MIB = 2**20


def chunk(number: int, job: str = "a", lines: int = 1) -> Event:
    fact = LogChunk(
        node=NodeId("n1"),
        attempt=1,
        number=number,
        stream=OutputStream.STDERR,
        lines=tuple(f"line {number}.{line}" for line in range(lines)),
    )
    return Event(
        id=EventId(f"{job}-{number}"),
        source="worker/n1",
        type=fact.tag,
        time=T0,
        subject=subjects.logs(JobId(job), 1),
        data=fact,
    )


def emptied(spool: Spool) -> list[Event]:
    """Take everything out, as the sender does."""
    events: list[Event] = []
    while not spool.empty:
        head = spool.head()
        events += head.events
        spool.remove(head)
    return events


def test_what_was_kept_comes_out_as_it_was_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    spool.add([chunk(0), chunk(0, "b")])
    spool.add([chunk(1)])
    assert emptied(spool) == [chunk(0), chunk(0, "b"), chunk(1)]


def test_it_leaves_nothing_behind_when_it_is_empty(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    assert spool.empty
    spool.add([chunk(0)])
    assert not spool.empty
    emptied(spool)
    assert list(tmp_path.iterdir()) == []


def test_it_knows_whose_output_waits(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    spool.add([chunk(0), chunk(0, "b")])
    assert spool.holds(subjects.logs(JobId("a"), 1))
    assert not spool.holds(subjects.logs(JobId("c"), 1))
    emptied(spool)
    assert not spool.holds(subjects.logs(JobId("a"), 1))


def test_it_survives_a_worker_that_was_killed(tmp_path: Path) -> None:
    killed = Spool(tmp_path, MIB)
    killed.add([chunk(0), chunk(1)])
    later = Spool(tmp_path, MIB)
    assert later.holds(subjects.logs(JobId("a"), 1))
    later.add([chunk(2)])
    assert emptied(later) == [chunk(0), chunk(1), chunk(2)]
    killed.close()


def test_the_same_event_again_is_kept_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    spool.add([chunk(0), chunk(1)])
    spool.add([chunk(1), chunk(2)])
    assert emptied(spool) == [chunk(0), chunk(1), chunk(2)]


def test_a_full_one_drops_the_oldest_and_counts_their_lines(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 2_000)
    spool.add([chunk(number, lines=3) for number in range(50)])
    spool.add([chunk(50, "b")])
    marker, *kept = emptied(spool)
    assert isinstance(marker.data, LogChunk)
    first = kept[0].data
    assert isinstance(first, LogChunk)
    assert (marker.data.stream, marker.data.lines) == (
        OutputStream.WORKER,
        (f"[{3 * first.number} lines lost: the log was away, and the spool of this node is full]",),
    )
    assert marker.data.number == first.number - 1
    assert kept == [*(chunk(number, lines=3) for number in range(first.number, 50)), kept[-1]]
    assert kept[-1] == chunk(50, "b")
    assert 0 < first.number < 50


def test_without_room_only_the_count_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    spool.add([chunk(0, lines=2), chunk(1, lines=2), chunk(0, "b")])
    told = [event.data.lines[0] for event in emptied(spool) if isinstance(event.data, LogChunk)]
    assert [words.split(" lines")[0] for words in told] == ["[4", "[1"]


def test_it_hands_out_no_more_than_a_limit_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, MIB)
    spool.add([chunk(number) for number in range(5)])
    monkeypatch.setattr(module, "HEAD_MAX", 3)
    assert len(spool.head().events) == 3
    monkeypatch.setattr(module, "HEAD_BYTES_MAX", 10)
    assert len(spool.head().events) == 1
    assert len(emptied(spool)) == 5


def test_a_file_that_cannot_be_read_keeps_nobody_from_working(tmp_path: Path) -> None:
    (tmp_path / SPOOL_FILE).write_bytes(b"no database" * 1000)
    spool = Spool(tmp_path, MIB)
    assert spool.empty
    spool.add([chunk(0)])
    assert emptied(spool) == [chunk(0)]


def test_a_disk_that_takes_nothing_loses_output_and_nothing_else(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "missing", MIB)
    spool.add([chunk(0)])
    assert spool.empty


def test_a_file_that_could_not_be_made_is_made_when_it_can_be(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    (tmp_path / SPOOL_FILE).write_bytes(b"no database " * 1000)
    spool.add([chunk(0)])
    assert spool.empty
    spool.add([chunk(1)])
    assert emptied(spool) == [chunk(1)]


def test_a_file_that_cannot_be_removed_breaks_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    (tmp_path / SPOOL_FILE).mkdir()
    spool.add([chunk(0)])
    assert spool.empty
