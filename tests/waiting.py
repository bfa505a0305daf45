"""Waiting for what another process does: a poll with a deadline, the only sleep tests have."""

from collections.abc import Awaitable, Callable

import anyio

POLL_S = 0.05


async def until(
    holds: Callable[[], Awaitable[bool]], what: str, *, within_s: float, poll_s: float = POLL_S
) -> None:
    """Return as soon as `holds` does; fails the test when it has not within `within_s`."""
    with anyio.move_on_after(within_s):
        while not await holds():  # noqa: ASYNC110 - other processes set no events
            await anyio.sleep(poll_s)
        return
    raise AssertionError(f"not within {within_s:g} s: {what}")


async def throughout(
    holds: Callable[[], Awaitable[bool]], what: str, *, for_s: float, poll_s: float = POLL_S
) -> None:
    """Return when `for_s` have passed; fails the test as soon as `holds` does not."""
    with anyio.move_on_after(for_s):
        while await holds():  # noqa: ASYNC110 - other processes set no events
            await anyio.sleep(poll_s)
        raise AssertionError(f"no longer: {what}")
