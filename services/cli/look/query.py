"""`ffrtmp sql`: questions to the projection."""

import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import click

from projections.wire import SQL_CHARACTERS_MAX, QueryRequest, QueryResult, Value
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.output import complain, show_json, show_table

Row: TypeAlias = dict[str, Any]


@click.command()
@click.argument("question", metavar="SQL")
@click.option("--after-seq", type=click.IntRange(0), default=0, help="Wait for this sequence.")
@output_option
@pass_invocation
def sql(invocation: Invocation, /, *, question: str, after_seq: int) -> int:
    """Ask the projection in SQL, read-only; `-` reads the question from stdin.

    Tables and columns: `ffrtmp sql "SELECT * FROM duckdb_columns()"`; jobs, attempts, nodes,
    assignments, audit, heartbeats, progress, queue_depth.
    """
    text = sys.stdin.read(SQL_CHARACTERS_MAX + 1) if question == "-" else question
    if not 0 < len(text) <= SQL_CHARACTERS_MAX:
        raise click.UsageError(f"SQL of {len(text)} characters; allowed: 1 to {SQL_CHARACTERS_MAX}")

    async def work(fleet: Fleet) -> int:
        result = await fleet.client.query(QueryRequest(sql=text, after_seq=after_seq))
        show_result(result, as_json=invocation.json)
        return Exit.OK

    return invocation.work(work)


async def ask(
    fleet: Fleet, question: str, params: Sequence[Value] = (), *, after_seq: int = 0
) -> list[Row]:
    """Return the answer as one mapping a row; `params` are for `?`. Raises QueryRefused."""
    request = QueryRequest(sql=question, params=list(params), after_seq=after_seq)
    return rows_of(await fleet.client.query(request))


def rows_of(result: QueryResult) -> list[Row]:
    """Return the rows of an answer by column name."""
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def show_result(result: QueryResult, *, as_json: bool) -> None:
    """Print an answer as it came."""
    if as_json:
        show_json(rows_of(result))
    else:
        cells = [["" if cell is None else cell for cell in row] for row in result.rows]
        show_table(result.columns, cells)
    if result.truncated:
        complain(f"only the first {len(result.rows)} rows; add a LIMIT or a WHERE")
