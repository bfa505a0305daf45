"""`ffrtmp events`: the log as it grows."""

import re
import sys
from collections import deque
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click
from msgspec import Raw

from events.codec import FACT_TYPES, Recorded
from events.subjects import Filter
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.output import show_json
from tui import present

if TYPE_CHECKING:
    from services.log.port import EventLog

LAST_MAX = 100_000
LOOKED_BACK_MAX = 200_000
"""Sequences looked through for types, a matter of seconds; `--since` goes back any distance."""
DATA_CHARACTERS_MAX = 120
_subject = re.compile(r"(?:[^\s.*>]+|\*)(?:\.(?:[^\s.*>]+|\*))*(?:\.>)?").fullmatch
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
    help="Begin with so many events that fit.",
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
        after = await log.last_seq()
        if begin["since"] is not None:
            after = min(begin["since"] - 1, after)
        elif begin["last"]:
            for recorded in await _last(log, wanted, begin["last"], end=after):
                _print(recorded, as_json=invocation.json)
            if no_follow:
                return Exit.OK
        async with log.follow(after=after, filters=wanted.filters, live=not no_follow) as batches:
            async for batch in batches:
                for recorded in batch:
                    if wanted.fits(recorded):
                        _print(recorded, as_json=invocation.json)
        return Exit.OK

    return invocation.work(work)


async def _last(log: "EventLog", wanted: "_Wanted", count: int, *, end: int) -> list[Recorded]:
    """Return the last `count` events up to `end` that are wanted."""
    found: deque[Recorded] = deque(maxlen=count)
    after = max(end - wanted.looked_back(count), 0)
    async with log.follow(after=after, filters=wanted.filters, live=False) as batches:
        async for batch in batches:
            found.extend(each for each in batch if each.seq <= end and wanted.fits(each))
    return list(found)


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
        for word in self._types:
            _check_type(word)
        for word in self._subjects:
            _check_subject(word)
        only_subjects = self._subjects and not self._types
        self.filters = tuple(map(Filter, self._subjects)) if only_subjects else ()
        """What the server can choose by itself."""

    def looked_back(self, count: int) -> int:
        """Return how many sequences to look through for the last `count` events."""
        if self.filters:
            return sys.maxsize  # the server chooses; what does not fit costs nothing
        return LOOKED_BACK_MAX if self._types or self._subjects else count

    def fits(self, recorded: Recorded) -> bool:
        """Whether any pattern fits; no pattern fits everything."""
        if self.filters or not (self._types or self._subjects):
            return True
        return any(
            fnmatchcase(recorded.type, word) or fnmatchcase(recorded.type, f"{word}.v*")
            for word in self._types
        ) or any(fnmatchcase(recorded.subject, word.replace(">", "*")) for word in self._subjects)


def _check_type(word: str) -> None:
    """Refuse what no event is called: it would be waited for in silence."""
    if not any(fnmatchcase(tag, word) or fnmatchcase(tag, f"{word}.v*") for tag in FACT_TYPES):
        near = get_close_matches(word, (tag.rpartition(".v")[0] for tag in FACT_TYPES), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise click.BadParameter(
            f"given: {word!r}; allowed: a type as job.completed or node.*, or a subject that "
            f"begins with ffrtmp.{hint}",
            param_hint="FILTER",
        )


def _check_subject(word: str) -> None:
    if not _subject(word):
        raise click.BadParameter(
            f"given: {word!r}; allowed: words with dots between, * for one word, > for all that "
            "follow, as ffrtmp.job.my-job",
            param_hint="FILTER",
        )


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
