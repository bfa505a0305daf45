"""Prints results: tables for people, JSON for programs, one line on stderr for troubles."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from tui.present import Look

PIPE_COLUMNS = 1_000
"""Width of a table that goes into a pipe or a file: nothing is cut there."""
GAP_CELLS = 2
"""Between two columns."""
WORDS_CELLS = 20
"""What a column of words needs to be read."""


def show_json(value: object) -> None:
    """Print one JSON document on one line."""
    click.echo(msgspec.json.encode(value).decode())


def complain(message: str) -> None:
    """Print one line on stderr."""
    click.echo(f"ffrtmp: {message}", err=True)


def console(*, stderr: bool = False) -> "Console":
    """Return a terminal to print on; NO_COLOR is honoured, a pipe gets neither color nor cuts."""
    from rich.console import Console  # noqa: PLC0415 - 100 ms, only for who prints tables

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_COLUMNS
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def show_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    spare: Sequence[str] = (),
    stderr: bool = False,
) -> None:
    """Print rows under headings; columns whose heading begins with `>` are right-aligned.

    On a terminal that is too narrow for all, the columns in `spare` are left out, the first first.
    """
    from rich.table import Table  # noqa: PLC0415 - 100 ms, only for who prints tables
    from rich.text import Text  # noqa: PLC0415 - 100 ms, only for who prints tables

    terminal = console(stderr=stderr)
    if terminal.is_terminal:
        columns, rows = fitting(columns, rows, spare=spare, width=terminal.width)
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="left" if name == column else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    if terminal.is_terminal:
        terminal.print(table)
        return
    with terminal.capture() as printed:
        terminal.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip(), err=stderr)


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of any number of columns: on a terminal too narrow for them, one value a line."""
    terminal = console()
    if not terminal.is_terminal or is_fit(columns, rows, width=terminal.width):
        show_table(columns, rows)
        return
    for number, row in enumerate(rows):
        if number:
            click.echo()
        show_table(("", ""), list(zip(columns, row, strict=True)))


def is_fit(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> bool:
    """Tell whether a terminal has a place for each column in which its words can be read.

    The last column may go over several lines.
    """
    from rich.cells import cell_len  # noqa: PLC0415 - 100 ms, only for who prints tables

    sizes = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
    if sizes:
        sizes[-1] = max(cell_len(columns[-1]), min(sizes[-1], WORDS_CELLS))
    return sum(sizes) + GAP_CELLS * (len(sizes) - 1) <= width


def fitting(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    spare: Sequence[str],
    width: int,
) -> tuple[list[str], list[list[object]]]:
    """Return the table without as many of its `spare` columns as `width` cells have no room for.

    A column without a heading is words, which may go over several lines.
    """
    from rich.cells import cell_len  # noqa: PLC0415 - 100 ms, only for who prints tables

    names = [column.removeprefix(">") for column in columns]
    sizes = [
        max(cell_len(str(cell)) for cell in (name, *(row[place] for row in rows)))
        for place, name in enumerate(names)
    ]
    sizes = [
        size if name else min(size, WORDS_CELLS) for name, size in zip(names, sizes, strict=True)
    ]
    kept = list(range(len(columns)))
    for name in spare:
        if sum(sizes[place] + GAP_CELLS for place in kept) - GAP_CELLS <= width:
            break
        kept = [place for place in kept if names[place] != name]
    return [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]


def styled(look: "Look") -> "Text":
    """Return a state as glyph and word in its color."""
    from rich.text import Text  # noqa: PLC0415 - 100 ms, only for who prints tables

    return Text(str(look), style=look.color)
