"""What a node has, what is left of it, and why it cannot take a job."""

from typing import TypeAlias

import pytest
from msgspec.structs import replace

from events.ids import NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Completed,
    FailureClass,
    LossCause,
    Queued,
    QueuedAfter,
    RetryScheduled,
)
from events.media import EncodeStats
from events.node import (
    Available,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    Cordoned,
    Draining,
    Gpu,
    Hardware,
    Lost,
    NodeFact,
    Registered,
    Removed,
)
from events.spec import JobSpec
from events.state.node import INITIAL, Node, NodeStatus
from services.scheduler.placement import place
from services.scheduler.state import capacity
from services.scheduler.state.capacity import UNCOUNTED, Resources
from services.scheduler.state.needs import Need, need_of
from tests.vocabulary import T0, instant
from tests.worlds import Told, noop, pairs

GIB = 2**30
N1, N2 = NodeId("n1"), NodeId("n2")
HARDWARE = Hardware(hostname="a", cpu_threads=8, memory_bytes=16 * GIB)
CARDS = tuple(Gpu(index=index, name="card") for index in range(2))
Offers: TypeAlias = tuple[str, ...]
OFFERS = ("engine:noop", "engine:ffmpeg", "encoder:h264_nvenc")
NVENC = {"parameters": {"video": {"encoder": "h264_nvenc"}}, "engine": "ffmpeg"}


def told(*, slots: int = 4, cards: tuple[int, int] = (0, 0), offers: Offers = ()) -> Told:
    """Return a world with one node, n1, as `register` makes it."""
    made = Told()
    register(made, "n1", slots=slots, cards=cards, offers=offers)
    return made


def register(
    made: Told,
    node: str,
    *,
    slots: int = 4,
    cards: tuple[int, int] = (0, 0),
    offers: Offers = (),
) -> None:
    """Tell of a node of 8 threads and 16 GiB; `cards` is GPUs, and encoder sessions of each."""
    made.node(
        node,
        Registered(
            epoch=1,
            slots=slots,
            capabilities=(*OFFERS, *offers),
            hardware=replace(HARDWARE, gpus=CARDS[: cards[0]]),
            encoder_sessions=cards[1],
        ),
    )


def given(made: Told) -> list[str]:
    return [choice.job for choice in place(made.world, T0)]


class TestCounted:
    @pytest.mark.parametrize(
        ("spec", "fit"),
        [
            (noop(), 4),
            (noop(limits={"cpu_threads": 3}), 2),
            (noop(limits={"cpu_threads": 9}), 0),
            (noop(limits={"memory_bytes": 5 * GIB}), 3),
            (noop(limits={"memory_bytes": 16 * GIB}), 1),
            (noop(requires=["gpu"]), 2),
            (noop(**NVENC), 3),
        ],
        ids=["slots", "threads", "too many threads", "memory", "all memory", "gpus", "sessions"],
    )
    def test_a_node_gets_as_many_as_it_has_room_for(self, spec: JobSpec, fit: int) -> None:
        with_gpus = told(cards=(2, 0), offers=("gpu",))
        made = with_gpus if spec.requires else told(slots=4, cards=(1, 3))
        for number in range(5):
            made.submit(f"j{number}", spec)
        assert len(given(made)) == fit

    def test_what_is_too_large_for_now_lets_the_smaller_ones_by(self) -> None:
        made = told()
        for job, gib in (("big", 12), ("bigger", 13), ("small", 2)):
            made.submit(job, noop(limits={"memory_bytes": gib * GIB}))
        assert given(made) == ["big", "small"]

    @pytest.mark.parametrize(
        "end",
        [
            Completed(node=N1, attempt=1),
            AttemptFailed(node=N1, attempt=1, failure=FailureClass.PERMANENT),
            AttemptLost(node=N1, attempt=1, cause=LossCause.STALLED),
        ],
        ids=["completed", "failed", "lost"],
    )
    def test_the_fact_that_ends_an_attempt_gives_all_of_it_back(
        self, end: Completed | AttemptFailed | AttemptLost
    ) -> None:
        made = told()
        limits = {"cpu_threads": 8, "memory_bytes": 16 * GIB}
        made.submit("holder", noop(limits=limits))
        made.job("holder", Assigned(node=N1, attempt=1))
        made.submit("next", noop(limits=limits))
        assert given(made) == []
        made.job("holder", end)
        assert given(made) == ["next"]
        assert made.world.taken == {N1: Resources()}

    def test_a_claim_takes_what_the_assignment_will(self) -> None:
        made = told()
        made.submit("a", noop(limits={"cpu_threads": 5}))
        (choice,) = place(made.world, T0)
        made.world.claim(choice.job, choice.node)
        claimed = made.world.taken[N1]
        made.job("a", Assigned(node=N1, attempt=1))
        assert claimed == made.world.taken[N1] == Resources(slots=1, cpu_threads=5)

    def test_a_codec_that_a_node_makes_in_hardware_alone_takes_a_session_there(self) -> None:
        made = told(cards=(1, 1), offers=("codec:h264",))
        for job in "ab":
            made.submit(job, JobSpec())
        assert given(made) == ["a"]

    def test_and_none_where_it_has_a_software_encoder(self) -> None:
        made = told(cards=(1, 1), offers=("codec:h264", "encoder:libx264"))
        for job in "ab":
            made.submit(job, JobSpec())
        assert given(made) == ["a", "b"]

    def test_what_a_node_does_not_tell_is_not_counted(self) -> None:
        node = Node(epoch=1, slots=2, capabilities=frozenset({"gpu"}))
        assert capacity.size(node) == Resources(2, UNCOUNTED, UNCOUNTED, UNCOUNTED, UNCOUNTED)

    def test_a_node_on_probation_gets_one_attempt_in_all(self) -> None:
        made = told()
        made.node("n1", CircuitOpened(until=instant(9), failures=9, attempts=9))
        for job in "abc":
            made.submit(job)
        assert given(made) == []
        made.node("n1", CircuitHalfOpened())
        assert given(made) == ["a"]
        made.job("a", Assigned(node=N1, attempt=1))
        assert given(made) == []
        made.node("n1", CircuitClosed())
        assert given(made) == ["b", "c"]


class TestWhyNot:
    @pytest.mark.parametrize(
        ("facts", "reason"),
        [
            ((), None),
            ((Lost(),), "lost"),
            ((Removed(),), "offline"),
            ((Cordoned(),), "cordoned"),
            ((Draining(),), "draining"),
            ((CircuitOpened(until=T0, failures=1, attempts=1),), "circuit open"),
            (
                (Available(epoch=1, slots=4, free=4, refusing="disk: 1 GiB"),),
                "refusing: disk: 1 GiB",
            ),
            ((Available(epoch=1, slots=0, free=0),), "full"),
        ],
    )
    def test_a_node_that_is_away_says_how(
        self, facts: tuple[NodeFact, ...], reason: str | None
    ) -> None:
        made = told()
        made.node("n1", *facts)
        assert made.world.why_not(N1, need_of(noop())) == reason

    def test_a_node_nobody_has_seen_is_offline(self) -> None:
        assert capacity.why_not(INITIAL, need_of(noop())) == "offline"

    @pytest.mark.parametrize(
        ("spec", "reason"),
        [
            (noop(requires=["codec:av1"]), "lacks codec:av1"),
            (noop(requires=["label:b", "label:a"]), "lacks label:a, label:b"),
            (noop(limits={"memory_bytes": 17 * GIB}), "memory"),
            (noop(limits={"cpu_threads": 9}), "threads"),
        ],
    )
    def test_a_node_that_is_too_small_says_of_what(self, spec: JobSpec, reason: str) -> None:
        assert told().world.why_not(N1, need_of(spec)) == reason

    def test_a_node_whose_gpus_or_sessions_are_taken_says_so(self) -> None:
        made = told(cards=(1, 1), offers=("gpu",))
        made.submit("a", noop(requires=["gpu"]))
        made.submit("b", noop(**NVENC))
        assert sorted(given(made)) == ["a", "b"]
        for job in "ab":
            made.job(job, Assigned(node=N1, attempt=1))
        assert made.world.why_not(N1, need_of(noop(requires=["gpu"]))) == "gpu"
        assert made.world.why_not(N1, need_of(noop(**NVENC))) == "encoder sessions"

    def test_why_not_and_placing_agree_on_a_full_node(self) -> None:
        made = told(slots=1)
        made.submit("a")
        assert made.world.why_not(N1, need_of(noop())) is None
        made.world.claim(next(iter(made.world.jobs)), N1)
        assert made.world.why_not(N1, need_of(noop())) == "full"


class TestEver:
    def test_a_job_beyond_every_node_is_told_by_the_first_thing_that_is_too_little(self) -> None:
        node = told().world.node(N1)
        need = need_of(noop(limits={"memory_bytes": 64 * GIB}))
        assert not capacity.fits_ever(node, need)
        assert capacity.beyond([node], need) == (
            "asks for 64 GiB of memory; the largest node has 16 GiB of memory"
        )

    def test_no_one_node_has_all_though_each_thing_is_somewhere(self) -> None:
        small = Node(hardware=replace(HARDWARE, cpu_threads=2, memory_bytes=99 * GIB))
        need = Need(frozenset(), cpu_threads=8, memory_bytes=64 * GIB)
        large = Node(hardware=HARDWARE)
        assert capacity.beyond([small, large], need) == (
            "asks for more of several things at once than any one node has"
        )

    @pytest.mark.parametrize(
        ("status", "counts"),
        [(NodeStatus.LOST, True), (NodeStatus.REMOVED, False), (NodeStatus.REFUSED, False)],
    )
    def test_a_node_of_the_fleet_counts_dead_or_alive(
        self, status: NodeStatus, *, counts: bool
    ) -> None:
        assert capacity.registered(Node(epoch=1, status=status)) is counts
        assert not capacity.live(Node(epoch=1, status=status))


class TestAvoid:
    RESOURCE = AttemptFailed(node=N1, attempt=1, failure=FailureClass.RESOURCE)
    AGAIN = (
        RetryScheduled(not_before=instant(9), delay_s=1.0, failures=1),
        Queued(after=QueuedAfter.BACKOFF),
    )

    def failed(self) -> Told:
        made = told(slots=9)
        made.submit("a")
        made.job("a", Assigned(node=N1, attempt=1), self.RESOURCE, *self.AGAIN)
        return made

    def test_a_job_goes_elsewhere_after_a_node_lacked_something(self) -> None:
        made = self.failed()
        made.register("n2", 1)
        assert pairs(place(made.world, T0)) == [("a", "n2")]
        assert made.world.why_not(N1, made.world.need(made.world.ready.lines()[0].heap[0].job)) == (
            "avoided"
        )

    def test_it_waits_for_another_that_is_full(self) -> None:
        made = self.failed()
        made.register("n2", 1)
        made.submit("holder")
        made.job("holder", Assigned(node=N2, attempt=1))
        assert given(made) == []
        made.job("holder", Completed(node=N2, attempt=1))
        assert pairs(place(made.world, T0)) == [("a", "n2")]

    @pytest.mark.parametrize("away", [Lost(), Cordoned(), Draining()], ids=lambda fact: fact.tag)
    def test_it_goes_there_again_when_no_other_node_that_lives_can_run_it(
        self, away: NodeFact
    ) -> None:
        made = self.failed()
        made.register("n2", 1)
        made.node("n2", away)
        assert pairs(place(made.world, T0)) == [("a", "n1")]

    def test_others_go_where_it_does_not(self) -> None:
        made = self.failed()
        made.submit("b")
        made.register("n2", 1)
        assert sorted(pairs(place(made.world, T0))) == [("a", "n2"), ("b", "n1")]


class TestScore:
    def learned(self, node: NodeId, speed: float, made: Told, number: int) -> None:
        job = f"{node}-{number}"
        made.submit(job)
        stats = EncodeStats(speed=speed)
        made.job(job, Assigned(node=node, attempt=1))
        made.job(job, Completed(node=node, attempt=1, stats=stats))

    def test_the_faster_node_at_this_kind_of_work_is_preferred(self) -> None:
        made = told(slots=4)
        register(made, "n2")
        self.learned(N1, 1.0, made, 1)
        self.learned(N2, 4.0, made, 1)
        made.submit("a")
        (choice,) = place(made.world, T0)
        found = choice.placement
        assert (choice.node, found.score, found.speed, found.runner_up) == ("n2", 2.0, 4.0, "n1")

    def test_until_its_free_share_weighs_more(self) -> None:
        made = told(slots=4)
        register(made, "n2")
        self.learned(N1, 3.0, made, 1)
        self.learned(N2, 4.0, made, 1)
        for job in "abc":
            made.submit(job)
        assert pairs(place(made.world, T0)) == [("a", "n2"), ("b", "n1"), ("c", "n2")]

    def test_a_node_whose_speed_is_not_known_is_tried(self) -> None:
        made = told(slots=4)
        self.learned(N1, 9.0, made, 1)
        register(made, "n2", slots=5)
        made.submit("a")
        assert pairs(place(made.world, T0)) == [("a", "n2")]

    def test_gpu_nodes_are_kept_free_for_work_that_needs_one(self) -> None:
        made = told(slots=8, cards=(1, 0), offers=("gpu",))
        made.register("n2", 2)
        for job in "ab":
            made.submit(job)
        made.submit("g", noop(requires=["gpu"]))
        assert pairs(place(made.world, T0)) == [("a", "n2"), ("b", "n2"), ("g", "n1")]

    def test_and_used_when_nothing_else_is_free(self) -> None:
        made = told(slots=8, cards=(1, 0), offers=("gpu",))
        made.submit("a")
        assert pairs(place(made.world, T0)) == [("a", "n1")]
