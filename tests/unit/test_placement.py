"""Which jobs go where: by weight, then by age; to the emptiest node that can."""

from datetime import timedelta

import pytest

from events.cluster import Policy, PolicyKind
from events.ids import JobId, NodeId
from events.job import Assigned, Placement, Started
from events.node import Cordoned
from events.spec import Priority, Queue
from events.state.job import JobState
from services.scheduler.placement import Choice, place
from tests.vocabulary import T0, instant
from tests.worlds import Told, noop, pairs


def fleet(**slots: int) -> Told:
    """Return a world of nodes with these slots."""
    told = Told()
    for node, count in slots.items():
        told.register(node, count)
    return told


def looks(told: Told, monkeypatch: pytest.MonkeyPatch) -> list[JobId]:
    """Return a list to which every job is added that is looked at from now on."""
    found: list[JobId] = []
    job = told.world.job

    def look(name: JobId) -> JobState:
        found.append(name)
        return job(name)

    monkeypatch.setattr(told.world, "job", look)
    return found


class TestOrder:
    def test_jobs_are_given_out_by_weight(self) -> None:
        told = fleet(n1=9)
        for queue in reversed(Queue):
            for priority in reversed(Priority):
                spec = noop(queue=queue, priority=priority)
                told.submit(f"{queue}-{priority}", spec, at=T0)
        assert [choice.job for choice in place(told.world, T0)] == [
            "live-high",
            "live-medium",
            "default-high",
            "default-medium",  # weight 10, as live-low, and submitted before it
            "live-low",
            "default-low",
            "batch-high",
            "batch-medium",
            "batch-low",
        ]

    def test_equal_weights_are_first_in_first_out(self) -> None:
        told = fleet(n1=3)
        for job in ("c", "a", "b"):
            told.submit(job)
        assert [choice.job for choice in place(told.world, T0)] == ["c", "a", "b"]

    def test_jobs_of_one_instant_go_by_their_number(self) -> None:
        told = fleet(n1=3)
        for job in ("c", "a", "b"):
            told.submit(job, at=T0)
        assert [choice.job for choice in place(told.world, T0)] == ["c", "a", "b"]

    def test_an_old_light_job_comes_before_a_young_heavy_one(self) -> None:
        told = fleet(n1=2)
        told.submit("heavy", noop(queue="live", priority="high"), at=T0 + timedelta(minutes=30))
        told.submit("light", noop(queue="batch", priority="low"), at=T0)
        assert [choice.job for choice in place(told.world, T0)] == ["light", "heavy"]

    def test_of_two_requirement_sets_the_earlier_job_wins(self) -> None:
        told = Told()
        told.register("n1", 1, "gpu")
        told.submit("needs-gpu", noop(requires=["gpu"]))
        told.submit("any")
        assert pairs(place(told.world, T0)) == [("needs-gpu", "n1")]


class TestNodes:
    def test_the_node_with_the_largest_free_share_comes_first_then_the_one_with_most_slots(
        self,
    ) -> None:
        told = fleet(n1=1, n2=3, n3=2)
        for job in "abcdef":
            told.submit(job)
        assert pairs(place(told.world, T0)) == [
            ("a", "n2"),
            ("b", "n3"),
            ("c", "n1"),
            ("d", "n2"),
            ("e", "n3"),
            ("f", "n2"),
        ]

    def test_of_equal_nodes_the_less_busy_one_comes_first_as_far_as_room_allows(self) -> None:
        told = fleet(n1=2, n2=2)
        told.world.loads |= {NodeId("n1"): 0.9, NodeId("n2"): 0.1}
        for job in "abc":
            told.submit(job)
        assert pairs(place(told.world, T0)) == [("a", "n2"), ("b", "n1"), ("c", "n2")]

    def test_a_job_that_no_free_node_can_run_does_not_block_those_behind_it(self) -> None:
        told = fleet(n1=2)
        told.submit("stuck", noop(queue="live", requires=["gpu"]))
        told.submit("a")
        told.submit("b")
        assert pairs(place(told.world, T0)) == [("a", "n1"), ("b", "n1")]

    def test_a_set_whose_nodes_fill_up_in_the_pass_does_not_block_the_others(self) -> None:
        told = fleet(n1=1)
        told.register("n2", 1, "gpu")
        for job in ("g1", "g2", "g3"):
            told.submit(job, noop(queue="live", requires=["gpu"]))
        told.submit("plain")
        assert pairs(place(told.world, T0)) == [("g1", "n2"), ("plain", "n1")]

    def test_two_sets_share_the_slots_of_a_node(self) -> None:
        told = Told()
        told.register("n1", 3, "gpu")
        for number in range(3):
            told.submit(f"g{number}", noop(requires=["gpu"]))
            told.submit(f"p{number}")
        assert pairs(place(told.world, T0)) == [("g0", "n1"), ("p0", "n1"), ("g1", "n1")]

    def test_no_node_gets_more_than_its_slots(self) -> None:
        told = fleet(n1=2, n2=1)
        told.submit("held")
        told.job("held", Assigned(node=NodeId("n1"), attempt=1))
        told.submit("running")
        told.job("running", Assigned(node=NodeId("n2"), attempt=1))
        told.job("running", Started(node=NodeId("n2"), attempt=1))
        told.submit("a")
        told.submit("b")
        assert pairs(place(told.world, T0)) == [("a", "n1")]

    def test_a_cordoned_node_gets_nothing(self) -> None:
        told = fleet(n1=1, n2=5)
        told.node("n2", Cordoned())
        told.submit("a")
        told.submit("b")
        assert pairs(place(told.world, T0)) == [("a", "n1")]

    def test_without_nodes_nothing_is_placed(self) -> None:
        told = Told()
        told.submit("a")
        assert place(told.world, T0) == []


class TestReasons:
    def test_a_choice_says_why(self) -> None:
        told = fleet(n1=2, n2=3)
        told.submit("b")
        told.job("b", Assigned(node=NodeId("n2"), attempt=1))
        told.register("n3", 9)
        told.submit("a", noop(queue="live", priority="low"), at=instant(10))
        placement = Placement(
            weight=10.0,
            waited_s=2.5,
            candidates=3,
            free=9,
            runner_up=NodeId("n1"),
            score=2.0,
        )
        now = instant(10) + timedelta(seconds=2.5)
        assert place(told.world, now) == [Choice(JobId("a"), NodeId("n3"), placement)]

    def test_the_runner_up_is_the_next_best_other_node(self) -> None:
        told = fleet(n1=5, n2=1, n3=2, n4=4)
        for job in "abc":
            told.submit(job)
        found = [(choice.node, choice.placement.runner_up) for choice in place(told.world, T0)]
        assert found == [("n1", "n4"), ("n4", "n3"), ("n3", "n2")]

    def test_a_node_that_another_set_has_filled_is_no_runner_up(self) -> None:
        told = fleet(n1=1)
        told.register("n2", 1, "gpu")
        told.submit("g", noop(queue="live", requires=["gpu"]))
        told.submit("a")
        found = [(choice.job, choice.placement.runner_up) for choice in place(told.world, T0)]
        assert found == [("g", ""), ("a", "")]

    def test_a_clock_that_is_behind_makes_no_negative_wait(self) -> None:
        told = fleet(n1=1)
        told.submit("a", at=instant(10))
        (choice,) = place(told.world, instant(0))
        assert choice.placement.waited_s == 0.0


class TestPass:
    def test_a_pass_is_limited_and_the_next_one_goes_on(self) -> None:
        told = fleet(n1=5)
        for job in "abcde":
            told.submit(job)
        assert [choice.job for choice in place(told.world, T0, jobs_max=2)] == ["a", "b"]

    @pytest.mark.parametrize("kind", PolicyKind)
    def test_what_a_pass_looks_at_does_not_grow_with_the_queue(
        self, kind: PolicyKind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def looked_at(queued: int) -> int:
            told = Told(Policy(kind=kind))
            told.register("n1", 10)
            for number in range(queued):
                told.submit(f"j{number}", noop(queue=list(Queue)[number % 3]))
            found = looks(told, monkeypatch)
            assert len(place(told.world, T0)) == 10
            return len(found)

        assert looked_at(10_000) == looked_at(100) < 100

    def test_without_room_a_pass_looks_at_no_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = fleet(n1=1)
        told.submit("holder")
        told.job("holder", Assigned(node=NodeId("n1"), attempt=1))
        for number in range(100):
            told.submit(f"j{number}")
        found = looks(told, monkeypatch)
        assert (place(told.world, T0), found) == ([], [])

    def test_what_no_free_node_can_run_is_not_looked_at(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = fleet(n1=1)
        for number in range(100):
            told.submit(f"g{number}", noop(requires=[f"label:kind={number}"]))
        told.submit("a")
        found = looks(told, monkeypatch)
        assert pairs(place(told.world, T0)) == [("a", "n1")]
        assert set(found) == {"a"}

    def test_placing_changes_nothing(self) -> None:
        told = fleet(n1=2, n2=2)
        for job in "abc":
            told.submit(job)
        assert place(told.world, T0) == place(told.world, T0)
        assert (told.world.roomy, len(told.world.ready)) == ({"n1": 2, "n2": 2}, 3)
