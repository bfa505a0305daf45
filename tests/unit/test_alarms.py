"""Alarms ring once, in order, at the instant they were last set to."""

from events.ids import JobId
from services.scheduler.upkeep import alarms
from services.scheduler.upkeep.alarms import Alarms
from tests.vocabulary import instant

A, B, C = JobId("a"), JobId("b"), JobId("c")


def test_they_ring_when_due_the_earliest_first_and_once() -> None:
    rings = Alarms()
    rings.set(A, instant(20))
    rings.set(B, instant(10))
    rings.set(C, instant(30))
    assert rings.ring(instant(9), 10) == []
    assert rings.ring(instant(20), 10) == [B, A]
    assert rings.ring(instant(20), 10) == []
    assert len(rings) == 1


def test_what_is_set_anew_rings_then_and_only_then() -> None:
    rings = Alarms()
    rings.set(A, instant(10))
    rings.set(A, instant(20))
    assert rings.ring(instant(19), 10) == []
    assert rings.ring(instant(20), 10) == [A]
    rings.set(A, instant(30))
    rings.set(A, instant(5))
    assert rings.ring(instant(30), 10) == [A]


def test_what_is_cleared_does_not_ring() -> None:
    rings = Alarms()
    rings.set(A, instant(10))
    rings.clear(A)
    rings.clear(B)
    assert rings.ring(instant(10), 10) == []


def test_of_many_some_ring_later() -> None:
    rings = Alarms()
    for job in (A, B, C):
        rings.set(job, instant(10))
    assert rings.ring(instant(10), 2) == [A, B]
    assert rings.ring(instant(10), 2) == [C]


def test_setting_one_again_and_again_takes_no_room() -> None:
    rings = Alarms()
    rings.set(B, instant(1))
    for second in range(10 * alarms.SLACK_MAX):
        rings.set(A, instant(second))
    assert rings.kept <= alarms.SLACK_MAX + 5
    assert rings.ring(instant(10**6), 10) == [B, A]
