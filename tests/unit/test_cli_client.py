"""The client: what it asks, how often, and what it makes of answers."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import anyio
import msgspec
import pytest
import trio.testing

from events import subjects
from events.ids import JobId
from events.requests import (
    BODY_BYTES_MAX,
    Problem,
    QueryRequest,
    Reply,
    SubmitJob,
    SubmitMany,
    decode_request,
)
from services.bus.memory import MemoryBus
from services.bus.port import Request
from services.client import Client, chunks
from services.errors import LogUnavailable, UnreadableAnswer
from tests.fakes import passing

pytestmark = pytest.mark.anyio
JOB = SubmitJob(job_id=JobId("j1"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def answer_queued(request: Request) -> bytes:
    job = msgspec.json.decode(request.body, type=SubmitJob)
    return msgspec.json.encode(Reply(job_id=str(job.job_id), status="queued", seq=1))


async def test_a_request_that_nobody_answers_says_who_is_missing() -> None:
    client = Client(MemoryBus(), request_s=0.01, patience_s=0.01)
    with pytest.raises(LogUnavailable, match="is a scheduler running"):
        await client.submit(JOB)


def test_a_chunk_has_at_most_a_thousand_jobs() -> None:
    assert [len(chunk) for chunk in chunks([b"{}"] * 2001)] == [1000, 1000, 1]
    assert list(chunks([])) == []


def test_a_chunk_is_a_body_that_the_service_takes() -> None:
    body = msgspec.json.encode({"labels": {"x": "y" * 2000}})
    sizes: list[int] = []
    for chunk in chunks([body] * 600):
        request = b'{"jobs":[' + b",".join(chunk) + b"]}"
        assert len(decode_request(SubmitMany, request).jobs) == len(chunk)
        sizes.append(len(request))
    assert len(sizes) > 1
    assert max(sizes) <= BODY_BYTES_MAX < sizes[0] + len(body) + 1


async def test_a_request_waits_for_a_service_that_is_not_there_yet() -> None:
    bus, calls = MemoryBus(), 0

    class Late(MemoryBus):
        async def request(self, subject: str, body: bytes, **_: object) -> bytes:
            nonlocal calls
            calls += 1
            if calls < 3:
                raise LogUnavailable("nobody serves it")
            return await bus.request(subject, body)

    async with bus.serve("test", {subjects.API_SUBMIT: answer_queued}):
        reply = await Client(Late()).submit(JOB)
    assert (reply.job_id, calls) == ("j1", 3)


async def test_patience_ends() -> None:
    with pytest.raises(LogUnavailable, match="nobody serves it"):
        await Client(MemoryBus(), request_s=0.01, patience_s=0.3).submit(JOB)


async def test_an_answer_that_is_none_is_said_to_be_none() -> None:
    async def answer(_: Request) -> bytes:
        return b"what?"

    bus = MemoryBus()
    async with bus.serve("test", {subjects.API_SUBMIT: answer}):
        with pytest.raises(UnreadableAnswer, match="got: b'what\\?'"):
            await Client(bus).submit(JOB)


async def test_a_bulk_request_refused_as_a_whole_refuses_each_job() -> None:
    problem = Problem(code="invalid", message="too long")

    async def answer(_: Request) -> bytes:
        return msgspec.json.encode(Reply(error=problem))

    bus = MemoryBus()
    async with bus.serve("test", {subjects.API_SUBMIT_MANY: answer}):
        answers = [replies async for replies in Client(bus).submit_many([b"{}"] * 2)]
    assert answers == [(Reply(error=problem), Reply(error=problem))]


async def test_a_bulk_answer_of_another_length_is_no_answer() -> None:
    async def answer(_: Request) -> bytes:
        return b'{"results":[{}]}'

    bus = MemoryBus()
    async with bus.serve("test", {subjects.API_SUBMIT_MANY: answer}):
        with pytest.raises(UnreadableAnswer, match="2 jobs submitted, 1 answers received"):
            _ = [replies async for replies in Client(bus).submit_many([b"{}"] * 2)]


class Stopped(MemoryBus):
    """A bus whose one server stands still until `wakes_s`; it knows when it was asked what."""

    def __init__(self, wakes_s: float) -> None:
        super().__init__()
        self._wakes_s = wakes_s
        self.asked: list[tuple[float, str | None]] = []

    async def request(
        self,
        subject: str,
        body: bytes,
        *,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        del subject, body
        now_s = anyio.current_time()
        self.asked.append((now_s, (headers or {}).get("Nats-Msg-Id")))
        if now_s >= self._wakes_s:
            return b"{}"
        await passing(timeout_s)
        raise LogUnavailable("no answer")


class TestFailover:
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}

    async def test_a_request_to_a_leader_that_was_stopped_is_tried_again_and_again(self) -> None:
        bus = Stopped(wakes_s=1e9)
        with pytest.raises(LogUnavailable, match="no answer"):
            await Client(bus).submit(JOB)
        times = [round(at_s, 2) for at_s, _ in bus.asked]
        assert times == [0.0, 1.25, 2.5, 3.75, 5.25, 7.25, 9.92]

    async def test_every_try_of_one_request_has_one_name_and_another_request_another(self) -> None:
        bus = Stopped(wakes_s=3.0)
        client = Client(bus)
        await client.retry(JobId("j1"))
        assert len(bus.asked) == 4
        await client.retry(JobId("j1"))
        *first, last = [name for _, name in bus.asked]
        assert len(set(first)) == 1
        assert first[0] is not None
        assert last not in first

    async def test_explaining_querying_and_submitting_in_bulk_outlast_a_failover(self) -> None:
        waited: list[float] = []
        asks: list[Callable[[Client], Awaitable[object]]] = [
            lambda client: client.explain(JobId("j1")),
            lambda client: client.query(QueryRequest(sql="SELECT 1")),
            lambda client: anext(client.submit_many([b"{}"])),
        ]
        for ask in asks:
            begun_s = anyio.current_time()
            client = Client(Stopped(wakes_s=begun_s + 2.3))
            with suppress(UnreadableAnswer):  # it says nothing; what counts is that it came
                await ask(client)
            waited.append(round(anyio.current_time() - begun_s, 2))
        assert waited == [2.5, 12.25, 5.25]
