"""The bulkhead around one unit of foreign work: its bug must not sink the service."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

T = TypeVar("T")
_log = structlog.get_logger()


async def contained(work: Callable[[], Awaitable[T]], otherwise: Callable[[Exception], T]) -> T:
    """Return what `work` returns, or `otherwise(error)` for an error that escapes it.

    For units that are independent of the service's own state, such as one attempt of one job.
    Cancellation passes through.
    """
    try:
        return await work()
    except Exception as error:  # noqa: BLE001 - the bulkhead: logged, and told as a value
        _log.exception("unit.broke")
        return otherwise(error)
