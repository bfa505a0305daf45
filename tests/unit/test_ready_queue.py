"""The jobs that may be assigned: in order, apart by what they require."""

# pyright: reportPrivateUsage=false
# What is left inside is the point.

from itertools import islice

from events.ids import JobId
from services.scheduler.state.ready import Item, ReadyQueue, Requirement

CPU: Requirement = frozenset({"engine:ffmpeg"})
GPU: Requirement = frozenset({"engine:ffmpeg", "gpu"})
A, B, C = JobId("a"), JobId("b"), JobId("c")


def queue(*items: tuple[JobId, float, int], requirement: Requirement = CPU) -> ReadyQueue:
    ready = ReadyQueue()
    for job, key, job_no in items:
        ready.add(job, key, job_no, requirement)
    return ready


def order(ready: ReadyQueue, requirement: Requirement = CPU) -> list[Item]:
    return list(ready.ordered(requirement))


class TestOrder:
    def test_the_smaller_key_comes_first(self) -> None:
        ready = queue((A, 3.0, 1), (B, 1.0, 2), (C, 2.0, 3))
        assert order(ready) == [(1.0, 2, B), (2.0, 3, C), (3.0, 1, A)]

    def test_of_equal_keys_the_earlier_submission_comes_first(self) -> None:
        ready = queue((C, 1.0, 3), (A, 1.0, 2), (B, 1.0, 1))
        assert [job for _, _, job in order(ready)] == [B, A, C]

    def test_looking_removes_nothing(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        assert order(ready) == order(ready) == [(1.0, 1, A), (2.0, 2, B)]

    def test_a_walk_that_is_left_early_puts_back_what_it_took(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2), (C, 3.0, 3))
        walk = ready.ordered(CPU)
        assert [job for _, _, job in islice(walk, 2)] == [A, B]
        walk.close()
        assert [job for _, _, job in order(ready)] == [A, B, C]

    def test_a_requirement_for_which_nothing_waits_has_no_jobs(self) -> None:
        assert order(queue((A, 1.0, 1)), GPU) == []


class TestMembership:
    def test_it_knows_who_waits(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        assert (len(ready), A in ready, C in ready) == (2, True, False)

    def test_a_removed_job_waits_no_more(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2), (C, 3.0, 3))
        ready.remove(B)
        assert [job for _, _, job in order(ready)] == [A, C]
        assert (len(ready), B in ready) == (2, False)

    def test_removing_a_stranger_changes_nothing(self) -> None:
        ready = queue((A, 1.0, 1))
        ready.remove(B)
        assert order(ready) == [(1.0, 1, A)]

    def test_a_job_that_came_back_with_the_same_key_is_there_once(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        ready.remove(B)
        ready.add(B, 2.0, 2, CPU)
        assert order(ready) == [(1.0, 1, A), (2.0, 2, B)]

    def test_a_job_that_came_back_with_another_key_is_where_the_new_one_puts_it(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        ready.remove(A)
        ready.add(A, 3.0, 1, CPU)
        assert order(ready) == [(2.0, 2, B), (3.0, 1, A)]

    def test_adding_a_job_again_moves_it(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2))
        ready.add(A, 3.0, 1, GPU)
        assert order(ready) == [(2.0, 2, B)]
        assert order(ready, GPU) == [(3.0, 1, A)]
        assert len(ready) == 2


class TestRequirements:
    def test_requirements_are_those_for_which_jobs_wait(self) -> None:
        ready = queue((A, 1.0, 1))
        ready.add(B, 1.0, 2, GPU)
        assert ready.requirements() == [CPU, GPU]
        ready.remove(A)
        assert ready.requirements() == [GPU]
        ready.remove(B)
        assert ready.requirements() == []

    def test_nothing_is_left_of_jobs_that_have_gone(self) -> None:
        ready = queue((A, 1.0, 1), (B, 2.0, 2), (C, 3.0, 3))
        for job in (B, C, A):
            ready.remove(job)
        assert (ready._heaps, ready._entries) == ({}, {})
