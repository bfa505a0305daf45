"""New work needs room on disk; a disk near the limit makes no node come and go."""

from services.worker.keep.room import AGAIN_FACTOR, GIB, Room
from services.worker.port import Disk

WORK, OUTPUT = "/work", "/out"


def disks(work: float, output: float) -> tuple[Disk, Disk]:
    return Disk(WORK, int(work * GIB)), Disk(OUTPUT, int(output * GIB))


def test_enough_room_refuses_nothing() -> None:
    assert Room(2 * GIB).refusal(disks(2, 2)) == ""


def test_the_fullest_disk_is_named_with_its_figures() -> None:
    told = "disk: 1.2 GiB free in /out, needs 2 GiB"
    assert Room(2 * GIB).refusal(disks(1.5, 1.2)) == told


def test_work_is_taken_again_only_when_there_is_clearly_room() -> None:
    room = Room(2 * GIB)
    told = room.refusal(disks(1.2, 9))
    assert told
    assert room.refusal(disks(0.5, 9)) == told
    assert room.refusal(disks(2.4, 9)) == told
    assert room.refusal(disks(2 * AGAIN_FACTOR, 9)) == ""
    assert room.refusal(disks(2.1, 9)) == ""


def test_disks_nobody_could_look_at_change_nothing() -> None:
    room = Room(2 * GIB)
    assert room.refusal(()) == ""
    told = room.refusal(disks(1, 1))
    assert room.refusal(()) == told


def test_no_limit_refuses_nothing() -> None:
    assert Room(0).refusal(disks(0, 0)) == ""
