"""Why a body was refused: which field, what was given, what is allowed.

msgspec says what is wrong and roughly where, and lets unknown fields pass. A request needs more:
the exact field, words for what is allowed there, and a refusal of every field that no type of ours
has, at every depth.
"""

import functools
import re
from typing import NamedTuple, TypeAlias, cast

import msgspec
from msgspec import Struct, inspect

from events.ids import END_OF_TEXT

Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | bool | None"

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises: not JSON or not of the type, not UTF-8, nested beyond the stack."""
_SHOWN_BYTES_MAX = 512
_ENTRIES_TRIED_MAX = 64
"""How many entries of a mapping are tried one by one to find the one at fault."""
_ABSENT = object()
_SOME_KEY = "[key]"
_SOME_VALUE = "[*]"
_missing = re.compile("Object missing required field `(.+)`").fullmatch


class Fault(NamedTuple):
    """One thing that is wrong with a body."""

    field: str
    """Path of the field, as `$.parameters.video.width`; `$` is the body itself."""
    message: str


def explain(kind: type[Struct], body: bytes, problem: str) -> Fault:
    """Return what msgspec's `problem` with `body`, as a `kind`, means to the one who sent it."""
    message, _, where = problem.partition(" - at `")
    path = where.rstrip("`").replace("[...]", _SOME_VALUE) or "$"
    if path.startswith("key` in `"):
        path = path.removeprefix("key` in `") + _SOME_KEY
    missing = _missing(message)
    if missing is not None:
        path = f"{path}.{missing[1]}"
    plain = _plain(body)
    field, given = _located(kind, plain, path, problem=problem)
    told = shown(body) if plain is None else _quoted(given)
    if " matching regex " in message:
        message = "not as it has to be"
    return Fault(field, f"{field}: {message}; given: {told}; allowed: {_allowed(kind, path)}")


def unknown_field(kind: type[Struct], body: bytes) -> Fault | None:
    """Return the first field of `body` that no type of ours has there; None: all are known.

    Raises what decoding raises.
    """
    return _stranger(_info(kind), cast("Json", msgspec.json.decode(body)), "$")


def shown(body: bytes) -> str:
    """Return the head of a body for a message, safe to print."""
    text = body[:_SHOWN_BYTES_MAX].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def described(info: inspect.Type) -> str:
    """Return what values of a type may be, in words for people.

    Null is not mentioned beside others: it says no more than leaving the field out.
    """
    match info:
        case inspect.Metadata():
            return _documented(info) or described(info.type)
        case inspect.UnionType():
            parts = [part for part in info.types if not isinstance(part, inspect.NoneType)]
            return " or ".join(described(part) for part in parts)
        case inspect.EnumType():
            return ", ".join(str(member.value) for member in info.cls)
        case inspect.VarTupleType() | inspect.ListType():
            return f"a list{_between(info.min_length, info.max_length, ' of', ' entries')}"
        case inspect.DictType():
            return f"an object{_between(info.min_length, info.max_length, ' of', ' entries')}"
        case inspect.StructType():
            return f"an object of {', '.join(sorted(f.encode_name for f in info.fields))}"
        case _:
            return _scalar(info)


def _scalar(info: inspect.Type) -> str:
    match info:
        case inspect.NoneType():
            return "null"
        case inspect.BoolType():
            return "true or false"
        case inspect.DateTimeType():
            return "an instant with its time zone, as 2026-01-31T12:00:00Z"
        case inspect.IntType():
            return f"a whole number{_range(info)}"
        case inspect.FloatType():
            return f"a number{_range(info)}"
        case inspect.StrType():
            length = _between(info.min_length, info.max_length, " of", " characters")
            pattern = (info.pattern or "").replace(END_OF_TEXT, "$")
            return f"text{length}{f' that matches {pattern}' if pattern else ''}"
        case _:
            return "any JSON"


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    words = _between(info.ge, info.le, ",", "")
    if info.gt is not None:
        words = f", above {info.gt}" + (f", at most {info.le}" if info.le is not None else "")
    return words + (f", a multiple of {info.multiple_of}" if info.multiple_of is not None else "")


def _between(low: float | None, high: float | None, before: str, after: str) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f"{before} at least {low}{after}"
    if low is None:
        return f"{before} at most {high}{after}"
    return f"{before} {low} to {high}{after}"


def _documented(info: inspect.Metadata) -> str:
    extra = cast("dict[str, object]", info.extra_json_schema or {})  # pyright: ignore[reportUnknownMemberType] - msgspec: dict of anything
    text = str(extra.get("description", "")).rstrip(".")
    examples = ", ".join(map(str, cast("list[object]", extra.get("examples", []))))
    return f"{text}; for example {examples}" if examples else text


@functools.cache
def _info(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _plain(body: bytes) -> Json:
    try:
        return cast("Json", msgspec.json.decode(body))
    except UNREADABLE:
        return None


def _quoted(value: object) -> str:
    if value is _ABSENT:
        return "nothing"
    try:
        return shown(msgspec.json.encode(value))
    except RecursionError:
        return "a value nested too deeply to show"


def _located(kind: type[Struct], plain: Json, path: str, *, problem: str) -> tuple[str, object]:
    """Return the exact field that `path` means, and what was given there."""
    mapping, _, step = path.rpartition("[")
    if f"[{step}" not in {_SOME_KEY, _SOME_VALUE}:
        return path, _at(plain, path)
    entry = _entry_at_fault(kind, plain, mapping, problem=problem)
    if entry is None:
        return mapping, _ABSENT
    key, value = entry
    return f"{mapping}.{shown(key.encode())}", key if path.endswith(_SOME_KEY) else value


def _entry_at_fault(
    kind: type[Struct], plain: Json, field: str, *, problem: str
) -> tuple[str, Json] | None:
    """Return the first entry of the mapping at `field` that alone brings the same problem."""
    mapping = _at(plain, field)
    if not isinstance(mapping, dict):
        return None
    entries = cast("dict[str, Json]", mapping)
    for key, value in list(entries.items())[:_ENTRIES_TRIED_MAX]:
        entries.clear()
        entries[key] = value
        try:
            msgspec.json.decode(msgspec.json.encode(plain), type=kind)
        except msgspec.ValidationError as error:
            if str(error) == problem:
                return key, value
    return None


def _allowed(kind: type[Struct], path: str) -> str:
    info = _info(kind)
    for step in _steps(path):
        inner = _child(info, step)
        if inner is None:
            return described(inspect.AnyType())
        info = inner
    return described(info)


def _steps(path: str) -> list[str]:
    return [step for step in path.replace("[", ".[").split(".")[1:] if step]


def _at(value: Json, path: str) -> object:
    for step in _steps(path):
        index = step[1:-1]
        if isinstance(value, list) and index.isdigit() and int(index) < len(value):
            value = value[int(index)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return _ABSENT
    return value


def _child(info: inspect.Type, step: str) -> inspect.Type | None:
    """Return the type one step further down; None: there is no such field."""
    for choice in _choices(info):
        match choice:
            case inspect.StructType(fields=fields) if not step.startswith("["):
                found = [field.type for field in fields if field.encode_name == step]
                if found:
                    return found[0]
            case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
                return item
            case inspect.DictType(key_type=key, value_type=value):
                return key if step == _SOME_KEY else value
            case _:
                continue
    return None


def _choices(info: inspect.Type) -> tuple[inspect.Type, ...]:
    match info:
        case inspect.Metadata(type=inner):
            return _choices(inner)
        case inspect.UnionType(types=types):
            return tuple(choice for part in types for choice in _choices(part))
        case _:
            return (info,)


def _stranger(info: inspect.Type, value: Json, path: str) -> Fault | None:
    if isinstance(value, list):
        steps = [(f"[{number}]", f"{path}[{number}]", item) for number, item in enumerate(value)]
    elif isinstance(value, dict):
        steps = [(name, f"{path}.{name}", item) for name, item in value.items()]
    else:
        return None
    known = _field_names(info)
    for step, where, item in steps:
        inner = _child(info, step)
        if inner is None and known and isinstance(value, dict):
            field = f"{path}.{shown(step.encode())}"
            allowed = ", ".join(known)
            return Fault(
                field, f"{field}: unknown field; given: {_quoted(item)}; allowed: {allowed}"
            )
        found = None if inner is None else _stranger(inner, item, where)
        if found is not None:
            return found
    return None


def _field_names(info: inspect.Type) -> list[str]:
    """Return the fields a struct of this type may have; empty: it is no struct."""
    structs = [choice for choice in _choices(info) if isinstance(choice, inspect.StructType)]
    return sorted(field.encode_name for struct in structs for field in struct.fields)
