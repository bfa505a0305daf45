"""JSON Schema (2020-12) of every event, request and reply."""

import re
from collections.abc import Iterator
from typing import TypeAlias, cast

import msgspec
from msgspec import Struct, inspect

from events.codec import FACT_TYPES, Event, TraceParent
from events.ids import END_OF_TEXT
from events.requests import SubmitJob, SubmitMany
from events.schema.catalog import OPERATIONS, TOKENS, channel_of
from events.schema.prose import field_notes, summary
from events.strict import Json

Schema: TypeAlias = dict[str, Json]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_END_IN_JSON = msgspec.json.encode(END_OF_TEXT).strip(b'"')
_words = re.compile(r"(?<!^)(?=[A-Z])")


def event_schemas() -> dict[str, Schema]:
    """Return the schema of every stored event by its type. Unknown fields are allowed."""
    return {tag: _event_schema(tag, fact) for tag, fact in FACT_TYPES.items()}


def request_schemas() -> dict[str, Schema]:
    """Return the schema of every request and reply. Unknown fields of requests are refused."""
    requests = {operation.request: True for operation in OPERATIONS}
    replies = {operation.reply: False for operation in OPERATIONS if operation.reply is not None}
    return {
        published_name(kind): _request_schema(kind, strict=strict)
        for kind, strict in (requests | replies).items()
    }


def published_name(kind: type[Struct]) -> str:
    """Return the name of a request or reply, as `submit_job`."""
    return _words.sub("_", kind.__name__).lower()


def subject_pattern(address: str) -> str:
    """Return the pattern of all subjects of an address."""
    pieces = re.split(r"\{(\w+)\}", address)
    pieces[::2] = map(re.escape, pieces[::2])
    pieces[1::2] = (TOKENS[name].removeprefix("^").split("$")[0] for name in pieces[1::2])
    return f"^{''.join(pieces)}$"


def _event_schema(tag: str, fact: type[Struct]) -> Schema:
    notes = field_notes(Event)
    properties: Schema = {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "description": notes["source"]},
        "type": {"const": tag},
        "time": {"type": "string", "format": "date-time", "description": notes["time"]},
        "subject": {"type": "string", "pattern": subject_pattern(channel_of(tag).address)},
        "traceparent": _portable(msgspec.json.schema(TraceParent)),
        "data": {"$ref": f"#/$defs/{fact.__name__}"},
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:ffrtmp:event:{tag}",
        "title": tag,
        "description": summary(fact),
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name != "traceparent"],
        "$defs": _definitions(fact, strict=False),
    }


def _request_schema(kind: type[Struct], *, strict: bool) -> Schema:
    bulk = kind is SubmitMany
    definitions = _definitions(*((kind, SubmitJob) if bulk else (kind,)), strict=strict)
    if bulk:  # its jobs are decoded one by one, so the struct itself does not tell what they are
        _properties(definitions, kind)["jobs"]["items"] = {"$ref": "#/$defs/SubmitJob"}
    name = published_name(kind)
    return {
        "$schema": DIALECT,
        "$id": f"urn:ffrtmp:request:{name}",
        "title": name,
        "description": summary(kind),
        "$ref": f"#/$defs/{kind.__name__}",
        "$defs": definitions,
    }


def _definitions(*kinds: type[Struct], strict: bool) -> Schema:
    """Return the definitions of structs and of all they hold, with the notes on their fields."""
    _, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    definitions = _portable(components)
    held = {kind for info in inspect.multi_type_info(kinds) for kind in _structs_in(info)}
    for kind in held:
        properties = _properties(definitions, kind)
        for field, note in field_notes(kind).items():
            properties[field].setdefault("description", note)
        if strict:
            cast("Schema", definitions[kind.__name__])["additionalProperties"] = False
    return definitions


def _properties(definitions: Schema, kind: type) -> dict[str, Schema]:
    definition = cast("Schema", definitions[kind.__name__])
    return cast("dict[str, Schema]", definition["properties"])


def _structs_in(info: inspect.Type) -> Iterator[type]:
    match info:
        case inspect.StructType(cls=cls, fields=fields):
            yield cls
            inner = tuple(field.type for field in fields)
        case inspect.UnionType(types=types):
            inner = types
        case inspect.VarTupleType(item_type=item):
            inner = (item,)
        case inspect.Metadata(type=plain):
            inner = (plain,)
        case _:
            inner = ()
    for part in inner:
        yield from _structs_in(part)


def _portable(schema: object) -> Schema:
    """Return a schema whose patterns are ECMA 262's, where `$` is only the very end."""
    text = msgspec.json.encode(schema).replace(_END_IN_JSON, b"$")
    return cast("Schema", msgspec.json.decode(text))
