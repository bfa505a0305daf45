"""Questions to the read model, and their answers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from events.requests.answers import Problem

SQL_CHARACTERS_MAX = 64 * 1024
"""Longest question to the read model."""
Value: TypeAlias = str | int | float | bool | None
Params: TypeAlias = Sequence[Value] | Mapping[str, Value]
"""For `?` and `$1` in their order, or for `$name` by name."""


class QueryRequest(Struct, frozen=True, kw_only=True):
    """One question in SQL: exactly one SELECT, or an EXPLAIN of one."""

    sql: Annotated[str, Meta(min_length=1, max_length=SQL_CHARACTERS_MAX)]
    params: list[Value] | dict[str, Value] = []
    rows_max: Annotated[int, Meta(ge=1)] | None = None
    """Most rows to return; None, or more than the projector allows: what it allows."""
    after_seq: Annotated[int, Meta(ge=0)] = 0
    """Answer from a projection that has read the ledger up to here; 0: as it is."""


class QueryResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer: rows, or what is wrong with the question."""

    columns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    """DuckDB's names of the columns' types."""
    rows: tuple[tuple[Any, ...], ...] = ()
    """Values as JSON has them: instants as RFC 3339 text, bytes as base64, decimals as numbers."""
    truncated: bool = False
    """There were more rows than the limits allow."""
    seq: int = 0
    """Ledger sequence up to which the answer is complete."""
    elapsed_s: float = 0.0
    error: Problem | None = None
    """Why there is no answer; None: there is one."""
