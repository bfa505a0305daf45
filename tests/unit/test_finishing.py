"""The ordered end of a term: what was taken in is answered, nothing more is taken in."""

import anyio
import pytest
import trio.testing

from events import subjects
from services.bus.memory import MemoryInbox
from services.bus.port import Command, Request
from services.scheduler.finishing import ClosableInbox, Requests
from tests.fakes import passing

pytestmark = pytest.mark.anyio
REQUEST = Request(subjects.API_CANCEL, b"{}")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class TestRequests:
    async def test_without_any_there_is_nothing_to_wait_for(self) -> None:
        await Requests().finished()
        assert anyio.current_time() == 0

    async def test_all_that_are_being_answered_are_waited_for(self) -> None:
        requests = Requests()
        endpoints = requests.counted({subjects.API_CANCEL: self.slowly})

        async def ask() -> None:
            await endpoints[subjects.API_CANCEL](REQUEST)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await passing(1)
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            await requests.finished()
            assert anyio.current_time() == pytest.approx(11)

    async def test_one_that_fails_or_is_canceled_is_not_waited_for(self) -> None:
        requests = Requests()

        async def fail(_: Request) -> bytes:
            raise RuntimeError

        endpoints = requests.counted({subjects.API_CANCEL: fail, subjects.API_PAUSE: self.slowly})
        with pytest.raises(RuntimeError):
            await endpoints[subjects.API_CANCEL](REQUEST)
        with anyio.move_on_after(1):
            await endpoints[subjects.API_PAUSE](REQUEST)
        with anyio.fail_after(1):
            await requests.finished()

    async def test_an_answer_is_handed_on_as_it_is(self) -> None:
        endpoints = Requests().counted({subjects.API_CANCEL: self.slowly})
        assert await endpoints[subjects.API_CANCEL](REQUEST) == b"done"

    @staticmethod
    async def slowly(_: Request) -> bytes:
        await passing(10)
        return b"done"


class TestClosableInbox:
    async def test_the_batch_that_was_taken_is_worked_through(self) -> None:
        inner, taken = MemoryInbox(batch_max=1), list[Command]()
        inbox = ClosableInbox(inner)
        for _ in range(2):
            await inner.put(subjects.COMMAND_CANCEL, b"{}")
        async with inbox.receive() as batches:
            async for batch in batches:
                inbox.close()
                taken += batch
                await inbox.acknowledge(batch)
        assert [command.seq for command in taken] == [1]
        assert inner.waiting == 1

    async def test_whoever_waits_for_a_batch_waits_no_more(self) -> None:
        inbox = ClosableInbox(MemoryInbox())
        ended = anyio.Event()

        async def work() -> None:
            async with inbox.receive() as batches:
                async for _ in batches:
                    raise AssertionError
            ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            assert not ended.is_set()
            inbox.close()
            await ended.wait()
            assert anyio.current_time() == 0

    async def test_one_that_is_closed_already_hands_out_nothing(self) -> None:
        inner = MemoryInbox()
        await inner.put(subjects.COMMAND_CANCEL, b"{}")
        inbox = ClosableInbox(inner)
        inbox.close()
        async with inbox.receive() as batches:
            assert [batch async for batch in batches] == []
        assert inner.waiting == 1
