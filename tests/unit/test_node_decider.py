"""The decider of one node: in each state it can be in, what each order decides, or why not."""

import functools
from typing import TypeAlias

import pytest

from events import subjects
from events.ids import NodeId
from events.node import (
    Available,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    Cordoned,
    Drained,
    Draining,
    Lost,
    NodeFact,
    Recovered,
    Registered,
    Removed,
    Suspected,
    Uncordoned,
)
from events.node import (
    Refused as RefusedStart,
)
from events.state.node import INITIAL, Node, NodeStatus, evolve
from services.scheduler.deciders.node import (
    Cordon,
    Drain,
    NodeCommand,
    Remove,
    Uncordon,
    decide,
)
from services.scheduler.deciders.refusal import Refusal, Refused
from tests.vocabulary import instant, recorded

SUBJECT = subjects.node(NodeId("n1"))
REGISTERED = Registered(epoch=1, slots=4)
OPENED = CircuitOpened(until=instant(300), failures=8, attempts=10)
GIVEN: dict[str, tuple[NodeFact, ...]] = {
    "never seen": (),
    "cordoned before it was seen": (Cordoned(),),
    "online": (REGISTERED,),
    "full of work": (REGISTERED, Available(epoch=1, slots=4, free=0)),
    "cordoned": (REGISTERED, Cordoned()),
    "draining": (REGISTERED, Draining()),
    "cordoned and draining": (REGISTERED, Cordoned(), Draining()),
    "open": (REGISTERED, OPENED),
    "on probation": (REGISTERED, OPENED, CircuitHalfOpened()),
    "cordoned and open": (REGISTERED, Cordoned(), OPENED),
    "suspected": (REGISTERED, Suspected()),
    "lost": (REGISTERED, Lost()),
    "cordoned and lost": (REGISTERED, Cordoned(), Lost()),
    "back": (REGISTERED, Lost(), Recovered()),
    "drained": (REGISTERED, Draining(), Drained(epoch=1)),
    "drained and uncordoned": (REGISTERED, Draining(), Drained(epoch=1), Uncordoned()),
    "refused": (REGISTERED, RefusedStart(epoch=1, reason="a twin lives")),
    "removed": (REGISTERED, Lost(), Removed()),
    "registered again": (REGISTERED, Draining(), Drained(epoch=1), Registered(epoch=2, slots=4)),
}

CORDONED = (Cordoned(by="ann", reason="driver"),)
DRAINING = (Draining(by="ann", reason="driver"),)
UNCORDONED, CLOSED = Uncordoned(by="ann"), CircuitClosed(by="ann")
REMOVED = (Removed(by="ann"),)
UNKNOWN, GONE, ALIVE = Refusal.NODE_UNKNOWN, Refusal.NODE_REMOVED, Refusal.NODE_ALIVE
ORDERS: tuple[NodeCommand, ...] = (
    Cordon(by="ann", reason="driver"),
    Uncordon(by="ann"),
    Drain(by="ann", reason="driver"),
    Remove(by="ann"),
)
Outcome: TypeAlias = tuple[NodeFact, ...] | Refusal
THEN: dict[str, tuple[Outcome, Outcome, Outcome, Outcome]] = {
    "never seen": (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
    "cordoned before it was seen": (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
    "online": (CORDONED, (), DRAINING, ALIVE),
    "full of work": (CORDONED, (), DRAINING, ALIVE),
    "cordoned": ((), (UNCORDONED,), DRAINING, ALIVE),
    "draining": ((), (UNCORDONED,), (), ALIVE),
    "cordoned and draining": ((), (UNCORDONED,), (), ALIVE),
    "open": (CORDONED, (CLOSED,), DRAINING, ALIVE),
    "on probation": (CORDONED, (CLOSED,), DRAINING, ALIVE),
    "cordoned and open": ((), (UNCORDONED, CLOSED), DRAINING, ALIVE),
    "suspected": (CORDONED, (), DRAINING, ALIVE),
    "lost": (CORDONED, (), CORDONED, REMOVED),
    "cordoned and lost": ((), (UNCORDONED,), (), REMOVED),
    "back": (CORDONED, (), DRAINING, ALIVE),
    "drained": ((), (UNCORDONED,), (), REMOVED),
    "drained and uncordoned": (CORDONED, (), CORDONED, REMOVED),
    "refused": (CORDONED, (), CORDONED, REMOVED),
    "removed": (GONE, GONE, GONE, ()),
    "registered again": ((), (UNCORDONED,), DRAINING, ALIVE),
}
"""What a cordon, the end of one, a drain and a removal decide, state by state."""
CASES = [
    pytest.param(state, order, then, id=f"{type(order).__name__.lower()}-{state}")
    for state, outcomes in THEN.items()
    for order, then in zip(ORDERS, outcomes, strict=True)
]


def state_after(*facts: NodeFact) -> Node:
    events = [recorded(seq, fact, SUBJECT) for seq, fact in enumerate(facts, start=1)]
    return functools.reduce(evolve, events, INITIAL)


def decided(state: str, order: NodeCommand) -> Outcome:
    try:
        return decide(order, state_after(*GIVEN[state]))
    except Refused as no:
        return no.refusal


@pytest.mark.parametrize(("state", "order", "then"), CASES)
def test_each_order_decides_exactly_this_in_each_state(
    state: str, order: NodeCommand, then: Outcome
) -> None:
    assert decided(state, order) == then


def test_the_table_has_every_status() -> None:
    assert {state_after(*facts).status for facts in GIVEN.values()} == set(NodeStatus)


@pytest.mark.parametrize(("state", "order", "then"), CASES)
def test_an_order_carried_out_decides_nothing_when_repeated(
    state: str, order: NodeCommand, then: Outcome
) -> None:
    if isinstance(then, tuple):
        after = state_after(*GIVEN[state], *then)
        assert decide(order, after) == ()


@pytest.mark.parametrize("state", ["cordoned", "draining", "open", "on probation"])
def test_an_uncordoned_node_gets_work_again_whatever_took_it_out(state: str) -> None:
    before = GIVEN[state]
    facts = decide(Uncordon(by="ann"), state_after(*before))
    assert state_after(*before, *facts).schedulable


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("online", "the node is online; drain it first, as by `ffrtmp nodes drain --wait`"),
        ("draining", "the node is online; it is draining: wait until it is drained"),
        (
            "suspected",
            (
                "the node is suspected; wait until it is lost, or drain it first, as by "
                "`ffrtmp nodes drain --wait`"
            ),
        ),
    ],
)
def test_a_refused_removal_says_what_to_do_first(state: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        decide(Remove(), state_after(*GIVEN[state]))
    assert refused.value.message == words
