"""What clients ask for: imperative, never stored, may be refused.

The same payloads travel on the durable subjects (`ffrtmp.cmd.>`) and on the ones that answer
(`ffrtmp.api.>`). Unknown fields are refused at every depth: a typo must not become a default.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from events.ids import JobId, JobIdField
from events.spec import JobSpec, Priority, Queue, contradiction
from events.strict import UNREADABLE, Fault, explain, shown, unknown_field

BODY_BYTES_MAX = 512 * 1024
"""Longest request body; a longer bulk submission is sent in several."""
BULK_JOBS_MAX = 1_000
"""Most jobs in one bulk request; a longer one is sent in several."""
_JOB_NAMESPACE = uuid.UUID("8a2fd3b0-5d2b-5f0e-9a57-3c1b6de5a0f1")
SQL_CHARACTERS_MAX = 64 * 1024
"""Longest question to the read model."""

T = TypeVar("T", bound=Struct)
Value: TypeAlias = str | int | float | bool | None
Params: TypeAlias = Sequence[Value] | Mapping[str, Value]
"""For `?` and `$1` in their order, or for `$name` by name."""


class InvalidRequest(Exception):
    """A request that cannot be read; says which field, what was given and what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        """Path of the field, as `$.parameters.video.width`; `$` is the request itself."""
        self.message = message


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
    by: Annotated[str, Meta(max_length=255)] = ""
    reason: Annotated[str, Meta(max_length=1024)] = ""


class PauseJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Stop the processes of this running job where they are; they keep their slot."""

    job_id: JobIdField
    by: Annotated[str, Meta(max_length=255)] = ""
    reason: Annotated[str, Meta(max_length=1024)] = ""


class ResumeJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Let this paused job go on."""

    job_id: JobIdField
    by: Annotated[str, Meta(max_length=255)] = ""


class RetryJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Run this failed or canceled job again, as if none of its attempts had failed."""

    job_id: JobIdField
    by: Annotated[str, Meta(max_length=255)] = ""


class ReprioritizeJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rank this job anew; what is not given stays as it is, but one of both must be."""

    job_id: JobIdField
    queue: Queue | None = None
    priority: Priority | None = None
    by: Annotated[str, Meta(max_length=255)] = ""


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A refusal: a stable code, and words for people."""

    code: str
    message: str
    field: str = ""


class Reply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one request: what became of the job, or why not."""

    job_id: str = ""
    status: str = ""
    seq: int = 0
    """Ledger sequence of the fact this request led to; 0 when it led to none."""
    duplicate: bool = False
    """The job was there already; nothing new was decided."""
    error: Problem | None = None


class Replies(Struct, frozen=True, kw_only=True):
    """The answers to a bulk request, in its order."""

    results: tuple[Reply, ...]


class QueryRequest(Struct, frozen=True, kw_only=True):
    """One question in SQL: exactly one SELECT, or an EXPLAIN of one."""

    sql: Annotated[str, Meta(min_length=1, max_length=SQL_CHARACTERS_MAX)]
    params: list[Value] | dict[str, Value] = []
    rows_max: Annotated[int, Meta(ge=1)] | None = None
    """Most rows to return; None, or more than the projector allows: what it allows."""
    after_seq: Annotated[int, Meta(ge=0)] = 0
    """Answer from a projection that has read the ledger up to here; 0: as it is."""


class QueryResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer: rows, or what is wrong with the question."""

    columns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    """DuckDB's names of the columns' types."""
    rows: tuple[tuple[Any, ...], ...] = ()
    """Values as JSON has them: instants as RFC 3339 text, bytes as base64, decimals as numbers."""
    truncated: bool = False
    """There were more rows than the limits allow."""
    seq: int = 0
    """Ledger sequence up to which the answer is complete."""
    elapsed_s: float = 0.0
    error: Problem | None = None
    """Why there is no answer; None: there is one."""


def decode_request(kind: type[T], body: bytes) -> T:
    """Return the request in `body`, an empty body being `{}`.

    Raises InvalidRequest naming the field, what was given and what is allowed.
    """
    if len(body) > BODY_BYTES_MAX:
        raise InvalidRequest("$", f"$: given: {len(body)} bytes; allowed: at most {BODY_BYTES_MAX}")
    body = body.strip() or b"{}"
    try:
        request = msgspec.json.decode(body, type=kind)
        fault = unknown_field(kind, body)
    except msgspec.ValidationError as error:
        fault = explain(kind, body, str(error))
    except UNREADABLE as error:
        fault = Fault("$", f"$: {error}; given: {shown(body)}; allowed: a JSON object")
    else:
        if fault is None:
            fault = _contradiction(request)
        if fault is None:
            return request
    raise InvalidRequest(fault.field, fault.message)


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


def _contradiction(request: Struct) -> Fault | None:
    if isinstance(request, ReprioritizeJob) and not (request.queue or request.priority):
        return Fault("$", "$: given: neither `queue` nor `priority`; allowed: one of them, or both")
    found = contradiction(request) if isinstance(request, JobSpec) else None
    return None if found is None else Fault(found[0], f"{found[0]}: {found[1]}")
