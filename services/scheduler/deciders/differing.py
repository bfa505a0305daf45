"""In which fields two specifications differ, as people name them."""

from collections.abc import Iterator
from itertools import islice
from typing import cast

from msgspec import Struct

from events.spec import JobSpec

FIELDS_TOLD_MAX = 8
"""Fields that a message names; whoever has to change more looks at the whole."""


def differing(one: JobSpec, other: JobSpec) -> tuple[str, ...]:
    """Return the paths of the first fields that differ, as `$.parameters.video.crf`."""
    return tuple(islice(_paths(one, other, "$"), FIELDS_TOLD_MAX))


def _paths(one: object, other: object, path: str) -> Iterator[str]:
    if one == other:
        return
    if isinstance(one, Struct) and type(one) is type(other):
        for name in one.__struct_fields__:
            yield from _paths(getattr(one, name), getattr(other, name), f"{path}.{name}")
    elif isinstance(one, dict) and isinstance(other, dict):
        first, second = cast("dict[str, object]", one), cast("dict[str, object]", other)
        for key in sorted(first.keys() | second.keys()):
            yield from _paths(first.get(key), second.get(key), f"{path}.{key}")
    else:
        yield path
