"""Orders about nodes by the command line, on a ledger in memory and the deciders themselves."""

import getpass
import json

import pytest

from events import subjects
from events.codec import Fact
from events.ids import NodeId
from events.node import (
    Available,
    CircuitClosed,
    CircuitOpened,
    Cordoned,
    Drained,
    Draining,
    Lost,
    Registered,
    Removed,
    Uncordoned,
)
from tests.unit.cli_site import Site
from tests.vocabulary import T0

ME = getpass.getuser()
N1, N2 = subjects.node(NodeId("n1")), subjects.node(NodeId("n2"))
REGISTERED = Registered(epoch=1, slots=4)


@pytest.fixture
def site() -> Site:
    site = Site()
    site.tell(N1, REGISTERED)
    return site


def added(site: Site, before: int = 1) -> list[Fact]:
    return [at.fact for at in site.recorded[before:]]  # type: ignore[misc] # nothing unknown here


class TestCordon:
    def test_nodes_are_cordoned_with_a_reason_and_once(self, site: Site) -> None:
        site.tell(N2, REGISTERED)
        result = site.run("nodes", "cordon", "n1", "n2", "n1", "--reason", "new driver")
        assert result.stdout.splitlines() == ["n1  online, cordoned", "n2  online, cordoned"]
        assert result.exit_code == 0
        assert added(site, 2) == [Cordoned(by=ME, reason="new driver")] * 2
        again = site.run("nodes", "cordon", "n1")
        assert again.stdout == "n1  online, cordoned  (it was already)\n"
        assert again.exit_code == 0
        assert len(site.recorded) == 4

    def test_an_unknown_node_is_status_three_and_keeps_back_no_other(self, site: Site) -> None:
        result = site.run("nodes", "cordon", "n9", "n1")
        assert result.exit_code == 3
        assert result.stdout == "n1  online, cordoned\n"
        assert result.stderr == (
            "ffrtmp: refused: n9: no worker has registered under this id; "
            "look at `ffrtmp nodes list`\n"
        )

    def test_what_cannot_be_a_node_is_a_usage_error(self, site: Site) -> None:
        result = site.run("nodes", "cordon", "n 1")
        assert result.exit_code == 2
        assert "given: 'n 1'" in result.stderr

    def test_json_is_one_answer_a_line(self, site: Site) -> None:
        result = site.run("nodes", "cordon", "n1", "n9", "-o", "json")
        first, second = map(json.loads, result.stdout.splitlines())
        assert first == {"node_id": "n1", "status": "online, cordoned", "seq": 2}
        assert (second["node_id"], second["error"]["code"]) == ("n9", "node_unknown")


class TestUncordon:
    def test_whatever_keeps_work_away_is_lifted(self, site: Site) -> None:
        site.tell(N1, Cordoned(), CircuitOpened(until=T0, failures=8, attempts=10))
        result = site.run("nodes", "uncordon", "n1")
        assert (result.stdout, result.exit_code) == ("n1  online\n", 0)
        assert added(site, 3) == [Uncordoned(by=ME), CircuitClosed(by=ME)]


class TestDrain:
    def test_a_node_is_told_to_drain_and_nobody_waits(self, site: Site) -> None:
        result = site.run("nodes", "drain", "n1", "--reason", "reboot")
        assert (result.stdout, result.exit_code) == ("n1  online, draining\n", 0)
        assert added(site) == [Draining(by=ME, reason="reboot")]

    def test_one_can_wait_until_nothing_runs_there(self, site: Site) -> None:
        site.tell_later(
            N1,
            Available(epoch=1, slots=4, free=2),
            Available(epoch=1, slots=4, free=0, refusing="disk: full"),
            Available(epoch=1, slots=4, free=4),
            Drained(epoch=1),
        )
        result = site.run("nodes", "drain", "n1", "--wait")
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "n1  online, draining",
            "waiting for what runs on n1; Ctrl-C does not stop the drain",
            "n1  draining, 2 of 4 slots in use",
            "n1  draining, 0 of 4 slots in use",
            "n1  drained",
        ]

    def test_waiting_for_several_ends_with_the_last(self, site: Site) -> None:
        site.tell(N2, REGISTERED)
        site.tell_later(N2, Drained(epoch=1))
        site.tell_later(N1, Drained(epoch=1))
        result = site.run("nodes", "drain", "n1", "n2", "--wait")
        assert result.exit_code == 0
        assert result.stdout.splitlines()[-2:] == ["n2  drained", "n1  drained"]

    @pytest.mark.parametrize(
        ("fact", "words"),
        [
            (Lost(reason="silent for 15 s"), "it was lost on the way: silent for 15 s"),
            (Uncordoned(by="bob"), "it was let back by bob"),
            (Registered(epoch=2, slots=4), "its worker was started anew; the node is cordoned"),
            (Removed(), "it is gone"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_drain_that_comes_to_nothing_is_status_one(
        self, site: Site, fact: Fact, words: str
    ) -> None:
        site.tell_later(N1, fact)
        result = site.run("nodes", "drain", "n1", "--wait")
        assert result.exit_code == 1
        assert result.stderr == f"ffrtmp: n1 will not be drained: {words}\n"

    def test_where_nothing_runs_nothing_is_waited_for(self, site: Site) -> None:
        site.tell(N1, Lost())
        result = site.run("nodes", "drain", "n1", "--wait")
        assert (result.stdout, result.exit_code) == ("n1  lost, cordoned\n", 0)

    def test_a_node_that_is_drained_already_is_not_waited_for(self, site: Site) -> None:
        site.tell(N1, Draining(), Drained(epoch=1))
        result = site.run("nodes", "drain", "n1", "--wait")
        assert result.stdout == "n1  drained  (it was already)\n"
        assert result.exit_code == 0

    def test_programs_get_a_line_for_each_step(self, site: Site) -> None:
        site.tell_later(N1, Available(epoch=1, slots=4, free=3), Drained(epoch=1))
        result = site.run("nodes", "drain", "n1", "--wait", "-o", "json")
        assert [json.loads(line) for line in result.stdout.splitlines()][1:] == [
            {
                "node_id": "n1",
                "drained": False,
                "over": False,
                "busy": 1,
                "slots": 4,
                "reason": "",
            },
            {
                "node_id": "n1",
                "drained": True,
                "over": True,
                "busy": None,
                "slots": None,
                "reason": "",
            },
        ]


class TestRemove:
    def test_a_lost_node_is_removed_on_a_word(self, site: Site) -> None:
        site.tell(N1, Lost())
        result = site.run("nodes", "remove", "n1", "--yes")
        assert (result.stdout, result.exit_code) == ("n1  removed\n", 0)
        assert added(site, 2) == [Removed(by=ME)]

    def test_without_a_word_and_without_a_terminal_nothing_is_removed(self, site: Site) -> None:
        result = site.run("nodes", "remove", "n1", stdin="y\n")
        assert result.exit_code == 2
        assert "nobody is here to confirm it: nothing was removed; give --yes" in result.stderr
        assert site.recorded == []

    @pytest.mark.parametrize(("answer", "status"), [(True, 0), (False, 1)])
    def test_a_person_is_asked(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, *, answer: bool, status: int
    ) -> None:
        site.tell(N1, Lost())
        asked: list[str] = []

        def confirmed(question: str) -> bool:
            asked.append(question)
            return answer

        monkeypatch.setattr("services.cli.operate.nodes.confirmed", confirmed)
        result = site.run("nodes", "remove", "n1", "n2")
        assert asked == ["remove n1, n2?"]
        assert result.exit_code == (3 if answer else status)

    def test_a_node_that_lives_is_not_removed(self, site: Site) -> None:
        result = site.run("nodes", "remove", "n1", "--yes")
        assert result.exit_code == 3
        assert result.stderr == (
            "ffrtmp: refused: n1: the node is online; drain it first, as by "
            "`ffrtmp nodes drain --wait`\n"
        )
