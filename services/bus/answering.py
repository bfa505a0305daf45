"""One request to one answer, whatever the handler does: shared by every adapter of the bus."""

import structlog
from msgspec import Struct

from services.bus.port import Handler, Request

_log = structlog.get_logger(__name__)

INTERNAL_ERROR = 500
"""The error code of an answer whose handler raised, as in HTTP."""


class Answer(Struct, frozen=True):
    """What goes back: a body, or the reason why there is none."""

    body: bytes
    error: str | None = None


async def answer(handler: Handler, request: Request) -> Answer:
    """Return what `handler` answers; one that raises is logged and answered with an error."""
    try:
        return Answer(await handler(request))
    except Exception as error:  # noqa: BLE001 - a bug in one handler must not end the service
        _log.exception("bus.handler_failed", subject=request.subject)
        return Answer(b"", f"internal error: {type(error).__name__}")
