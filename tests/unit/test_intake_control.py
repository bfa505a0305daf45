"""What people ask of jobs that are there becomes facts and answers."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest
from msgspec.structs import replace

from events import subjects
from events.ids import NodeId
from events.job import (
    Paused,
    PauseRequested,
    Reprioritized,
    ResumeRequested,
    Retried,
)
from events.node import Registered
from events.requests import Reply
from events.spec import Priority, Queue
from events.subjects import Subject
from services.bus.port import Command, Request
from services.clock import Pen
from services.errors import Conflict
from services.log.entity import load_node
from services.log.memory import MemoryLog
from services.log.port import Batch, Entry, Outcome
from services.scheduler.control.intake import Intake
from services.scheduler.control.jobs import AT_ONCE, DURABLY
from tests.fakes import LoopClock
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


class TestOnce:
    async def test_a_durable_retry_that_comes_again_retries_once(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB})
        await desk.cancel({"job_id": JOB})
        await desk.inbox.put(subjects.COMMAND_RETRY, raw({"job_id": JOB}))
        (command,) = [each async for each in first_batch(desk)]
        await desk.intake.work_through(Twice(command))
        await desk.cancel({"job_id": JOB})
        await desk.intake.work_through(Twice(command))
        kinds = [kind for _, kind in await desk.types()]
        assert kinds.count("job.retried.v1") == 1
        assert kinds[-1] == "job.canceled.v1"

    async def test_another_durable_retry_retries_again(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB})
        for _ in range(2):
            await desk.cancel({"job_id": JOB})
            await desk.inbox.put(subjects.COMMAND_RETRY, raw({"job_id": JOB}))
            async with desk.working():
                pass
        kinds = [kind for _, kind in await desk.types()]
        assert kinds.count("job.retried.v1") == 2

    async def test_a_request_that_has_a_name_is_carried_out_once(self) -> None:
        desk = Desk()
        await desk.submit({"job_id": JOB})
        named = Request(subjects.API_RETRY, raw({"job_id": JOB}), "m1")
        for _ in range(2):
            await desk.cancel({"job_id": JOB})
            await desk.intake.endpoints()[subjects.API_RETRY](named)
        kinds = [kind for _, kind in await desk.types()]
        assert kinds.count("job.retried.v1") == 1

    async def test_a_cordon_that_comes_again_does_not_undo_what_came_after(self) -> None:
        desk = Desk()
        node = subjects.node(NodeId("n1"))
        pen = Pen("test", LoopClock())
        await desk.ledger.append([Entry(pen.write(node, Registered(epoch=1, slots=1)))])
        for subject in (subjects.COMMAND_CORDON, subjects.COMMAND_UNCORDON):
            await desk.inbox.put(subject, raw({"node_id": "n1"}))
        cordon, uncordon = [each async for each in first_batch(desk)]
        await desk.intake.work_through(Twice(cordon, uncordon))
        assert len(await desk.events()) == 3
        now = await load_node(desk.ledger, NodeId("n1"))
        later = Intake(desk.ledger, Pen("later", LoopClock()), str, known=lambda _: now)
        again = replace(cordon, request=replace(cordon.request, again=True))
        await later.work_through(Twice(again))
        assert len(await desk.events()) == 3

    async def test_a_policy_that_comes_again_does_not_undo_a_later_one(self) -> None:
        desk = Desk()
        for kind in ("fair", "strict"):
            body = raw({"policy": {"kind": kind}})
            await desk.inbox.put(subjects.COMMAND_POLICY, body, message_id=kind)
        commands = [each async for each in first_batch(desk)]
        await desk.intake.work_through(Twice(*commands))
        await desk.intake.work_through(Twice(*commands))
        assert len(await desk.events()) == 2


class Twice:
    """An inbox that hands out some commands, and ends."""

    def __init__(self, *commands: Command) -> None:
        self._commands = list(commands)
        self.acknowledged: list[int] = []

    @asynccontextmanager
    async def receive(self) -> AsyncGenerator[AsyncIterator[list[Command]]]:
        async def batches() -> AsyncGenerator[list[Command]]:
            yield self._commands

        async with aclosing(batches()) as some:
            yield some

    async def acknowledge(self, commands: Sequence[Command]) -> None:
        self.acknowledged += [command.seq for command in commands]


async def first_batch(desk: Desk) -> AsyncGenerator[Command]:
    """Take the commands that wait, and acknowledge none."""
    async with desk.inbox.receive() as batches:
        for command in await anext(batches):
            yield command


async def test_a_command_for_which_others_are_always_first_keeps_none_waiting() -> None:
    desk = Desk()
    await desk.submit({"job_id": JOB})
    await desk.submit({"job_id": "other"})
    await desk.inbox.put(subjects.COMMAND_CANCEL, raw({"job_id": JOB}))
    await desk.inbox.put(subjects.COMMAND_CANCEL, raw({"job_id": "other"}))
    inbox = Twice(*[each async for each in first_batch(desk)])

    class Contended(MemoryLog):
        async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
            if entries[0].event.subject == subjects.job(JOB):
                return [Conflict(subjects.job(JOB), 9)] * len(entries)
            return await desk.ledger.append(entries)

        async def read(self, subject: Subject, *, after: int = 0) -> Batch:
            return await desk.ledger.read(subject, after=after)

    await Intake(Contended(), Pen("scheduler/2", LoopClock()), str).work_through(inbox)
    assert inbox.acknowledged == [2]
    assert (await desk.types())[-1] == ("other", "job.canceled.v1")
