"""One AsyncAPI 3.0 document: every subject, what travels there, and what may be asked for.

Source: AsyncAPI specification 3.0.0. Actions are told from the fleet's side: it sends facts and
receives requests.
"""

from msgspec import Struct

from events.codec import FACT_TYPES
from events.schema.catalog import (
    CHANNELS,
    OPERATIONS,
    Channel,
    Operation,
)
from events.schema.documents import Schema, published_name
from events.schema.prose import summary
from events.strict import Json

VERSION = "0.1.0"
"""Release whose vocabulary this is; the project's own version."""


def asyncapi() -> Schema:
    """Return the document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ffrtmp",
            "version": VERSION,
            "description": "A transcoding fleet whose whole memory is one NATS JetStream log.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages()},
    }


def _channels() -> Schema:
    facts: Schema = {channel.name: _fact_channel(channel) for channel in CHANNELS}
    requests: Schema = {
        operation.name: {
            "address": operation.address,
            "summary": operation.summary,
            "description": _kept(operation.stream),
            "messages": _links(published_name(operation.request)),
        }
        for operation in OPERATIONS
    }
    replies = sorted({published_name(op.reply) for op in OPERATIONS if op.reply is not None})
    asides: Schema = {
        "inbox": {
            "address": None,
            "summary": "Where the asker listens: the reply subject of its request.",
            "messages": _links(*replies),
        },
    }
    return facts | requests | asides


def _fact_channel(channel: Channel) -> Schema:
    tokens = [piece.split("}")[0] for piece in channel.address.split("{")[1:]]
    parameters: Schema = {
        token: {"description": f"The {token.removesuffix('_id')} it is about."} for token in tokens
    }
    return {
        "address": channel.address,
        "summary": channel.summary,
        "description": _kept(channel.stream),
        "parameters": parameters,
        "messages": _links(*(fact.tag for fact in channel.facts)),
    }


def _operations() -> Schema:
    sending: Schema = {
        f"send_{channel.name}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{channel.name}"},
            "summary": channel.summary,
        }
        for channel in CHANNELS
    }
    receiving: Schema = {operation.name: _operation(operation) for operation in OPERATIONS}
    return sending | receiving


def _operation(operation: Operation) -> Schema:
    reply = None if operation.reply is None else published_name(operation.reply)
    return _received(operation.name, operation.summary, reply)


def _received(name: str, words: str, reply: str | None) -> Schema:
    document: Schema = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": words,
    }
    if reply is not None:
        document["reply"] = {
            "channel": {"$ref": "#/channels/inbox"},
            "messages": [{"$ref": f"#/channels/inbox/messages/{reply}"}],
        }
    return document


def _messages() -> Schema:
    facts: Schema = {tag: _message(tag, fact) for tag, fact in FACT_TYPES.items()}
    kinds = [kind for op in OPERATIONS for kind in (op.request, op.reply) if kind is not None]
    others: Schema = {published_name(kind): _message(published_name(kind), kind) for kind in kinds}
    return facts | others


def _message(name: str, kind: type[Struct]) -> Schema:
    return {"name": name, "summary": summary(kind), "payload": {"$ref": f"./{name}.json"}}


def _links(*names: str) -> dict[str, Json]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _kept(stream: str) -> str:
    return f"Kept in the stream {stream}." if stream else "Not kept: answered at once."
