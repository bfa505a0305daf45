"""SQL of outsiders: what is answered, and what every kind of attack gets."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from events.requests import QueryRequest, QueryResult
from projections.query import (
    FORBIDDEN_AS_TABLES,
    FORBIDDEN_FUNCTIONS,
    FORBIDDEN_IN_EXPRESSIONS,
    QueryGuard,
    QueryLimits,
)
from projections.store import Store
from tests.projecting import everything, fleet, projected, rows

LIMITS = QueryLimits(
    time_s_max=0.5, rows_max=1_000, bytes_max=50_000, memory_bytes_max=2**26, queries_max=2
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = projected(tmp_path_factory.mktemp("guard"), fleet().recorded)
    yield made
    made.close()


@pytest.fixture(scope="module")
def guard(store: Store) -> Iterator[QueryGuard]:
    made = QueryGuard(store.cursor, LIMITS)
    yield made
    made.close()


def ask(guard: QueryGuard, sql: str, **more: object) -> QueryResult:
    return guard.run(msgspec.convert({"sql": sql, **more}, QueryRequest))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT status FROM jobs WHERE job_id = 'good-0'", [["completed"]]),
        ("FROM jobs SELECT count(*)", [[6]]),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM x", [[1]]),
        ("VALUES (1, 'a')", [[1, "a"]]),
        ("SELECT sum(r) FROM range(10) AS t(r)", [[45]]),
        ("SELECT histogram(job_no % 2) IS NULL FROM jobs", [[False]]),
        ("SELECT 2.5, 1::HUGEINT, 'nan'::DOUBLE", [[2.5, 1, None]]),
        ("SELECT TIMESTAMPTZ '2026-01-31 12:00:00.5+01'", [["2026-01-31T11:00:00.500000Z"]]),
        ("SELECT DATE '2026-01-31', TIME '10:00', 'x'::BLOB", [["2026-01-31", "10:00:00", "eA=="]]),
        ("SELECT labels FROM jobs WHERE job_id = 'good-0'", [[{"team": "news"}]]),
        ("SELECT outputs FROM jobs WHERE job_id = 'good-0'", [[["out-0.mp4"]]]),
        ("SELECT MAP {1: 'a'}, {'a': [1, NULL]}", [[{"1": "a"}, {"a": [1, None]}]]),
        ("SELECT 1 AS a, 2 AS a", [[1, 2]]),
        ("SELECT 1 WHERE false", []),
    ],
)  # fmt: skip
def test_a_question_is_answered_in_json(
    guard: QueryGuard, sql: str, expected: list[list[object]]
) -> None:
    result = ask(guard, sql)
    assert result.error is None
    assert msgspec.json.decode(msgspec.json.encode(result.rows)) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE jobs",
        "SUMMARIZE jobs",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM jobs",
        "EXPLAIN ANALYZE SELECT 1",
        "SELECT * FROM duckdb_columns()",
    ],
)
def test_the_schema_and_plans_may_be_asked_for(guard: QueryGuard, sql: str) -> None:
    result = ask(guard, sql)
    assert result.error is None
    assert result.rows


def test_columns_types_and_sequence_come_with_the_rows(guard: QueryGuard, store: Store) -> None:
    result = ask(guard, "SELECT job_no AS n, labels FROM jobs LIMIT 1")
    assert (result.columns, result.types) == (("n", "labels"), ("BIGINT", "MAP(VARCHAR, VARCHAR)"))
    assert (result.seq, result.truncated) == (store.position, False)
    assert 0 < result.elapsed_s < LIMITS.time_s_max


def test_parameters_go_by_place_or_by_name(guard: QueryGuard) -> None:
    assert ask(guard, "SELECT ? + ?", params=[1, 2]).rows == ((3,),)
    assert ask(guard, "SELECT $a || $b", params={"a": "x", "b": "y"}).rows == (("xy",),)
    refused = ask(guard, "SELECT $a", params={"b": 1})
    assert refused.error is not None
    assert refused.error.code == "invalid_sql"


ATTACKS = {
    "not_read_only": [
        "SELECT 1; SELECT 2",
        "COMMIT; DELETE FROM jobs_hot",
        "ROLLBACK",
        " ",
        "DELETE FROM jobs_hot",
        "INSERT INTO audit FROM audit",
        "CREATE TEMP TABLE x AS SELECT 1",
        "WITH x AS (DELETE FROM jobs_hot RETURNING *) SELECT * FROM x",
        "EXPLAIN ANALYZE DELETE FROM jobs_hot",
        "EXPLAIN DELETE FROM jobs_hot",
        "/* x */ EXPLAIN ANALYZE DELETE FROM jobs_hot",
        "EXPLAIN ANALYZE WITH x AS (DELETE FROM jobs_hot RETURNING *) SELECT * FROM x",
        "COPY jobs TO '/tmp/stolen.csv'",
        "EXPORT DATABASE '/tmp/stolen'",
        "ATTACH '/tmp/other.db'",
        "CONNECT 'x'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "SET threads = 1",
        "SET max_execution_time = 0",
        "RESET max_execution_time",
        "USE memory",
        "CHECKPOINT",
        "VACUUM",
        "PREPARE x AS SELECT 1",
        "EXECUTE put_audit",
    ],
    "forbidden": [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
    ],
    "forbidden_function": [
        "SELECT sleep_ms(100000)",
        "SELECT pg_sleep(100)",
        "SELECT 1 FROM range(3) AS t(x) ORDER BY Sleep_MS(1)",
        "SELECT * FROM (DESCRIBE SELECT sleep_ms(1))",
        "SUMMARIZE SELECT sleep_ms(1)",
        "EXPLAIN ANALYZE SELECT sleep_ms(1)",
        "SELECT list_transform([1], lambda x: sleep_ms(1))",
        'SELECT "sleep_ms"(1)',
        "SELECT system.main.sleep_ms(1)",
        "SELECT (1).sleep_ms()",
        "SELECT repeat('x', 1000000000)",
        "SELECT ('x').repeat(1000000000)",
        "SELECT lpad('x', 1000000000, 'y')",
        "SELECT unnest(range(1000000000))",
        "FROM unnest(generate_series(1, 1000000000))",
        "FROM checkpoint()",
        "FROM force_checkpoint()",
        "FROM query('SELECT 1')",
        "FROM json_execute_serialized_sql(json_serialize_sql('SELECT sleep_ms(1)'))",
        "SELECT write_log('x')",
        "FROM truncate_duckdb_logs()",
        "FROM histogram_values(jobs, job_no, bin_count := 1000000000)",
    ],
    "time_limit": [
        "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range + b.range = 7",
        "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) SELECT max(x) FROM r",
    ],
    "invalid_sql": [
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT * FROM store",
        "SELECT * FROM '/etc/passwd'",
        "SELECT 'infinity'::TIMESTAMP",
        "SELECT 1 / 'x'",
    ],
}


@pytest.mark.parametrize(
    ("code", "sql"), [(code, sql) for code in ATTACKS for sql in ATTACKS[code]]
)
def test_an_attack_is_refused_by_name(guard: QueryGuard, code: str, sql: str) -> None:
    result = ask(guard, sql)
    assert result.error is not None
    assert (result.error.code, result.rows) == (code, ())


def test_a_string_that_grows_without_end_meets_the_memory_or_the_time_limit(
    guard: QueryGuard,
) -> None:
    sql = (
        "WITH RECURSIVE r AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM r) "
        "SELECT max(length(s)) FROM r"
    )
    result = ask(guard, sql)
    assert result.error is not None
    assert result.error.code in {"memory_limit", "time_limit"}


def test_deep_nesting_is_refused_and_not_a_crash(guard: QueryGuard) -> None:
    result = ask(guard, "SELECT " + "(" * 5_000 + "1" + ")" * 5_000)
    assert result.error is not None
    assert result.error.code == "invalid_sql"


def test_no_attack_has_changed_a_row_or_a_setting(
    store: Store, guard: QueryGuard, tmp_path: Path
) -> None:
    other = projected(tmp_path, fleet().recorded)
    for sqls in ATTACKS.values():
        for sql in sqls[:12]:
            ask(guard, sql)
    assert everything(store) == everything(other)
    other.close()
    settings = ask(
        guard, "SELECT current_setting('max_execution_time'), current_setting('lock_configuration')"
    )
    assert settings.rows == ((500, True),)
    assert not Path("/tmp/stolen.csv").exists()


def test_rows_are_capped_and_the_answer_says_so(guard: QueryGuard) -> None:
    whole = ask(guard, "FROM range(1000)")
    assert (len(whole.rows), whole.truncated) == (1_000, False)
    cut = ask(guard, "FROM range(1001)")
    assert (len(cut.rows), cut.truncated) == (1_000, True)
    few = ask(guard, "FROM range(10)", rows_max=3)
    assert (few.rows, few.truncated) == (((0,), (1,), (2,)), True)
    many = ask(guard, "FROM range(100000000)", rows_max=10**9)
    assert (len(many.rows), many.truncated) == (1_000, True)


def test_bytes_are_capped_and_the_answer_says_so(guard: QueryGuard) -> None:
    long = "(SELECT string_agg('xxxxxxxxxx', '') AS text FROM range(200))"
    result = ask(guard, f"SELECT payload || text FROM audit, {long}")
    assert result.truncated
    assert 30_000 < len(msgspec.json.encode(result.rows)) <= LIMITS.bytes_max


def test_one_row_beyond_the_byte_limit_is_no_row(guard: QueryGuard) -> None:
    result = ask(guard, "SELECT string_agg('xxxxxxxxxx', '') FROM range(6000)")
    assert (result.rows, result.truncated) == ((), True)


def test_a_slow_query_does_not_stop_another_and_a_third_is_told_to_come_again(
    guard: QueryGuard,
) -> None:
    slow = ATTACKS["time_limit"][0]
    started = threading.Barrier(3)
    done: list[QueryResult] = []

    def run() -> None:
        started.wait()
        done.append(ask(guard, slow))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    started.wait()
    third = ask(guard, "SELECT 1")
    for thread in threads:
        thread.join()
    assert [result.error.code for result in done if result.error] == ["time_limit"] * 2
    assert third.rows == ((1,),) or (third.error is not None and third.error.code == "busy")
    assert ask(guard, "SELECT 1").rows == ((1,),)


def test_a_closed_guard_ends_its_queries_and_answers_no_more(store: Store) -> None:
    guard = QueryGuard(store.cursor, QueryLimits(time_s_max=30.0, queries_max=1))
    results: list[QueryResult] = []
    thread = threading.Thread(target=lambda: results.append(ask(guard, ATTACKS["time_limit"][0])))
    thread.start()
    guard.close()
    thread.join(timeout=10)
    (result,) = results
    assert result.error is not None
    assert result.error.code == "interrupted"


def test_every_other_name_of_a_forbidden_function_is_forbidden(store: Store) -> None:
    everywhere = FORBIDDEN_FUNCTIONS | FORBIDDEN_IN_EXPRESSIONS
    names = rows(store, "SELECT DISTINCT function_name, alias_of FROM duckdb_functions()")
    assert everywhere <= {name for name, _ in names}
    assert {name for name, alias in names if alias in everywhere} <= everywhere
    macros = rows(
        store,
        "SELECT DISTINCT function_name, macro_definition FROM duckdb_functions() "
        "WHERE macro_definition IS NOT NULL",
    )
    call = re.compile(rf"\b({'|'.join(everywhere)})\s*\(")
    reaching = {name for name, text in macros if call.search(str(text))}
    # generate_subscripts makes no more values than the list it is given has
    assert reaching - everywhere - FORBIDDEN_AS_TABLES == {"generate_subscripts"}
