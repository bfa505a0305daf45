"""Laws of scheduling: true for every history, every queue and every fleet."""

# pyright: reportPrivateUsage=false
# Claims have no other witness.

import functools
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Completed,
    Declined,
    FailureClass,
    JobFact,
    LossCause,
    Paused,
    Placement,
    Resumed,
    Retried,
    Started,
)
from events.node import Cordoned, Lost
from events.spec import JobSpec, OnDependencyFailure, Priority, Queue
from events.state.job import INITIAL, Ended, Held, JobState, Terms, evolve
from services.scheduler.deciders.job import (
    Assign,
    Cancel,
    GiveUp,
    JobCommand,
    Orphan,
    Pause,
    Refused,
    Reject,
    Release,
    Reprioritize,
    Resume,
    Retry,
    RetryPolicy,
    Settle,
    Submit,
    decide,
)
from services.scheduler.placement import place
from services.scheduler.state.ready import ReadyQueue
from services.scheduler.state.weights import order_key, weight
from tests.vocabulary import T0, instant, recorded
from tests.worlds import Told, noop

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
JOB, OTHER = JobId("clip"), JobId("other")
POLICY = RetryPolicy(crashes_max=3)
AGING_S = 60.0

SPECS = st.builds(
    JobSpec,
    attempts_max=st.integers(1, 3),
    not_before=st.none() | st.integers(0, 40).map(instant),
    depends_on=st.sampled_from([(), (OTHER,)]),
    on_dependency_failure=st.sampled_from(OnDependencyFailure),
)
COMMANDS: st.SearchStrategy[JobCommand] = st.one_of(
    st.builds(Submit, spec=SPECS, via=st.just("api")),
    st.builds(Reject, reason=st.just("no node has it")),
    st.builds(Cancel, by=st.sampled_from(["ann", "bob"])),
    st.builds(Pause, by=st.sampled_from(["ann", "bob"])),
    st.builds(Resume, by=st.sampled_from(["ann", "bob"])),
    st.builds(Retry, by=st.sampled_from(["ann", "bob"])),
    st.builds(Reprioritize, queue=st.none() | st.sampled_from(Queue)),
    st.builds(
        Assign, node=st.sampled_from([NodeId("n1"), NodeId("n2")]), placement=st.just(Placement())
    ),
    st.builds(GiveUp, attempt=st.integers(1, 4), cause=st.sampled_from(LossCause)),
    st.builds(
        Settle, job=st.just(JOB), now=st.integers(0, 60).map(instant), policy=st.just(POLICY)
    ),
    st.builds(Release, now=st.integers(0, 600).map(instant), dependencies_met=st.booleans()),
    st.builds(Orphan, dependency=st.just(OTHER), status=st.just("failed")),
)
WORKER_WORDS = st.sampled_from(["started", "declined", "failed", "lost", "completed", "turned"])
STEPS = st.lists(COMMANDS | WORKER_WORDS, max_size=30)
SUBMITTED_FIRST = st.tuples(st.builds(Submit, spec=SPECS, via=st.just("api")), STEPS).map(
    lambda steps: [steps[0], *steps[1]]
)


def said(word: str, state: Held) -> JobFact:
    """Return what the worker that holds the job says."""
    node, attempt = state.node, state.attempt
    match word:
        case "started":
            return Started(node=node, attempt=attempt)
        case "declined":
            return Declined(node=node, attempt=attempt)
        case "failed":
            return AttemptFailed(node=node, attempt=attempt, failure=FailureClass.TRANSIENT)
        case "turned":
            return Resumed(attempt=attempt) if state.paused else Paused(attempt=attempt)
        case "lost":
            return AttemptLost(node=node, attempt=attempt, cause=LossCause.DRAINED)
        case _:
            return Completed(node=node, attempt=attempt)


def facts_of(step: JobCommand | str, state: JobState) -> tuple[JobFact, ...]:
    """Return what a step writes: a decided command's facts, or the word of the holder."""
    if isinstance(step, str):
        sayable = isinstance(state, Held) and (
            step not in {"started", "declined"} or not (state.started_at)
        )
        return (said(step, state),) if isinstance(state, Held) and sayable else ()
    try:
        return decide(step, state)
    except Refused:
        return ()


def lived(steps: Sequence[JobCommand | str]) -> list[tuple[JobState, Recorded, JobState]]:
    """Carry out steps, each on the state it meets; return every fact between its states."""
    state, story = INITIAL, list[tuple[JobState, Recorded, JobState]]()
    for step in steps:
        for fact in facts_of(step, state):
            event = recorded(len(story) + 1, fact)
            before, state = state, evolve(state, event)
            story.append((before, event, state))
    return story


@QUICK
@given(SUBMITTED_FIRST)
def test_no_decided_fact_is_ignored_by_the_fold(steps: list[JobCommand | str]) -> None:
    for before, event, after in lived(steps):
        assert after.version == event.seq
        assert replace(before, version=event.seq) != after, event.fact


@QUICK
@given(SUBMITTED_FIRST, COMMANDS)
def test_an_accepted_command_repeated_decides_nothing(
    steps: list[JobCommand | str], command: JobCommand
) -> None:
    story = lived(steps)
    state = story[-1][2] if story else INITIAL
    for fact in facts_of(command, state):
        state = evolve(state, recorded(len(story) + 1, fact))
    assert facts_of(command, state) == ()


@QUICK
@given(SUBMITTED_FIRST)
def test_attempts_are_counted_without_gaps(steps: list[JobCommand | str]) -> None:
    facts = [event.fact for _, event, _ in lived(steps)]
    attempts = [fact.attempt for fact in facts if isinstance(fact, Assigned)]
    assert attempts == list(range(1, len(attempts) + 1))


@QUICK
@given(SUBMITTED_FIRST)
def test_only_a_retry_leads_out_of_an_end(steps: list[JobCommand | str]) -> None:
    for before, event, after in lived(steps):
        if isinstance(before, Ended):
            assert (type(event.fact), isinstance(after, Ended)) == (Retried, False)


RANKS = st.tuples(st.sampled_from(Queue), st.sampled_from(Priority))


@QUICK
@given(RANKS, RANKS, st.floats(0, 4000), st.floats(1, 600))
def test_a_job_is_overtaken_only_within_its_wait_bound(
    rank: tuple[Queue, Priority], other: tuple[Queue, Priority], later_s: float, aging_s: float
) -> None:
    def key(rank: tuple[Queue, Priority], submitted_s: float) -> float:
        terms = Terms(1, T0 + timedelta(seconds=submitted_s), JobSpec(), *rank)
        return order_key(terms, aging_s)

    bound_s = (30 - weight(*rank)) * aging_s
    if key(other, later_s) < key(rank, 0.0):
        assert later_s < bound_s + 1e-3  # instants are kept in microseconds
    heaviest = (Queue.LIVE, Priority.HIGH)
    assert key(heaviest, bound_s + 1e-3) >= key(rank, 0.0)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "look"]),
        st.integers(0, 9),
        st.sampled_from([0.0, 1.0, 2.0]),
        st.sampled_from([frozenset({"a"}), frozenset({"b"})]),
    ),
    max_size=60,
)


@QUICK
@given(CHANGES)
def test_a_ready_queue_is_a_sorted_list(
    changes: list[tuple[str, int, float, frozenset[str]]],
) -> None:
    ready = ReadyQueue()
    model: dict[JobId, tuple[frozenset[str], float, int]] = {}
    for what, number, key, requirement in changes:
        job = JobId(f"j{number}")
        match what:
            case "add":
                ready.add(job, key, number, requirement)
                model[job] = (requirement, key, number)
            case "remove":
                ready.remove(job)
                model.pop(job, None)
            case _:
                walk = ready.ordered(requirement)
                next(walk, None)
                walk.close()
        expected: dict[frozenset[str], list[tuple[float, int, JobId]]] = {}
        for waiting, (needed, rank, job_no) in model.items():
            expected.setdefault(needed, []).append((rank, job_no, waiting))
        assert (len(ready), set(ready.requirements())) == (len(model), set(expected))
        for needed, items in expected.items():
            assert list(ready.ordered(needed)) == sorted(items)


LABELS = ["gpu", "label:zone=eu"]
NODES = st.lists(
    st.tuples(
        st.integers(1, 4), st.sets(st.sampled_from(LABELS)), st.sampled_from([0, 0, 0, 1, 2])
    ),
    max_size=5,
)
JOBS = st.lists(
    st.tuples(
        st.sampled_from(Queue),
        st.sets(st.sampled_from(LABELS)),
        st.sampled_from(["waits", "waits", "held", "started", "claimed"]),
        st.integers(0, 4),
    ),
    max_size=20,
)


def some_world(
    nodes: list[tuple[int, set[str], int]], jobs: list[tuple[Queue, set[str], str, int]]
) -> Told:
    """Return a world of these nodes and jobs; one that is held is, if its node has room."""
    told = Told(aging_s_per_weight=AGING_S)
    for number, (slots, labels, trouble) in enumerate(nodes):
        told.register(f"n{number}", slots, *sorted(labels))
        if trouble:
            told.node(f"n{number}", Cordoned() if trouble == 1 else Lost())
    for number, (queue, labels, what, where) in enumerate(jobs):
        job, node = JobId(f"j{number}"), NodeId(f"n{where}")
        told.submit(job, noop(queue=queue, requires=sorted(labels)))
        if what == "waits" or not told.world.roomy.get(node):
            continue
        if what == "claimed":
            told.world.claim(job, node)
            continue
        told.job(job, Assigned(node=node, attempt=1))
        if what == "started":
            told.job(job, Started(node=node, attempt=1))
    return told


@QUICK
@given(NODES, JOBS)
def test_a_pass_fills_slots_and_never_oversells_them(
    nodes: list[tuple[int, set[str], int]], jobs: list[tuple[Queue, set[str], str, int]]
) -> None:
    world = some_world(nodes, jobs).world
    taken = Counter(held.node for _, held in world.holders())
    taken.update(node for node in world._claims.values() if node is not None)
    choices = place(world, instant(100))
    given_out = Counter(choice.node for choice in choices)
    for node in given_out:
        assert world.node(node).schedulable
        assert taken[node] + given_out[node] <= world.node(node).slots
    assert len({choice.job for choice in choices}) == len(choices)
    rest = {node: room - given_out[node] for node, room in world.roomy.items()}
    placed = {choice.job for choice in choices}
    for requirement in world.ready.requirements():
        could = any(
            room and requirement <= world.node(node).capabilities for node, room in rest.items()
        )
        waiting = [job for _, _, job in world.ready.ordered(requirement) if job not in placed]
        assert not (could and waiting), "a free slot and a job for it"


@QUICK
@given(NODES, JOBS)
def test_no_job_is_placed_before_an_earlier_one_of_its_kind(
    nodes: list[tuple[int, set[str], int]], jobs: list[tuple[Queue, set[str], str, int]]
) -> None:
    world = some_world(nodes, jobs).world
    chosen = [choice.job for choice in place(world, instant(100))]
    for requirement in world.ready.requirements():
        line = [job for _, _, job in world.ready.ordered(requirement)]
        ours = [job for job in chosen if job in set(line)]
        assert ours == line[: len(ours)]
    again = functools.partial(place, world, instant(100))
    assert again() == again()
