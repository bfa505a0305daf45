"""What people ask of jobs that are there becomes facts and answers."""

import pytest

from events import subjects
from events.job import (
    Paused,
    PauseRequested,
    Reprioritized,
    ResumeRequested,
    Retried,
)
from events.requests import Reply
from events.spec import Priority, Queue
from events.subjects import Subject
from services.bus.port import Request
from services.scheduler.control.jobs import AT_ONCE, DURABLY
from tests.unit.test_intake import JOB, Desk, raw

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


class TestControl:
    async def test_a_running_job_is_asked_to_pause_and_to_go_on(self) -> None:
        desk = Desk()
        await desk.running()
        pause = await desk.ask(subjects.API_PAUSE, {"job_id": JOB, "by": "ann", "reason": "noon"})
        assert pause == Reply(job_id=JOB, status="processing", seq=4)
        await desk.store(JOB, Paused(attempt=1))
        resume = await desk.ask(subjects.API_RESUME, {"job_id": JOB, "by": "bob"})
        assert resume == Reply(job_id=JOB, status="paused", seq=6)
        facts = [event.fact for event in await desk.events()]
        assert facts[3] == PauseRequested(attempt=1, by="ann", reason="noon")
        assert facts[5] == ResumeRequested(attempt=1, by="bob")

    async def test_a_canceled_job_is_retried_once(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB})
        await desk.cancel({"job_id": JOB})
        retry = {"job_id": JOB, "by": "ann"}
        replies = [await desk.ask(subjects.API_RETRY, retry) for _ in range(2)]
        assert replies == [
            Reply(job_id=JOB, status="queued", seq=3),
            Reply(job_id=JOB, status="queued"),
        ]
        assert (await desk.events())[-1].fact == Retried(by="ann")

    async def test_a_waiting_job_ranks_anew(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB})
        reply = await desk.ask(subjects.API_REPRIORITIZE, {"job_id": JOB, "queue": "live"})
        assert reply == Reply(job_id=JOB, status="queued", seq=2)
        rank = Reprioritized(queue=Queue.LIVE, priority=Priority.MEDIUM)
        assert (await desk.events())[-1].fact == rank

    async def test_a_new_rank_that_says_nothing_is_invalid(self) -> None:
        reply = await Desk().ask(subjects.API_REPRIORITIZE, {"job_id": JOB})
        assert reply.error is not None
        assert (reply.error.code, reply.error.field) == ("invalid", "$")
        assert "allowed: one of them, or both" in reply.error.message

    async def test_the_trace_of_a_request_is_its_facts_too(self) -> None:
        desk = Desk()
        await desk.running()
        request = Request(subjects.API_PAUSE, raw({"job_id": JOB}), traceparent="00-ab-cd-01")
        await desk.intake.endpoints()[subjects.API_PAUSE](request)
        assert (await desk.events())[-1].traceparent == "00-ab-cd-01"

    @pytest.mark.parametrize("subject", AT_ONCE)
    async def test_an_unknown_job_is_refused_whatever_is_asked(self, subject: Subject) -> None:
        body = {"job_id": "nobody", **({"queue": "live"} if "reprior" in subject else {})}
        reply = await Desk().ask(subject, body)
        assert reply.error is not None
        assert (reply.error.code, reply.error.field) == ("job_unknown", "$.job_id")

    async def test_the_durable_ones_do_the_same_in_their_order(self) -> None:
        desk = Desk()
        await desk.running()
        body = raw({"job_id": JOB, "by": "ann"})
        for subject in (subjects.COMMAND_PAUSE, subjects.COMMAND_RESUME, subjects.COMMAND_CANCEL):
            await desk.inbox.put(subject, body)
        await desk.inbox.put(subjects.COMMAND_RETRY, body)
        await desk.inbox.put(
            subjects.COMMAND_REPRIORITIZE, raw({"job_id": JOB, "priority": "high"})
        )
        async with desk.working():
            pass
        kinds = [kind.split(".")[1] for _, kind in await desk.types()][3:]
        asked = ["pause_requested", "resume_requested", "cancel_requested"]
        assert kinds == [*asked, "rejected", "reprioritized"]  # no retry of what is being canceled

    def test_every_request_comes_at_once_and_durably(self) -> None:
        assert [subject.replace(".api.", ".cmd.") for subject in AT_ONCE] == list(DURABLY)
