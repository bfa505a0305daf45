"""Requests about a job that is there: cancel, pause, resume, retry, rank anew.

Each comes on two subjects, one that is answered at once and one that is kept until it is decided.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from events import subjects
from events.ids import JobId
from events.requests import (
    CancelJob,
    PauseJob,
    Problem,
    Reply,
    ReprioritizeJob,
    ResumeJob,
    RetryJob,
    decode_request,
)
from events.state.job import status_of
from events.subjects import Subject
from services.bus.port import Request
from services.clock import Pen
from services.log.entity import load_job
from services.log.persist import persistently
from services.log.port import EventLog
from services.scheduler.control.transact import transact
from services.scheduler.deciders.job import (
    Cancel,
    Control,
    Pause,
    Reprioritize,
    Resume,
    Retry,
)
from services.scheduler.deciders.refusal import Refused

Asked: TypeAlias = tuple[JobId, Control]
Reader: TypeAlias = Callable[[bytes], Asked]
"""Reads a request's body. Raises InvalidRequest."""


class JobControl:
    """Carries such requests out."""

    def __init__(self, ledger: EventLog, pen: Pen) -> None:
        self._ledger = ledger
        self._pen = pen

    async def carry_out(self, request: Request, read: Reader) -> Reply:
        """Decide on one request; the answer tells the job's state, or why not.

        Raises InvalidRequest when it cannot be read, Conflict when others were always first.
        """
        job, command = read(request.body)
        try:
            decided = await persistently(
                lambda: transact(self._ledger, self._pen, job, command, request=request),
                "controlling",
            )
        except Refused as no:
            problem = Problem(code=no.refusal, message=no.message, field="$.job_id")
            return Reply(job_id=job, error=problem)
        after = await persistently(partial(load_job, self._ledger, job), "controlling")
        return Reply(job_id=job, status=str(status_of(after) or ""), seq=decided.seq)


def _cancel(body: bytes) -> Asked:
    asked = decode_request(CancelJob, body)
    return asked.job_id, Cancel(by=asked.by, reason=asked.reason)


def _pause(body: bytes) -> Asked:
    asked = decode_request(PauseJob, body)
    return asked.job_id, Pause(by=asked.by, reason=asked.reason)


def _resume(body: bytes) -> Asked:
    asked = decode_request(ResumeJob, body)
    return asked.job_id, Resume(by=asked.by)


def _retry(body: bytes) -> Asked:
    asked = decode_request(RetryJob, body)
    return asked.job_id, Retry(by=asked.by)


def _reprioritize(body: bytes) -> Asked:
    asked = decode_request(ReprioritizeJob, body)
    return asked.job_id, Reprioritize(queue=asked.queue, priority=asked.priority, by=asked.by)


AT_ONCE: Mapping[Subject, Reader] = {
    subjects.API_CANCEL: _cancel,
    subjects.API_PAUSE: _pause,
    subjects.API_RESUME: _resume,
    subjects.API_RETRY: _retry,
    subjects.API_REPRIORITIZE: _reprioritize,
}
DURABLY: Mapping[Subject, Reader] = {
    subjects.COMMAND_CANCEL: _cancel,
    subjects.COMMAND_PAUSE: _pause,
    subjects.COMMAND_RESUME: _resume,
    subjects.COMMAND_RETRY: _retry,
    subjects.COMMAND_REPRIORITIZE: _reprioritize,
}
