"""Bytes of the NATS and JetStream protocols: pure, and built here because this is the hot path.

Sources: NATS client protocol (HPUB, headers); ADR-4 (headers), ADR-15 (acknowledgement subjects),
ADR-31 (direct get), ADR-50 (atomic batches).
"""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from services.errors import Conflict

WRONG_LAST_SEQUENCE = 10071
"""The expectation failed; the description ends with the last sequence on the subject."""
SUBJECT_IN_PROCESS = 10164
"""Another write on this subject is in flight (replicated streams): try again at once."""
BATCH_HAS_DUPLICATE = 10201
"""An entry of the batch is stored already, under the same message id."""
NO_SUCH_MESSAGE = 10037
NO_SUCH_STREAM = 10059
NO_SUCH_CONSUMER = 10014
LATER_MAY_DO = frozenset({0, 10008, 10009, 10023, 10039, 10074, 10076, 10167, 10176, 10210, 10211})
"""No leader, no resources for now, batch abandoned or too many of them: wait and try again."""

_VERSION = b"NATS/1.0"
_HEADERS_END = b"\r\n\r\n"
_ACK_TOKENS = 9


class Fault(Struct, frozen=True):
    """Why JetStream refused."""

    code: int = 0
    err_code: int = 0
    description: str = ""

    @property
    def current(self) -> int | None:
        """Return the last sequence that a `WRONG_LAST_SEQUENCE` tells of; None: it tells none."""
        last_word = self.description.rsplit(" ", 1)[-1]
        return int(last_word) if last_word.isdigit() else None

    def conflict(self, subject: str) -> Conflict:
        """Return the race that was lost on `subject`."""
        return Conflict(subject, self.current)


class PubAck(Struct, frozen=True):
    """What JetStream answers to a publish; look at `error` first: a refusal has `seq` 0."""

    seq: int = 0
    duplicate: bool = False
    count: int = 0
    error: Fault | None = None


class Message(Struct, frozen=True):
    """One event as bytes, and what its writer believes about the entity."""

    subject: str
    body: bytes
    id: str
    expected: int | None


decode_ack = msgspec.json.Decoder(PubAck).decode


def headers_of(message: Message) -> bytes:
    """Return the header lines that make a repeated publish of `message` harmless.

    A guard where there is one, else the message id. Never both: one server checks the guard before
    the id, a replicated stream after, and settling must not depend on that.
    """
    if message.expected is None:
        return b"Nats-Msg-Id: %b" % message.id.encode()
    return b"Nats-Expected-Last-Subject-Sequence: %d" % message.expected


def publish_head(subject: str, reply_prefix: str) -> bytes:
    """Return the first part of a publish; a token of the reply subject and the tail follow."""
    return f"HPUB {subject} {reply_prefix}".encode()


def publish_tail(header_lines: bytes, body: bytes) -> bytes:
    """Return the part of a publish after its reply subject."""
    headers_bytes = len(_VERSION) + 2 + len(header_lines) + len(_HEADERS_END)
    return b" %d %d\r\nNATS/1.0\r\n%b\r\n\r\n%b\r\n" % (
        headers_bytes,
        headers_bytes + len(body),
        header_lines,
        body,
    )


def batch_member(message: Message, *, batch: str, number: int, commit_reply: str | None) -> bytes:
    """Return one publish of an atomic batch; `number` counts from 1, the last one commits."""
    lines = b"%b\r\nNats-Batch-Id: %b\r\nNats-Batch-Sequence: %d" % (
        headers_of(message),
        batch.encode(),
        number,
    )
    if commit_reply is None:
        return f"HPUB {message.subject}".encode() + publish_tail(lines, message.body)
    lines += b"\r\nNats-Batch-Commit: 1"
    return publish_head(message.subject, commit_reply) + publish_tail(lines, message.body)


def publish(
    subject: str, body: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a plain publish, outside JetStream; line breaks in header values become spaces."""
    address = f"{subject} {reply}" if reply else subject
    if not headers:
        return f"PUB {address} {len(body)}\r\n".encode() + body + b"\r\n"
    lines = "\r\n".join(
        f"{name}: {' '.join(value.splitlines())}" for name, value in headers.items()
    ).encode()
    return f"HPUB {address}".encode() + publish_tail(lines, body)


def parse_headers(block: bytes | None) -> dict[str, str]:
    """Return header values by lower-case name; `status` is that of a server's notice, as `408`."""
    if not block:
        return {}
    first, *lines = block.split(b"\r\n")
    headers: dict[str, str] = {}
    if len(first) > len(_VERSION):
        status, _, description = first[len(_VERSION) + 1 :].partition(b" ")
        headers["status"] = status.decode("ascii", "replace")
        headers["description"] = description.decode("utf-8", "replace")
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode("ascii", "replace").strip().lower()] = value.strip().decode(
                "utf-8", "replace"
            )
    return headers


def delivery_of(reply: bytes) -> tuple[int, int, int]:
    """Return sequence, count of deliveries (from 1, without holes) and how many are behind.

    Reads `$JS.ACK.<stream>.<consumer>.<times>.<seq>.<delivered>.<time>.<pending>`; the second
    version of that subject has two more tokens in front and may have more behind.
    """
    tokens = reply.split(b".")
    base = 5 if len(tokens) == _ACK_TOKENS else 7
    return int(tokens[base]), int(tokens[base + 1]), int(tokens[base + 3])


def times_of(reply: bytes) -> int:
    """Return how often this very message was handed out, from 1; reads as `delivery_of`."""
    tokens = reply.split(b".")
    return int(tokens[4 if len(tokens) == _ACK_TOKENS else 6])
