"""A fleet in memory behind the command line: scripted answers, a real ledger."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result

from events import subjects
from events.codec import Fact
from events.ids import JobId
from events.requests import CancelJob, Reply, SubmitJob, SubmitMany
from events.subjects import Subject
from services.backbone import Backbone
from services.bus.port import Handler, Request
from services.cli.invocation import Invocation
from services.cli.main import main
from services.clock import Pen, SystemClock
from services.log.port import Entry
from services.memory import memory_backbone

Story = Sequence[tuple[Subject, Fact]]


class Recorder:
    """Answers requests as a service would, and keeps what it was asked."""

    def __init__(self, refusal: Reply | None = None) -> None:
        self.submitted: list[SubmitJob] = []
        self.canceled: list[CancelJob] = []
        self.controlled: list[tuple[str, dict[str, str]]] = []
        """What was asked of jobs otherwise: the verb and the request."""
        self._refusal = refusal

    def handlers(self) -> Mapping[Subject, Handler]:
        return {
            subjects.API_SUBMIT: self._submit,
            subjects.API_SUBMIT_MANY: self._submit_many,
            subjects.API_CANCEL: self._cancel,
            subjects.API_PAUSE: self._control,
            subjects.API_RESUME: self._control,
            subjects.API_RETRY: self._control,
            subjects.API_REPRIORITIZE: self._control,
            subjects.QUERY: self.query,
        }

    async def query(self, request: Request) -> bytes:
        raise AssertionError(f"nothing was to be asked: {request.body!r}")

    async def _submit(self, request: Request) -> bytes:
        return msgspec.json.encode(self._reply(request.body))

    async def _submit_many(self, request: Request) -> bytes:
        jobs = msgspec.json.decode(request.body, type=SubmitMany).jobs
        return msgspec.json.encode({"results": [self._reply(bytes(job)) for job in jobs]})

    async def _cancel(self, request: Request) -> bytes:
        asked = msgspec.json.decode(request.body, type=CancelJob)
        self.canceled.append(asked)
        return msgspec.json.encode(self._refusal or Reply(job_id=asked.job_id, status="canceled"))

    async def _control(self, request: Request) -> bytes:
        asked = msgspec.json.decode(request.body)
        self.controlled.append((request.subject.rpartition(".")[2], asked))
        status = f"after {len(self.controlled)}"
        return msgspec.json.encode(self._refusal or Reply(job_id=asked["job_id"], status=status))

    def _reply(self, body: bytes) -> Reply:
        job = msgspec.json.decode(body, type=SubmitJob)
        self.submitted.append(job)
        if self._refusal is not None:
            return self._refusal
        return Reply(job_id=job.job_id or "derived", status="queued", seq=len(self.submitted))


def connected(
    recorder: Recorder, story: Story = (), *, telemetry: Story = (), logs: Story = ()
) -> Callable[[str, str], AbstractAsyncContextManager[Backbone]]:
    """Return what opens a fleet whose streams hold these stories."""

    @asynccontextmanager
    async def connect(url: str, name: str) -> AsyncGenerator[Backbone]:
        del url, name
        backbone = memory_backbone()
        pen = Pen("test", SystemClock(), "e")
        for log, facts in (
            (backbone.ledger, story),
            (backbone.telemetry, telemetry),
            (backbone.logs, logs),
        ):
            if facts:
                await log.append([Entry(pen.write(subject, fact)) for subject, fact in facts])
        async with backbone.bus.serve("test", recorder.handlers()):
            yield backbone

    return connect


def run(
    *args: str,
    recorder: Recorder | None = None,
    story: Story = (),
    telemetry: Story = (),
    logs: Story = (),
    stdin: str | None = None,
) -> Result:
    """Run the command line against a fleet in memory."""
    connect = connected(recorder or Recorder(), story, telemetry=telemetry, logs=logs)
    invocation = Invocation(data_dir=Path("/nonexistent"), connect=connect, environment={})
    return CliRunner().invoke(main, args, obj=invocation, input=stdin)


def of_job(job: str, *facts: Fact) -> list[tuple[Subject, Fact]]:
    """Return facts filed under a job."""
    return [(subjects.job(JobId(job)), fact) for fact in facts]
