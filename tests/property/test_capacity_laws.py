"""Laws of placement: true for every queue and every fleet."""

# pyright: reportPrivateUsage=false
# Claims have no other witness.

import functools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.cluster import Policy, PolicyChanged, PolicyKind
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
    Queued,
    QueuedAfter,
    Started,
)
from events.media import Parameters, Video
from events.node import Cordoned, Gpu, Hardware, Lost, Registered
from events.spec import Engine, JobSpec, Queue, ResourceLimits
from events.state.job import Held, Waiting
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
from services.scheduler.state.world import World
from tests.vocabulary import instant
from tests.worlds import Told

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
