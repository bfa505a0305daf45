"""`ffrtmp jobs list` and `ffrtmp jobs dead`: jobs that match, and those without an output."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from msgspec.structs import replace

from events.job import FailureClass
from events.state.job import JobStatus
from projections import read
from projections.read import FailureGroup, Job, JobFilter
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.jobs.filtered.options import filter_options, take_filter
from services.cli.jobs.filtered.targets import asking
from services.cli.output import complain, show_json, show_table, styled
from services.clock import SystemClock
from tui import present

LISTED_MAX = 10_000
"""Most rows of one list; programs that want all ask in SQL."""
REASON_CHARACTERS_MAX = 60
DEPENDENCIES_SHOWN_MAX = 2
POISON = "poison"
_RETRY_WORDS = {
    FailureClass.TRANSIENT: "may help",
    FailureClass.INFRASTRUCTURE: "may help",
    FailureClass.RESOURCE: "where there is room",
    FailureClass.PERMANENT: "no",
}
_limit = click.option(
    "--limit", type=click.IntRange(1, LISTED_MAX), default=50, show_default=True, help="Most rows."
)


@click.command("list")
@filter_options()
@_limit
@output_option
@pass_invocation
def list_jobs(
    invocation: Invocation,
    /,
    *,
    limit: int,
    **options: Any,  # noqa: ANN401 - click hands over what the options above say
) -> int:
    """List jobs, the newest first."""
    which = take_filter(options) or JobFilter()

    async def work(fleet: Fleet) -> int:
        ask = asking(fleet)
        found = await read.jobs(ask, which, limit=limit)
        if invocation.json:
            show_json(found)
        else:
            show_list(found, SystemClock().now())
        if len(found) == limit:
            _tell_rest(limit, sum((await read.jobs_counted(ask, which)).values()))
        return Exit.OK

    return invocation.work(work)


@click.command()
@filter_options(states=False)
@click.option("--group", is_flag=True, help="How many failed alike, rather than each.")
@_limit
@output_option
@pass_invocation
def dead(
    invocation: Invocation,
    /,
    *,
    group: bool,
    limit: int,
    **options: Any,  # noqa: ANN401 - click hands over what the options above say
) -> int:
    """List failed jobs: why, after how many attempts, and whether a retry may help.

    A poison job has taken too many of its nodes with it, or was lost with them by chance. To run
    them again: `jobs retry --state failed --failure transient`, or any other filter.
    """
    which = replace(
        take_filter({**options, "states": ()}) or JobFilter(), states=(JobStatus.FAILED.value,)
    )

    async def work(fleet: Fleet) -> int:
        ask = asking(fleet)
        if group:
            groups = await read.failures_grouped(ask, which, limit=limit)
            if invocation.json:
                show_json(groups)
            else:
                _show_groups(groups)
            return Exit.OK
        found = await read.jobs(ask, which, limit=limit)
        if invocation.json:
            show_json([_dead(job) for job in found])
        else:
            _show_dead(found)
        if len(found) == limit:
            _tell_rest(limit, sum((await read.jobs_counted(ask, which)).values()))
        return Exit.OK

    return invocation.work(work)


def show_list(jobs: Sequence[Job], now: datetime) -> None:
    """Print jobs for people."""
    show_table(
        ("job", "state", "queue", "node", ">done", ">speed", ">waited", ">ran", ">size", ""),
        [
            (
                job.job_id,
                styled(present.job_look(job.status, retrying=_is_retrying(job))),
                f"{job.queue}/{job.priority}",
                job.node or "",
                present.percent(job.progress_percent),
                present.speed(job.speed),
                present.duration(waited_s(job, now)),
                present.duration(job.run_s),
                present.size(job.size_bytes),
                hint(job, now),
            )
            for job in jobs
        ],
        spare=("queue", "size", "waited", "speed", "ran", "node"),
    )


def waited_s(job: Job, now: datetime) -> float | None:
    """Return how long a job has waited for a node, up to now if it does; None: it never did."""
    if job.queued_at is None:
        return None
    if job.status == JobStatus.QUEUED:
        return job.wait_s + max((now - job.queued_at).total_seconds(), 0.0)
    if job.assigned_at is None:
        return None
    return job.wait_s


def hint(job: Job, now: datetime) -> str:
    """Return why a job is in its state, or what it waits for; empty: nothing is to be said."""
    words: list[str] = []
    if job.poison:
        words.append(POISON)
    if job.status == JobStatus.PENDING:
        words += _awaited(job, now)
    if job.cancel_requested and job.ended_at is None:
        words.append("being canceled")
    if job.failure_reason:
        words.append(job.failure_reason)
    return (
        present.shortened(present.printable(": ".join(words)), REASON_CHARACTERS_MAX)
        if words
        else ""
    )


def _awaited(job: Job, now: datetime) -> list[str]:
    if job.not_before is not None and job.not_before > now:
        other_day = job.not_before.date() != now.date()
        return [f"until {job.not_before:{'%Y-%m-%d %H:%M' if other_day else '%H:%M:%S'}} UTC"]
    if job.failure_class is not None or not job.depends_on:
        return []
    named = ", ".join(job.depends_on[:DEPENDENCIES_SHOWN_MAX])
    more = len(job.depends_on) - DEPENDENCIES_SHOWN_MAX
    return [f"waits for {named}{f' and {more} more' if more > 0 else ''}"]


def retry_words(failure_class: str | None, *, poison: bool) -> str:
    """Return whether a retry of a failed job may help."""
    if poison:
        return "with care"
    return next((word for known, word in _RETRY_WORDS.items() if known == failure_class), "?")


def _is_retrying(job: Job) -> bool:
    return job.not_before is not None and job.attempt > 0


def _show_dead(jobs: Sequence[Job]) -> None:
    show_table(
        ("failed (UTC)", "job", "class", ">attempts", "node", "retry", ""),
        [
            (
                _instant(job.ended_at),
                job.job_id,
                POISON if job.poison else job.failure_class or "",
                job.attempt,
                job.node or "",
                retry_words(job.failure_class, poison=job.poison),
                _reason(job.failure_reason),
            )
            for job in jobs
        ],
        spare=("node", "attempts", "failed (UTC)"),
    )


def _show_groups(groups: Sequence[FailureGroup]) -> None:
    show_table(
        (">jobs", "class", "retry", "last (UTC)", "one of them", ""),
        [
            (
                present.count(group.jobs),
                POISON if group.poison else group.failure_class,
                retry_words(group.failure_class, poison=group.poison),
                _instant(group.last_at),
                group.example,
                _reason(group.reason),
            )
            for group in groups
        ],
        spare=("last (UTC)", "one of them"),
    )


def _dead(job: Job) -> dict[str, object]:
    """Return what programs are told of a failed job."""
    return {
        "job_id": job.job_id,
        "ended_at": job.ended_at,
        "failure_class": job.failure_class,
        "poison": job.poison,
        "failure_reason": job.failure_reason,
        "attempt": job.attempt,
        "failures": job.failures,
        "crashes": job.crashes,
        "node": job.node,
        "queue": job.queue,
        "tenant": job.tenant,
        "labels": job.labels,
        "retry": retry_words(job.failure_class, poison=job.poison),
    }


def _instant(instant: datetime | None) -> str:
    return present.UNKNOWN if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}"


def _reason(text: str | None) -> str:
    return present.shortened(present.printable(text or ""), REASON_CHARACTERS_MAX)


def _tell_rest(shown: int, of_all: int) -> None:
    if of_all > shown:
        complain(f"{shown:,} of {of_all:,} jobs; --limit shows more, a filter fewer")
