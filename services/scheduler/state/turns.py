"""Whose turn it is under the policy `fair`: start-time fair queueing over assignments.

Each assignment takes its tenant's clock on by 1 / share, and the tenant whose clock is furthest
behind goes first. A tenant that comes back after it had nothing waiting starts at the time of
whoever is served then: idleness earns nothing. Over any time in which two tenants both have jobs
waiting that the same nodes can run, their assignments over shares, n / s, differ by at most
1 / s1 + 1 / s2.

Source: Goyal, Vin, Cheng, "Start-time Fair Queueing", IEEE/ACM Trans. Networking 5 (1997), 690-704.
"""

from collections.abc import Mapping

CREDIT_TURNS_MAX = 100.0
"""A tenant for whose jobs there was no node has at most this many turns to catch up on."""
TENANTS_MAX = 10_000
"""With more clocks than this, those that tell nothing are dropped."""


class Turns:
    """The clocks of all tenants, in turns."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = shares
        self._clocks: dict[str, float] = {}
        self._now = 0.0
        """Where the clock of the tenant served last stood before."""

    def copy(self) -> "Turns":
        """Return clocks that can be moved on trial."""
        other = Turns(self._shares)
        other._clocks = dict(self._clocks)
        other._now = self._now
        return other

    def begin(self, tenant: str) -> None:
        """Note that the tenant, who had nothing waiting, has again."""
        if self._clocks.get(tenant, 0.0) < self._now:
            self._clocks[tenant] = self._now

    def clock(self, tenant: str) -> float:
        """Return where the tenant's clock stands; the smallest goes first."""
        credit = CREDIT_TURNS_MAX / self._share(tenant)
        return max(self._clocks.get(tenant, 0.0), self._now - credit)

    def take(self, tenant: str) -> None:
        """Note that a job of the tenant was assigned."""
        begun = self.clock(tenant)
        self._now = max(self._now, begun)
        self._clocks[tenant] = begun + 1.0 / self._share(tenant)
        if len(self._clocks) > TENANTS_MAX:
            self._clocks = {name: at for name, at in self._clocks.items() if at > self._now}

    def _share(self, tenant: str) -> float:
        return self._shares.get(tenant, 1.0)
