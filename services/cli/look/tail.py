"""`ffrtmp events`: the log as it grows."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click
from msgspec import Raw

from events.codec import Recorded
from events.subjects import Filter
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.output import show_json
from tui import present

if TYPE_CHECKING:
    from services.log.port import EventLog

LAST_MAX = 100_000
DATA_CHARACTERS_MAX = 120
STREAMS = ("ledger", "telemetry", "logs")


@click.group()
def events() -> None:
    """Follow the log."""


@events.command()
@click.argument("patterns", nargs=-1, metavar="[FILTER]…")
@click.option("--stream", type=click.Choice(STREAMS), default="ledger", show_default=True)
@click.option(
    "--last",
    type=click.IntRange(0, LAST_MAX),
    default=10,
    show_default=True,
    help="Begin that many sequences before the end.",
)
@click.option("--since", type=click.IntRange(1), help="Begin at this sequence instead.")
@click.option("--no-follow", is_flag=True, help="End at what is there now.")
@output_option
@pass_invocation
def tail(
    invocation: Invocation,
    /,
    *,
    patterns: tuple[str, ...],
    stream: str,
    no_follow: bool,
    **begin: int | None,
) -> int:
    """Print events as they are stored, until Ctrl-C.

    FILTER is a type (`job.completed`, `node.*`) or a subject (`ffrtmp.job.my-job`); one of several
    must fit.
    """
    wanted = _Wanted(patterns)

    async def work(fleet: Fleet) -> int:
        log = _log_of(fleet, stream)
        after = await _before(log, last=begin["last"] or 0, since=begin["since"])
        async with log.follow(after=after, filters=wanted.filters, live=not no_follow) as batches:
            async for batch in batches:
                for recorded in batch:
                    if wanted.fits(recorded):
                        _print(recorded, as_json=invocation.json)
        return Exit.OK

    return invocation.work(work)


async def _before(log: "EventLog", *, last: int, since: int | None) -> int:
    """Return the sequence before the first event that is wanted."""
    return max(await log.last_seq() - last, 0) if since is None else since - 1


def _log_of(fleet: Fleet, stream: str) -> "EventLog":
    backbone = fleet.backbone
    match stream:
        case "telemetry":
            return backbone.telemetry
        case "logs":
            return backbone.logs
        case _:
            return backbone.ledger


class _Wanted:
    """Which events are printed."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._types = [word for word in patterns if not word.startswith("ffrtmp.")]
        self._subjects = [word for word in patterns if word.startswith("ffrtmp.")]
        only_subjects = self._subjects and not self._types
        self.filters = tuple(map(Filter, self._subjects)) if only_subjects else ()
        """What the server can choose by itself."""

    def fits(self, recorded: Recorded) -> bool:
        """Whether any pattern fits; no pattern fits everything."""
        if self.filters or not (self._types or self._subjects):
            return True
        return any(
            fnmatchcase(recorded.type, word) or fnmatchcase(recorded.type, f"{word}.v*")
            for word in self._types
        ) or any(fnmatchcase(recorded.subject, word.replace(">", "*")) for word in self._subjects)


def _print(recorded: Recorded, *, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "seq": recorded.seq,
                "time": recorded.time,
                "type": recorded.type,
                "subject": recorded.subject,
                "source": recorded.source,
                "id": recorded.id,
                "data": Raw(recorded.data),
            }
        )
        return
    data = present.shortened(bytes(recorded.data).decode("utf-8", "replace"), DATA_CHARACTERS_MAX)
    entity = recorded.subject.removeprefix("ffrtmp.")
    click.echo(
        f"{recorded.seq:>8}  {present.clock_time(recorded.time)}  {recorded.type:<26} "
        f"{entity}  {data}"
    )
