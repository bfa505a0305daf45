"""Laws of rank: who goes before whom, under every policy and for every queue."""

import itertools
from collections import Counter
from datetime import timedelta

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from events.cluster import Policy, PolicyKind, QueueWeights
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    Completed,
)
from events.spec import Engine, JobSpec, Priority, Queue
from events.state.job import Terms, Waiting
from services.scheduler.placement import place
from services.scheduler.state.lineup import in_order
from services.scheduler.state.needs import Need
from services.scheduler.state.ranking import DUE_S, Rank
from services.scheduler.state.ready import ReadyQueue
from services.scheduler.state.world import World
from tests.vocabulary import T0
from tests.worlds import Told, noop

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RANKS = st.tuples(st.sampled_from(Queue), st.sampled_from(Priority))
ARRIVALS = st.lists(
    st.tuples(RANKS, st.floats(0, 3000) | st.floats(0, DUE_S), st.none() | st.floats(1, 2 * DUE_S)),
    min_size=1,
    max_size=20,
)
"""Jobs that come one after the other: their rank, how long after the one before, in seconds, and
how long after that they are due."""
POLICIES = st.builds(
    Policy,
    aging_s_per_weight=st.floats(1, 600),
    queues=st.builds(QueueWeights, live=st.floats(1, 50), batch=st.floats(0.1, 5)),
)


def told_of(
    arrivals: list[tuple[tuple[Queue, Priority], float, float | None]], policy: Policy
) -> Told:
    """Return a world in which these jobs wait, with no node."""
    told = Told(policy)
    at = T0
    for number, ((queue, priority), gap_s, due_s) in enumerate(arrivals):
        at += timedelta(seconds=gap_s)
        deadline = None if due_s is None else at + timedelta(seconds=due_s)
        spec = JobSpec(engine=Engine.NOOP, queue=queue, priority=priority, deadline=deadline)
        told.submit(f"j{number}", spec, at=at)
    return told


def waiting_terms(world: World, job: JobId) -> Terms:
    state = world.job(job)
    assert isinstance(state, Waiting)
    return state.terms


HEAVIEST = (Queue.LIVE, Priority.HIGH)


@QUICK
@given(ARRIVALS, POLICIES)
@example(
    [(HEAVIEST, 0, 1.9 * DUE_S), (HEAVIEST, 0.9 * DUE_S, None), (HEAVIEST, 0.2 * DUE_S, 9.0)],
    Policy(),
)
def test_a_job_is_overtaken_only_within_its_wait_bound(
    arrivals: list[tuple[tuple[Queue, Priority], float, float | None]], policy: Policy
) -> None:
    """Whoever goes before a job came before it, or less than its bound after it."""
    world = told_of(arrivals, policy).world
    weights = world.ranking.weights
    order = [waiting_terms(world, place.job) for place in in_order(world, world.ready.lines())]
    assert len(order) == len(arrivals)
    for at, terms in enumerate(order):
        own = weights[terms.queue, terms.priority]
        bound_s = (max(weights.values()) - own) * policy.aging_s_per_weight
        dated = any(
            other.spec.deadline is not None and weights[other.queue, other.priority] == own
            for other in order
        )
        bound_s += DUE_S if dated else 0.0
        for other in order[:at]:
            later_s = (other.submitted_at - terms.submitted_at).total_seconds()
            assert later_s < bound_s + 1e-3 or other.job_no < terms.job_no


@QUICK
@given(ARRIVALS, POLICIES)
def test_in_one_weight_the_earliest_deadline_goes_first(
    arrivals: list[tuple[tuple[Queue, Priority], float, float | None]], policy: Policy
) -> None:
    world = told_of(arrivals, policy).world
    for line in world.ready.lines():
        terms = [waiting_terms(world, place.job) for place in world.ready.ordered(line)]
        due = [
            each.spec.deadline
            for each in terms
            if each.spec.deadline is not None
            and each.spec.deadline <= each.submitted_at + timedelta(seconds=DUE_S)
        ]
        assert due == sorted(due)


@QUICK
@given(ARRIVALS)
def test_strict_is_strict(
    arrivals: list[tuple[tuple[Queue, Priority], float, float | None]],
) -> None:
    world = told_of(arrivals, Policy(kind=PolicyKind.STRICT)).world
    order = [waiting_terms(world, place.job) for place in in_order(world, world.ready.lines())]
    queues, priorities = list(Queue), list(Priority)
    ranks = [
        (queues.index(each.queue), priorities.index(each.priority), each.job_no) for each in order
    ]
    assert ranks == sorted(ranks)


TENANTS = st.dictionaries(st.sampled_from("abcd"), st.floats(0.5, 8), min_size=2)


@QUICK
@given(TENANTS, st.lists(st.integers(1, 7), min_size=1, max_size=12))
def test_over_any_time_backlogged_tenants_get_their_shares(
    shares: dict[str, float], ends: list[int]
) -> None:
    """Start-time fair queueing: n / s of two tenants differs by 1 / s1 + 1 / s2 at most."""
    told = Told(Policy(kind=PolicyKind.FAIR, shares=shares))
    told.register("n1", 7)
    for number in range(90):
        for tenant in shares:
            told.submit(f"{tenant}-{number}", noop(tenant=tenant))
    served: list[str] = []
    running: list[JobId] = []
    for count in ends:
        for choice in place(told.world, T0):
            told.job(choice.job, Assigned(node=choice.node, attempt=1))
            running.append(choice.job)
            served.append(choice.job[0])
        for _ in range(count):
            told.job(running.pop(0), Completed(node=NodeId("n1"), attempt=1))
    for begin, end in itertools.combinations(range(len(served) + 1), 2):
        got = Counter(served[begin:end])
        for one, other in itertools.combinations(shares, 2):
            apart = abs(got[one] / shares[one] - got[other] / shares[other])
            assert apart <= 1 / shares[one] + 1 / shares[other] + 1e-6


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "look"]),
        st.integers(0, 9),
        st.sampled_from([0.0, 1.0, 2.0]),
        st.sampled_from([Need(frozenset({"a"})), Need(frozenset({"b"}))]),
    ),
    max_size=60,
)


@QUICK
@given(CHANGES)
def test_a_ready_queue_is_a_sorted_list(changes: list[tuple[str, int, float, Need]]) -> None:
    ready = ReadyQueue()
    model: dict[JobId, tuple[Need, float, int]] = {}
    for what, number, key, need in changes:
        job = JobId(f"j{number}")
        match what:
            case "add":
                ready.add(job, number, need, Rank("", 1.0, key))
                model[job] = (need, key, number)
            case "remove":
                ready.remove(job)
                model.pop(job, None)
            case _:
                for line in ready.lines():
                    next(ready.ordered(line), None)
        expected: dict[Need, list[tuple[float, int, JobId]]] = {}
        for waiting, (needed, rank, job_no) in model.items():
            expected.setdefault(needed, []).append((rank, job_no, waiting))
        found = {
            needed: [place[:3] for line in lines for place in ready.ordered(line)]
            for needed, lines in ready.needs().items()
        }
        assert len(ready) == len(model)
        assert found == {needed: sorted(items) for needed, items in expected.items()}
