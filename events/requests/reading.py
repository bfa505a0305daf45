"""From bytes to a request, or to words about what is wrong with them."""

from typing import TypeVar

import msgspec
from msgspec import Struct

from events.requests.jobs import ReprioritizeJob
from events.spec import JobSpec, contradiction
from events.strict import UNREADABLE, Fault, explain, shown, unknown_field

BODY_BYTES_MAX = 512 * 1024
"""Longest request body; a longer bulk submission is sent in several."""

T = TypeVar("T", bound=Struct)


class InvalidRequest(Exception):
    """A request that cannot be read; says which field, what was given and what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        """Path of the field, as `$.parameters.video.width`; `$` is the request itself."""
        self.message = message


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


def _contradiction(request: Struct) -> Fault | None:
    if isinstance(request, ReprioritizeJob) and not (request.queue or request.priority):
        return Fault("$", "$: given: neither `queue` nor `priority`; allowed: one of them, or both")
    found = contradiction(request) if isinstance(request, JobSpec) else None
    return None if found is None else Fault(found[0], f"{found[0]}: {found[1]}")
