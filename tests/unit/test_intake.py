"""Requests become facts and answers; bad ones an answer, or exactly one `rejected` fact."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from msgspec import json

from events import subjects
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    Canceled,
    CancelRequested,
    JobFact,
    Rejected,
    Started,
    Submitted,
)
from events.requests import Problem, Replies, Reply, SubmitJob, derive_job_id
from events.spec import Engine
from events.subjects import Subject
from services.bus.port import Request
from services.clock import Pen
from services.log.memory import MemoryLog
from services.log.port import Entry
from services.memory import memory_backbone, memory_inbox
from services.scheduler.control.intake import Intake
from tests.fakes import LoopClock

pytestmark = pytest.mark.anyio
JOB = JobId("clip")
SUBMITTED = "job.submitted.v1"
REJECTED = "job.rejected.v1"


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


class Desk:
    """An intake over an empty ledger, and what it has stored."""

    def __init__(self) -> None:
        self.backbone = memory_backbone()
        self.ledger = self.backbone.ledger
        self.inbox = memory_inbox(self.backbone)
        self._pen = Pen("test", LoopClock())
        self._ids = iter(f"fresh-{number}" for number in range(100))
        self.intake = Intake(self.ledger, Pen("scheduler/1", LoopClock()), self._ids.__next__)

    async def submit(self, body: object, message_id: str | None = None) -> Reply:
        """Submit by request."""
        request = Request(subjects.API_SUBMIT, raw(body), message_id)
        return json.decode(await self.intake.submit(request), type=Reply)

    async def submit_many(self, *bodies: object) -> list[Reply]:
        """Submit in bulk by request."""
        request = Request(subjects.API_SUBMIT_MANY, json.encode({"jobs": bodies}))
        return list(json.decode(await self.intake.submit_many(request), type=Replies).results)

    async def cancel(self, body: object) -> Reply:
        """Cancel by request."""
        return await self.ask(subjects.API_CANCEL, body)

    async def ask(self, subject: Subject, body: object) -> Reply:
        """Ask something of a job, a node or the fleet."""
        answer = self.intake.endpoints()[subject]
        return json.decode(await answer(Request(subject, raw(body))), type=Reply)

    async def running(self) -> None:
        """Let the job run on a node."""
        node = NodeId("n1")
        await self.submit({"job_id": JOB})
        await self.store(JOB, Assigned(node=node, attempt=1), Started(node=node, attempt=1))

    async def store(self, job: str, *facts: JobFact) -> None:
        """Store facts of a job, as others would."""
        subject = subjects.job(JobId(job))
        await self.ledger.append([Entry(self._pen.write(subject, fact)) for fact in facts])

    async def events(self) -> list[Recorded]:
        """Return what the ledger holds."""
        async with self.ledger.follow(after=0, live=False) as batches:
            return [event async for batch in batches for event in batch]

    async def types(self) -> list[tuple[str, str]]:
        """Return which fact of which job the ledger holds."""
        return [(subjects.job_of(event.subject), event.type) for event in await self.events()]

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Let durable commands be worked through, until none is waiting any more."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.intake.work_through, self.inbox)
            yield
            await anyio.wait_all_tasks_blocked()
            assert self.inbox.waiting == 0
            tasks.cancel_scope.cancel()


def raw(body: object) -> bytes:
    return body if isinstance(body, bytes) else json.encode(body)


class TestSubmit:
    async def test_a_new_job_is_stored_and_answered(self) -> None:
        desk = Desk()
        reply = await desk.submit({"job_id": JOB, "engine": "noop"})
        assert reply == Reply(job_id=JOB, status="queued", seq=1)
        (event,) = await desk.events()
        assert (event.subject, event.source) == (subjects.job(JOB), "scheduler/1")
        assert isinstance(event.fact, Submitted)
        assert (event.fact.spec.engine, event.fact.via) == (Engine.NOOP, "api")

    @pytest.mark.parametrize(
        "waits", [{"not_before": "2030-01-01T00:00:00Z"}, {"depends_on": ["other"]}]
    )
    async def test_a_job_that_waits_for_something_is_pending(
        self, waits: dict[str, object]
    ) -> None:
        reply = await Desk().submit({"job_id": JOB, **waits})
        assert reply == Reply(job_id=JOB, status="pending", seq=1)

    async def test_the_same_job_again_is_a_duplicate(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB, "queue": "live"})
        again = await desk.submit({"job_id": JOB, "queue": "live"})
        assert again == Reply(job_id=JOB, status="queued", duplicate=True)
        assert await desk.types() == [(JOB, SUBMITTED)]

    async def test_another_job_under_the_same_id_is_refused_with_what_differs(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB, "labels": {"show": "a"}})
        again = await desk.submit({"job_id": JOB, "queue": "live", "labels": {"show": "b"}})
        message = (
            "a job of this id, or idempotency key, is there already (queued) and differs in "
            "$.queue, $.labels.show: submit this one under another, or exactly as before"
        )
        problem = Problem(code="job_differs", message=message, field="$.queue")
        assert again == Reply(job_id=JOB, error=problem)
        assert await desk.types() == [(JOB, SUBMITTED)]

    async def test_a_repetition_is_told_how_far_the_job_is(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB})
        await desk.store(JOB, Assigned(node=NodeId("n1"), attempt=1))
        assert (await desk.submit({"job_id": JOB})).status == "assigned"

    async def test_the_same_idempotency_key_of_a_tenant_is_the_same_job(self) -> None:
        desk = Desk()
        keyed = {"idempotency_key": "clip-7", "tenant": "acme"}
        first, again = await desk.submit(keyed), await desk.submit(keyed)
        other = await desk.submit({**keyed, "tenant": "globex"})
        changed = await desk.submit({**keyed, "queue": "batch"})
        assert changed.error is not None
        assert (changed.error.code, changed.error.field) == ("job_differs", "$.queue")
        assert (first.job_id, first.duplicate) == (again.job_id, False)
        assert again.duplicate
        assert (other.job_id != first.job_id, other.duplicate) == (True, False)

    async def test_the_same_message_id_is_the_same_job(self) -> None:
        desk = Desk()
        first, again = [await desk.submit({}, message_id="m-1") for _ in range(2)]
        assert (first.duplicate, again.duplicate) == (False, True)
        assert first.job_id == again.job_id

    async def test_without_any_id_each_is_a_job_of_its_own(self) -> None:
        desk = Desk()
        replies = [await desk.submit({}) for _ in range(2)]
        assert [reply.job_id for reply in replies] == ["fresh-0", "fresh-1"]

    async def test_garbage_on_the_jobs_subject_does_not_keep_it_out(self) -> None:
        desk = Desk()
        assert isinstance(desk.ledger, MemoryLog)
        await desk.ledger.put(subjects.job(JOB), b"not an event")
        reply = await desk.submit({"job_id": JOB})
        assert reply == Reply(job_id=JOB, status="queued", seq=2)
        again = await desk.submit({"job_id": JOB})
        assert again == Reply(job_id=JOB, status="queued", duplicate=True)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"queue": "soon"}, "$.queue"),
            ({"parameters": {"video": {"width": 17}}}, "$.parameters.video.width"),
            ({"unknown": 1}, "$.unknown"),
            (b"{", "$"),
            (b"\xff\xfe", "$"),
            (b"[]", "$"),
        ],
    )
    async def test_an_invalid_one_is_answered_by_field_and_not_stored(
        self, body: object, field: str
    ) -> None:
        desk = Desk()
        reply = await desk.submit(body)
        assert reply.error is not None
        assert (reply.job_id, reply.error.code, reply.error.field) == ("", "invalid", field)
        assert await desk.events() == []


class TestSubmitMany:
    async def test_each_is_answered_in_the_order_given(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": "b"})
        bad = {"job_id": "c", "queue": "soon"}
        replies = await desk.submit_many({"job_id": "a"}, {"job_id": "b"}, bad, {"job_id": "d"})
        errors = [None if reply.error is None else reply.error.field for reply in replies]
        assert [reply.job_id for reply in replies] == ["a", "b", "", "d"]
        assert [reply.duplicate for reply in replies] == [False, True, False, False]
        assert errors == [None, None, "$.queue", None]
        assert await desk.types() == [("b", SUBMITTED), ("a", SUBMITTED), ("d", SUBMITTED)]

    async def test_twice_in_one_bulk_is_one_job_and_a_duplicate(self) -> None:
        desk = Desk()
        replies = await desk.submit_many({"job_id": "a"}, {"job_id": "b"}, {"job_id": "a"})
        assert replies == [
            Reply(job_id="a", status="queued", seq=1),
            Reply(job_id="b", status="queued", seq=2),
            Reply(job_id="a", status="queued", seq=1, duplicate=True),
        ]

    async def test_another_job_under_a_known_id_is_refused_in_bulk_too(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": "a"})
        changed = {"job_id": "a", "queue": "live"}
        replies = await desk.submit_many(changed, {"job_id": "b"}, {"job_id": "b"}, changed)
        codes = [None if reply.error is None else reply.error.code for reply in replies]
        assert codes == ["job_differs", None, None, "job_differs"]
        assert [reply.duplicate for reply in replies] == [False, False, True, False]
        assert await desk.types() == [("a", SUBMITTED), ("b", SUBMITTED)]

    async def test_twice_in_one_bulk_with_a_difference_is_one_job_and_a_refusal(self) -> None:
        desk = Desk()
        replies = await desk.submit_many({"job_id": "a"}, {"job_id": "a", "priority": "high"})
        assert (replies[0].error, replies[0].seq) == (None, 1)
        assert replies[1].error is not None
        assert (replies[1].error.code, replies[1].error.field) == ("job_differs", "$.priority")
        assert await desk.types() == [("a", SUBMITTED)]

    async def test_a_bulk_of_nothing_valid_stores_nothing(self) -> None:
        desk = Desk()
        replies = await desk.submit_many({"queue": "soon"}, 7)
        assert all(reply.error is not None for reply in replies)
        assert await desk.events() == []

    async def test_a_bulk_that_cannot_be_read_has_one_answer(self) -> None:
        request = Request(subjects.API_SUBMIT_MANY, b'{"jobs":[]}')
        reply = json.decode(await Desk().intake.submit_many(request), type=Reply)
        assert reply.error is not None
        assert (reply.error.code, reply.error.field) == ("invalid", "$.jobs")


class TestCancel:
    async def test_a_waiting_job_is_canceled(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB})
        reply = await desk.cancel({"job_id": JOB, "by": "ann", "reason": "wrong"})
        assert (reply.error, reply.seq) == (None, 2)
        assert (await desk.events())[-1].fact == Canceled(by="ann", reason="wrong")

    async def test_a_held_job_is_asked_to_end_once(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB})
        await desk.store(JOB, Assigned(node=NodeId("n1"), attempt=1))
        replies = [await desk.cancel({"job_id": JOB, "by": "ann"}) for _ in range(2)]
        assert [reply.seq for reply in replies] == [3, 0]
        assert (await desk.events())[-1].fact == CancelRequested(by="ann")

    async def test_an_unknown_job_is_refused(self) -> None:
        desk = Desk()
        reply = await desk.cancel({"job_id": "nobody"})
        assert reply.error is not None
        assert (reply.error.code, reply.error.field) == ("job_unknown", "$.job_id")
        assert await desk.events() == []

    async def test_a_job_that_has_ended_is_refused(self) -> None:
        desk = Desk()
        await desk.store(JOB, Rejected(reason="no"))
        reply = await desk.cancel({"job_id": JOB})
        assert reply.error is not None
        assert (reply.job_id, reply.error.code) == (JOB, "job_ended")

    async def test_an_invalid_one_is_answered_by_field(self) -> None:
        reply = await Desk().cancel({"job_id": "a b"})
        assert reply.error is not None
        assert (reply.error.code, reply.error.field) == ("invalid", "$.job_id")


class TestDurableCommands:
    async def test_a_submission_is_stored_and_forgotten(self) -> None:
        desk = Desk()
        async with desk.working():
            await desk.inbox.put(subjects.COMMAND_SUBMIT, raw({"job_id": JOB}))
        (event,) = await desk.events()
        assert isinstance(event.fact, Submitted)
        assert (event.subject, event.fact.via) == (subjects.job(JOB), "command")

    async def test_a_repetition_is_the_same_job(self) -> None:
        desk = Desk()
        async with desk.working():
            for _ in range(3):
                await desk.inbox.put(subjects.COMMAND_SUBMIT, raw({"job_id": JOB}))
        assert await desk.types() == [(JOB, SUBMITTED)]

    async def test_another_job_under_a_known_id_is_a_rejected_fact_of_its_own(self) -> None:
        desk = Desk()
        async with desk.working():
            await desk.inbox.put(subjects.COMMAND_SUBMIT, raw({"job_id": JOB}))
            await desk.inbox.put(subjects.COMMAND_SUBMIT, raw({"job_id": JOB, "queue": "live"}))
            await desk.inbox.put(subjects.COMMAND_SUBMIT, raw({"job_id": "other"}))
        kinds = dict(await desk.types())
        own = derive_job_id(SubmitJob(), command_seq=2)
        assert kinds == {JOB: SUBMITTED, "other": SUBMITTED, own: REJECTED}
        rejected = next(at.fact for at in await desk.events() if isinstance(at.fact, Rejected))
        assert rejected.field == "$.queue"
        assert "is there already (queued) and differs in $.queue" in rejected.reason

    async def test_a_job_without_id_is_named_after_its_place_in_the_stream(self) -> None:
        desk = Desk()
        async with desk.working():
            await desk.inbox.put(subjects.COMMAND_SUBMIT, b"")
        assert await desk.types() == [(derive_job_id(SubmitJob(), command_seq=1), SUBMITTED)]

    @pytest.mark.parametrize(
        ("subject", "body", "field"),
        [
            (subjects.COMMAND_SUBMIT, b"garbage", "$"),
            (subjects.COMMAND_SUBMIT, b'{"job_id":"clip","queue":"soon"}', "$.queue"),
            (subjects.COMMAND_CANCEL, b'{"job_id":"nobody"}', "$.job_id"),
            (subjects.COMMAND_CANCEL, b"{}", "$.job_id"),
            ("ffrtmp.cmd.jobs.explode", b"{}", "$subject"),
        ],
    )
    async def test_a_refused_one_is_one_rejected_fact_under_its_own_id(
        self, subject: str, body: bytes, field: str
    ) -> None:
        desk = Desk()
        async with desk.working():
            await desk.inbox.put(subject, body)
        (event,) = await desk.events()
        assert subjects.job_of(event.subject) == derive_job_id(SubmitJob(), command_seq=1)
        assert isinstance(event.fact, Rejected)
        assert (event.fact.field, event.fact.request) == (field, body.decode())

    async def test_a_refused_one_that_comes_again_is_not_rejected_again(self) -> None:
        desk = Desk()
        await desk.inbox.put(subjects.COMMAND_SUBMIT, b"garbage")
        async with desk.inbox.receive() as batches:
            commands = await anext(batches)
        for _ in range(2):
            await desk.intake._obey(commands)  # pyright: ignore[reportPrivateUsage] - a redelivery
        assert [kind for _, kind in await desk.types()] == [REJECTED]

    async def test_garbage_does_not_keep_back_those_behind_it(self) -> None:
        desk = Desk()
        async with desk.working():
            for body in (b"garbage", raw({"job_id": "a"}), b"\xff", raw({"job_id": "b"})):
                await desk.inbox.put(subjects.COMMAND_SUBMIT, body)
        kinds = Counter(kind for _, kind in await desk.types())
        assert kinds == {REJECTED: 2, SUBMITTED: 2}

    async def test_commands_are_carried_out_in_their_order(self) -> None:
        desk = Desk()
        await desk.inbox.put(subjects.COMMAND_SUBMIT, raw({"job_id": JOB}))
        await desk.inbox.put(subjects.COMMAND_CANCEL, raw({"job_id": JOB, "by": "ann"}))
        async with desk.working():
            pass
        assert await desk.types() == [(JOB, SUBMITTED), (JOB, "job.canceled.v1")]
