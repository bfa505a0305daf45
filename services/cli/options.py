"""Command-line options made from a settings struct, so that both always say the same."""

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
import msgspec
from msgspec import NODEFAULT, Struct

from services.cli import settings
from services.cli.invocation import Invocation
from services.config import Timeouts

S = TypeVar("S", bound=Struct)
F = TypeVar("F", bound=Callable[..., Any])


def settings_options(kind: type[Struct]) -> Callable[[F], F]:
    """Return a decorator that adds one option a setting, with the setting's own words as help."""
    words = _docstrings(kind)

    def add(command: F) -> F:
        for field in reversed(msgspec.structs.fields(kind)):
            name = "--" + field.name.replace("_", "-")
            command = click.option(name, field.name, help=_help(field, words), metavar="VALUE")(
                command
            )
        return command

    return add


def load_settings(
    invocation: Invocation,
    kind: type[S],
    name: str,
    *,
    options: Mapping[str, object],
    defaults: Mapping[str, object],
) -> S:
    """Return the settings of the service `name` from all their sources; see `settings.load`."""
    table: Mapping[str, object] = {}
    common: Mapping[str, object] = {}
    if invocation.config is not None:
        table = settings.read_table(invocation.config, name)
        if issubclass(kind, Timeouts):
            common = settings.read_table(invocation.config, settings.COMMON)
    return settings.load(
        kind,
        settings.Sources(
            options=options,
            environment=invocation.environment,
            table=table,
            table_name=name,
            common=common,
            defaults=defaults,
        ),
    )


def _help(field: msgspec.structs.FieldInfo, words: Mapping[str, str]) -> str:
    parts = [words.get(field.name, "")]
    if field.default is not NODEFAULT and field.default is not None:
        parts.append(f"[default: {field.default}]")
    parts.append(f"[{settings.variable(field.name)}]")
    return " ".join(filter(None, parts))


def _docstrings(kind: type[Struct]) -> dict[str, str]:
    """Return the first sentence of the string below each field, where there is one."""
    tree = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            text = " ".join(str(below.value.value).split())
            found[field.target.id] = text.partition(". ")[0].rstrip(".") + "."
    return found
