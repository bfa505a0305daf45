"""What is asked of jobs: of those named, of those whose ids are piped in, or of all that match."""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from msgspec import Struct

from events.ids import TOKEN_PATTERN, JobId
from projections.read import JobFilter
from services.cli.invocation import Exit, Fleet, Invocation
from services.cli.jobs.arguments import job_id as checked
from services.cli.jobs.bulk import FOLLOWED_MAX
from services.cli.jobs.filtered.asking import AskOne, Tally, ask_all, confirmed
from services.cli.jobs.filtered.options import filter_options, take_filter
from services.cli.jobs.filtered.targets import (
    TARGETS_MAX,
    Targets,
    counted,
    find,
    show_dry,
    show_targets,
)
from services.cli.jobs.filtered.verbs import Verb, come_to
from services.cli.jobs.watch import watch_to_end
from services.cli.output import complain, show_json
from services.client import Client

F = TypeVar("F", bound=Callable[..., Any])

STDIN = "-"


class Selection(Struct, frozen=True, kw_only=True):
    """Which jobs are meant: these, or those that match."""

    job_ids: tuple[JobId, ...] = ()
    which: JobFilter | None = None
    """None: the jobs are named."""
    piped: bool = False
    """The ids came by stdin: they may be many."""
    yes: bool = False
    dry_run: bool = False


class Order(Struct, frozen=True, kw_only=True):
    """What is asked of them."""

    verb: Verb
    ask: Callable[[Client], AskOne]
    follow: bool = False
    """Watch them until they have ended."""


def selection_options(*, rank_prefix: str = "") -> Callable[[F], F]:
    """Return a decorator that adds the ids, the filter, and how to go about it."""

    def add(command: F) -> F:
        for option in (
            click.option("--dry-run", is_flag=True, help="Only show who would be asked."),
            click.option("--yes", "-y", is_flag=True, help="Ask nobody whether it is meant."),
            click.option("--all", "everything", is_flag=True, help="Every job it can be asked of."),
            filter_options(rank_prefix=rank_prefix),
            click.argument("job_ids", nargs=-1, callback=checked, metavar="[JOB_IDS | -]"),
        ):
            command = option(command)
        return command

    return add


def selection_of(options: dict[str, Any]) -> Selection:
    """Take what `selection_options` added out of what click hands over. Raises UsageError."""
    named: tuple[str, ...] = options.pop("job_ids")
    everything = bool(options.pop("everything"))
    which = take_filter(options)
    yes, dry_run = bool(options.pop("yes")), bool(options.pop("dry_run"))
    if everything:
        if which is not None:
            raise click.UsageError("--all means every job; leave it out where a filter is given")
        which = JobFilter()
    if which is None and not named:
        raise click.UsageError(
            "which jobs? give ids, `-` for ids from stdin, a filter as --queue batch, or --all"
        )
    if which is not None:
        if named:
            raise click.UsageError("ids and filters exclude each other: give one or the other")
        return Selection(which=which, yes=yes, dry_run=dry_run)
    if dry_run:
        raise click.UsageError("--dry-run shows whom a filter means; named jobs are known")
    if named == (STDIN,):
        return Selection(job_ids=_piped(), piped=True)
    return Selection(job_ids=tuple(JobId(job) for job in named))


def carry_out(invocation: Invocation, selection: Selection, order: Order) -> int:
    """Ask the selected jobs; a filter's are shown and confirmed first."""
    if selection.which is None:
        jobs, piped = selection.job_ids, selection.piped
        return invocation.work(
            lambda fleet: _ask_named(fleet, jobs, order, piped=piped, as_json=invocation.json)
        )
    found: list[Targets] = []

    async def look(fleet: Fleet) -> int:
        assert selection.which is not None
        found.append(await find(fleet, order.verb, selection.which))
        return Exit.OK

    invocation.work(look)  # a connection of its own: a person may take long to answer
    (targets,) = found
    ended = _settled(targets, selection, as_json=invocation.json)
    if ended is not None:
        return ended
    jobs = tuple(JobId(key.job_id) for key in targets.asked)
    return invocation.work(
        lambda fleet: _ask_many(fleet, jobs, order, chosen=True, as_json=invocation.json)
    )


def _settled(targets: Targets, selection: Selection, *, as_json: bool) -> Exit | None:
    """Show who is meant; return how the call ends if nobody is to be asked, None: go on."""
    if selection.dry_run and as_json:
        show_dry(targets)
        return Exit.OK
    show_targets(targets, stderr=not selection.dry_run)
    if targets.cut:
        complain(f"more than {TARGETS_MAX:,} jobs match; give a filter that takes fewer")
        return Exit.USAGE
    if selection.dry_run:
        return Exit.OK
    if not targets.asked:
        complain("nothing to do")
        return Exit.OK
    if selection.yes:
        return None
    answer = confirmed(f"{targets.verb.name} {counted(len(targets.asked))}?")
    if answer is None:
        complain("nobody is here to confirm it: nothing was asked; --yes does it all the same")
        return Exit.USAGE
    if not answer:
        complain("nothing was asked")
        return Exit.FAILED
    return None


async def _ask_named(
    fleet: Fleet, jobs: Sequence[JobId], order: Order, *, piped: bool, as_json: bool
) -> Exit:
    if piped:
        return await _ask_many(fleet, jobs, order, chosen=False, as_json=as_json)
    refused = False
    ask = order.ask(fleet.client)
    for job in jobs:
        reply = await ask(job)
        if as_json:
            show_json(reply)
        elif reply.error is None:
            click.echo(f"{job}  {come_to(order.verb, reply.status)}")
        else:
            named = f"{job}: " if len(jobs) > 1 else ""
            complain(f"refused: {named}{reply.error.message}")
        refused = refused or reply.error is not None
    if order.follow and not refused:
        await watch_to_end(fleet, jobs, as_json=as_json)
    return Exit.REFUSED if refused else Exit.OK


async def _ask_many(
    fleet: Fleet, jobs: Sequence[JobId], order: Order, *, chosen: bool, as_json: bool
) -> Exit:
    tally = Tally(order.verb, as_json=as_json, chosen=chosen)
    await ask_all(jobs, order.ask(fleet.client), tally)
    if order.follow and tally.carried_out:
        await watch_to_end(fleet, tally.carried_out[:FOLLOWED_MAX], as_json=as_json)
    return tally.exit


def _piped() -> tuple[JobId, ...]:
    """Read ids from stdin, one a line. Raises UsageError for a line that is none."""
    jobs: dict[JobId, None] = {}
    for number, line in enumerate(sys.stdin, start=1):
        text = line.strip()
        if not text:
            continue
        if not re.match(TOKEN_PATTERN, text):
            raise click.UsageError(
                f"line {number}: given: {text[:80]!r}; allowed: one id a line, "
                "1 to 64 letters, digits, _ or -"
            )
        jobs[JobId(text)] = None
        if len(jobs) > TARGETS_MAX:
            raise click.UsageError(f"more than {TARGETS_MAX:,} ids; send them in several calls")
    return tuple(jobs)
