"""The state of one node, given its facts."""

import functools
from typing import get_args

import pytest
from msgspec.structs import replace

from events import subjects
from events.codec import Fact, Unknown
from events.ids import JobId, NodeId
from events.job import Queued, QueuedAfter
from events.node import (
    Action,
    Assignments,
    Available,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    Cordoned,
    Drained,
    Draining,
    Hardware,
    Lost,
    NodeFact,
    Recovered,
    Refused,
    Registered,
    Removed,
    Signal,
    Suspected,
    Uncordoned,
)
from events.state.node import INITIAL, Circuit, Node, NodeStatus, evolve
from tests.vocabulary import instant, recorded

SUBJECT = subjects.node(NodeId("n1"))
HARDWARE = Hardware(hostname="box", cpu_threads=8)
REGISTERED = Registered(
    epoch=1, slots=4, capabilities=("engine:ffmpeg", "gpu"), hardware=HARDWARE, address="127.0.0.1"
)
ONLINE = Node(
    version=1,
    epoch=1,
    status=NodeStatus.ONLINE,
    slots=4,
    free=4,
    capabilities=frozenset({"engine:ffmpeg", "gpu"}),
    hardware=HARDWARE,
    address="127.0.0.1",
    registered_at=instant(1),
    registered_seq=1,
)
ONE_FACT_OF_EACH: tuple[NodeFact, ...] = (
    REGISTERED,
    Available(epoch=1, slots=4, free=2),
    Assignments(jobs=()),
    Signal(job=JobId("j"), attempt=1, action=Action.CANCEL),
    Suspected(),
    Lost(),
    Recovered(),
    Cordoned(),
    Draining(),
    Drained(epoch=1),
    Uncordoned(),
    Removed(),
    Refused(),
    CircuitOpened(until=instant(300), failures=8, attempts=10),
    CircuitHalfOpened(),
    CircuitClosed(),
)
OPENED = CircuitOpened(until=instant(300), failures=8, attempts=10, reason="8 of 10 failed")


def state_after(*facts: Fact) -> Node:
    events = [recorded(number, fact, SUBJECT) for number, fact in enumerate(facts, start=1)]
    return functools.reduce(evolve, events, INITIAL)


class TestRegistration:
    def test_a_node_nobody_registered_is_unknown(self) -> None:
        assert (INITIAL.status, INITIAL.epoch, INITIAL.schedulable) == ("unknown", 0, False)

    def test_a_registered_node_offers_all_its_slots(self) -> None:
        assert state_after(REGISTERED) == ONLINE
        assert ONLINE.schedulable

    def test_a_restarted_worker_begins_anew(self) -> None:
        busy = Available(epoch=1, slots=4, free=0)
        again = replace(REGISTERED, epoch=2, slots=2)
        assert state_after(REGISTERED, busy, Lost(), again) == replace(
            ONLINE, version=4, epoch=2, slots=2, free=2, registered_at=instant(4), registered_seq=4
        )

    def test_a_worker_of_an_earlier_epoch_changes_nothing(self) -> None:
        second = replace(REGISTERED, epoch=2)
        state = state_after(second, REGISTERED)
        assert state == replace(state_after(second), version=2)

    def test_a_cordon_outlives_a_restart_and_a_drain_does_not(self) -> None:
        second = replace(REGISTERED, epoch=2)
        state = state_after(REGISTERED, Cordoned(), Draining(), second)
        assert (state.cordoned, state.draining, state.schedulable) == (True, False, False)


class TestRoom:
    def test_free_room_is_what_the_node_last_reported(self) -> None:
        report = Available(epoch=1, slots=8, free=3)
        assert state_after(REGISTERED, report) == replace(ONLINE, version=2, slots=8, free=3)

    def test_a_report_of_another_epoch_changes_nothing_but_the_version(self) -> None:
        report = Available(epoch=2, slots=8, free=3)
        assert state_after(REGISTERED, report) == replace(ONLINE, version=2)

    def test_a_full_node_is_full_until_it_reports_room(self) -> None:
        full = replace(ONLINE, full=True)
        none_free = recorded(2, Available(epoch=1, slots=4, free=0), SUBJECT)
        one_free = recorded(2, Available(epoch=1, slots=4, free=1), SUBJECT)
        assert evolve(full, none_free).full
        assert not evolve(full, one_free).full


class TestLiveness:
    def test_a_silent_node_is_suspected_then_lost_and_recovers_by_speaking(self) -> None:
        expected = {
            (Suspected(),): NodeStatus.SUSPECTED,
            (Suspected(), Recovered()): NodeStatus.ONLINE,
            (Suspected(), Lost()): NodeStatus.LOST,
            (Suspected(), Lost(), Recovered()): NodeStatus.ONLINE,
        }
        told = {facts: state_after(REGISTERED, *facts).status for facts in expected}
        assert told == expected

    def test_only_an_online_node_can_be_suspected(self) -> None:
        assert state_after(REGISTERED, Lost(), Suspected()).status is NodeStatus.LOST

    def test_a_removed_node_does_not_recover(self) -> None:
        assert state_after(REGISTERED, Removed(), Recovered()) == replace(
            ONLINE, version=3, status=NodeStatus.REMOVED, free=0
        )


class TestOrders:
    def test_a_cordoned_node_gets_nothing_new_until_uncordoned(self) -> None:
        cordoned = state_after(REGISTERED, Cordoned())
        assert cordoned == replace(ONLINE, version=2, cordoned=True)
        assert not cordoned.schedulable
        assert state_after(REGISTERED, Cordoned(), Uncordoned()) == replace(ONLINE, version=3)

    def test_a_draining_node_is_drained_when_its_worker_has_stopped(self) -> None:
        draining = state_after(REGISTERED, Draining())
        assert draining == replace(ONLINE, version=2, draining=True)
        assert not draining.schedulable
        assert state_after(REGISTERED, Draining(), Drained(epoch=1)) == replace(
            ONLINE, version=3, draining=True, status=NodeStatus.DRAINED, free=0
        )

    def test_a_drain_of_an_earlier_epoch_changes_nothing_but_the_version(self) -> None:
        second = replace(REGISTERED, epoch=2)
        state = state_after(second, Drained(epoch=1))
        assert state == replace(state_after(second), version=2)


class TestCircuit:
    def test_an_open_circuit_lets_nothing_through_until_it_is_tried(self) -> None:
        opened = state_after(REGISTERED, OPENED)
        assert opened == replace(
            ONLINE, version=2, circuit=Circuit.OPEN, circuit_until=instant(300)
        )
        assert not opened.schedulable

    def test_a_node_on_probation_gets_work(self) -> None:
        tried = state_after(REGISTERED, OPENED, CircuitHalfOpened())
        assert tried == replace(ONLINE, version=3, circuit=Circuit.HALF_OPEN)
        assert tried.schedulable

    def test_probation_ends_well_or_badly(self) -> None:
        on_probation = (REGISTERED, OPENED, CircuitHalfOpened())
        assert state_after(*on_probation, CircuitClosed()) == replace(ONLINE, version=4)
        again = replace(OPENED, until=instant(900))
        assert state_after(*on_probation, again) == replace(
            ONLINE, version=4, circuit=Circuit.OPEN, circuit_until=instant(900)
        )

    def test_an_open_circuit_can_be_closed_at_once(self) -> None:
        assert state_after(REGISTERED, OPENED, CircuitClosed(by="ann")) == replace(
            ONLINE, version=3
        )

    def test_only_an_open_circuit_is_tried(self) -> None:
        assert state_after(REGISTERED, CircuitHalfOpened()) == replace(ONLINE, version=2)

    @pytest.mark.parametrize(
        "before", [(OPENED,), (OPENED, CircuitHalfOpened())], ids=["open", "half open"]
    )
    def test_a_restarted_worker_is_on_probation(self, before: tuple[NodeFact, ...]) -> None:
        state = state_after(REGISTERED, *before, replace(REGISTERED, epoch=2))
        assert (state.circuit, state.circuit_until) == (Circuit.HALF_OPEN, None)

    def test_a_restart_does_not_open_a_closed_circuit(self) -> None:
        state = state_after(REGISTERED, replace(REGISTERED, epoch=2))
        assert state.circuit is Circuit.CLOSED


class TestRefusal:
    def test_a_node_that_refuses_work_says_why_until_it_takes_it_again(self) -> None:
        refuses = Available(epoch=1, slots=4, free=4, refusing="disk: 1 GiB free")
        away = state_after(REGISTERED, refuses)
        assert away == replace(ONLINE, version=2, refusing="disk: 1 GiB free")
        assert not away.schedulable
        again = state_after(REGISTERED, refuses, Available(epoch=1, slots=4, free=4))
        assert again == replace(ONLINE, version=3)

    def test_a_restarted_worker_takes_what_fits(self) -> None:
        refuses = Available(epoch=1, slots=4, free=4, refusing="disk: 1 GiB free")
        state = state_after(REGISTERED, refuses, replace(REGISTERED, epoch=2))
        assert (state.refusing, state.schedulable) == ("", True)

    def test_a_start_that_is_refused_is_out(self) -> None:
        second = replace(REGISTERED, epoch=2)
        refused = Refused(epoch=2, reason="n1 is alive at box:1", address="box:2")
        assert state_after(REGISTERED, second, refused) == replace(
            state_after(second),
            version=3,
            status=NodeStatus.REFUSED,
            free=0,
            reason="n1 is alive at box:1",
            registered_at=instant(2),
            registered_seq=2,
        )

    @pytest.mark.parametrize("epoch", [0, 2], ids=["before it registered", "another start"])
    def test_a_refusal_leaves_the_start_that_lives_alone(self, epoch: int) -> None:
        refused = Refused(epoch=epoch, reason="n1 is alive at box:1")
        assert state_after(REGISTERED, refused) == replace(ONLINE, version=2)


class TestReason:
    def test_why_a_node_is_out_is_known_while_it_is_out(self) -> None:
        silent, gone = Suspected(reason="silent for 10 s"), Lost(reason="silent for 15 s")
        told = [
            state_after(REGISTERED, *facts).reason
            for facts in ((silent,), (silent, gone), (silent, Recovered()), (gone, REGISTERED))
        ]
        assert told == ["silent for 10 s", "silent for 15 s", "", ""]


class TestTotality:
    def test_the_examples_have_every_type(self) -> None:
        assert {type(fact) for fact in ONE_FACT_OF_EACH} == set(get_args(NodeFact))

    @pytest.mark.parametrize("fact", ONE_FACT_OF_EACH, ids=lambda fact: fact.tag)
    @pytest.mark.parametrize("status", NodeStatus)
    def test_every_fact_is_taken_in_every_state(self, status: NodeStatus, fact: NodeFact) -> None:
        for state in (INITIAL, replace(ONLINE, status=status)):
            after = evolve(state, recorded(99, fact, SUBJECT))
            assert after.version == 99
            assert after.epoch >= state.epoch

    @pytest.mark.parametrize(
        "fact",
        [
            Assignments(jobs=()),
            Signal(job=JobId("j"), attempt=1, action=Action.PAUSE),
            Refused(),
            Queued(after=QueuedAfter.BACKOFF),
            Unknown(type="node.sang.v1", problem="unknown type", body=b"{}"),
        ],
        ids=lambda fact: type(fact).__name__,
    )
    def test_what_says_nothing_of_the_node_changes_nothing_but_the_version(
        self, fact: Fact | Unknown
    ) -> None:
        assert evolve(ONLINE, recorded(99, fact, SUBJECT)) == replace(ONLINE, version=99)
