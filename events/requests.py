"""What clients ask for: imperative, never stored, may be refused.

The same payloads travel on the durable subjects (`ffrtmp.cmd.>`) and on the ones that answer
(`ffrtmp.api.>`). Unknown fields are refused at every depth: a typo must not become a default.
"""

import functools
import uuid
from collections.abc import Hashable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct, inspect

from events.ids import JobId, JobIdField
from events.spec import JobSpec

BODY_BYTES_MAX = 512 * 1024
"""Longest request body; a longer bulk submission is sent in several."""
BULK_JOBS_MAX = 1_000
"""Most jobs in one bulk request; a longer one is sent in several."""
_SHOWN_BYTES_MAX = 512
_JOB_NAMESPACE = uuid.UUID("8a2fd3b0-5d2b-5f0e-9a57-3c1b6de5a0f1")

T = TypeVar("T")


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


def decode_request(kind: type[T], body: bytes) -> T:
    """Return the request in `body`, an empty body being `{}`.

    Raises InvalidRequest naming the field, what was given and what is allowed.
    """
    if len(body) > BODY_BYTES_MAX:
        raise InvalidRequest("$", f"{len(body)} bytes given; at most {BODY_BYTES_MAX} allowed")
    body = body.strip() or b"{}"
    try:
        plain = msgspec.json.decode(body)
        request = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _explained(kind, body, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest("$", f"not JSON: {error}; given: {shown(body)}") from None
    stranger = _stranger(_info(kind), plain, "$")
    if stranger is not None:
        raise stranger
    return request


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


def shown(body: bytes) -> str:
    """Return the head of a body for a message, safe to print."""
    text = body[:_SHOWN_BYTES_MAX].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


@functools.cache
def _info(kind: Hashable) -> inspect.Type:
    return inspect.type_info(kind)


def _explained(kind: type, body: bytes, problem: str) -> InvalidRequest:
    message, _, path = problem.partition(" - at `")
    field = path.rstrip("`") or "$"
    allowed = _allowed(_info(kind), field)
    if allowed:
        message = message.partition(" matching regex ")[0]
    parts = [f"{field}: {message}"]
    given = _at(msgspec.json.decode(body), field)
    if given is not _ABSENT:
        parts.append(f"given: {shown(msgspec.json.encode(given))}")
    if allowed:
        parts.append(f"allowed: {allowed}")
    return InvalidRequest(field, "; ".join(parts))


_ABSENT = object()


def _steps(field: str) -> list[str]:
    return [step for step in field.replace("[", ".[").split(".")[1:] if step]


def _at(value: object, field: str) -> object:
    for step in _steps(field):
        if step.startswith("["):
            if not isinstance(value, list) or not step[1:-1].isdigit():
                return _ABSENT
            value = value[int(step[1:-1])]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return _ABSENT
    return value


def _allowed(info: inspect.Type, field: str) -> str:
    for step in _steps(field):
        found = _child(info, step)
        if found is None:
            return ""
        info = found
    for choice in _choices(info):
        if isinstance(choice, inspect.EnumType):
            return ", ".join(str(member.value) for member in choice.cls)
    return _described(info)


def _described(info: inspect.Type) -> str:
    """Return what the type says of itself, for people."""
    if isinstance(info, inspect.UnionType):
        return next((text for part in info.types if (text := _described(part))), "")
    if not isinstance(info, inspect.Metadata) or not info.extra_json_schema:
        return ""
    text = str(info.extra_json_schema.get("description", ""))
    examples = ", ".join(map(str, info.extra_json_schema.get("examples", ())))
    return f"{text} For example {examples}." if examples else text


def _choices(info: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(info, inspect.Metadata):
        return _choices(info.type)
    if isinstance(info, inspect.UnionType):
        return tuple(choice for part in info.types for choice in _choices(part))
    return (info,)


def _child(info: inspect.Type, step: str) -> inspect.Type | None:
    for choice in _choices(info):
        if isinstance(choice, inspect.StructType):
            for field in choice.fields:
                if field.encode_name == step:
                    return field.type
        elif step.startswith("[") and isinstance(choice, inspect.VarTupleType | inspect.ListType):
            return choice.item_type
    return None


def _stranger(info: inspect.Type, value: object, path: str) -> InvalidRequest | None:
    """Find the first field that no type of ours has."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            inner = _child(info, f"[{number}]")
            found = _stranger(inner, item, f"{path}[{number}]") if inner is not None else None
            if found is not None:
                return found
        return None
    if not isinstance(value, dict):
        return None
    known = [choice for choice in _choices(info) if isinstance(choice, inspect.StructType)]
    if not known:
        return None
    names = [field.encode_name for choice in known for field in choice.fields]
    for name, item in value.items():
        inner = _child(info, name)
        if inner is None:
            message = f"{path}: unknown field {name!r}; allowed: {', '.join(sorted(names))}"
            return InvalidRequest(f"{path}.{name}", message)
        found = _stranger(inner, item, f"{path}.{name}")
        if found is not None:
            return found
    return None
