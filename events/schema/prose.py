"""The documentation of structs and their fields, read from the source of the vocabulary."""

import ast
import functools
import inspect
import itertools
import textwrap


def summary(kind: type) -> str:
    """Return the docstring of a type in one paragraph; empty: it has none of its own."""
    return " ".join((kind.__dict__.get("__doc__") or "").split())


def field_notes(kind: type) -> dict[str, str]:
    """Return what is written under each field of a struct, its bases' included."""
    notes: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("events."):
            notes |= _own_notes(base)
    return notes


@functools.cache
def _own_notes(kind: type) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    notes: dict[str, str] = {}
    for field, note in itertools.pairwise(tree.body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(note, ast.Expr) and isinstance(note.value, ast.Constant):
            notes[field.target.id] = " ".join(str(note.value.value).split())
    return notes
