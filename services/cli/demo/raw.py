"""A publisher that knows nothing of us: the NATS client protocol in plain text over TCP.

Source: NATS documentation, "Client Protocol": CONNECT, PUB, PING, PONG.
"""

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import anyio
import msgspec

from services.errors import LogUnavailable

ANSWER_S_MAX = 5.0
NATS_PORT = 4222
READ_BYTES = 65_536


async def publish(url: str, messages: Mapping[bytes, str]) -> None:
    """Publish each body on its subject, and wait until the server has taken them.

    Raises LogUnavailable when it does not.
    """
    where = urlsplit(url)
    options = {
        "verbose": False,
        "pedantic": False,
        "user": unquote(where.username or ""),
        "pass": unquote(where.password or ""),
    }
    wire = b"CONNECT " + msgspec.json.encode(options) + b"\r\n"
    for body, subject in messages.items():
        wire += b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(body), body)
    host, port = where.hostname or "127.0.0.1", where.port or NATS_PORT
    with anyio.move_on_after(ANSWER_S_MAX):
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(wire + b"PING\r\n")
            answer = b""
            while b"PONG\r\n" not in answer and b"-ERR" not in answer:
                answer = (answer + await stream.receive(READ_BYTES))[-READ_BYTES:]
            if b"-ERR" not in answer:
                return
    raise LogUnavailable("the server did not take the plain publishes")
