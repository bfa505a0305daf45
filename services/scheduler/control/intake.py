"""Requests come in here: durable commands and calls that want an answer, decided alike.

A submission needs no read: "no earlier event of this job" is its expectation, so a repetition, a
redelivery and a second intake process are harmless, for ever.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from events import subjects
from events.ids import JobId, NodeId
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
from events.state.node import INITIAL, Node
from events.strict import shown
from events.subjects import Subject
from services.bus.port import Command, Handler, Inbox, Request
from services.clock import NewId, Pen
from services.errors import Conflict
from services.log.persist import append, persistently
from services.log.port import Entry, EventLog
from services.scheduler.control.catalog import Answer, Catalog
from services.scheduler.control.nodes import Known
from services.scheduler.control.transact import transact
from services.scheduler.deciders.job import Submit
from services.scheduler.deciders.refusal import Refused

_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger()


class Submission(Struct, frozen=True):
    """A valid submission and the job it is for."""

    job: JobId
    request: SubmitJob
    origin: Request
    """What it came in."""


def _nothing_known(_: NodeId) -> Node:
    return INITIAL


class Intake:
    """Turns requests into facts, and facts into answers.

    `known` spares reading all that ever became of a node; without it the ledger is read whole.
    """

    def __init__(
        self, ledger: EventLog, pen: Pen, new_id: NewId, *, known: Known = _nothing_known
    ) -> None:
        self._ledger = ledger
        self._pen = pen
        self._new_id = new_id
        self._catalog = Catalog(ledger, pen, known)

    def endpoints(self) -> Mapping[Subject, Handler]:
        """Return what answers at once, by subject."""
        controls = self._catalog.at_once
        return {
            subjects.API_SUBMIT: self.submit,
            subjects.API_SUBMIT_MANY: self.submit_many,
            **{subject: _answering(answer) for subject, answer in controls.items()},
        }

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

    async def work_through(self, inbox: Inbox) -> None:
        """Decide durable commands as they come; each is acknowledged when its fact is stored."""
        async with inbox.receive() as batches:
            async for commands in batches:
                contended = await self._obey(commands)
                done = [command for command in commands if command.seq not in contended]
                await persistently(partial(inbox.acknowledge, done), "acknowledging")

    async def _obey(self, commands: Sequence[Command]) -> set[int]:
        """Carry out the commands in their order, neighboring submissions in one append.

        Returns the places of those for which others were always first: they come again, and keep
        none behind them waiting.
        """
        durably = self._catalog.durably
        waiting: list[tuple[Command, Submission]] = []
        contended: set[int] = set()
        for command in commands:
            try:
                match command.request.subject:
                    case subjects.COMMAND_SUBMIT:
                        waiting.append((command, self._read_command(command)))
                    case known if known in durably:
                        contended |= await self._accept_durably(waiting)
                        waiting = []
                        await self._decide_durably(command, durably[known])
                    case stranger:
                        await self._reject(command, self._unknown_command(stranger))
            except InvalidRequest as invalid:
                await self._reject(command, invalid)
            except Conflict as race:
                _log.warning("command.contended", error=str(race), seq=command.seq)
                contended.add(command.seq)
        return contended | await self._accept_durably(waiting)

    async def _accept_durably(self, waiting: Sequence[tuple[Command, Submission]]) -> set[int]:
        """Accept submissions; return the places of those for which others were always first."""
        try:
            replies = await self._accept([each for _, each in waiting], via="command")
        except Conflict as race:
            _log.warning("command.contended", error=str(race), commands=len(waiting))
            return {command.seq for command, _ in waiting}
        for (command, _), reply in zip(waiting, replies, strict=True):
            if reply.error is not None:
                await self._reject(command, _refusal(reply.error))
        return set()

    async def _decide_durably(self, command: Command, answer: Answer) -> None:
        """Carry a command out. Raises InvalidRequest when it is refused: nobody waits for a no."""
        reply = await answer(_named(command))
        if reply.error is not None:
            raise _refusal(reply.error)

    def _read(self, body: bytes, request: Request) -> Submission:
        asked = decode_request(SubmitJob, body)
        job = derive_job_id(asked, message_id=request.message_id) or JobId(self._new_id())
        return Submission(job, asked, request)

    def _read_command(self, command: Command) -> Submission:
        request = command.request
        asked = decode_request(SubmitJob, request.body)
        job = derive_job_id(asked, message_id=request.message_id, command_seq=command.seq)
        assert job is not None, "a durable command always has its place in the stream"
        return Submission(job, asked, request)

    async def _accept_many(self, bodies: Sequence[msgspec.Raw], request: Request) -> list[Reply]:
        """Accept what is valid in one append; the answers keep the order of the request."""
        answers: list[Reply | None] = []
        submissions: list[Submission] = []
        for body in bodies:
            try:
                asked = decode_request(SubmitJob, bytes(body))
                job = derive_job_id(asked) or JobId(self._new_id())
                submissions.append(Submission(job, asked, request))
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
            replies[submission.job]
            if first[submission.job] == place
            else await self._met_again(submission, via, replies[submission.job].seq)
            for place, submission in enumerate(submissions)
        ]

    def _submitted(self, submission: Submission, via: str) -> Entry:
        fact = Submitted(spec=spec_of(submission.request), via=via)
        subject = subjects.job(submission.job)
        traceparent = submission.origin.traceparent
        return Entry(self._pen.write(subject, fact, traceparent=traceparent), 0)

    async def _met_again(self, submission: Submission, via: str, seq: int = 0) -> Reply:
        """Answer a submission whose subject has facts already: as a rule the job is there.

        `seq` is where the same request has brought it about, 0: it has not.
        """
        command = Submit(spec=spec_of(submission.request), via=via)
        try:
            decided = await persistently(
                lambda: transact(
                    self._ledger, self._pen, submission.job, command, request=submission.origin
                ),
                "submitting",
            )
        except Refused as no:
            problem = Problem(code=no.refusal, message=no.message, field=no.field)
            return Reply(job_id=submission.job, error=problem)
        known = status_of(decided.state)
        status = str(known or _first_status(submission.request))
        return Reply(
            job_id=submission.job,
            status=status,
            seq=decided.seq or seq,
            duplicate=known is not None,
        )

    async def _reject(self, command: Command, invalid: InvalidRequest) -> None:
        """Record a refused command under an id of its own, never under the one it names."""
        job = derive_job_id(SubmitJob(), command_seq=command.seq)
        assert job is not None
        body = shown(command.request.body)
        fact = Rejected(reason=invalid.message, field=invalid.field, request=body)
        asked = command.request.subject
        _log.info("command.rejected", seq=command.seq, asked=asked, field=invalid.field, job=job)
        await append(
            self._ledger, [Entry(self._pen.write(subjects.job(job), fact), 0)], "rejecting"
        )

    def _unknown_command(self, subject: str) -> InvalidRequest:
        allowed = ", ".join((subjects.COMMAND_SUBMIT, *self._catalog.durably))
        message = f"unknown command subject; given: {subject}; allowed: {allowed}"
        return InvalidRequest("$subject", message)


def _answering(answer: Answer) -> Handler:
    """Return an endpoint that answers one kind of request; a bad one is told what is wrong."""

    async def handle(request: Request) -> bytes:
        try:
            return _encode(await answer(request))
        except InvalidRequest as invalid:
            return _encode(_invalid(invalid))

    return handle


def _named(command: Command) -> Request:
    """Return the request with a name of its own: its place in the stream, if it brings none."""
    request = command.request
    return replace(request, message_id=request.message_id or f"command\x1f{command.seq}")


def _refusal(problem: Problem) -> InvalidRequest:
    """Return a refusal as a durable command's: where, and why."""
    return InvalidRequest(problem.field, problem.message)


def _invalid(invalid: InvalidRequest) -> Reply:
    return Reply(error=Problem(code="invalid", message=invalid.message, field=invalid.field))


def _first_status(request: SubmitJob) -> JobStatus:
    waits = request.not_before is not None or request.depends_on
    return JobStatus.PENDING if waits else JobStatus.QUEUED
