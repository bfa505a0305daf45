"""Requests come in here: durable commands and calls that want an answer, decided alike.

A submission needs no read: "no earlier event of this job" is its expectation, so a repetition, a
redelivery and a second intake process are harmless, for ever.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
import structlog
from msgspec import Struct

from events import subjects
from events.ids import JobId
from events.job import Rejected, Submitted
from events.requests import (
    InvalidRequest,
    Problem,
    Replies,
    Reply,
    SubmitJob,
    SubmitMany,
    decode_request,
    derive_job_id,
    spec_of,
)
from events.state.job import JobStatus, status_of
from events.strict import shown
from services.bus.port import Command, Inbox, Request
from services.clock import NewId, Pen
from services.errors import Conflict
from services.log.persist import append, persistently
from services.log.port import Entry, EventLog
from services.scheduler.control.jobs import DURABLY, JobControl, Reader
from services.scheduler.control.transact import transact
from services.scheduler.deciders.job import Submit

_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger()


class Submission(Struct, frozen=True):
    """A valid submission and the job it is for."""

    job: JobId
    request: SubmitJob
    traceparent: str | None


class Intake:
    """Turns requests into facts, and facts into answers."""

    def __init__(self, ledger: EventLog, pen: Pen, new_id: NewId) -> None:
        self._ledger = ledger
        self._pen = pen
        self._new_id = new_id
        self._control = JobControl(ledger, pen)

    async def submit(self, request: Request) -> bytes:
        """Answer one submission."""
        try:
            submission = self._read(request.body, request)
        except InvalidRequest as invalid:
            return _encode(_invalid(invalid))
        return _encode((await self._accept([submission], via="api"))[0])

    async def submit_many(self, request: Request) -> bytes:
        """Answer a bulk submission: every job by itself, in the order given."""
        try:
            bodies = decode_request(SubmitMany, request.body).jobs
        except InvalidRequest as invalid:
            return _encode(_invalid(invalid))
        return _encode(Replies(results=tuple(await self._accept_many(bodies, request))))

    def control(self, read: Reader) -> Callable[[Request], Awaitable[bytes]]:
        """Return what answers requests of one kind about jobs that are there."""

        async def answer(request: Request) -> bytes:
            try:
                return _encode(await self._control.carry_out(request, read))
            except InvalidRequest as invalid:
                return _encode(_invalid(invalid))

        return answer

    async def work_through(self, inbox: Inbox) -> None:
        """Decide durable commands as they come; each is acknowledged when its fact is stored."""
        async with inbox.receive() as batches:
            async for commands in batches:
                try:
                    await self._obey(commands)
                except Conflict as race:
                    _log.warning("command.contended", error=str(race), commands=len(commands))
                    continue  # not acknowledged: they come again
                await persistently(partial(inbox.acknowledge, commands), "acknowledging")

    async def _obey(self, commands: Sequence[Command]) -> None:
        """Carry out the commands in their order, neighboring submissions in one append."""
        submissions: list[Submission] = []
        for command in commands:
            try:
                match command.request.subject:
                    case subjects.COMMAND_SUBMIT:
                        submissions.append(self._read_command(command))
                    case known if known in DURABLY:
                        await self._accept(submissions, via="command")
                        submissions = []
                        await self._control_durably(command, DURABLY[known])
                    case stranger:
                        await self._reject(command, _unknown_command(stranger))
            except InvalidRequest as invalid:
                await self._reject(command, invalid)
        await self._accept(submissions, via="command")

    def _read(self, body: bytes, request: Request) -> Submission:
        asked = decode_request(SubmitJob, body)
        job = derive_job_id(asked, message_id=request.message_id) or JobId(self._new_id())
        return Submission(job, asked, request.traceparent)

    def _read_command(self, command: Command) -> Submission:
        request = command.request
        asked = decode_request(SubmitJob, request.body)
        job = derive_job_id(asked, message_id=request.message_id, command_seq=command.seq)
        assert job is not None, "a durable command always has its place in the stream"
        return Submission(job, asked, request.traceparent)

    async def _accept_many(self, bodies: Sequence[msgspec.Raw], request: Request) -> list[Reply]:
        """Accept what is valid in one append; the answers keep the order of the request."""
        answers: list[Reply | None] = []
        submissions: list[Submission] = []
        for body in bodies:
            try:
                asked = decode_request(SubmitJob, bytes(body))
                job = derive_job_id(asked) or JobId(self._new_id())
                submissions.append(Submission(job, asked, request.traceparent))
                answers.append(None)
            except InvalidRequest as invalid:
                answers.append(_invalid(invalid))
        accepted = iter(await self._accept(submissions, via="api"))
        return [next(accepted) if answer is None else answer for answer in answers]

    async def _accept(self, submissions: Sequence[Submission], *, via: str) -> list[Reply]:
        if not submissions:
            return []
        first: dict[JobId, int] = {}
        for place, submission in enumerate(submissions):
            first.setdefault(submission.job, place)
        places = list(first.values())
        entries = [self._submitted(submissions[place], via) for place in places]
        outcomes = await append(self._ledger, entries, "submitting")
        replies: dict[JobId, Reply] = {}
        for place, outcome in zip(places, outcomes, strict=True):
            submission = submissions[place]
            if isinstance(outcome, Conflict):
                replies[submission.job] = await self._met_again(submission, via)
            else:
                status = _first_status(submission.request)
                replies[submission.job] = Reply(job_id=submission.job, status=status, seq=outcome)
        return [
            _as_duplicate(replies[submission.job], again=first[submission.job] != place)
            for place, submission in enumerate(submissions)
        ]

    def _submitted(self, submission: Submission, via: str) -> Entry:
        fact = Submitted(spec=spec_of(submission.request), via=via)
        subject = subjects.job(submission.job)
        return Entry(self._pen.write(subject, fact, traceparent=submission.traceparent), 0)

    async def _met_again(self, submission: Submission, via: str) -> Reply:
        """Answer a submission whose subject has facts already: as a rule the job is there."""
        command = Submit(spec=spec_of(submission.request), via=via)
        decided = await persistently(
            lambda: transact(
                self._ledger,
                self._pen,
                submission.job,
                command,
                traceparent=submission.traceparent,
            ),
            "submitting",
        )
        known = status_of(decided.state)
        status = str(known or _first_status(submission.request))
        return Reply(
            job_id=submission.job, status=status, seq=decided.seq, duplicate=known is not None
        )

    async def _control_durably(self, command: Command, read: Reader) -> None:
        reply = await self._control.carry_out(command.request, read)
        if reply.error is not None:
            raise InvalidRequest(reply.error.field, reply.error.message)

    async def _reject(self, command: Command, invalid: InvalidRequest) -> None:
        """Record a refused command under an id of its own, never under the one it names."""
        job = derive_job_id(SubmitJob(), command_seq=command.seq)
        assert job is not None
        body = shown(command.request.body)
        fact = Rejected(reason=invalid.message, field=invalid.field, request=body)
        _log.info("command.rejected", seq=command.seq, field=invalid.field, job=job)
        await append(
            self._ledger, [Entry(self._pen.write(subjects.job(job), fact), 0)], "rejecting"
        )


def _invalid(invalid: InvalidRequest) -> Reply:
    return Reply(error=Problem(code="invalid", message=invalid.message, field=invalid.field))


def _first_status(request: SubmitJob) -> JobStatus:
    waits = request.not_before is not None or request.depends_on
    return JobStatus.PENDING if waits else JobStatus.QUEUED


def _as_duplicate(reply: Reply, *, again: bool) -> Reply:
    return msgspec.structs.replace(reply, duplicate=True) if again else reply


def _unknown_command(subject: str) -> InvalidRequest:
    allowed = ", ".join((subjects.COMMAND_SUBMIT, *DURABLY))
    message = f"unknown command subject; given: {subject}; allowed: {allowed}"
    return InvalidRequest("$subject", message)
