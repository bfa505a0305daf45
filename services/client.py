"""The client of the services' request subjects: submit, control, ask.

A request that got no answer is repeated: a submission carries its job's id, so the same again is
the same job, and whatever else is asked carries a name of its own, by which it is carried out once.

Where the process that serves has been stopped or cut off a moment ago, the server goes on to give
it requests beside its successor. So the first tries are short, and later ones as long as a third of
the time that has passed, up to what an answer may take.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TypeVar

import anyio
import msgspec
from msgspec import Struct

from events import subjects
from events.cluster import Policy
from events.ids import JobId, NodeId
from events.requests import (
    BODY_BYTES_MAX,
    BULK_JOBS_MAX,
    CancelJob,
    CordonNode,
    DrainNode,
    ExplainJob,
    Explanation,
    PauseJob,
    Problem,
    QueryRequest,
    QueryResult,
    RemoveNode,
    Reply,
    ReprioritizeJob,
    ResumeJob,
    RetryJob,
    SetPolicy,
    SubmitJob,
    UncordonNode,
)
from events.spec import Priority, Queue
from events.subjects import Subject
from services.bus.port import Bus
from services.clock import random_id
from services.errors import LogUnavailable, QueryRefused, UnreadableAnswer

REQUEST_S = 4.0
"""How long one answer is waited for; to explain a job may take a scheduler 2 s."""
BULK_REQUEST_S = 30.0
QUERY_S = 30.0
FIRST_TRY_S = 1.0
"""How long the first tries of a request last."""
BULK_FIRST_TRY_S = 5.0
QUERY_FIRST_TRY_S = 12.0
"""A little longer than a query may take: it should not be worked on twice."""
PATIENCE_S = 10.0
"""How long in all a request is repeated, if one answer may not take longer than this: nobody serves
while a scheduler starts or restarts, or until the leader's lease has run out."""
TRY_AGAIN_S = 0.25
_BULK_HEAD, _BULK_TAIL = b'{"jobs":[', b"]}"

T = TypeVar("T")


class _BulkAnswer(Struct, frozen=True):
    results: tuple[Reply, ...] = ()
    error: Problem | None = None
    """Why the request was refused as a whole."""


class _Tries(Struct, frozen=True):
    """How long a request is waited for at a time."""

    first_s: float
    longest_s: float

    def next_s(self, spent_s: float) -> float:
        """Return how long the next try lasts, when so much time has gone since the first began."""
        return min(max(self.first_s, spent_s / 3), self.longest_s)


_BULK = _Tries(BULK_FIRST_TRY_S, BULK_REQUEST_S)
_QUERY = _Tries(QUERY_FIRST_TRY_S, QUERY_S)


class Client:
    """Asks a fleet over its bus."""

    def __init__(
        self, bus: Bus, *, request_s: float = REQUEST_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._bus = bus
        self._tries = _Tries(min(FIRST_TRY_S, request_s), request_s)
        self._patience_s = patience_s

    async def submit(self, job: SubmitJob) -> Reply:
        """Submit one job, which must have an id so that a repetition is the same job.

        Raises LogUnavailable when nobody answers, for as long as the patience lasts.
        """
        assert job.job_id is not None or job.idempotency_key is not None
        body = msgspec.json.encode(job)
        return await self._asked(subjects.API_SUBMIT, body, Reply, self._tries)

    async def submit_many(self, bodies: Iterable[bytes]) -> AsyncIterator[tuple[Reply, ...]]:
        """Submit jobs given as JSON; iterate over the answers, chunk by chunk, in order."""
        for chunk in chunks(bodies):
            body = _BULK_HEAD + b",".join(chunk) + _BULK_TAIL
            subject = subjects.API_SUBMIT_MANY
            answer = await self._asked(subject, body, _BulkAnswer, _BULK)
            yield _results(answer, len(chunk))

    async def cancel(self, job: JobId, *, by: str = "", reason: str = "") -> Reply:
        """Ask to end a job; the answer tells its state, which may still be on its way there."""
        body = msgspec.json.encode(CancelJob(job_id=job, by=by, reason=reason))
        return await self._asked(subjects.API_CANCEL, body, Reply, self._tries)

    async def pause(self, job: JobId, *, by: str = "", reason: str = "") -> Reply:
        """Ask a running job to stand still; the answer tells its state, which may be on its way."""
        body = msgspec.json.encode(PauseJob(job_id=job, by=by, reason=reason))
        return await self._asked(subjects.API_PAUSE, body, Reply, self._tries)

    async def resume(self, job: JobId, *, by: str = "") -> Reply:
        """Ask a paused job to go on."""
        body = msgspec.json.encode(ResumeJob(job_id=job, by=by))
        return await self._asked(subjects.API_RESUME, body, Reply, self._tries)

    async def retry(self, job: JobId, *, by: str = "") -> Reply:
        """Let a failed or canceled job run again."""
        body = msgspec.json.encode(RetryJob(job_id=job, by=by))
        return await self._asked(subjects.API_RETRY, body, Reply, self._tries)

    async def reprioritize(
        self, job: JobId, rank: tuple[Queue | None, Priority | None], *, by: str = ""
    ) -> Reply:
        """Let a job that has not ended rank anew; None: as it is, but one of both is needed."""
        queue, priority = rank
        asked = ReprioritizeJob(job_id=job, queue=queue, priority=priority, by=by)
        body = msgspec.json.encode(asked)
        return await self._asked(subjects.API_REPRIORITIZE, body, Reply, self._tries)

    async def cordon(self, node: NodeId, *, by: str = "", reason: str = "") -> Reply:
        """Give a node nothing new; the answer tells its state in words."""
        body = msgspec.json.encode(CordonNode(node_id=node, by=by, reason=reason))
        return await self._asked(subjects.API_CORDON, body, Reply, self._tries)

    async def uncordon(self, node: NodeId, *, by: str = "") -> Reply:
        """Let a node have work again, whoever or whatever took it out."""
        body = msgspec.json.encode(UncordonNode(node_id=node, by=by))
        return await self._asked(subjects.API_UNCORDON, body, Reply, self._tries)

    async def drain(self, node: NodeId, *, by: str = "", reason: str = "") -> Reply:
        """Let a node finish what runs there and end; the answer comes long before it has."""
        body = msgspec.json.encode(DrainNode(node_id=node, by=by, reason=reason))
        return await self._asked(subjects.API_DRAIN, body, Reply, self._tries)

    async def remove(self, node: NodeId, *, by: str = "") -> Reply:
        """Forget a node that does not live."""
        body = msgspec.json.encode(RemoveNode(node_id=node, by=by))
        return await self._asked(subjects.API_REMOVE, body, Reply, self._tries)

    async def set_policy(self, policy: Policy, *, by: str = "", reason: str = "") -> Reply:
        """Rank jobs by this policy from now on; the answer's status is its kind."""
        body = msgspec.json.encode(SetPolicy(policy=policy, by=by, reason=reason))
        return await self._asked(subjects.API_POLICY, body, Reply, self._tries)

    async def explain(self, job: JobId) -> Explanation:
        """Ask why a job is where it is; the answer may carry an error instead."""
        body = msgspec.json.encode(ExplainJob(job_id=job))
        return await self._asked(subjects.API_EXPLAIN, body, Explanation, self._tries)

    async def query(self, request: QueryRequest) -> QueryResult:
        """Ask the projection in SQL. Raises QueryRefused with the reason, LogUnavailable."""
        body = msgspec.json.encode(request)
        result = await self._asked(subjects.QUERY, body, QueryResult, _QUERY)
        if result.error is not None:
            raise QueryRefused(result.error.code, result.error.message)
        return result

    async def _asked(self, subject: Subject, body: bytes, kind: type[T], tries: _Tries) -> T:
        """Ask until there is an answer or the patience is spent."""
        begun_s = anyio.current_time()
        end_s = begun_s + max(self._patience_s, tries.longest_s)
        name = {"Nats-Msg-Id": random_id()}
        while True:
            try_s = tries.next_s(anyio.current_time() - begun_s)
            try:
                answer = await self._bus.request(subject, body, timeout_s=try_s, headers=name)
                return _read(answer, kind)
            except LogUnavailable as error:
                if anyio.current_time() + TRY_AGAIN_S >= end_s:
                    raise LogUnavailable(f"{error}; {_missing(subject)}") from error
            await anyio.sleep(TRY_AGAIN_S)


def chunks(bodies: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """Group encoded jobs into requests of at most `BULK_JOBS_MAX` and `BODY_BYTES_MAX`.

    A job that alone is longer than a request may be goes by itself and is refused by the service.
    """
    frame = len(_BULK_HEAD) + len(_BULK_TAIL)
    chunk: list[bytes] = []
    size = frame
    for body in bodies:
        if chunk and (len(chunk) == BULK_JOBS_MAX or size + len(body) + 1 > BODY_BYTES_MAX):
            yield chunk
            chunk, size = [], frame
        chunk.append(body)
        size += len(body) + 1
    if chunk:
        yield chunk


def _results(answer: _BulkAnswer, asked: int) -> tuple[Reply, ...]:
    """Return one answer a job: a request that was refused as a whole refuses each of them."""
    if answer.error is not None:
        return (Reply(error=answer.error),) * asked
    if len(answer.results) != asked:
        raise UnreadableAnswer(f"{asked} jobs submitted, {len(answer.results)} answers received")
    return answer.results


def _missing(subject: Subject) -> str:
    """Return who should have answered, and what to do."""
    who = "projector" if subject == subjects.QUERY else "scheduler"
    return f"is a {who} running? to ask again is safe"


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise UnreadableAnswer(f"answer cannot be read: {error}; got: {body[:200]!r}") from None
