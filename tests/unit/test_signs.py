"""Signs of life: what the server's words on connections mean for a node, and what they do not."""

import pytest
from msgspec import json

from events import subjects
from events.ids import NodeId
from services.bus.peers import Line, Told, told_of_worker, worker_name
from services.bus.port import Message
from services.scheduler.upkeep.signs import CROSSING_S, Signs

N1 = NodeId("n1")
OLD, NEW = Line(N1, "S1", 1), Line(N1, "S1", 2)


def notice(**fields: object) -> bytes:
    return json.encode({"type": "advisory", "client": {"id": 7, "name": "worker/n1"}, **fields})


class TestWords:
    @pytest.mark.parametrize(
        ("subject", "up"), [(subjects.CONNECTED, True), (subjects.DISCONNECTED, False)]
    )
    def test_the_server_speaks_of_a_worker_by_its_node(self, subject: str, *, up: bool) -> None:
        message = Message(subject, notice(server={"id": "S1", "name": "x"}, reason="gone"))
        assert told_of_worker(message) == Told(Line(N1, "S1", 7), up=up)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"{}",
            b'{"client": 3}',
            notice(client={"name": "scheduler"}),
            notice(client={"name": "worker"}),
            notice(client={"name": "worker/"}),
            notice(client={"name": "worker/a.b"}),
            notice(client={"name": "worker/*"}),
            notice(client={"name": "workers/n1"}),
        ],
    )
    def test_of_others_and_of_nothing_readable_it_speaks_in_vain(self, body: bytes) -> None:
        assert told_of_worker(Message(subjects.CONNECTED, body)) is None

    def test_other_subjects_tell_nothing(self) -> None:
        assert told_of_worker(Message("ffrtmp.sys.other", notice())) is None

    def test_a_worker_connects_under_the_name_that_is_understood(self) -> None:
        body = notice(client={"id": 1, "name": worker_name("node-7")})
        told = told_of_worker(Message(subjects.CONNECTED, body))
        assert told is not None
        assert told.line.node == "node-7"


class TestConnections:
    def test_a_node_without_a_connection_is_gone_since_then(self) -> None:
        signs = Signs()
        signs.told(Told(OLD, up=True), 10.0)
        assert signs.gone_s(N1, 11.0) is None
        signs.told(Told(OLD, up=False), 12.0)
        assert signs.gone_s(N1, 13.5) == 1.5
        signs.told(Told(NEW, up=True), 14.0)
        assert signs.gone_s(N1, 15.0) is None

    def test_a_connection_nobody_saw_come_is_seen_to_go(self) -> None:
        signs = Signs()
        signs.told(Told(OLD, up=False), 12.0)
        assert signs.gone_s(N1, 13.0) == 1.0

    def test_a_half_open_connection_ends_after_its_successor_began(self) -> None:
        signs = Signs()
        signs.told(Told(NEW, up=True), 10.0)
        signs.told(Told(OLD, up=False), 12.0)
        assert signs.gone_s(N1, 13.0) is None

    def test_connections_from_before_our_own_outage_do_not_count(self) -> None:
        signs = Signs()
        signs.told(Told(OLD, up=True), 10.0)
        signs.fresh_s = 20.0
        signs.told(Told(NEW, up=False), 30.0)
        assert signs.gone_s(N1, 31.0) == 1.0

    def test_what_went_before_our_own_outage_ended_may_be_back(self) -> None:
        signs = Signs()
        signs.told(Told(OLD, up=False), 12.0)
        signs.fresh_s = 20.0
        assert signs.gone_s(N1, 21.0) is None

    def test_a_heartbeat_after_a_while_is_a_proof_of_life(self) -> None:
        signs = Signs()
        signs.told(Told(OLD, up=False), 12.0)
        signs.beat(N1, 12.0 + CROSSING_S)
        assert signs.gone_s(N1, 13.0) == 1.0
        assert list(signs.speaking) == []
        signs.beat(N1, 13.0)
        assert signs.gone_s(N1, 13.1) is None
        assert list(signs.speaking) == [N1]

    def test_a_registration_is_a_proof_of_life(self) -> None:
        signs = Signs()
        signs.told(Told(OLD, up=False), 12.0)
        signs.registered(N1, 12.1)
        assert signs.gone_s(N1, 13.0) is None


class TestSilence:
    def test_silence_counts_from_the_last_word(self) -> None:
        signs = Signs()
        signs.beat(N1, 10.0)
        assert signs.silent_s(N1, 14.0) == 4.0

    def test_of_a_node_never_heard_it_counts_from_the_first_look(self) -> None:
        signs = Signs()
        assert signs.silent_s(N1, 10.0) == 0.0
        assert signs.silent_s(N1, 14.0) == 4.0

    def test_where_nothing_could_be_heard_it_does_not_count(self) -> None:
        signs = Signs()
        signs.beat(N1, 10.0)
        signs.fresh_s = 70.0
        assert signs.silent_s(N1, 74.0) == 4.0

    def test_a_heartbeat_surely_given_later(self) -> None:
        signs = Signs()
        assert not signs.beat_since(N1, 0.0)
        signs.beat(N1, 10.0)
        assert not signs.beat_since(N1, 10.0 - CROSSING_S)
        assert signs.beat_since(N1, 9.0)


class TestNoticed:
    """Only nodes of which there is anything to tell are looked at, however many live in peace."""

    def test_the_silent_are_noticed_the_longest_silent_first(self) -> None:
        signs = Signs()
        signs.registered(N1, 1.0)
        signs.registered(NodeId("n2"), 2.0)
        signs.beat(N1, 3.0)
        signs.registered(NodeId("n3"), 9.0)
        signs.speaking.clear()
        assert list(signs.noticed(10.0, 5.0)) == ["n2", "n1"]
        assert list(signs.noticed(10.0, 8.0)) == []

    def test_those_without_a_connection_and_those_that_spoke_are_noticed(self) -> None:
        signs = Signs()
        signs.told(Told(OLD, up=True), 1.0)
        signs.told(Told(OLD, up=False), 2.0)
        signs.beat(NodeId("n2"), 2.0)
        assert list(signs.noticed(3.0, 5.0)) == ["n1", "n2"]

    def test_silence_before_anything_could_be_heard_is_not_noticed(self) -> None:
        signs = Signs()
        signs.registered(N1, 1.0)
        signs.fresh_s = 8.0
        assert list(signs.noticed(10.0, 5.0)) == []
        assert list(signs.noticed(14.0, 5.0)) == ["n1"]
