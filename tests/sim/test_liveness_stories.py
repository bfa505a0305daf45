"""Who is given up, and who is not: nodes that die, blink, fall silent together, and fail."""

import anyio
import pytest
import trio.testing
from structlog.testing import capture_logs

from events import subjects
from events.ids import JobId
from events.job import (
    Assigned,
    AttemptLost,
    Canceled,
    Completed,
    LossCause,
    Started,
)
from events.node import (
    Action,
    Lost,
    Recovered,
    Refused,
    Removed,
    Signal,
    Suspected,
)
from services.config import SchedulerSettings
from tests.sim.puppets import Puppet, Show, fleet, playing

pytestmark = pytest.mark.anyio
SETTINGS = SchedulerSettings(timeout_margin_s=5.0, breaker_s=30.0, retry_base_s=1.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def test_of_nodes_with_the_same_room_the_less_busy_one_is_chosen() -> None:
    show = Show(SETTINGS)
    first, second = Puppet(show, "n1"), Puppet(show, "n2")
    first.cpu_percent = 95.0
    async with playing(show, first, second):
        for job in ("a", "b", "c"):
            await anyio.sleep(6)
            await show.submit(job)
        await show.until(Completed, 3)
    assert first.began == []
    assert [job for job, _ in second.began] == ["a", "b", "c"]


class TestDisconnects:
    async def test_what_a_killed_node_ran_is_lost_two_seconds_later(self) -> None:
        show = Show(SETTINGS)
        killed, other = Puppet(show, "n1", takes_s=100), Puppet(show, "n2")
        async with playing(show, killed) as tasks:
            await show.submit("a")
            await show.until(Started)
            await tasks.start(other.live)
            await anyio.sleep(3)
            killed_s = anyio.current_time()
            await killed.kill()
            lost = await show.until(AttemptLost)
            assert 1.5 < anyio.current_time() - killed_s < 2.25
            await show.until(Completed)
        assert isinstance(lost.fact, AttemptLost)
        assert lost.fact.cause is LossCause.NODE_LOST
        assert len(await show.all(Suspected)) == 1
        (gone,) = await show.all(Lost)
        assert isinstance(gone.fact, Lost)
        assert gone.fact.reason.startswith("its connection has been gone for 1.")

    async def test_a_blink_is_nothing(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1", takes_s=30)
        async with playing(show, puppet):
            await show.submit("a")
            for _ in range(5):
                await anyio.sleep(3)
                await puppet.disconnect()
                await anyio.sleep(0.4)
                await puppet.connect()
            await show.until(Completed)
        assert await show.all(Suspected) == []
        assert await show.all(Lost) == []

    async def test_a_longer_absence_is_a_suspicion_that_its_next_word_lifts(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1", takes_s=30)
        async with playing(show, puppet):
            await show.submit("a")
            await anyio.sleep(6)
            await puppet.disconnect()
            await anyio.sleep(1.2)
            await puppet.connect()
            await show.until(Recovered)
            await show.until(Completed)
        assert len(await show.all(Suspected)) == 1
        assert await show.all(Lost) == []

    async def test_a_suspected_node_gets_nothing_new(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1", takes_s=30)
        async with playing(show, puppet):
            await anyio.sleep(6)
            await puppet.disconnect()
            await show.until(Suspected)
            await show.submit("a")
            await puppet.connect()
            recovered = await show.until(Recovered)
            assigned = await show.until(Assigned)
        assert assigned.seq > recovered.seq

    async def test_an_old_connection_that_ends_after_the_new_one_began_is_nothing(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1")
        async with playing(show, puppet):
            await anyio.sleep(1)
            old = show.new_line() - 1
            await puppet.connect()
            await show.server_tells(subjects.DISCONNECTED, puppet.node, old)
            await anyio.sleep(4)
        assert await show.all(Suspected) == []

    async def test_where_the_server_tells_nothing_heartbeats_do(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1", takes_s=100)
        async with playing(show, puppet):
            await show.submit("a")
            await show.until(Started)
            killed_s = anyio.current_time()
            await puppet.kill(told=False)
            await show.until(AttemptLost)
            assert 10 < anyio.current_time() - killed_s < 15.75

    async def test_a_heartbeat_that_was_on_its_way_saves_nobody(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1", takes_s=100)
        async with playing(show, puppet):
            await show.submit("a")
            await show.until(Started)
            await puppet.kill()
            await anyio.sleep(0.3)
            await show.beat(puppet.node)
            killed_s = anyio.current_time()
            await show.until(Lost)
            assert anyio.current_time() - killed_s < 2


class TestOurOwnSide:
    async def test_when_the_server_was_away_nobody_is_lost(self) -> None:
        show = Show(SETTINGS)
        async with playing(show, *fleet(show, 10, takes_s=300)):
            await show.submit("a", "b")
            await show.until(Started, 2)
            await anyio.sleep(7)
            await show.outage(60)
            await show.until(Completed, 2)
        assert await show.all(Lost) == []
        assert await show.all(AttemptLost) == []

    async def test_who_does_not_come_back_after_an_outage_is_lost(self) -> None:
        show = Show(SETTINGS)
        puppets = fleet(show, 10)
        async with playing(show, *puppets):
            await anyio.sleep(7)
            await puppets[3].kill(told=False)
            await show.outage(60)
            back_s = anyio.current_time()
            lost = await show.until(Lost)
            assert 15 < anyio.current_time() - back_s < 16
        assert subjects.node_of(lost.subject) == "n3"

    async def test_a_process_that_stood_still_gives_everybody_time(self) -> None:
        show = Show(SETTINGS)
        puppets = fleet(show, 2)
        async with playing(show, *puppets):
            await anyio.sleep(4)
            clock = trio.lowlevel.current_clock()
            assert isinstance(clock, trio.testing.MockClock)
            for puppet in puppets:
                puppet.mute = True  # until well after the jump
            clock.jump(60)
            await anyio.sleep(9)
            for puppet in puppets:
                puppet.mute = False
            await anyio.sleep(20)
        assert await show.all(Lost) == []

    @pytest.mark.parametrize("told", [True, False])
    async def test_when_half_the_fleet_falls_silent_it_gets_more_time(self, *, told: bool) -> None:
        show = Show(SETTINGS)
        puppets = fleet(show, 10)
        with capture_logs() as logged:
            async with playing(show, *puppets):
                await anyio.sleep(6)
                for puppet in puppets[:5]:
                    puppet.mute = True
                    if told:
                        await puppet.disconnect()
                silent_s = anyio.current_time()
                await anyio.sleep(14 if told else 27)
                assert await show.all(Lost) == []
                assert await show.all(Suspected) == []
                await show.until(Lost, 5)
                assert anyio.current_time() - silent_s < (19 if told else 33)
        errors = [entry for entry in logged if entry["log_level"] == "error"]
        assert [entry["event"] for entry in errors] == ["nodes.fell_silent_together"]

    async def test_half_the_fleet_that_speaks_again_in_time_was_never_lost(self) -> None:
        show = Show(SETTINGS)
        puppets = fleet(show, 10)
        async with playing(show, *puppets):
            await anyio.sleep(6)
            for puppet in puppets[:5]:
                puppet.mute = True
            await anyio.sleep(25)
            for puppet in puppets[:5]:
                puppet.mute = False
            await anyio.sleep(60)
        assert await show.all(Lost) == []

    async def test_two_of_ten_are_believed_at_once(self) -> None:
        show = Show(SETTINGS)
        puppets = fleet(show, 10)
        async with playing(show, *puppets):
            await anyio.sleep(6)
            for puppet in puppets[:2]:
                await puppet.kill()
            killed_s = anyio.current_time()
            await show.until(Lost, 2)
            assert anyio.current_time() - killed_s < 2.25


class TestReturns:
    async def test_a_lost_node_is_back_with_its_first_word_and_ends_what_it_lost(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1", takes_s=200)
        async with playing(show, puppet):
            await show.submit("a")
            await show.until(Started)
            puppet.mute = True
            await show.until(AttemptLost)
            assert puppet.signals == []
            puppet.mute = False
            await show.until(Recovered)
            await show.until(Completed)
        assert puppet.signals == [Signal(job=JobId("a"), attempt=1, action=Action.CANCEL)]
        assert await show.all(Canceled) == []

    async def test_a_removed_node_stays_removed_whatever_it_says(self) -> None:
        show = Show(SETTINGS)
        puppet = Puppet(show, "n1")
        async with playing(show, puppet):
            await anyio.sleep(1)
            await show.store(subjects.node(puppet.node), Removed())
            await anyio.sleep(60)
        assert await show.all(Recovered) == []


class TestAddresses:
    async def test_a_newcomer_at_the_address_of_a_living_node_is_refused(self) -> None:
        show = Show(SETTINGS)
        first = Puppet(show, "n1", address="10.0.0.1:7000")
        second = Puppet(show, "n2", address="10.0.0.1:7000")
        async with playing(show, first, second):
            refused = await show.until(Refused)
            assert anyio.current_time() < 6
            await anyio.sleep(60)
        assert subjects.node_of(refused.subject) == "n2"
        assert refused.fact == Refused(
            address="10.0.0.1:7000",
            reason="node n1 lives at 10.0.0.1:7000; give this worker an address of its own, or "
            "stop the other one, and start it again",
            epoch=1,
        )
        assert len(await show.all(Refused)) == 1

    async def test_the_address_of_a_dead_node_is_free(self) -> None:
        show = Show(SETTINGS)
        first = Puppet(show, "n1", address="10.0.0.1:7000")
        second = Puppet(show, "n2", address="10.0.0.1:7000")
        async with playing(show, first) as tasks:
            await anyio.sleep(6)
            await first.kill(told=False)
            await tasks.start(second.live)
            await anyio.sleep(60)
        assert await show.all(Refused) == []

    @pytest.mark.parametrize("address", ["", "host-1"])
    async def test_a_machine_may_have_many_nodes(self, address: str) -> None:
        show = Show(SETTINGS)
        puppets = [Puppet(show, name, address=address) for name in ("n1", "n2")]
        async with playing(show, *puppets):
            await anyio.sleep(60)
        assert await show.all(Refused) == []
