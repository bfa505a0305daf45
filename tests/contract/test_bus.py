import anyio
import pytest

from events.subjects import Filter, Subject
from services.bus.port import Bus, Command, Message, Request
from services.errors import LogUnavailable
from tests.contract.conftest import World

pytestmark = pytest.mark.anyio

ECHO = Subject("ffrtmp.api.echo")
OTHER = Subject("ffrtmp.api.other")


@pytest.fixture
def bus(world: World) -> Bus:
    return world.backbone.bus


async def echo(request: Request) -> bytes:
    return b"echo " + request.body


async def broken(request: Request) -> bytes:
    raise RuntimeError(request.subject)


class TestRequests:
    async def test_the_answer_comes_back(self, bus: Bus) -> None:
        async with bus.serve("echo", {ECHO: echo}):
            assert await bus.request(ECHO, b"hello") == b"echo hello"
            assert await bus.request(ECHO, b"\x00\xff" * 1_000) == b"echo " + b"\x00\xff" * 1_000

    async def test_each_subject_has_its_handler(self, bus: Bus) -> None:
        async def other(request: Request) -> bytes:
            return request.subject.encode()

        async with bus.serve("two", {ECHO: echo, OTHER: other}):
            assert await bus.request(ECHO, b"x") == b"echo x"
            assert await bus.request(OTHER, b"x") == b"ffrtmp.api.other"

    async def test_headers_reach_the_handler(self, bus: Bus) -> None:
        seen: list[Request] = []

        async def keep(request: Request) -> bytes:
            seen.append(request)
            return b""

        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        async with bus.serve("keep", {ECHO: keep}):
            await bus.request(ECHO, b"1", headers={"Nats-Msg-Id": "m1", "traceparent": trace})
            await bus.request(ECHO, b"2")
        assert seen == [Request(ECHO, b"1", "m1", trace), Request(ECHO, b"2", None, None)]

    async def test_where_nobody_serves_it_says_so_at_once(self, bus: Bus) -> None:
        with anyio.fail_after(2), pytest.raises(LogUnavailable, match=ECHO):
            await bus.request(ECHO, b"", timeout_s=60.0)

    async def test_a_service_that_ended_answers_no_more(self, bus: Bus) -> None:
        async with bus.serve("echo", {ECHO: echo}):
            assert await bus.request(ECHO, b"") == b"echo "
        with pytest.raises(LogUnavailable):
            await bus.request(ECHO, b"", timeout_s=1.0)

    async def test_a_slow_answer_is_given_up(self, bus: Bus) -> None:
        async def forever(_: Request) -> bytes:
            await anyio.sleep_forever()
            return b""

        async with bus.serve("slow", {ECHO: forever}):
            with pytest.raises(LogUnavailable, match=r"no answer within 0\.2 s"):
                await bus.request(ECHO, b"", timeout_s=0.2)

    async def test_a_handler_that_raises_answers_with_an_error_and_serves_on(
        self, bus: Bus
    ) -> None:
        async with bus.serve("mixed", {ECHO: echo, OTHER: broken}):
            for _ in range(3):
                with pytest.raises(LogUnavailable, match="internal error: RuntimeError"):
                    await bus.request(OTHER, b"")
            assert await bus.request(ECHO, b"") == b"echo "

    async def test_servers_of_one_name_share_the_load(self, bus: Bus) -> None:
        counts = [0, 0]

        async def first(_: Request) -> bytes:
            counts[0] += 1
            return b""

        async def second(_: Request) -> bytes:
            counts[1] += 1
            return b""

        async with bus.serve("shared", {ECHO: first}), bus.serve("shared", {ECHO: second}):
            for _ in range(60):
                await bus.request(ECHO, b"")
        assert sum(counts) == 60
        assert min(counts) > 0

    async def test_requests_are_answered_at_once_up_to_a_limit(self, bus: Bus) -> None:
        running = most = 0
        full = anyio.Event()

        async def slow(_: Request) -> bytes:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == 4:
                full.set()
            await full.wait()
            running -= 1
            return b""

        with anyio.fail_after(10):
            async with (
                bus.serve("bounded", {ECHO: slow}, concurrency_max=4),
                anyio.create_task_group() as tasks,
            ):
                for _ in range(12):
                    tasks.start_soon(bus.request, ECHO, b"")
        assert most == 4

    async def test_an_error_beside_a_service_leaves_as_it_is(self, bus: Bus) -> None:
        with pytest.raises(KeyError, match="mine"):
            async with bus.serve("echo", {ECHO: echo}):
                raise KeyError("mine")


SAID = Filter("said.*")


class TestListening:
    async def test_what_is_said_on_wanted_subjects_comes_in_its_order(self, world: World) -> None:
        bus = world.backbone.bus
        expected = [Message(f"said.s{number % 3}", b"%d" % number) for number in range(30)]
        got: list[Message] = []
        with anyio.fail_after(10):
            async with bus.listen(SAID) as messages:
                for number in range(30):
                    await world.say(f"said.s{number % 3}", b"%d" % number)
                    await world.say("ffrtmp.other", b"no")
                async for message in messages:
                    got.append(message)
                    if len(got) == 30:
                        break
        assert got == expected

    async def test_all_who_listen_hear_it(self, world: World) -> None:
        bus = world.backbone.bus
        with anyio.fail_after(10):
            async with bus.listen(SAID) as one, bus.listen(SAID) as other:
                await world.say("said.x", b"hear")
                assert [await anext(one), await anext(other)] == [Message("said.x", b"hear")] * 2

    async def test_one_who_waits_is_woken(self, world: World) -> None:
        got: list[bytes] = []

        async def listen(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with world.backbone.bus.listen(SAID) as messages:
                task_status.started()
                async for message in messages:
                    got.append(message.body)
                    if len(got) == 2:
                        return

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                await tasks.start(listen)
                await world.say("said.a", b"1")
                await world.say("said.b", b"2")
        assert got == [b"1", b"2"]

    async def test_of_too_many_that_wait_the_later_ones_are_lost(self, world: World) -> None:
        with anyio.fail_after(10):
            async with world.backbone.bus.listen(SAID, backlog_max=3) as messages:
                for number in range(9):
                    await world.say("said.x", b"%d" % number)
                await world.settled()
                early = [(await anext(messages)).body for _ in range(3)]
                await world.say("said.x", b"9")
                assert [*early, (await anext(messages)).body] == [b"0", b"1", b"2", b"9"]

    async def test_the_line_is_up_since_a_time_in_the_past(self, bus: Bus) -> None:
        since_s = bus.up_since_s
        assert since_s is not None
        assert since_s <= anyio.current_time()


async def received(world: World, count: int) -> list[Command]:
    """Return the next `count` commands, unacknowledged."""
    commands: list[Command] = []
    with anyio.fail_after(10):
        async with world.inbox.receive() as batches:
            async for batch in batches:
                assert batch, "a batch is never empty"
                commands += batch
                if len(commands) >= count:
                    break
    return commands


class TestInbox:
    async def test_commands_come_in_order_with_their_sequences(self, world: World) -> None:
        for number in range(5):
            await world.put("ffrtmp.cmd.jobs.submit", b"%d" % number)
        commands = await received(world, 5)
        assert [(each.seq, each.request.body) for each in commands] == [
            (number + 1, b"%d" % number) for number in range(5)
        ]

    async def test_a_waiting_receiver_gets_what_comes(self, world: World) -> None:
        got: list[bytes] = []

        async def receive(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with world.inbox.receive() as batches:
                task_status.started()
                async for batch in batches:
                    got.extend(each.request.body for each in batch)
                    await world.inbox.acknowledge(batch)
                    if len(got) == 2:
                        return

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                await tasks.start(receive)
                await world.put("ffrtmp.cmd.a", b"1")
                await world.put("ffrtmp.cmd.b", b"2")
        assert got == [b"1", b"2"]

    @pytest.mark.parametrize("body", [b"", b"\x00\xff\r\n", b"{", b"x" * 100_000])
    async def test_bodies_come_as_they_were_sent(self, world: World, body: bytes) -> None:
        headers = {"Nats-Msg-Id": "id-1", "traceparent": "00-garbage"}
        await world.put("ffrtmp.cmd.any.thing", body, headers)
        await world.put("ffrtmp.cmd.plain", body)
        with_headers, plain = await received(world, 2)
        assert with_headers.request == Request("ffrtmp.cmd.any.thing", body, "id-1", "00-garbage")
        assert plain.request == Request("ffrtmp.cmd.plain", body, None, None)

    async def test_what_is_not_acknowledged_comes_again(self, world: World) -> None:
        await world.put("ffrtmp.cmd.a", b"1")
        await world.put("ffrtmp.cmd.a", b"2")
        first = await received(world, 2)
        await world.inbox.acknowledge(first[:1])
        again = await received(world, 1)
        assert [(each.seq, each.request.body) for each in again] == [(2, b"2")]
        assert [each.request.again for each in (*first, *again)] == [False, False, True]

    async def test_acknowledging_twice_does_no_harm(self, world: World) -> None:
        await world.put("ffrtmp.cmd.a", b"1")
        commands = await received(world, 1)
        await world.inbox.acknowledge(commands)
        await world.inbox.acknowledge(commands)
        await world.put("ffrtmp.cmd.a", b"2")
        assert [each.seq for each in await received(world, 1)] == [2]

    async def test_two_receivers_share_the_commands(self, world: World) -> None:
        count = 200
        got: list[int] = []

        async def receive(scope: anyio.CancelScope) -> None:
            async with world.inbox.receive() as batches:
                async for batch in batches:
                    await world.inbox.acknowledge(batch)
                    got.extend(each.seq for each in batch)
                    if len(got) >= count:
                        scope.cancel()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive, tasks.cancel_scope)
                tasks.start_soon(receive, tasks.cancel_scope)
                async with anyio.create_task_group() as senders:
                    for _ in range(4):
                        senders.start_soon(_send_many, world, count // 4)
        assert sorted(got) == list(range(1, count + 1))


async def _send_many(world: World, count: int) -> None:
    for _ in range(count):
        await world.put("ffrtmp.cmd.a", b"x")
