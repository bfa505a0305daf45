import msgspec
import pytest

from events import subjects
from events.ids import JobId
from events.requests import (
    BODY_BYTES_MAX,
    Problem,
    Reply,
    SubmitJob,
    SubmitMany,
    decode_request,
)
from services.bus.memory import MemoryBus
from services.bus.port import Request
from services.client import Client, chunks
from services.errors import LogUnavailable, UnreadableAnswer

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
