"""The lease as services see it. What stands behind it is the composition root's affair."""

from typing import Protocol

from msgspec import Struct


class Grant(Struct, frozen=True, kw_only=True):
    """The lease, given to one holder for a time."""

    holder: str
    """A name that no other process ever has: by it an answer that got lost is settled."""
    seq: int
    """Of the record; who renews must find it unchanged."""
    lease_s: float
    """Counted from when the record was stored, which the holder does not know."""


class Lease(Protocol):
    """Who may lead."""

    async def acquire(self, holder: str, lease_s: float) -> Grant | None:
        """Take the lease if nobody has it, or `holder` itself; None: another has it.

        Raises LogUnavailable when whether it was taken stays open: then try again.
        """
        ...

    async def renew(self, grant: Grant) -> Grant | None:
        """Begin the time anew; None: it has run out, or another has the lease by now.

        Raises LogUnavailable as `acquire`; trying again with the same grant settles it.
        """
        ...

    async def release(self, grant: Grant) -> None:
        """Give the lease back, so that others need not wait; what another has stays theirs.

        Raises LogUnavailable as `acquire`.
        """
        ...

    async def holder(self) -> str | None:
        """Return who has the lease; None: nobody. Raises LogUnavailable."""
        ...

    async def freed(self, within_s: float) -> None:
        """Wait until a holder gives the lease back, at most `within_s`; it is only a hint."""
        ...
