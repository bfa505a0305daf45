"""What is asked about jobs."""

import uuid
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from events.ids import JobId, JobIdField
from events.spec import JobSpec, Priority, Queue

BULK_JOBS_MAX = 1_000
"""Most jobs in one bulk request; a longer one is sent in several."""
By: TypeAlias = Annotated[str, Meta(max_length=255)]
"""Who asks, in words for people."""
Why: TypeAlias = Annotated[str, Meta(max_length=1024)]
_JOB_NAMESPACE = uuid.UUID("8a2fd3b0-5d2b-5f0e-9a57-3c1b6de5a0f1")


class SubmitJob(JobSpec, frozen=True, kw_only=True, omit_defaults=True):
    """Run this job."""

    job_id: JobIdField | None = None
    """The job's id if the caller has one; the same id again is the same job."""


class SubmitMany(Struct, frozen=True, kw_only=True):
    """Run these jobs; each is answered on its own, in the same order."""

    jobs: Annotated[tuple[msgspec.Raw, ...], Meta(min_length=1, max_length=BULK_JOBS_MAX)]


class CancelJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """End this job, wherever it is."""

    job_id: JobIdField
    by: By = ""
    reason: Why = ""


class PauseJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Stop the processes of this running job where they are; they keep their slot."""

    job_id: JobIdField
    by: By = ""
    reason: Why = ""


class ResumeJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Let this paused job go on."""

    job_id: JobIdField
    by: By = ""


class RetryJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Run this failed or canceled job again, as if none of its attempts had failed."""

    job_id: JobIdField
    by: By = ""


class ReprioritizeJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rank this job anew; what is not given stays as it is, but one of both must be."""

    job_id: JobIdField
    queue: Queue | None = None
    priority: Priority | None = None
    by: By = ""


class ExplainJob(Struct, frozen=True, kw_only=True):
    """Say why this job is where it is, and what must happen next."""

    job_id: JobIdField


def derive_job_id(
    request: SubmitJob, *, message_id: str | None = None, command_seq: int | None = None
) -> JobId | None:
    """Return the id that makes a repetition of `request` the same job; None: nothing to go by.

    In this order: the caller's own id, tenant and idempotency key, the message's `Nats-Msg-Id`, the
    place of the durable command in its stream.
    """
    if request.job_id is not None:
        return request.job_id
    if request.idempotency_key is not None:
        name = f"key\x1f{request.tenant}\x1f{request.idempotency_key}"
    elif message_id:
        name = f"message\x1f{request.tenant}\x1f{message_id}"
    elif command_seq is not None:
        name = f"command\x1f{command_seq}"
    else:
        return None
    return JobId(str(uuid.uuid5(_JOB_NAMESPACE, name)))


def spec_of(request: SubmitJob) -> JobSpec:
    """Return the specification in `request`, without what only addresses it."""
    fields = {name: getattr(request, name) for name in JobSpec.__struct_fields__}
    return JobSpec(**fields)
