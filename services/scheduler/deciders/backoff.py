"""How long to wait before the next attempt: doubling waits, and jitter without dice.

What is random elsewhere follows here from a job's id and a count alone, so that every scheduler
decides the same.
"""

from hashlib import blake2b

_DOUBLINGS_MAX = 32
_JITTER = 0.25
"""How much of a wait jitter takes off at most."""


def doubled_s(base_s: float, count: int, max_s: float) -> float:
    """Return min(base * 2^(count - 1), max)."""
    return min(base_s * 2.0 ** min(count - 1, _DOUBLINGS_MAX), max_s)


def jittered_s(longest_s: float, name: str) -> float:
    """Return the wait less up to a quarter: what failed together does not return together."""
    return round(longest_s * (1 - _share(name) * _JITTER), 3)


def scattered_s(longest_s: float, name: str) -> float:
    """Return anything from nothing to the whole wait: what was lost together runs apart."""
    return round(longest_s * _share(name), 3)


def _share(name: str) -> float:
    """Return a number from 0 to 1 that follows from `name` alone."""
    return int.from_bytes(blake2b(name.encode(), digest_size=2).digest()) / 0xFFFF
