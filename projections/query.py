"""SQL of outsiders on the live file: read-only, bounded in time, memory, rows and bytes.

Each check closes what another leaves open, and all of them hold at once:

- exactly one statement, a SELECT or an EXPLAIN of one: no COMMIT that leaves the transaction;
- a read-only transaction: no CTE that writes, no EXPLAIN ANALYZE that does;
- no file access and a locked configuration, for the whole database (`storage.database`);
- no function that acts, sleeps, runs text as SQL, or makes a value as large as a number says:
  DuckDB looks at its limits between functions, never inside one;
- a time limit and a memory limit per cursor, and as many cursors as there may be queries at once.

They stop accidents and known attacks. Whoever may ask is still trusted with the projector's share
of the machine: give the process a memory limit of the operating system as well.
"""

import contextlib
import queue
import re
import time
from collections.abc import Callable
from typing import cast

import duckdb
import msgspec
from msgspec import Struct

from events.requests import Problem, QueryRequest, QueryResult
from projections.storage.arrow import Unreadable, read_chunks

CHUNK_ROWS = 500
CLOSE_S_MAX = 2.0
"""How long an interrupted query may take to notice."""
INTERRUPT_S = 0.05
ENDING = "the projector is ending; ask again"

FORBIDDEN_FUNCTIONS = frozenset(
    {
        # they act
        "checkpoint", "force_checkpoint", "write_log", "truncate_duckdb_logs", "enable_logging",
        "disable_logging", "enable_profiling", "disable_profiling", "create_external_resource",
        "destroy_external_resource", "register_external_resource",
        "register_external_resource_type", "deregister_external_resource", "setseed",
        "nextval",
        # they sleep
        "sleep_ms", "pg_sleep",
        # they run text as SQL
        "query", "json_execute_serialized_sql",
        # they make a value as large as a number says
        "repeat", "lpad", "rpad", "bar", "printf", "format", "list_resize", "array_resize",
        "bitstring", "equi_width_bins", "test_vector_types", "repeat_row",
    }
)  # fmt: skip
FORBIDDEN_IN_EXPRESSIONS = frozenset({"range", "generate_series"})
"""Whole lists in one value; as tables (`FROM range(9)`) they come in pieces and are allowed."""
FORBIDDEN_AS_TABLES = frozenset({"histogram", "histogram_values"})
"""Macros over the above; as aggregates they are allowed."""

_EXPLAIN = re.compile(r"^\s*explain\s+(?:analyze\s+)?(?:\([^)]*\)\s*)?", re.IGNORECASE)


class QueryLimits(Struct, frozen=True, kw_only=True):
    """How much one answer may cost."""

    time_s_max: float = 10.0
    rows_max: int = 10_000
    bytes_max: int = 8 * 2**20
    memory_bytes_max: int = 512 * 2**20
    queries_max: int = 4
    """Queries at once; further ones wait for as long as a query may take, then are refused."""


class _Refused(Exception):
    """The question will not be answered."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(code=code, message=message)


class QueryGuard:
    """Answers questions, each on a cursor of its own; from any thread."""

    def __init__(
        self, cursor: Callable[[], duckdb.DuckDBPyConnection], limits: QueryLimits
    ) -> None:
        self._limits = limits
        self._closing = False
        self._cursors = [_bounded(cursor(), limits) for _ in range(limits.queries_max)]
        self._idle: queue.LifoQueue[duckdb.DuckDBPyConnection] = queue.LifoQueue()
        for made in self._cursors:
            self._idle.put(made)

    def run(self, request: QueryRequest) -> QueryResult:
        """Answer; what is wrong with the question is in the answer."""
        start = time.perf_counter()
        if self._closing:
            return QueryResult(error=Problem(code="interrupted", message=ENDING))
        try:
            cursor = self._idle.get(timeout=self._limits.time_s_max)
        except queue.Empty:
            message = f"{self._limits.queries_max} queries are running; ask again"
            return QueryResult(error=Problem(code="busy", message=message))
        try:
            result = self._answered(cursor, request)
        except _Refused as refused:
            result = QueryResult(error=refused.problem)
        except (duckdb.Error, Unreadable) as error:
            result = QueryResult(error=_problem(error))
        finally:
            self._idle.put(cursor)
        elapsed_s = time.perf_counter() - start
        return msgspec.structs.replace(result, elapsed_s=elapsed_s)

    def close(self) -> None:
        """Answer no more: end the queries that run, and wait for their ends.

        One that does not notice in time is left; it ends with the process.
        """
        self._closing = True
        end_s = time.perf_counter() + CLOSE_S_MAX
        ended: list[duckdb.DuckDBPyConnection] = []
        while len(ended) < len(self._cursors) and time.perf_counter() < end_s:
            for cursor in self._cursors:
                cursor.interrupt()  # again, for one that was about to begin
            with contextlib.suppress(queue.Empty):
                ended.append(self._idle.get(timeout=INTERRUPT_S))
        for cursor in ended:
            cursor.close()

    def _answered(self, cursor: duckdb.DuckDBPyConnection, request: QueryRequest) -> QueryResult:
        if self._closing:
            raise _Refused("interrupted", ENDING)
        check(cursor, request.sql)
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        try:
            position = cursor.execute("SELECT seq FROM position WHERE stream = 'ledger'").fetchall()
            relation = cursor.sql(request.sql, params=request.params or None)
            return self._collected(relation, request.rows_max, int(position[0][0]))
        finally:
            cursor.execute("ROLLBACK")

    def _collected(
        self, relation: duckdb.DuckDBPyRelation, rows_max: int | None, seq: int
    ) -> QueryResult:
        rows_left = min(rows_max or self._limits.rows_max, self._limits.rows_max)
        bytes_left = self._limits.bytes_max
        rows: list[tuple[object, ...]] = []
        truncated = False
        for chunk in read_chunks(relation, CHUNK_ROWS):
            for row in chunk:
                bytes_left -= len(msgspec.json.encode(row))
                if rows_left == 0 or bytes_left < 0:
                    truncated = True
                    break
                rows_left -= 1
                rows.append(row)
            if truncated:
                break
        return QueryResult(
            columns=tuple(relation.columns),
            types=tuple(map(str, relation.types)),
            rows=tuple(rows),
            truncated=truncated,
            seq=seq,
        )


def check(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse what is not one harmless question; raises _Refused with the reason."""
    kind = _kind(cursor, sql)
    if kind == "EXPLAIN":
        sql, count = _EXPLAIN.subn("", sql, count=1)
        if count == 0 or _kind(cursor, sql) != "SELECT":
            raise _Refused("not_read_only", "EXPLAIN stands first, and before one SELECT")
    elif kind != "SELECT":
        raise _Refused("not_read_only", f"{kind} given; allowed: one SELECT or EXPLAIN of one")
    _check_functions(cursor, sql)


def _kind(cursor: duckdb.DuckDBPyConnection, sql: str) -> str:
    statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise _Refused("not_read_only", f"{len(statements)} statements given; allowed: one")
    try:
        return statements[0].type.name
    except ValueError:  # the client library has no name for it
        return "an unusual statement"


def _check_functions(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    found = cursor.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    try:
        tree = msgspec.json.decode(str(found[0][0]), type=dict[str, object])
    except RecursionError:
        raise _Refused("invalid_sql", "nested too deeply") from None
    if tree.get("error", True):
        raise _Refused("not_read_only", "this form of SELECT cannot be checked; write it plainly")
    waiting: list[tuple[object, bool]] = [(tree, False)]
    while waiting:
        node, is_table = waiting.pop()
        if isinstance(node, dict):
            fields = cast(dict[str, object], node)
            _check_function(str(fields.get("function_name", "")).lower(), is_table=is_table)
            in_table = fields.get("type") == "TABLE_FUNCTION"
            waiting += [(child, in_table and key == "function") for key, child in fields.items()]
        elif isinstance(node, list):
            waiting += [(child, False) for child in cast(list[object], node)]


def _check_function(name: str, *, is_table: bool) -> None:
    if name in FORBIDDEN_FUNCTIONS or (is_table and name in FORBIDDEN_AS_TABLES):
        raise _Refused("forbidden_function", f"{name}() is not allowed in queries")
    if name in FORBIDDEN_IN_EXPRESSIONS and not is_table:
        raise _Refused("forbidden_function", f"{name}() is allowed as a table only: FROM {name}(…)")


def _bounded(cursor: duckdb.DuckDBPyConnection, limits: QueryLimits) -> duckdb.DuckDBPyConnection:
    cursor.execute(f"SET max_execution_time = {int(limits.time_s_max * 1000):d}")
    cursor.execute(f"SET operator_memory_limit = '{limits.memory_bytes_max:d} B'")
    return cursor


def _problem(error: Exception) -> Problem:
    message = str(error)
    if "execution time" in message:
        return Problem(code="time_limit", message=message)
    if "Out of Memory" in message or isinstance(error, duckdb.OutOfMemoryException):
        return Problem(code="memory_limit", message=message)
    if "read-only" in message:
        return Problem(code="not_read_only", message=message)
    if isinstance(error, duckdb.PermissionException):
        return Problem(code="forbidden", message=message)
    if isinstance(error, duckdb.InterruptException):
        return Problem(code="interrupted", message=ENDING)
    return Problem(code="invalid_sql", message=message)
