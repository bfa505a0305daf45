"""Reads a settings struct: option > environment > TOML file > the command's default > the struct's.

Each value is validated by the type of its field, once, and a refusal names the setting, where the
value came from, what was given and what is allowed.
"""

import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct, inspect

from services.config import Timeouts
from services.errors import ConfigurationError

ENVIRONMENT_PREFIX = "FFRTMP_"
COMMON = "timeouts"
TABLES = ("up", "worker", "scheduler", "projector", COMMON)
"""What a settings file may have: one table a service, one for `ffrtmp up`, and one for what all
services share."""
TOML_BYTES_MAX = 1024 * 1024
"""Longest settings file."""

S = TypeVar("S", bound=Struct)


class Sources(Struct, frozen=True, kw_only=True):
    """Where settings come from, the strongest first."""

    options: Mapping[str, object] = {}
    """By field name; None is not given."""
    environment: Mapping[str, str] = {}
    """By variable name, `FFRTMP_SLOTS`."""
    table: Mapping[str, object] = {}
    """One table of the TOML file, by field name."""
    table_name: str = ""
    common: Mapping[str, object] = {}
    """The table of the settings that all services share; a service's own table is stronger."""
    defaults: Mapping[str, object] = {}
    """What this command puts in the place of the struct's own defaults."""


def read_table(path: Path, name: str) -> dict[str, object]:
    """Return one table of a TOML file, empty when the file does not have it.

    Raises ConfigurationError for a file that cannot be read, is no TOML, or says what no service
    reads.
    """
    try:
        with path.open("rb") as file:
            text = file.read(TOML_BYTES_MAX + 1)
        if len(text) > TOML_BYTES_MAX:
            raise ConfigurationError(f"{path}: longer than {TOML_BYTES_MAX} bytes")
        document = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; give --config a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: no TOML: {error}") from error
    strangers = sorted(set(document) - set(TABLES))
    if strangers:
        allowed = ", ".join(f"[{table}]" for table in TABLES)
        raise ConfigurationError(f"{path}: {strangers[0]!r} is read by nobody; allowed: {allowed}")
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: {name!r} is no table; write [{name}]")
    return dict(cast(dict[str, object], table))


def load(kind: type[S], sources: Sources) -> S:
    """Return the settings of `kind`. Raises ConfigurationError for the first that cannot work."""
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    _refuse_strangers(sources.table, sources.table_name, known)
    _refuse_strangers(sources.common, COMMON, Timeouts.__struct_fields__)
    values: dict[str, Any] = {}
    for name, field in known.items():
        given = next(_given(name, sources), None)
        if given is not None:
            values[name] = _converted(name, field.type, given)
        elif field.required:
            raise ConfigurationError(
                f"{name}: not given; give --{name.replace('_', '-')} or {variable(name)}"
            )
    return kind(**values)


def _refuse_strangers(table: Mapping[str, object], name: str, known: Collection[str]) -> None:
    strangers = sorted(set(table) - set(known))
    if strangers:
        raise ConfigurationError(
            f"[{name}] {strangers[0]}: unknown setting; allowed: {', '.join(sorted(known))}"
        )


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


def allowed(kind: object) -> str:
    """Return what values a field's type takes, in words."""
    return _allowed(inspect.type_info(kind))


def _given(name: str, sources: Sources) -> Iterator[tuple[str, object]]:
    option = sources.options.get(name)
    if option is not None:
        yield f"--{name.replace('_', '-')}", option
    text = sources.environment.get(variable(name))
    if text:
        yield variable(name), text
    if name in sources.table:
        yield f"[{sources.table_name}] {name}", sources.table[name]
    if name in sources.common:
        yield f"[{COMMON}] {name}", sources.common[name]
    if name in sources.defaults:
        yield f"default of {name}", sources.defaults[name]


def _converted(name: str, kind: object, given: tuple[str, object]) -> object:
    origin, value = given
    plain = _pairs(value) if _is_table(kind) and isinstance(value, str) else value
    try:
        return msgspec.convert(plain, kind, strict=not isinstance(value, str), dec_hook=_hook)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        reason = str(error).partition(" - at `")[0]
        if " matching regex " in reason:
            reason = "not as it has to be"
        raise ConfigurationError(
            f"{name}: {reason}; given: {value!r} by {origin}; allowed: {allowed(kind)}"
        ) from None


def _hook(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path):
        if not str(value):
            raise ValueError("an empty path")
        return Path(value).expanduser()
    raise TypeError(f"{type(value).__name__} given")


def _is_table(kind: object) -> bool:
    return isinstance(inspect.type_info(kind), inspect.DictType)


def _pairs(text: str) -> dict[str, str]:
    """Read `zone=eu,rack=7`. Raises ValueError for a part without `=`."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ConfigurationError(f"{part!r} is no key=value; given: {text!r}")
        pairs[key.strip()] = value.strip()
    return pairs


def _allowed(info: inspect.Type) -> str:
    describe = _DESCRIPTIONS.get(type(info))
    return "a valid value" if describe is None else describe(info)


def _of_metadata(info: inspect.Metadata) -> str:
    name = "extra_json_schema"  # typed as a bare dict
    schema = cast(dict[str, str], getattr(info, name) or {})
    words = schema.get("description", "")
    return words.rstrip(".") if words else _allowed(info.type)


def _of_number(info: inspect.IntType | inspect.FloatType) -> str:
    kind = "a whole number" if isinstance(info, inspect.IntType) else "a number"
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (
            ("above", info.gt),
            ("from", info.ge),
            ("below", info.lt),
            ("to", info.le),
        )
        if bound is not None
    ]
    return " ".join([kind, *bounds])


def _of_text(info: inspect.StrType) -> str:
    return "text" if info.pattern is None else f"text that matches {info.pattern}"


def _of_enum(info: inspect.EnumType) -> str:
    return ", ".join(str(member.value) for member in info.cls)


def _of_literal(info: inspect.LiteralType) -> str:
    return ", ".join(str(value) for value in info.values)


def _of_union(info: inspect.UnionType) -> str:
    parts = [_allowed(part) for part in info.types if not isinstance(part, inspect.NoneType)]
    return " or ".join(parts)


def _of_custom(info: inspect.CustomType) -> str:
    return "a path" if info.cls is Path else info.cls.__name__


_DESCRIPTIONS: dict[type, Callable[[Any], str]] = {
    inspect.Metadata: _of_metadata,
    inspect.IntType: _of_number,
    inspect.FloatType: _of_number,
    inspect.StrType: _of_text,
    inspect.EnumType: _of_enum,
    inspect.LiteralType: _of_literal,
    inspect.UnionType: _of_union,
    inspect.CustomType: _of_custom,
    inspect.BoolType: lambda _: "true or false",
    inspect.DictType: lambda _: "key=value pairs with commas between",
}
