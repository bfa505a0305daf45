"""Orders about nodes, and the policy of the fleet, become facts and answers."""

from collections.abc import Sequence
from typing import cast

import pytest
from msgspec import json

from events import subjects
from events.cluster import Policy, PolicyChanged, PolicyKind, PriorityWeights
from events.codec import Recorded
from events.ids import NodeId
from events.job import Rejected
from events.node import (
    Available,
    CircuitClosed,
    CircuitOpened,
    Cordoned,
    Drained,
    Draining,
    Lost,
    NodeFact,
    Registered,
    Removed,
    Uncordoned,
)
from events.requests import Reply, SubmitJob, derive_job_id
from events.state.node import INITIAL, Node, NodeStatus
from events.subjects import Subject
from services.bus.port import Request
from services.clock import Pen
from services.errors import Conflict
from services.log.entity import load_node
from services.log.port import Entry, EventLog, Outcome
from services.scheduler.control import jobs, nodes
from services.scheduler.control.catalog import Catalog
from services.scheduler.control.transact import TRIES_MAX
from tests.fakes import LoopClock
from tests.unit.test_intake import Desk, raw
from tests.vocabulary import T0

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
SUBJECT = subjects.node(N1)
REGISTERED = Registered(epoch=1, slots=4)
OPENED = CircuitOpened(until=T0, failures=8, attempts=10)
BUSY = Available(epoch=1, slots=4, free=0)
STRICT = {"policy": {"kind": "strict"}, "by": "ann", "reason": "the elections"}


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


class NodeDesk(Desk):
    """A desk beside a node."""

    async def told(self, *facts: NodeFact) -> None:
        """Store facts of the node, as others would."""
        pen = Pen("test", LoopClock())
        await self.ledger.append([Entry(pen.write(SUBJECT, fact)) for fact in facts])

    async def last(self) -> Recorded:
        """Return what was stored last."""
        return (await self.events())[-1]


class Busy:
    """A ledger in which the node speaks between every read and every append."""

    def __init__(self, desk: NodeDesk, fact: NodeFact = BUSY) -> None:
        self._desk = desk
        self._fact = fact
        self.read_after: list[int] = []
        self.appends = 0
        self.log = cast("EventLog", self)
        """Itself: nothing but reads and appends is needed of a log here."""

    async def read(self, subject: Subject, *, after: int = 0) -> list[Recorded]:
        self.read_after.append(after)
        return await self._desk.ledger.read(subject, after=after)

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        self.appends += 1
        await self._desk.told(self._fact)
        return await self._desk.ledger.append(entries)


def catalog(ledger: EventLog, known: Node = INITIAL) -> Catalog:
    return Catalog(ledger, Pen("scheduler/1", LoopClock()), lambda _: known)


async def ask(ledger: EventLog, subject: Subject, body: object) -> Reply:
    return await catalog(ledger).at_once[subject](Request(subject, raw(body)))


class TestOrders:
    async def test_a_node_is_cordoned_once(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED)
        order = {"node_id": N1, "by": "ann", "reason": "driver"}
        replies = [await desk.ask(subjects.API_CORDON, order) for _ in range(2)]
        assert replies == [
            Reply(node_id=N1, status="online, cordoned", seq=2),
            Reply(node_id=N1, status="online, cordoned"),
        ]
        stored = await desk.last()
        assert (stored.subject, stored.source) == (SUBJECT, "scheduler/1")
        assert stored.fact == Cordoned(by="ann", reason="driver")

    async def test_an_uncordoned_node_has_its_circuit_closed_too(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED, Cordoned(), OPENED)
        reply = await desk.ask(subjects.API_UNCORDON, {"node_id": N1, "by": "ann"})
        assert reply == Reply(node_id=N1, status="online", seq=5)
        facts = [at.fact for at in await desk.events()]
        assert facts[3:] == [Uncordoned(by="ann"), CircuitClosed(by="ann")]

    async def test_a_node_is_told_to_drain(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED)
        order = {"node_id": N1, "by": "ann", "reason": "reboot"}
        reply = await desk.ask(subjects.API_DRAIN, order)
        assert reply == Reply(node_id=N1, status="online, draining", seq=2)
        assert (await desk.last()).fact == Draining(by="ann", reason="reboot")

    async def test_a_lost_node_is_removed(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED, Lost())
        reply = await desk.ask(subjects.API_REMOVE, {"node_id": N1, "by": "ann"})
        assert reply == Reply(node_id=N1, status="removed", seq=3)
        assert (await desk.last()).fact == Removed(by="ann")

    async def test_a_node_that_lives_is_not_removed(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED)
        reply = await desk.ask(subjects.API_REMOVE, {"node_id": N1})
        assert reply.error is not None
        assert (reply.node_id, reply.error.code) == (N1, "node_alive")
        assert reply.error.field == "$.node_id"
        assert reply.error.message.startswith("n1: the node is online; drain it first")
        assert len(await desk.events()) == 1

    @pytest.mark.parametrize("subject", nodes.AT_ONCE)
    async def test_an_unknown_node_is_refused_whatever_is_ordered(self, subject: Subject) -> None:
        desk = NodeDesk()
        reply = await desk.ask(subject, {"node_id": "nobody"})
        assert reply.error is not None
        assert (reply.error.code, reply.error.field) == ("node_unknown", "$.node_id")
        assert await desk.events() == []

    @pytest.mark.parametrize("subject", nodes.AT_ONCE)
    async def test_an_invalid_order_is_answered_by_field(self, subject: Subject) -> None:
        reply = await NodeDesk().ask(subject, {"node_id": "a b"})
        assert reply.error is not None
        assert (reply.error.code, reply.error.field) == ("invalid", "$.node_id")

    async def test_the_trace_of_an_order_is_its_facts_too(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED)
        order = Request(subjects.API_CORDON, raw({"node_id": N1}), traceparent="00-ab-cd-01")
        await desk.intake.endpoints()[subjects.API_CORDON](order)
        assert (await desk.last()).traceparent == "00-ab-cd-01"


STANDINGS: dict[str, tuple[NodeFact, ...]] = {
    "unknown": (),
    "online": (REGISTERED,),
    "online, draining": (REGISTERED, Cordoned(), Draining()),
    "lost, cordoned": (REGISTERED, Cordoned(), Lost()),
    "online, circuit open": (REGISTERED, OPENED),
    "online, cordoned, circuit open": (REGISTERED, OPENED, Cordoned()),
    "drained": (REGISTERED, Draining(), Drained(epoch=1)),
    "drained, cordoned": (REGISTERED, Cordoned(), Draining(), Drained(epoch=1)),
    "removed": (REGISTERED, Draining(), Lost(), Removed()),
}


@pytest.mark.parametrize("words", STANDINGS)
async def test_the_standing_of_a_node_is_told_in_words(words: str) -> None:
    desk = NodeDesk()
    await desk.told(*STANDINGS[words])
    assert nodes.standing(await load_node(desk.ledger, N1)) == words


class TestBusyNode:
    @pytest.mark.parametrize("subject", [subjects.API_CORDON, subjects.API_DRAIN])
    async def test_an_order_reaches_a_node_that_never_stops_speaking(
        self, subject: Subject
    ) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED)
        busy = Busy(desk)
        reply = await ask(busy.log, subject, {"node_id": N1})
        assert reply.error is None
        assert busy.appends == TRIES_MAX
        after = await load_node(desk.ledger, N1)
        assert (after.schedulable, after.version) == (False, reply.seq)

    async def test_a_removal_never_overrules_a_worker_that_begins(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED, Lost())
        busy = Busy(desk, Registered(epoch=2, slots=4))
        reply = await ask(busy.log, subjects.API_REMOVE, {"node_id": N1})
        assert reply.error is not None
        assert (reply.error.code, busy.appends) == ("node_alive", 1)
        assert (await load_node(desk.ledger, N1)).status is NodeStatus.ONLINE

    async def test_a_removal_gives_up_where_the_node_speaks_again_and_again(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED, Lost())
        busy = Busy(desk)
        with pytest.raises(Conflict):
            await ask(busy.log, subjects.API_REMOVE, {"node_id": N1})
        assert busy.appends == TRIES_MAX

    async def test_of_a_node_that_is_known_only_what_is_new_is_read(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED, BUSY, BUSY)
        known = await load_node(desk.ledger, N1)
        await desk.told(Cordoned())
        busy = Busy(desk)
        order = Request(subjects.API_CORDON, raw({"node_id": N1}))
        answer = catalog(busy.log, known).at_once[subjects.API_CORDON]
        assert (await answer(order)).seq == 0
        assert busy.read_after == [3, 3]


class TestDurableOrders:
    async def test_the_durable_ones_do_the_same_in_their_order(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED)
        body = raw({"node_id": N1, "by": "ann"})
        for subject in (
            subjects.COMMAND_CORDON,
            subjects.COMMAND_UNCORDON,
            subjects.COMMAND_DRAIN,
        ):
            await desk.inbox.put(subject, body)
        async with desk.working():
            pass
        facts = [at.fact for at in await desk.events()][1:]
        assert facts == [Cordoned(by="ann"), Uncordoned(by="ann"), Draining(by="ann")]

    async def test_a_refused_one_is_a_rejected_fact_of_its_own(self) -> None:
        desk = NodeDesk()
        await desk.told(REGISTERED)
        body = raw({"node_id": N1})
        await desk.inbox.put(subjects.COMMAND_REMOVE, body)
        async with desk.working():
            pass
        stored = await desk.last()
        own = derive_job_id(SubmitJob(), command_seq=1)
        assert own is not None
        assert stored.subject == subjects.job(own)
        message = "n1: the node is online; drain it first, as by `ffrtmp nodes drain --wait`"
        assert stored.fact == Rejected(reason=message, field="$.node_id", request=body.decode())

    def test_every_request_comes_at_once_and_durably(self) -> None:
        entries = catalog(NodeDesk().ledger)
        durably = [subject.replace(".api.", ".cmd.") for subject in entries.at_once]
        assert durably == list(entries.durably)
        assert len(durably) == len(jobs.AT_ONCE) + len(nodes.AT_ONCE) + 1


class TestPolicy:
    async def test_a_policy_is_set_once(self) -> None:
        desk = NodeDesk()
        replies = [await desk.ask(subjects.API_POLICY, STRICT) for _ in range(2)]
        assert replies == [Reply(status="strict", seq=1), Reply(status="strict")]
        stored = await desk.last()
        assert stored.subject == subjects.POLICY
        policy = Policy(kind=PolicyKind.STRICT)
        assert stored.fact == PolicyChanged(policy=policy, by="ann", reason="the elections")

    async def test_what_is_left_out_is_as_in_a_fresh_fleet(self) -> None:
        desk = NodeDesk()
        weights = {"policy": {"priorities": {"high": 9}}}
        for body in (STRICT, weights):
            await desk.ask(subjects.API_POLICY, body)
        fact = (await desk.last()).fact
        assert fact == PolicyChanged(policy=Policy(priorities=PriorityWeights(high=9.0)))

    async def test_the_policy_of_a_fresh_fleet_can_be_set_too(self) -> None:
        desk = NodeDesk()
        reply = await desk.ask(subjects.API_POLICY, {"policy": {}})
        assert reply == Reply(status="weighted", seq=1)

    @pytest.mark.parametrize(
        ("policy", "field"),
        [
            ({"kind": "loudest"}, "$.policy.kind"),
            ({"queues": {"live": 0}}, "$.policy.queues.live"),
            ({"priorities": {"urgent": 5}}, "$.policy.priorities.urgent"),
            ({"aging_s_per_weight": -1}, "$.policy.aging_s_per_weight"),
            ({"shares": {"a b": 1}}, "$.policy.shares.a b"),
        ],
    )
    async def test_an_invalid_one_is_answered_by_field_and_not_stored(
        self, policy: object, field: str
    ) -> None:
        desk = NodeDesk()
        reply = await desk.ask(subjects.API_POLICY, {"policy": policy})
        assert reply.error is not None
        assert (reply.error.code, reply.error.field) == ("invalid", field)
        assert await desk.events() == []

    async def test_one_may_be_set_durably(self) -> None:
        desk = NodeDesk()
        await desk.inbox.put(subjects.COMMAND_POLICY, json.encode(STRICT))
        async with desk.working():
            pass
        assert (await desk.last()).type == "cluster.policy_changed.v1"
