"""Rows into DuckDB by Arrow: the edge where third-party values without types are handled."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow ships no types)

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from projections.fold.rows import Row

_READ_ROWS = 10_000
"""Rows of one step of a long read."""


class Inlet:
    """One Arrow table of fixed columns, filled anew for each batch, that SQL reads by name.

    Registered once, it can stand in a prepared statement, which halves the cost of a small batch.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: str, columns: Row) -> None:
        listed = ", ".join(map(str, columns))
        sql = f"SELECT {listed} FROM {table} LIMIT 0"  # noqa: S608 - our own names
        empty = connection.sql(sql)
        schema: Any = empty.to_arrow_table().schema
        self._kind: Any = pa.struct([pa.field(field.name, field.type) for field in schema])
        self._batch: Any = pa.RecordBatch.from_struct_array(pa.array([], self._kind))

    def fill(self, rows: Sequence[Row]) -> None:
        """Hold these rows until others come."""
        # as one array of structs: half the time of an array for each column
        self._batch = pa.RecordBatch.from_struct_array(pa.array(rows, self._kind))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Hand the rows to DuckDB (Arrow PyCapsule interface)."""
        return self._batch.__arrow_c_stream__(requested_schema)


def read_rows(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[dict[str, object]]:
    """Yield the rows of a query of ours, some thousand in memory at a time."""
    for batch in connection.sql(sql).to_arrow_reader(_READ_ROWS):
        yield from batch.to_pylist()


class Unreadable(Exception):
    """A result broke off; the message is DuckDB's."""


def read_chunks(
    relation: duckdb.DuckDBPyRelation, chunk_rows: int
) -> Iterator[list[tuple[object, ...]]]:
    """Yield the rows of a query, `chunk_rows` at a time, as values JSON can have.

    Raises Unreadable when the query is stopped on its way or a value cannot be told.
    """
    kinds = [str(kind) for kind in relation.types]
    try:
        for batch in relation.to_arrow_reader(chunk_rows):
            columns = [
                _told(column.to_pylist(), kind)
                for column, kind in zip(batch.columns, kinds, strict=True)
            ]
            yield list(zip(*columns, strict=True))
    except (pa.ArrowException, ArithmeticError, OSError, TypeError, ValueError) as error:
        raise Unreadable(str(error)) from error


def _told(values: list[Any], kind: str) -> list[object]:
    """Return one column's values as JSON has them."""
    if kind.startswith("DECIMAL") and not kind.endswith("]"):
        values = [None if value is None else float(value) for value in values]
    elif kind.endswith("HUGEINT"):
        values = [None if value is None else int(value) for value in values]
    elif kind.startswith("MAP(") and not kind.endswith("]"):
        values = [None if value is None else dict(value) for value in values]
    plain: list[object] = msgspec.to_builtins(values, str_keys=True)
    return plain
