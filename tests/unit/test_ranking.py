"""How jobs rank, by each policy."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from events.cluster import Policy, PolicyChanged, PolicyKind, PriorityWeights, QueueWeights
from events.spec import JobSpec, Priority, Queue
from events.state.job import Terms
from services.config import SchedulerSettings
from services.scheduler.placement import place
from services.scheduler.state.ranking import DUE_S, Ranking, initial_policy
from tests.vocabulary import T0, instant
from tests.worlds import Told, noop

WEIGHTED, STRICT, FAIR = (Policy(kind=kind) for kind in PolicyKind)


def key(queue: Queue, priority: Priority, submitted_s: int = 0) -> float:
    spec = JobSpec(queue=queue, priority=priority)
    return Ranking(WEIGHTED).order(Terms(1, instant(submitted_s), spec, queue, priority))


def given(told: Told, slots: int = 100) -> list[str]:
    """Return the jobs in the order in which one node with these slots is given them."""
    told.register("n1", slots)
    return [choice.job for choice in place(told.world, T0)]


class TestWeight:
    @pytest.mark.parametrize(
        ("queue", "weights"),
        [(Queue.LIVE, (30, 20, 10)), (Queue.DEFAULT, (15, 10, 5)), (Queue.BATCH, (3, 2, 1))],
    )
    def test_it_is_queue_times_priority(self, queue: Queue, weights: tuple[int, ...]) -> None:
        ranking = Ranking(WEIGHTED)
        assert tuple(ranking.weight(queue, priority) for priority in Priority) == weights

    def test_a_policy_sets_its_own(self) -> None:
        policy = Policy(queues=QueueWeights(batch=7.0), priorities=PriorityWeights(low=2.0))
        assert Ranking(policy).weight(Queue.BATCH, Priority.LOW) == 14.0


class TestOrder:
    def test_it_is_the_instant_of_submission_less_the_head_start(self) -> None:
        assert key(Queue.LIVE, Priority.HIGH) == T0.timestamp() - 1800
        assert key(Queue.BATCH, Priority.LOW) == T0.timestamp() - 60

    def test_equal_weights_of_different_queues_rank_alike(self) -> None:
        assert key(Queue.LIVE, Priority.LOW) == key(Queue.DEFAULT, Priority.MEDIUM)

    @pytest.mark.parametrize(("head_s", "overtakes"), [(1739, True), (1741, False)])
    def test_the_lightest_job_is_overtaken_for_29_minutes(
        self, head_s: int, *, overtakes: bool
    ) -> None:
        lightest = key(Queue.BATCH, Priority.LOW)
        assert (key(Queue.LIVE, Priority.HIGH, head_s) < lightest) is overtakes

    def test_the_current_queue_counts_not_the_submitted_one(self) -> None:
        spec = JobSpec(queue=Queue.BATCH, priority=Priority.LOW)
        terms = Terms(1, T0, spec, Queue.LIVE, Priority.HIGH)
        assert Ranking(WEIGHTED).order(terms) == T0.timestamp() - 1800

    def test_the_settings_give_the_policy_of_a_fresh_fleet(self) -> None:
        settings = SchedulerSettings(policy=PolicyKind.FAIR, aging_s_per_weight=7.0)
        assert initial_policy(settings) == Policy(kind=PolicyKind.FAIR, aging_s_per_weight=7.0)


class TestDeadlines:
    def test_in_one_weight_the_earliest_deadline_goes_first(self) -> None:
        told = Told()
        for hours in (5, 1, 3):
            told.submit(f"{hours}h", noop(deadline=T0 + timedelta(hours=hours)))
        assert given(told) == ["1h", "3h", "5h"]

    def test_a_job_without_a_deadline_is_due_a_day_after_its_submission(self) -> None:
        told = Told()
        told.submit("none", at=T0)
        told.submit("tomorrow", noop(deadline=T0 + timedelta(hours=25)), at=instant(1))
        told.submit("today", noop(deadline=T0 + timedelta(hours=23)), at=instant(2))
        assert given(told) == ["today", "none", "tomorrow"]

    def test_a_deadline_lifts_no_job_over_a_heavier_one(self) -> None:
        told = Told()
        told.submit("urgent", noop(priority="low", deadline=instant(60)), at=T0)
        told.submit("heavy", noop(), at=instant(1))
        assert given(told) == ["heavy", "urgent"]

    def test_a_deadline_that_has_passed_goes_first(self) -> None:
        told = Told()
        told.submit("soon", noop(deadline=instant(60)), at=instant(10))
        told.submit("missed", noop(deadline=instant(5)), at=instant(20))
        assert given(told) == ["missed", "soon"]

    def test_a_deadline_long_gone_counts_as_the_instant_of_submission(self) -> None:
        terms = Terms(1, T0, JobSpec(deadline=T0 - timedelta(days=9)), Queue.LIVE, Priority.LOW)
        assert Ranking(WEIGHTED).rank(terms).key == T0.timestamp()
        far = replace(terms, spec=JobSpec(deadline=T0 + timedelta(days=9)))
        assert Ranking(WEIGHTED).rank(far).key == T0.timestamp() + DUE_S

    def test_strict_knows_no_deadlines(self) -> None:
        told = Told(STRICT)
        told.submit("first")
        told.submit("urgent", noop(deadline=instant(60)))
        assert given(told) == ["first", "urgent"]


class TestStrict:
    def test_it_goes_by_queue_then_priority_then_submission_whatever_the_age(self) -> None:
        told = Told(STRICT)
        for number in range(2):
            for queue in reversed(Queue):
                for priority in reversed(Priority):
                    day = T0 + timedelta(days=number)
                    spec = noop(queue=queue, priority=priority)
                    told.submit(f"{queue}-{priority}-{number}", spec, at=day)
        assert given(told) == [
            f"{queue}-{priority}-{number}"
            for queue in Queue
            for priority in Priority
            for number in range(2)
        ]


class TestFair:
    def test_tenants_take_turns(self) -> None:
        told = Told(FAIR)
        for number in range(3):
            told.submit(f"a{number}", noop(tenant="a"))
        for number in range(3):
            told.submit(f"b{number}", noop(tenant="b"))
        assert given(told) == ["a0", "b0", "a1", "b1", "a2", "b2"]

    def test_shares_are_of_turns(self) -> None:
        told = Told(replace(FAIR, shares={"a": 2.0}))
        for number in range(4):
            told.submit(f"a{number}", noop(tenant="a"))
            told.submit(f"b{number}", noop(tenant="b"))
        assert given(told, 6) == ["a0", "b0", "a1", "b1", "a2", "a3"]

    def test_inside_a_tenant_weight_counts(self) -> None:
        told = Told(FAIR)
        told.submit("light", noop(tenant="a", priority="low"))
        told.submit("heavy", noop(tenant="a", priority="high"))
        told.submit("other", noop(tenant="b", priority="low"))
        assert given(told) == ["heavy", "other", "light"]


class TestChange:
    def told(self) -> Told:
        told = Told()
        told.submit("old", noop(queue="batch"), at=T0)
        told.submit("young", noop(queue="live"), at=T0 + timedelta(days=1))
        return told

    def test_a_change_of_policy_ranks_the_waiting_jobs_anew(self) -> None:
        told = self.told()
        told.fleet(PolicyChanged(policy=STRICT))
        assert told.world.ranking.policy == STRICT
        assert given(told) == ["young", "old"]

    def test_and_back(self) -> None:
        told = self.told()
        told.fleet(PolicyChanged(policy=STRICT), PolicyChanged(policy=WEIGHTED))
        assert given(told) == ["old", "young"]

    def test_a_claimed_job_is_ranked_when_it_is_given_back(self) -> None:
        told = self.told()
        claimed = next(iter(told.world.jobs))
        told.world.claim(claimed)
        told.fleet(PolicyChanged(policy=STRICT))
        assert claimed not in told.world.ready
        told.world.unclaim(claimed)
        assert given(told) == ["young", "old"]
