"""`ffrtmp sql`: questions to the projection."""

import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import click
import msgspec

from events.requests import SQL_CHARACTERS_MAX, QueryRequest, QueryResult, Value
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.output import complain, show_json, show_rows

Row: TypeAlias = dict[str, Any]


@click.command()
@click.argument("question", metavar="SQL")
@click.option("--after-seq", type=click.IntRange(0), default=0, help="Wait for this sequence.")
@output_option
@pass_invocation
def sql(invocation: Invocation, /, *, question: str, after_seq: int) -> int:
    """Ask the projection in SQL, read-only; `-` reads the question from stdin.

    Tables: jobs, attempts, nodes, assignments, audit, heartbeats, progress, queue_depth; what is
    in one: `ffrtmp sql "DESCRIBE jobs"`.
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
    """Return the rows of an answer by column name; a name that repeats gets a number."""
    names = _distinct(result.columns)
    return [dict(zip(names, row, strict=True)) for row in result.rows]


def _distinct(columns: Sequence[str]) -> list[str]:
    """Return `a, a_1, a_2` for `a, a, a`: no value may hide another."""
    names: list[str] = []
    for column in columns:
        name, number = column, 0
        while name in names:
            number += 1
            name = f"{column}_{number}"
        names.append(name)
    return names


def show_result(result: QueryResult, *, as_json: bool) -> None:
    """Print an answer as it came."""
    if as_json:
        show_json(rows_of(result))
    else:
        rows = [[_cell(value) for value in row] for row in result.rows]
        show_rows(result.columns, rows)
    if result.truncated:
        complain(f"only the first {len(result.rows)} rows; add a LIMIT or a WHERE")


def _cell(value: object) -> str:
    """Return a value for people: texts and numbers as they are, all else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    return msgspec.json.encode(value).decode()
