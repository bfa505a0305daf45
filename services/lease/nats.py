"""The lease on NATS: one record on a stream of its own, which the server lets expire.

Every write is guarded by the sequence of the record it replaces, so of any number of writers one
succeeds. A write whose answer gets lost is settled by reading: the record names its holder, and no
two processes have the same name. The client library's key-value lock would not do: there an expired
key stays taken until the mark of its deletion has expired too. So this stream makes no such marks.
"""

import base64
import math

import anyio
import msgspec
from msgspec import Struct

from events import subjects
from events.strict import UNREADABLE
from services.errors import ConfigurationError, LogUnavailable
from services.lease.port import Grant
from services.log.jetstream.connection import Connection
from services.log.jetstream.streams import LEASES
from services.log.jetstream.wire import (
    LATER_MAY_DO,
    NO_SUCH_MESSAGE,
    SUBJECT_IN_PROCESS,
    WRONG_LAST_SEQUENCE,
    Fault,
    decode_ack,
)

ANSWER_S = 0.5
"""How long one answer of the server is waited for."""
RELEASED_S = 1
"""How long the record of a release stays; nobody waits for its end."""
FORGOTTEN = 3
"""A record that stays the same for so many times its lease is free, whatever the server's timers
say: a holder would have renewed it."""

_encode = msgspec.json.Encoder().encode


class _Record(Struct, frozen=True):
    holder: str
    """Empty: the lease was given back."""


class _Stored(Struct, frozen=True):
    seq: int
    data: str = ""
    """Base64."""


class _Answer(Struct, frozen=True):
    message: _Stored | None = None
    error: Fault | None = None


class _Found(Struct, frozen=True):
    """The record as it is stored; `seq` 0: there is none."""

    holder: str
    seq: int


NOBODY = _Found("", 0)
STRANGER = "(a record that cannot be read)"
"""Stands for the holder of such a record: in the end it is forgotten as any other."""


class NatsLease:
    """A `Lease` on one NATS connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._subject = subjects.LEASE_LEADER
        self._seen = NOBODY
        self._seen_s = 0.0

    async def acquire(self, holder: str, lease_s: float) -> Grant | None:
        """Take the lease if it is free; see the port."""
        seq = await self._put(holder, expected=0, ttl_s=_whole(lease_s))
        if seq is None:
            found = await self._found()
            if found.holder in ("", holder) or self._forgotten(found, lease_s):
                seq = await self._put(holder, expected=found.seq, ttl_s=_whole(lease_s))
        return None if seq is None else Grant(holder=holder, seq=seq, lease_s=lease_s)

    async def renew(self, grant: Grant) -> Grant | None:
        """Begin the time anew; see the port."""
        seq = await self._replace(grant, grant.holder, _whole(grant.lease_s))
        return None if seq is None else msgspec.structs.replace(grant, seq=seq)

    async def release(self, grant: Grant) -> None:
        """Give the lease back; see the port."""
        await self._replace(grant, "", RELEASED_S)

    async def holder(self) -> str | None:
        """Return who has the lease; None: nobody."""
        return (await self._found()).holder or None

    async def freed(self, within_s: float) -> None:
        """Wait until a holder gives the lease back, at most `within_s`; see the port."""
        freed = anyio.Event()

        def heard(_subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
            if body == _RELEASED:
                freed.set()

        with anyio.move_on_after(within_s):
            async with self._connection.listen(self._subject, heard):
                await freed.wait()

    async def _replace(self, grant: Grant, holder: str, ttl_s: int) -> int | None:
        """Replace the record of `grant`, or the one a lost answer of ours was about."""
        seq = await self._put(holder, expected=grant.seq, ttl_s=ttl_s)
        if seq is None:
            found = await self._found()
            if found.holder == grant.holder:
                seq = await self._put(holder, expected=found.seq, ttl_s=ttl_s)
        return seq

    async def _put(self, holder: str, *, expected: int, ttl_s: int) -> int | None:
        """Store a record behind `expected`; None: another was first, or it has expired."""
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(expected),
            "Nats-TTL": f"{ttl_s}s",
        }
        body, _ = await self._connection.ask(
            self._subject, _encode(_Record(holder)), timeout_s=ANSWER_S, headers=headers
        )
        ack = decode_ack(body)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code == WRONG_LAST_SEQUENCE:
            return None
        raise _refusal(ack.error)

    async def _found(self) -> _Found:
        answer = await self._connection.api(
            f"STREAM.MSG.GET.{LEASES}", {"last_by_subj": self._subject}, _Answer, timeout_s=ANSWER_S
        )
        if answer.error is not None and answer.error.err_code != NO_SUCH_MESSAGE:
            raise _refusal(answer.error)
        if answer.message is None:
            return NOBODY
        return _Found(_holder_in(base64.b64decode(answer.message.data)), answer.message.seq)

    def _forgotten(self, found: _Found, lease_s: float) -> bool:
        now_s = anyio.current_time()
        if found != self._seen:
            self._seen, self._seen_s = found, now_s
        return now_s - self._seen_s > FORGOTTEN * _whole(lease_s)


_RELEASED = _encode(_Record(""))


def _holder_in(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Record).holder
    except UNREADABLE:
        return STRANGER


def _whole(lease_s: float) -> int:
    """Return the time as the server counts it: whole seconds, never less than was asked for."""
    return max(1, math.ceil(lease_s))


def _refusal(fault: Fault) -> ConfigurationError | LogUnavailable:
    if fault.err_code == SUBJECT_IN_PROCESS or fault.err_code in LATER_MAY_DO:
        return LogUnavailable(f"{LEASES}: {fault.description}")
    return ConfigurationError(f"the server refuses the lease on {LEASES}: {fault.description}")
