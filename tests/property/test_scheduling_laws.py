"""Laws of scheduling: true for every history, every queue and every fleet."""

# pyright: reportPrivateUsage=false
# Claims have no other witness.

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.cluster import Policy, PolicyChanged, PolicyKind, QueueWeights
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
    Queued,
    QueuedAfter,
    Resumed,
    Retried,
    Started,
)
from events.media import Parameters, Video
from events.node import Cordoned, Gpu, Hardware, Lost, Registered
from events.spec import Engine, JobSpec, OnDependencyFailure, Priority, Queue, ResourceLimits
from events.state.job import INITIAL, Ended, Held, JobState, Terms, Waiting, evolve
from services.scheduler.deciders.job import (
    Assign,
    Cancel,
    GiveUp,
    JobCommand,
    Orphan,
    Pause,
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
from services.scheduler.deciders.refusal import Refused
from services.scheduler.placement import place
from services.scheduler.state.capacity import (
    NOTHING,
    Resources,
    cost,
    covers,
    hardware_only,
    plus,
    size,
)
from services.scheduler.state.lineup import in_order
from services.scheduler.state.needs import Need
from services.scheduler.state.ranking import DUE_S, Rank
from services.scheduler.state.ready import ReadyQueue
from services.scheduler.state.world import World
from tests.vocabulary import T0, instant, recorded
from tests.worlds import Told, noop

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
JOB, OTHER = JobId("clip"), JobId("other")
POLICY = RetryPolicy(crashes_max=3)

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
ARRIVALS = st.lists(
    st.tuples(RANKS, st.floats(0, 3000), st.none() | st.floats(1, 2 * DUE_S)),
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


@QUICK
@given(ARRIVALS, POLICIES)
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
                    walk = ready.ordered(line)
                    next(walk, None)
                    walk.close()
        expected: dict[Need, list[tuple[float, int, JobId]]] = {}
        for waiting, (needed, rank, job_no) in model.items():
            expected.setdefault(needed, []).append((rank, job_no, waiting))
        found = {
            needed: [place[:3] for line in lines for place in ready.ordered(line)]
            for needed, lines in ready.needs().items()
        }
        assert len(ready) == len(model)
        assert found == {needed: sorted(items) for needed, items in expected.items()}


LABELS = ["gpu", "label:zone=eu"]
GIB = 2**30
SIZES = st.builds(
    Hardware,
    hostname=st.just("a"),
    cpu_threads=st.integers(1, 8),
    memory_bytes=st.integers(0, 4).map(lambda gib: gib * GIB),
    gpus=st.integers(0, 2).map(
        lambda count: tuple(Gpu(index=index, name="card") for index in range(count))
    ),
)
REGISTERED = st.builds(
    Registered,
    epoch=st.just(1),
    slots=st.integers(1, 4),
    capabilities=st.sets(
        st.sampled_from([*LABELS, "codec:h264", "encoder:h264_nvenc", "encoder:libx264"])
    ).map(lambda some: ("engine:noop", "engine:ffmpeg", *sorted(some))),
    hardware=SIZES,
    encoder_sessions=st.integers(0, 3),
)
NODES = st.lists(st.tuples(REGISTERED, st.sampled_from([0, 0, 0, 1, 2])), max_size=5)
LIMITS = st.builds(
    ResourceLimits,
    cpu_threads=st.none() | st.integers(1, 5),
    memory_bytes=st.none() | st.integers(1, 3).map(lambda gib: gib * GIB),
)
ASKED = st.one_of(
    st.builds(
        JobSpec,
        engine=st.just(Engine.NOOP),
        queue=st.sampled_from(Queue),
        requires=st.sets(st.sampled_from(LABELS)).map(lambda some: tuple(sorted(some))),
        limits=LIMITS,
    ),
    st.builds(
        JobSpec,
        parameters=st.sampled_from(
            [None, Parameters(video=Video(encoder="h264_nvenc"))],
        ),
        limits=st.none() | LIMITS,
    ),
)
JOBS = st.lists(
    st.tuples(
        ASKED,
        st.sampled_from(["waits", "waits", "held", "started", "claimed", "avoids"]),
        st.integers(0, 4),
    ),
    max_size=20,
)
SOME = tuple[list[tuple[Registered, int]], list[tuple[JobSpec, str, int]]]


def some_world(some: SOME) -> Told:
    """Return a world of these nodes and jobs; one that is held is, if its node can take it."""
    nodes, jobs = some
    told = Told()
    for number, (registered, trouble) in enumerate(nodes):
        told.node(f"n{number}", registered)
        if trouble:
            told.node(f"n{number}", Cordoned() if trouble == 1 else Lost())
    for number, (spec, what, where) in enumerate(jobs):
        job, node = JobId(f"j{number}"), NodeId(f"n{where}")
        told.submit(job, spec)
        if what == "waits" or told.world.why_not(node, told.world.need(job)) is not None:
            continue
        if what == "claimed":
            told.world.claim(job, node)
            continue
        told.job(job, Assigned(node=node, attempt=1))
        if what == "started":
            told.job(job, Started(node=node, attempt=1))
        if what == "avoids":
            lacked = AttemptFailed(node=node, attempt=1, failure=FailureClass.RESOURCE)
            told.job(job, lacked, Queued(after=QueuedAfter.BACKOFF))
    return told


def oversold(world: World) -> list[str]:
    """Return the nodes of which more is taken than they have, counted from the jobs alone."""
    taken: dict[NodeId, Resources] = {}
    holders = [(job, held.node) for job, held in world.holders()]
    claims = [(job, claim[0]) for job, claim in world._claims.items() if claim is not None]
    for job, node_id in (*holders, *claims):
        alone = hardware_only(world.node(node_id).capabilities)
        taken[node_id] = plus(taken.get(node_id, NOTHING), cost(world.need(job), alone))
    assert taken == {node: each for node, each in world.taken.items() if any(each)}
    return [node for node, each in taken.items() if not covers(size(world.node(node)), each)]


@QUICK
@given(st.tuples(NODES, JOBS))
def test_a_pass_fills_nodes_and_never_oversells_them(some: SOME) -> None:
    """Of slots, threads, memory, GPUs and encoder sessions."""
    world = some_world(some).world
    choices = place(world, instant(100))
    assert len({choice.job for choice in choices}) == len(choices)
    for choice in choices:
        assert world.why_not(choice.node, world.need(choice.job)) in {None, "avoided"}
        world.claim(choice.job, choice.node)
        assert not oversold(world)
    for need in world.ready.needs():
        could = [node for node in world.nodes if world.why_not(node, need) is None]
        assert not could, f"room for {need}"


EVENTS = st.lists(
    st.tuples(st.sampled_from(["pass", "end", "fail", "lose", "decline", "race"]), st.integers()),
    max_size=25,
)


@QUICK
@given(st.tuples(NODES, JOBS), EVENTS)
def test_no_node_is_oversold_in_any_interleaving(
    some: SOME, happenings: list[tuple[str, int]]
) -> None:
    """Passes, ends, declines and lost races, one after the other."""
    told = some_world(some)
    world = told.world
    for what, number in happenings:
        holders = list(world.holders())
        if what == "pass":
            choices = place(world, instant(100))
            for choice in choices:
                world.claim(choice.job, choice.node)
            for choice in choices[number % 3 :]:
                attempt = world.job(choice.job)
                assert isinstance(attempt, Waiting)
                told.job(choice.job, Assigned(node=choice.node, attempt=attempt.attempt + 1))
        elif what == "race":
            for job in list(world._claims):
                world.unclaim(job)
        elif holders:
            job, held = holders[number % len(holders)]
            told.job(job, _ending(what, held))
        assert not oversold(world)
    world.unclaim_all()
    for job, held in list(world.holders()):
        told.job(job, Completed(node=held.node, attempt=held.attempt))
    assert not any(any(each) for each in world.taken.values())


def _ending(what: str, held: Held) -> JobFact:
    node, attempt = held.node, held.attempt
    match what:
        case "fail":
            return AttemptFailed(node=node, attempt=attempt, failure=FailureClass.RESOURCE)
        case "lose":
            return AttemptLost(node=node, attempt=attempt, cause=LossCause.NODE_LOST)
        case "decline" if held.started_at is None:
            return Declined(node=node, attempt=attempt)
        case _:
            return Completed(node=node, attempt=attempt)


@QUICK
@given(st.tuples(NODES, JOBS))
def test_no_job_is_placed_before_an_earlier_one_of_its_line(some: SOME) -> None:
    world = some_world(some).world
    chosen = [choice.job for choice in place(world, instant(100))]
    for line in world.ready.lines():
        in_line = [place.job for place in world.ready.ordered(line)]
        ours = [job for job in chosen if job in set(in_line)]
        assert ours == in_line[: len(ours)]
    again = functools.partial(place, world, instant(100))
    assert again() == again()


@QUICK
@given(st.tuples(NODES, JOBS), st.sampled_from(PolicyKind))
def test_a_new_leader_that_folds_the_ledger_has_the_same_order(
    some: SOME, kind: PolicyKind
) -> None:
    """Whether the policy was set before the jobs came or while they waited."""
    policy = Policy(kind=kind)
    changed, fresh = some_world(some), Told(policy)
    changed.world.unclaim_all()
    changed.fleet(PolicyChanged(policy=policy))
    for job, state in changed.world.jobs.items():
        if isinstance(state, Waiting) and not state.avoid:
            fresh.submit(job, state.terms.spec, at=state.terms.submitted_at)
    ours = in_order(changed.world, changed.world.ready.lines())
    theirs = in_order(fresh.world, fresh.world.ready.lines())
    assert [place.job for place in ours if place.job in fresh.world.ready] == [
        place.job for place in theirs
    ]
