"""The jobs that may be assigned: in lines, apart by what they need and how they rank."""

# pyright: reportPrivateUsage=false
# What is left inside is the point.

from itertools import islice

from events.ids import JobId
from services.scheduler.state.needs import Need
from services.scheduler.state.ranking import Rank
from services.scheduler.state.ready import OUTDATED_MAX, Line, ReadyQueue

CPU = Need(frozenset({"engine:ffmpeg"}))
GPU = Need(frozenset({"engine:ffmpeg", "gpu"}))
A, B, C = JobId("a"), JobId("b"), JobId("c")


def rank(key: float) -> Rank:
    return Rank("", 1.0, key)


def queue(*items: tuple[JobId, float, int], need: Need = CPU) -> ReadyQueue:
    ready = ReadyQueue()
    for job, key, job_no in items:
        ready.add(job, job_no, need, rank(key))
    return ready


def line(ready: ReadyQueue, need: Need = CPU) -> Line:
    (only,) = ready.needs()[need]
    return only


def order(ready: ReadyQueue, need: Need = CPU) -> list[JobId]:
    return [place.job for place in ready.ordered(line(ready, need))]


class TestOrder:
    def test_the_smaller_key_comes_first(self) -> None:
        assert order(queue((A, 3.0, 1), (B, 1.0, 2), (C, 2.0, 3))) == [B, C, A]

    def test_of_equal_keys_the_earlier_submission_comes_first(self) -> None:
        assert order(queue((C, 1.0, 3), (A, 1.0, 2), (B, 1.0, 1))) == [B, A, C]

    def test_looking_removes_nothing(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        assert order(ready) == order(ready) == [A, B]

    def test_a_walk_that_is_left_early_takes_nothing(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2), (C, 3.0, 3))
        assert [place.job for place in islice(ready.ordered(line(ready)), 2)] == [A, B]
        assert order(ready) == [A, B, C]

    def test_each_weight_and_each_tenant_of_a_need_has_its_own_line(self) -> None:
        ready = ReadyQueue()
        for number, name in enumerate((("", 1.0), ("", 2.0), ("ann", 1.0))):
            ready.add(JobId(f"j{number}"), number, CPU, Rank(*name, 0.0))
        assert [(each.tenant, each.weight) for each in ready.lines()] == [
            ("", 1.0),
            ("", 2.0),
            ("ann", 1.0),
        ]
        assert ready.needs() == {CPU: ready.lines()}


class TestMembership:
    def test_it_knows_who_waits(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        assert (len(ready), A in ready, C in ready) == (2, True, False)

    def test_a_removed_job_waits_no_more(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2), (C, 3.0, 3))
        ready.remove(B)
        assert (order(ready), len(ready), B in ready) == ([A, C], 2, False)

    def test_removing_a_stranger_changes_nothing(self) -> None:
        ready = queue((A, 1.0, 1))
        ready.remove(B)
        assert order(ready) == [A]

    def test_a_job_that_came_back_with_the_same_key_is_there_once(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        ready.remove(B)
        ready.add(B, 2, CPU, rank(2.0))
        assert order(ready) == [A, B]

    def test_a_job_that_came_back_with_another_key_is_where_the_new_one_puts_it(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        ready.remove(A)
        ready.add(A, 1, CPU, rank(3.0))
        assert order(ready) == [B, A]

    def test_adding_a_job_again_moves_it(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        ready.add(A, 1, GPU, rank(3.0))
        assert (order(ready), order(ready, GPU), len(ready)) == ([B], [A], 2)

    def test_ranking_anew_keeps_exactly_the_jobs_that_are_named(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2), (C, 3.0, 3))
        ready.rank_anew([(C, 3, CPU, rank(0.0)), (A, 1, CPU, rank(5.0))])
        assert (order(ready), B in ready, len(ready)) == ([C, A], False, 2)


class TestSize:
    def test_needs_are_those_of_the_jobs_that_wait(self) -> None:
        ready = queue((A, 1.0, 1))
        ready.add(B, 2, GPU, rank(1.0))
        assert list(ready.needs()) == [CPU, GPU]
        ready.remove(A)
        assert list(ready.needs()) == [GPU]
        ready.remove(B)
        assert ready.needs() == {}

    def test_nothing_is_left_of_jobs_that_have_gone(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2), (C, 3.0, 3))
        for job in (B, C, A):
            ready.remove(job)
        assert (ready._lines, ready._places) == ({}, {})

    def test_places_of_jobs_that_have_gone_are_cleared_once_they_are_many(self) -> None:
        ready = queue((A, 0.0, 0))
        for number in range(1, 10_000):
            ready.add(B, number, CPU, rank(float(number)))
            assert len(line(ready).heap) <= 2 + OUTDATED_MAX + 1
        assert order(ready) == [A, B]
