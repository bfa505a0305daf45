"""Arguments that several commands about jobs share."""

from collections.abc import Sequence

import click

from events.ids import TOKEN_PATTERN


def job_id(_: click.Context, __: click.Parameter, value: str | Sequence[str]) -> object:
    """Refuse what cannot be the id of a job."""
    import re  # noqa: PLC0415 - only where an id is given

    for token in (value,) if isinstance(value, str) else value:
        if not re.match(TOKEN_PATTERN, token):
            raise click.BadParameter(f"given: {token!r}; allowed: 1 to 64 letters, digits, _ or -")
    return value
