"""The event reference for people, in Markdown."""

from collections.abc import Iterable
from typing import cast

from msgspec import NODEFAULT, Struct, inspect, json

from events.codec import FACT_TYPES
from events.schema.catalog import CHANNELS, OPERATIONS
from events.schema.documents import published_name
from events.schema.prose import field_notes, summary
from events.strict import described

_HEAD = """\
# Events, requests and replies

Written by `python -m events.schema` from the structs in `events/`; do not edit. The same as JSON
Schema: `schema/<type>.json`; all subjects as AsyncAPI: `schema/asyncapi.json`.

An event is a CloudEvents 1.0 envelope in JSON (`specversion`, `id`, `source`, `type`, `time`,
`subject`, optionally `traceparent`) whose `data` is the fact below. Fields that have their default
are left out; readers ignore fields they do not know.
"""


def reference() -> str:
    """Return the whole page."""
    sections = [_HEAD, _overview()]
    sections += [_section(tag, fact) for tag, fact in FACT_TYPES.items()]
    sections.append("## Requests and replies\n\n" + _requests())
    kinds = [kind for op in OPERATIONS for kind in (op.request, op.reply) if kind is not None]
    sections += [_section(published_name(kind), kind) for kind in dict.fromkeys(kinds)]
    sections.append("## Values\n\nWhat the fields above are made of.\n")
    held = _held((*FACT_TYPES.values(), *kinds))
    sections += [_section(kind.__name__, kind) for kind in held]
    return "\n".join(sections)


def _overview() -> str:
    rows = [
        (f"[`{fact.tag}`](#{_anchor(fact.tag)})", f"`{channel.address}`", summary(fact))
        for channel in CHANNELS
        for fact in channel.facts
    ]
    return "## Events\n\n" + _table(("type", "subject", "what became true"), rows)


def _requests() -> str:
    rows = [
        (
            f"`{op.address}`",
            f"[`{published_name(op.request)}`](#{_anchor(published_name(op.request))})",
            "a fact" if op.reply is None else f"`{published_name(op.reply)}`",
            op.summary,
        )
        for op in OPERATIONS
    ]
    return _table(("subject", "request", "answer", "what is asked"), rows)


def _section(name: str, kind: type[Struct]) -> str:
    info = cast("inspect.StructType", inspect.type_info(kind))
    notes = field_notes(kind)
    rows = [
        (f"`{field.encode_name}`", _type(field.type), _default(field), notes.get(field.name, ""))
        for field in info.fields
    ]
    table = _table(("field", "type", "default", "meaning"), rows) if rows else "No fields.\n"
    return f"### {name}\n\n{summary(kind)}\n\n{table}"


def _type(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=inner) if not described(info):
            return _type(inner)
        case inspect.UnionType(types=types):
            parts = [part for part in types if not isinstance(part, inspect.NoneType)]
            return " or ".join(map(_type, parts))
        case inspect.StructType(cls=cls):
            return f"[{cls.__name__}](#{_anchor(cls.__name__)})"
        case inspect.VarTupleType(item_type=item):
            return f"{described(info)}: {_type(item)}"
        case _:
            return described(info)


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not NODEFAULT else field.default_factory()
    text = json.encode(value).decode()
    return "" if text == "null" else f"`{text}`"


def _held(kinds: Iterable[type[Struct]]) -> list[type[Struct]]:
    """Return the structs inside these, each once, in the order of their first appearance."""
    found: dict[type[Struct], None] = {}
    waiting = [inspect.type_info(kind) for kind in kinds]
    while waiting:
        match waiting.pop(0):
            case inspect.StructType(cls=cls, fields=fields):
                if cls not in found and cls not in kinds:
                    found[cls] = None
                waiting += [field.type for field in fields]
            case inspect.UnionType(types=types):
                waiting += types
            case inspect.VarTupleType(item_type=item):
                waiting.append(item)
            case _:
                continue
    return list(found)


def _anchor(title: str) -> str:
    """Return the anchor that forges make of a heading."""
    return title.lower().replace(".", "")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(map(_row, lines))


def _row(cells: tuple[str, ...]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"
