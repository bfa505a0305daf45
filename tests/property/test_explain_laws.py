"""Laws of explanations: true for every history, every fleet and every instant of them."""

import tempfile
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import subjects
from events.cluster import Policy, PolicyKind
from events.codec import Fact
from events.ids import NodeId
from events.job import Assigned, JobFact, Started, Submitted
from events.node import Cordoned, Lost, Registered, Uncordoned
from events.requests import Explanation
from events.spec import Priority, Queue
from events.state.job import TERMINAL
from services.scheduler.explaining.nodes import VERDICTS_MAX
from services.scheduler.placement import place
from services.scheduler.state.lineup import in_order
from tests.explaining import Story, explained
from tests.sim.fleet import Plan, simulate
from tests.vocabulary import facts, instant, job_facts
from tests.worlds import noop

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LABELS = ["gpu", "label:zone=eu"]


def check(told: Explanation) -> None:
    """Check what holds for every answer."""
    assert told.error is None
    assert told.summary
    ended = told.status in TERMINAL
    assert told.next or ended, "what has not ended goes on"
    assert "nothing" not in told.next or ended
    assert (told.position is None) or told.status == "queued"
    assert len(told.verdicts) <= VERDICTS_MAX
    assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told


NODE_FACTS = st.sampled_from([Registered(epoch=1, slots=2), Lost(), Cordoned(), Uncordoned()])
JOB_FACTS = job_facts(get_args(JobFact))


@QUICK
@given(
    facts(Submitted),
    st.lists(st.tuples(JOB_FACTS, NODE_FACTS), max_size=12),
    st.integers(-100, 100_000),
)
def test_every_prefix_of_every_history_is_explained(
    submitted: Fact, history: list[tuple[Fact, Fact]], later_s: int
) -> None:
    story = Story()
    story.job("j", submitted)
    for fact, node in history:
        story.job("j", fact)
        story.node("n1", node)
        check(story.explain("j"))
        check(story.explain("j", at_s=later_s))


@pytest.mark.parametrize("seed", [3])
def test_every_instant_of_a_fleet_under_fault_is_explained(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ran = simulate(Plan(seed=seed), Path(folder))
    story = Story()
    met: set[str] = set()
    for event in ran.ledger:
        story.add(event)
        if not subjects.is_job(event.subject):
            continue
        for job in (subjects.job_of(event.subject), next(iter(ran.jobs))):
            told = explained(story.world, story.ledger, job, event.time)
            if told.error is None:
                check(told)
                met.add(told.status)
    assert {"pending", "queued", "assigned", "processing", "completed"} <= met


NODES = st.lists(
    st.tuples(
        st.integers(1, 3), st.sets(st.sampled_from(LABELS)), st.sampled_from([0, 0, 0, 1, 2])
    ),
    max_size=4,
)
RANKS = st.tuples(st.sampled_from(Queue), st.sampled_from(Priority), st.sampled_from("ab"))
JOBS = st.lists(
    st.tuples(
        RANKS,
        st.sets(st.sampled_from(LABELS)),
        st.none() | st.integers(0, 9000),
        st.none() | st.integers(0, 3),
    ),
    max_size=12,
)


def some_story(
    kind: PolicyKind,
    nodes: list[tuple[int, set[str], int]],
    jobs: list[tuple[tuple[Queue, Priority, str], set[str], int | None, int | None]],
) -> Story:
    """Return a story of these nodes and jobs; a job with a node runs there if there is room."""
    story = Story(Policy(kind=kind))
    for number, (slots, labels, trouble) in enumerate(nodes):
        story.register(f"n{number}", slots, *sorted(labels))
        if trouble:
            story.node(f"n{number}", Cordoned() if trouble == 1 else Lost())
    for number, (rank, labels, deadline, where) in enumerate(jobs):
        name, node = f"j{number}", NodeId(f"n{where}")
        queue, priority, tenant = rank
        due = {} if deadline is None else {"deadline": instant(deadline).isoformat()}
        requires = sorted(labels)
        story.submit(
            name, noop(queue=queue, priority=priority, tenant=tenant, requires=requires, **due)
        )
        if where is not None and story.world.roomy.get(node):
            story.job(name, Assigned(node=node, attempt=1), Started(node=node, attempt=1))
    return story


@QUICK
@given(st.sampled_from(PolicyKind), NODES, JOBS)
def test_places_are_the_order_in_which_jobs_are_given_out(
    kind: PolicyKind,
    nodes: list[tuple[int, set[str], int]],
    jobs: list[tuple[tuple[Queue, Priority, str], set[str], int | None, int | None]],
) -> None:
    story = some_story(kind, nodes, jobs)
    ready = story.world.ready
    for lines in ready.needs().values():
        order = [waiting.job for waiting in in_order(story.world, lines)]
        told = [story.explain(job) for job in order]
        assert [each.position for each in told] == list(range(1, len(order) + 1))
        for place_no, each in enumerate(told):
            assert [rival.job for rival in each.ahead] == order[: min(place_no, 5)]
    everybody = [waiting.job for waiting in in_order(story.world, ready.lines())]
    overall = [story.explain(job).overall for job in everybody]
    assert overall == list(range(1, len(everybody) + 1))


@QUICK
@given(st.sampled_from(PolicyKind), NODES, JOBS)
def test_a_job_is_assigned_only_to_a_node_that_was_said_to_be_able(
    kind: PolicyKind,
    nodes: list[tuple[int, set[str], int]],
    jobs: list[tuple[tuple[Queue, Priority, str], set[str], int | None, int | None]],
) -> None:
    story = some_story(kind, nodes, jobs)
    told = {
        job: story.explain(job)
        for line in story.world.ready.lines()
        for job in [each.job for each in story.world.ready.waiting(line)]
    }
    chosen = {choice.job: choice.node for choice in place(story.world, instant(1000))}
    for job, node in chosen.items():
        assert node in [each.node for each in told[job].verdicts if each.able]
    for job, each in told.items():
        if each.position == 1 and each.overall == 1 and any(v.able for v in each.verdicts):
            assert job in chosen
        assert sum(each.excluded.values()) + sum(v.able for v in each.verdicts) == each.nodes
