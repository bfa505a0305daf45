"""The state of the whole fleet, given its facts."""

import functools

import pytest

from events import subjects
from events.cluster import LeaderElected, LeaderResigned, Policy, PolicyChanged, PolicyKind
from events.codec import Fact, Unknown
from events.node import Recovered
from events.state.cluster import INITIAL, Cluster, evolve
from tests.vocabulary import recorded

FAIR = Policy(kind=PolicyKind.FAIR, shares={"news": 3.0})


def state_after(*facts: Fact | Unknown) -> Cluster:
    events = [recorded(seq, fact, subjects.LEADER) for seq, fact in enumerate(facts, start=1)]
    return functools.reduce(evolve, events, INITIAL)


def elected(scheduler: str, term: int) -> LeaderElected:
    return LeaderElected(scheduler=scheduler, term=term)


def resigned(scheduler: str, term: int) -> LeaderResigned:
    return LeaderResigned(scheduler=scheduler, term=term)


def test_a_fresh_fleet_has_neither_policy_nor_leader() -> None:
    assert Cluster(policy=None, leader="", term=0) == INITIAL


def test_the_policy_is_the_last_one_set() -> None:
    strict = Policy(kind=PolicyKind.STRICT)
    assert state_after(PolicyChanged(policy=FAIR)) == Cluster(policy=FAIR)
    assert state_after(PolicyChanged(policy=FAIR), PolicyChanged(policy=strict)).policy == strict


def test_the_leader_is_the_one_of_the_highest_term() -> None:
    assert state_after(elected("a", 1)) == Cluster(leader="a", term=1)
    assert state_after(elected("a", 1), elected("b", 2)) == Cluster(leader="b", term=2)


@pytest.mark.parametrize("late", [elected("b", 1), elected("b", 2)], ids=["earlier", "the same"])
def test_a_late_election_of_an_earlier_or_the_same_term_changes_nothing(
    late: LeaderElected,
) -> None:
    assert state_after(elected("a", 2), late) == Cluster(leader="a", term=2)


def test_a_leader_that_resigned_leaves_the_place_free_and_its_term_used() -> None:
    assert state_after(elected("a", 1), resigned("a", 1)) == Cluster(leader="", term=1)


def test_one_who_was_deposed_cannot_resign_for_its_successor() -> None:
    state = state_after(elected("a", 1), elected("b", 2), resigned("a", 1))
    assert state == Cluster(leader="b", term=2)


def test_what_says_nothing_of_the_fleet_changes_nothing() -> None:
    state = state_after(PolicyChanged(policy=FAIR), elected("a", 1))
    unknown = Unknown(type="cluster.sang.v1", problem="unknown type", body=b"{}")
    for stranger in (Recovered(), unknown):
        assert evolve(state, recorded(9, stranger, subjects.LEADER)) == state
