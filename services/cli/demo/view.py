"""Shows the demo's jobs: a live table on a terminal, lines elsewhere."""

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from rich.live import Live
from rich.table import Table
from rich.text import Text

from events.ids import JobId
from services.cli.jobs.follow import OnSight, Sight
from services.cli.jobs.watch import line
from services.cli.output import console
from tui import present

BAR_CELLS = 24
FRAMES_PER_S = 8


@contextmanager
def showing(sights: Mapping[JobId, Sight]) -> Generator[OnSight]:
    """Show `sights` while the context lasts; what it gives is called after every change."""
    if not sys.stdout.isatty():
        yield _Lines()
        return
    with Live(
        get_renderable=lambda: _table(sights), console=console(), refresh_per_second=FRAMES_PER_S
    ):
        yield lambda _: None


def _table(sights: Mapping[JobId, Sight]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name, cells in (("job", 0), ("state", 0), ("node", 0), ("", BAR_CELLS), ("speed", 6)):
        table.add_column(name, no_wrap=True, min_width=cells or None)
    table.add_column("", no_wrap=True)
    for sight in sights.values():
        look = present.job_look(sight.status, retrying=sight.retrying)
        done = 100.0 if sight.well else sight.percent
        table.add_row(
            sight.job_id,
            Text(str(look), style=look.color),
            sight.node,
            Text(present.bar(done, BAR_CELLS), style=look.color),
            present.speed(sight.speed),
            "" if sight.well else present.shortened(sight.reason, 60),
        )
    return table


class _Lines:
    """One line for every change of state."""

    def __init__(self) -> None:
        self._last: dict[JobId, str] = {}
        self._console = console()

    def __call__(self, sight: Sight) -> None:
        now = line(sight)
        if self._last.get(sight.job_id) != now:
            self._last[sight.job_id] = now
            self._console.print(Text(now))
