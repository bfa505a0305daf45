"""`ffrtmp policy`, on a ledger in memory and the deciders themselves."""

import getpass
import json

import pytest

from events import subjects
from events.cluster import Policy, PolicyChanged, PolicyKind, PriorityWeights, QueueWeights
from tests.unit.cli_site import Site

ME = getpass.getuser()
FRESH = {
    "kind": "weighted",
    "aging_s_per_weight": 60.0,
    "queues": {"live": 10.0, "default": 5.0, "batch": 1.0},
    "priorities": {"high": 3.0, "medium": 2.0, "low": 1.0},
    "shares": {},
}


@pytest.fixture
def site() -> Site:
    return Site()


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_fresh_fleet_shows_its_defaults_and_that_nobody_set_them(site: Site) -> None:
    result = site.run("policy", "show")
    assert result.exit_code == 0
    assert lines(result.stdout) == [
        ["policy", "weighted"],
        [
            *("set", "by", "nobody:", "schedulers", "rank", "as", "their", "own", "settings"),
            *("say,", "these", "are", "the", "defaults"),
        ],
        ["aging", *["60", "s", "of", "waiting", "are", "worth", "a", "weight", "of", "1"]],
        ["queues", "live", "10", "default", "5", "batch", "1"],
        ["priorities", "high", "3", "medium", "2", "low", "1"],
        ["shares", "any", "other", "tenant", "1"],
    ]


def test_programs_get_every_weight(site: Site) -> None:
    result = site.run("policy", "show", "-o", "json")
    shown = json.loads(result.stdout)
    assert shown == {"policy": FRESH, "seq": 0, "time": None, "by": "", "reason": ""}


def test_what_is_set_is_a_fact_and_shown(site: Site) -> None:
    result = site.run(
        *("policy", "set", "--kind", "fair", "--share", "news=3", "--share", "web=0.5"),
        *("--weight", "live=20", "--priority", "high=5", "--aging-s", "30"),
        *("--reason", "the elections"),
    )
    assert result.exit_code == 0
    (stored,) = site.recorded
    assert stored.subject == subjects.POLICY
    assert stored.fact == PolicyChanged(
        policy=Policy(
            kind=PolicyKind.FAIR,
            aging_s_per_weight=30.0,
            queues=QueueWeights(live=20.0),
            priorities=PriorityWeights(high=5.0),
            shares={"news": 3.0, "web": 0.5},
        ),
        by=ME,
        reason="the elections",
    )
    shown = lines(result.stdout)
    assert shown[0] == ["policy", "fair"]
    assert shown[1][3:] == ["UTC", "by", ME + ",", "sequence", "1:", "the", "elections"]
    assert shown[2][1:3] == ["30", "s"]
    assert shown[5] == ["shares", "news", "3", "web", "0.5;", "any", "other", "tenant", "1"]


def test_what_is_not_given_stays_as_it_is(site: Site) -> None:
    site.run("policy", "set", "--kind", "fair", "--share", "news=3", "--weight", "live=20")
    site.run("policy", "set", "--share", "web=2", "--priority", "low=0.5")
    assert site.recorded[-1].fact == PolicyChanged(
        policy=Policy(
            kind=PolicyKind.FAIR,
            queues=QueueWeights(live=20.0),
            priorities=PriorityWeights(low=0.5),
            shares={"news": 3.0, "web": 2.0},
        ),
        by=ME,
    )


def test_one_can_begin_afresh(site: Site) -> None:
    site.run("policy", "set", "--kind", "fair", "--share", "news=3")
    result = site.run("policy", "set", "--fresh", "-o", "json")
    assert json.loads(result.stdout) == {"status": "weighted", "seq": 2}
    assert site.recorded[-1].fact == PolicyChanged(policy=Policy(), by=ME)


def test_the_same_policy_again_is_no_fact(site: Site) -> None:
    for _ in range(2):
        result = site.run("policy", "set", "--kind", "strict")
        assert result.exit_code == 0
    assert len(site.recorded) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "nothing to change"),
        (("--kind", "loudest"), "'loudest' is not one of 'weighted', 'strict', 'fair'"),
        (("--weight", "soon=3"), "queues.soon: unknown field"),
        (("--weight", "live"), "--weight: given: 'live'; allowed: NAME=NUMBER, as live=10"),
        (("--weight", "live=0"), "queues.live: Expected `float` > 0.0"),
        (("--share", "a b=1"), "shares.a b: not as it has to be"),
        (("--aging-s", "0"), "aging_s_per_weight: Expected `float` > 0.0"),
    ],
)
def test_what_cannot_be_is_a_usage_error(site: Site, args: tuple[str, ...], words: str) -> None:
    result = site.run("policy", "set", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert site.recorded == []
