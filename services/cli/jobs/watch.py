"""Shows jobs while they run: bars on a terminal, lines elsewhere, JSON lines for programs."""

import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from events.ids import JobId
from events.requests import Reply
from services.cli.invocation import Exit, Fleet
from services.cli.jobs.follow import OnSight, Sight, follow
from services.cli.output import console, show_json
from tui import present

if TYPE_CHECKING:
    from rich.progress import Progress

TROUBLES_MAX = 20
"""Most jobs without output that are told one by one."""
BARS_MAX = 20
"""More jobs than this share one bar; in lines, only what goes wrong is told of each."""


@contextmanager
def watching(jobs: Sequence[JobId], *, as_json: bool) -> Generator[OnSight]:
    """Return how these jobs are shown, for as long as the context lasts."""
    if as_json:
        yield show_json
    elif sys.stderr.isatty():
        with _bars(jobs) as bars:
            yield bars
    else:
        yield _Lines(only_bad_ends=len(jobs) > BARS_MAX)


async def watch_to_end(
    fleet: Fleet, jobs: Sequence[JobId], *, as_json: bool, after: int = 0
) -> Exit:
    """Show jobs until they have ended; OK only if all have their outputs.

    `after` is a ledger sequence before the first fact of any of them.
    """
    with watching(jobs, as_json=as_json) as show:
        ends = await follow(fleet.backbone, jobs, show, after=after)
    if not as_json:
        _show_ends(ends)
    return Exit.OK if all(sight.well for sight in ends) else Exit.FAILED


def first_of(replies: Sequence[Reply]) -> int:
    """Return a ledger sequence before the first fact of all jobs that were answered for."""
    return max(min(0 if reply.duplicate else reply.seq for reply in replies) - 1, 0)


def _show_ends(ends: list[Sight]) -> None:
    bad = [sight for sight in ends if not sight.well]
    if len(ends) == 1:
        click.echo(line(ends[0]))
        return
    click.echo(f"{len(ends) - len(bad)} completed, {len(bad)} not")
    for sight in bad[:TROUBLES_MAX]:
        click.echo(line(sight))


def line(sight: Sight) -> str:
    """Return one line about one job."""
    look = present.job_look(sight.status, retrying=sight.retrying)
    parts = [str(look)]
    if sight.node:
        parts.append(f"on {sight.node}, attempt {sight.attempt}")
    if sight.reason and not sight.well:
        parts.append(present.printable(sight.reason))
    if sight.well and sight.files:
        parts.append(f"→ {', '.join(sight.files)}")
    return f"{sight.job_id}  {'  '.join(parts)}"


class _Lines:
    """A line for every change of state; progress is not worth one."""

    def __init__(self, *, only_bad_ends: bool) -> None:
        self._only_bad_ends = only_bad_ends
        self._last: dict[JobId, str] = {}

    def __call__(self, sight: Sight) -> None:
        if self._only_bad_ends and (sight.well or not sight.over):
            return
        now = line(sight)
        if self._last.get(sight.job_id) != now:
            self._last[sight.job_id] = now
            click.echo(now, err=True)


@contextmanager
def _bars(jobs: Sequence[JobId]) -> Generator[OnSight]:
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - only on a terminal

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[words]}"),
        console=console(stderr=True),
    ) as progress:
        if len(jobs) > BARS_MAX:
            yield _shared_bar(progress, len(jobs))
            return
        rows = {job: progress.add_task(job, total=100, words="") for job in jobs}

        def show(sight: Sight) -> None:
            done = 100.0 if sight.well else sight.percent or 0.0
            progress.update(rows[sight.job_id], completed=done, words=_words(sight))

        yield show


def _shared_bar(progress: "Progress", total: int) -> OnSight:
    row = progress.add_task("jobs", total=total, words="")
    words: dict[JobId, str] = {}
    over: set[JobId] = set()

    def show(sight: Sight) -> None:
        words[sight.job_id] = sight.status
        if sight.over:
            over.add(sight.job_id)
        counts = Counter(words.values()).most_common()
        text = "  ".join(f"{present.job_look(word)} {number}" for word, number in counts)
        progress.update(row, completed=len(over), words=text)

    return show


def _words(sight: Sight) -> str:
    parts = [str(present.job_look(sight.status, retrying=sight.retrying))]
    if sight.speed and not sight.over:
        parts.append(present.speed(sight.speed))
    if sight.eta_s is not None:
        parts.append(f"{present.duration(sight.eta_s)} left")
    if sight.reason and not sight.well:
        parts.append(present.shortened(sight.reason, 60))
    return "  ".join(parts)
