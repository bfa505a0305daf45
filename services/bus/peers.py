"""Whose connection it is that the server tells of: workers connect under their node's name.

The server says when a client has come or gone within milliseconds, also of one that was killed.
Source: NATS, system events, `$SYS.ACCOUNT.<account>.CONNECT` and `.DISCONNECT`.
"""

import msgspec
from msgspec import Struct

from events import subjects
from events.ids import NodeId
from events.subjects import is_token
from services.bus.port import Message

_PREFIX = "worker"


class Line(Struct, frozen=True):
    """One connection of a node's worker; no two have the same, also over restarts of servers."""

    node: NodeId
    server: str
    client: int


class Told(Struct, frozen=True):
    """What the server says of a worker's connection."""

    line: Line
    up: bool
    """Whether it has come; it has gone otherwise."""


class _Client(Struct, frozen=True):
    id: int = 0
    name: str = ""


class _Server(Struct, frozen=True):
    id: str = ""


class _Notice(Struct, frozen=True):
    client: _Client = _Client()
    server: _Server = _Server()


_decode = msgspec.json.Decoder(_Notice).decode


def worker_name(node: str) -> str:
    """Return the name under which the worker of `node` connects."""
    return f"{_PREFIX}/{node}"


def told_of_worker(message: Message) -> Told | None:
    """Return what the server says of a worker; None: it speaks of others, or of something else."""
    up = message.subject == subjects.CONNECTED
    if not up and message.subject != subjects.DISCONNECTED:
        return None
    try:
        notice = _decode(message.body)
    except msgspec.DecodeError:
        return None
    prefix, separator, node = notice.client.name.partition("/")
    if prefix != _PREFIX or not separator or not is_token(node):
        return None
    return Told(Line(NodeId(node), notice.server.id, notice.client.id), up)
