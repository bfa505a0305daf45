"""The scheduler's world as it was: the ledger folded up to a point."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import ExitStack, contextmanager
from datetime import datetime

import anyio
import click

from events.ids import JobId
from events.job import Retried
from events.requests import Explanation
from services.cli.look.past import Point
from services.cli.output import complain, console
from services.config import SchedulerSettings
from services.log.port import Batch, EventLog
from services.scheduler.explaining.explanation import explain
from services.scheduler.explaining.gather import gather
from services.scheduler.recalling import recall
from services.scheduler.state.ranking import initial_policy
from services.scheduler.state.world import World
from tui import present

STRAY_EVENTS_MAX = 1_000
"""Writers' clocks differ: so many events later than the point are looked at for one that is not."""
TOLD_EVERY_S = 0.5
"""How often a long fold tells how far it is."""


async def explain_then(
    ledger: EventLog, job: JobId, point: Point, settings: SchedulerSettings
) -> Explanation:
    """Explain a job as the ledger alone tells it, up to a point."""
    world = World(initial_policy(settings))
    then = await fold_up_to(world, ledger, point)
    return explain(world, await gather(world, ledger, job), then, settings=settings)


async def fold_up_to(world: World, ledger: EventLog, point: Point) -> datetime:
    """Fold the ledger into an empty world as far as `point`; return the instant that is.

    Tells on stderr how far it is while it takes long. Raises click.UsageError for a sequence that
    the ledger does not have.
    """
    last = await ledger.last_seq()
    if point.seq is not None and not 1 <= point.seq <= last:
        raise click.UsageError(f"--as-of: given: {point.seq}; allowed: 1 to {last}, where it ends")
    time = point.time
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tell_progress, world, last if point.seq is None else point.seq)
        async with ledger.follow(after=0, live=False) as batches:
            async for batch in _up_to(batches, point):
                for recorded in batch:
                    if isinstance(recorded.fact, Retried):
                        await recall(world, ledger, recorded)
                    world.apply(recorded)
                if point.time is None:
                    time = batch[-1].time
        tasks.cancel_scope.cancel()
    assert time is not None, "a ledger that has the sequence has an event there"
    return time


async def _up_to(batches: AsyncIterator[Batch], point: Point) -> AsyncGenerator[Batch]:
    """Yield what the ledger had at `point`.

    Events are in the order of the log, their times are their writers': one that is later than the
    point belongs to it if others that are not follow soon after.
    """
    later: Batch = []
    async for batch in batches:
        had: Batch = []
        for recorded in batch:
            if point.seq is not None and recorded.seq > point.seq:
                break
            later.append(recorded)
            if point.time is None or recorded.time <= point.time:
                had += later
                later.clear()
        if had:
            yield had
        if len(later) > STRAY_EVENTS_MAX or (point.seq and batch[-1].seq >= point.seq):
            return


async def _tell_progress(world: World, goal: int) -> None:
    """Tell on stderr how far the fold is, until cancelled: a bar on a terminal, lines elsewhere."""
    with ExitStack() as stack:
        show: Callable[[int], None] | None = None
        while True:
            await anyio.sleep(TOLD_EVERY_S)
            show = show or stack.enter_context(_shown(goal))
            show(world.seq)


@contextmanager
def _shown(goal: int) -> Generator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield lambda seq: complain(
            f"reading the ledger: {present.count(seq)} of {present.count(goal)} events"
        )
        return
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - only on a terminal

    columns = (TextColumn("reading the ledger"), BarColumn(bar_width=30))
    counts = TextColumn("{task.completed:,.0f} of {task.total:,.0f} events")
    with Progress(*columns, counts, console=console(stderr=True), transient=True) as progress:
        row = progress.add_task("", total=goal)
        yield lambda seq: progress.update(row, completed=seq)
