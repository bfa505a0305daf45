"""What every adapter of the lease promises, and what only a server can show."""

import base64
from itertools import pairwise
from random import Random

import anyio
import pytest
from msgspec import Struct

from events import subjects
from services.clock import SystemClock
from services.errors import LogUnavailable
from services.lease.holding import MARGIN, Holding
from services.lease.nats import FORGOTTEN, NatsLease
from services.lease.port import Grant, Lease
from services.log.jetstream.connection import connect
from services.log.jetstream.streams import LEASES
from services.nats_server import NatsServer
from tests.contract.conftest import World
from tests.waiting import until

pytestmark = pytest.mark.anyio

CLOCK = SystemClock()
LEASE_S = 1.0
"""The shortest that a server counts."""
NOTICED_S = 0.75
"""By then after its end, on a busy machine, a lease is seen to be free."""
POLL_S = 0.02


@pytest.fixture
def lease(world: World) -> Lease:
    return world.backbone.lease


async def granted(lease: Lease, holder: str, lease_s: float = LEASE_S) -> Grant:
    """Return the lease, which must be free."""
    grant = await lease.acquire(holder, lease_s)
    assert grant is not None
    return grant


async def won(lease: Lease, holder: str, within_s: float, lease_s: float = LEASE_S) -> Grant:
    """Try again until the lease is given."""
    with anyio.fail_after(within_s):
        while True:
            grant = await lease.acquire(holder, lease_s)
            if grant is not None:
                return grant
            await lease.freed(POLL_S)


async def held(lease: Lease, holder: str) -> Holding:
    asked_s = CLOCK.monotonic_s()
    return Holding(lease, CLOCK, await granted(lease, holder), asked_s=asked_s)


def ignore() -> None:
    """Take no notice of a renewal."""


class TestAcquire:
    async def test_a_free_lease_is_given_at_once(self, lease: Lease) -> None:
        assert await lease.holder() is None
        grant = await granted(lease, "a")
        assert (grant.holder, grant.lease_s) == ("a", LEASE_S)
        assert await lease.holder() == "a"

    async def test_of_many_who_ask_at_once_one_gets_it(self, lease: Lease) -> None:
        grants: list[Grant | None] = []

        async def ask(holder: str) -> None:
            grants.append(await lease.acquire(holder, LEASE_S))

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(ask, f"h{number}")
        winners = [grant.holder for grant in grants if grant is not None]
        assert len(grants) == 40
        assert winners == [await lease.holder()]

    async def test_it_is_given_to_another_when_its_holder_falls_silent(self, lease: Lease) -> None:
        began_s = CLOCK.monotonic_s()
        await granted(lease, "a")
        await won(lease, "b", LEASE_S + NOTICED_S)
        assert CLOCK.monotonic_s() - began_s >= LEASE_S
        assert await lease.holder() == "b"

    async def test_a_holder_that_missed_the_answer_is_told_again(self, lease: Lease) -> None:
        first = await granted(lease, "a")
        again = await granted(lease, "a")
        assert again.seq > first.seq
        assert await lease.acquire("b", LEASE_S) is None


class TestRenew:
    async def test_a_renewed_lease_lasts(self, lease: Lease) -> None:
        holding = await held(lease, "a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(holding.keep, ignore)
            with anyio.move_on_after(2.5 * LEASE_S):
                while True:
                    assert await lease.acquire("b", LEASE_S) is None
                    await lease.freed(POLL_S)
            assert holding.left_s > 0
            tasks.cancel_scope.cancel()

    async def test_a_lease_that_has_run_out_is_not_renewed(self, lease: Lease) -> None:
        grant = await granted(lease, "a")
        await lease.freed(LEASE_S + NOTICED_S)
        assert await lease.holder() is None
        assert await lease.renew(grant) is None

    async def test_a_deposed_holder_changes_nothing(self, lease: Lease) -> None:
        old = await granted(lease, "a")
        new = await won(lease, "b", LEASE_S + NOTICED_S)
        assert await lease.renew(old) is None
        await lease.release(old)
        assert await lease.holder() == "b"
        assert await lease.renew(new) is not None

    async def test_a_renewal_whose_answer_was_lost_is_settled(self, lease: Lease) -> None:
        grant = await granted(lease, "a")
        assert await lease.renew(grant) is not None
        assert await lease.renew(grant) is not None
        assert await lease.holder() == "a"


class TestRelease:
    async def test_a_released_lease_is_free_at_once(self, lease: Lease) -> None:
        await lease.release(await granted(lease, "a"))
        assert await lease.holder() is None
        await granted(lease, "b")

    async def test_a_lease_can_be_released_after_a_lost_renewal(self, lease: Lease) -> None:
        grant = await granted(lease, "a")
        await lease.renew(grant)
        await lease.release(grant)
        await granted(lease, "b")

    async def test_who_waits_hears_of_it(self, lease: Lease) -> None:
        grant = await granted(lease, "a", 60.0)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(won, lease, "b", 10.0)
                await lease.release(grant)


class TestHolding:
    async def test_two_never_believe_to_have_it(self, lease: Lease) -> None:
        """Holders come and go: some release, some fall silent, some lose it while they hold on."""
        dice = Random(7)
        believers: list[Holding] = []
        tenures: list[tuple[float, str]] = []

        async def contend(name: str) -> None:
            async def another_had_it() -> bool:
                return not tenures or tenures[-1][1] != name

            for life in range(100):
                await until(another_had_it, "another has the lease", within_s=60)
                asked_s = CLOCK.monotonic_s()
                grant = await won(lease, f"{name}.{life}", 60)
                holding = Holding(lease, CLOCK, grant, asked_s=asked_s)
                assert not [other for other in believers if other.left_s > 0]
                believers.append(holding)
                tenures.append((asked_s, name))
                if dice.random() < 0.7:
                    with anyio.move_on_after(dice.uniform(0, LEASE_S)):
                        await holding.keep(ignore)
                    await holding.release()
                    believers.remove(holding)

        with anyio.move_on_after(6 * LEASE_S):
            async with anyio.create_task_group() as tasks:
                for name in "abcde":
                    tasks.start_soon(contend, name)
        assert len(tenures) >= 6
        assert all(one[1] != other[1] for one, other in pairwise(tenures))

    async def test_a_holder_that_gets_no_answer_stops_to_believe_in_time(self) -> None:
        class Silent:
            async def renew(self, grant: Grant) -> Grant | None:
                raise LogUnavailable(f"no answer to {grant.holder}")

        began_s = CLOCK.monotonic_s()
        holding = Holding(
            Silent(),  # type: ignore[arg-type] # no more of it is used
            CLOCK,
            Grant(holder="a", seq=1, lease_s=LEASE_S),
            asked_s=began_s,
        )
        await holding.keep(ignore)
        kept_s = CLOCK.monotonic_s() - began_s
        assert LEASE_S * (1 - MARGIN) <= kept_s < LEASE_S


class _Stored(Struct, frozen=True):
    hdrs: str = ""


class _Answer(Struct, frozen=True):
    message: _Stored


class TestServer:
    """What holds on a real server only."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_the_time_is_counted_in_whole_seconds(self, server: NatsServer) -> None:
        async with connect(server.url, name="test") as connection:
            lease = NatsLease(connection)
            for lease_s, wire in ((2.0, "2s"), (1.2, "2s"), (0.4, "1s")):
                grant = await granted(lease, "a", lease_s)
                answer = await connection.api(
                    f"STREAM.MSG.GET.{LEASES}", {"seq": grant.seq}, _Answer
                )
                assert f"Nats-TTL: {wire}\r\n".encode() in base64.b64decode(answer.message.hdrs)

    async def test_a_restarted_server_knows_the_holder(self, server: NatsServer) -> None:
        """So nobody gets the lease while another still believes in it."""
        async with connect(server.url, name="test") as connection:
            lease = NatsLease(connection)
            began_s = CLOCK.monotonic_s()
            await granted(lease, "a", 2.0)
            await server.kill()
            await server.start()
            assert await lease.holder() == "a"
            assert await lease.acquire("b", 2.0) is None
            await won(lease, "b", 2.0 + NOTICED_S)
            assert CLOCK.monotonic_s() - began_s >= 2.0

    async def test_a_short_outage_costs_no_holder_its_lease(self, server: NatsServer) -> None:
        async with connect(server.url, name="test") as connection:
            lease = NatsLease(connection)
            asked_s = CLOCK.monotonic_s()
            grant = await granted(lease, "a", 10.0)
            holding = Holding(lease, CLOCK, grant, asked_s=asked_s)
            renewed = anyio.Event()
            async with anyio.create_task_group() as tasks:
                await server.kill()
                tasks.start_soon(holding.keep, renewed.set)
                await server.start()
                with anyio.fail_after(10):
                    await renewed.wait()
                tasks.cancel_scope.cancel()

    @pytest.mark.parametrize("record", [b'{"holder":"ghost"}', b"what?", b'{"holder":7}', b""])
    async def test_a_record_that_never_expires_is_overcome(
        self, server: NatsServer, record: bytes
    ) -> None:
        async with connect(server.url, name="test") as connection:
            await connection.ask(subjects.LEASE_LEADER, record, timeout_s=5.0)
            began_s = CLOCK.monotonic_s()
            lease = NatsLease(connection)
            await won(lease, "a", FORGOTTEN * LEASE_S + NOTICED_S)
            assert CLOCK.monotonic_s() - began_s >= FORGOTTEN * LEASE_S
