"""Which jobs a filter takes right now, and how that is shown before they are asked anything."""

from collections.abc import Mapping

import click
from msgspec import Struct
from msgspec.structs import replace

from events.requests import Params, QueryRequest, QueryResult
from projections import read
from projections.read import Ask, Job, JobFilter, JobKey
from services.cli.invocation import Fleet
from services.cli.jobs.filtered.options import described
from services.cli.jobs.filtered.verbs import Verb, left_out, meant
from services.cli.output import show_json, show_table, styled
from tui import present

TARGETS_MAX = 1_000_000
"""Most jobs of one request by filter; more must be asked in several."""
SHOWN_MAX = 10
"""Jobs of a preview that are shown one by one."""
LABELS_CHARACTERS_MAX = 40


class Targets(Struct, frozen=True, kw_only=True):
    """What a filter takes, and who of it will be asked."""

    verb: Verb
    which: JobFilter
    asked: tuple[JobKey, ...]
    """The jobs that will be asked, the oldest first."""
    counts: Mapping[str, int]
    """How many jobs the filter takes, by status."""
    first: tuple[Job, ...]
    """Some of those that will be asked, the newest first."""
    cut: bool = False
    """There are more than may be asked at once."""

    @property
    def states(self) -> tuple[str, ...]:
        """States in which jobs are asked."""
        return meant(self.verb, self.which.states)


def asking(fleet: Fleet, *, after_seq: int = 0) -> Ask:
    """Return how questions reach the projection of a fleet, once it has read `after_seq`."""

    async def ask(sql: str, params: Params) -> QueryResult:
        assert isinstance(params, Mapping)
        request = QueryRequest(sql=sql, params=dict(params), after_seq=after_seq)
        return await fleet.client.query(request)

    return ask


async def find(fleet: Fleet, verb: Verb, which: JobFilter) -> Targets:
    """Return the targets as of the last event that is in the ledger now.

    Raises QueryRefused when the projection does not get there in time.
    """
    ask = asking(fleet, after_seq=await fleet.backbone.ledger.last_seq())
    counts = await read.jobs_counted(ask, which)
    states = meant(verb, which.states)
    if not states:
        return Targets(verb=verb, which=which, asked=(), counts=counts, first=())
    narrowed = replace(which, states=states)
    keys = await read.job_keys(ask, narrowed, limit=TARGETS_MAX + 1)
    first = await read.jobs(ask, narrowed, limit=SHOWN_MAX)
    return Targets(
        verb=verb,
        which=which,
        asked=tuple(reversed(keys[:TARGETS_MAX])),
        counts=counts,
        first=first,
        cut=len(keys) > TARGETS_MAX,
    )


def show_targets(targets: Targets, *, stderr: bool) -> None:
    """Show how many will be asked, who of the others will not and why, and the first of them."""
    verb = targets.verb
    of_all = sum(targets.counts.values())
    others = f" of {of_all:,} that match" if of_all > len(targets.asked) else ""
    head = f"{verb.name}: {counted(len(targets.asked))}{others}"
    click.echo(f"{head} ({described(targets.which) or 'all jobs'})", err=stderr)
    if targets.counts:
        show_table(
            (">jobs", "state", ""),
            [
                (
                    present.count(number),
                    styled(present.job_look(status)),
                    "" if status in targets.states else f"not asked: {left_out(verb, status)}",
                )
                for status, number in sorted(
                    targets.counts.items(), key=lambda count: count[0] not in targets.states
                )
            ],
            stderr=stderr,
        )
    if targets.first:
        more = len(targets.asked) - len(targets.first)
        click.echo(f"the newest {len(targets.first)}:" if more else "namely:", err=stderr)
        _show_first(targets.first, stderr=stderr)


def _show_first(jobs: tuple[Job, ...], *, stderr: bool) -> None:
    show_table(
        ("job", "state", "queue", "tenant", "node", "labels", "submitted (UTC)"),
        [
            (
                job.job_id,
                styled(present.job_look(job.status)),
                f"{job.queue}/{job.priority}",
                job.tenant,
                job.node or "",
                labels_of(job),
                f"{job.submitted_at:%Y-%m-%d %H:%M:%S}",
            )
            for job in jobs
        ],
        spare=("node", "tenant", "queue", "submitted (UTC)", "labels"),
        stderr=stderr,
    )


def show_dry(targets: Targets) -> None:
    """Print for programs who would be asked, one job a line."""
    for key in targets.asked:
        show_json({"job_id": key.job_id, "status": key.status, "would": targets.verb.name})


def labels_of(job: Job) -> str:
    """Return a job's labels for people, shortened."""
    text = " ".join(f"{key}={value}" for key, value in sorted(job.labels.items()))
    return present.shortened(present.printable(text), LABELS_CHARACTERS_MAX)


def counted(jobs: int) -> str:
    """Return a number of jobs in words."""
    return f"{jobs:,} job" if jobs == 1 else f"{jobs:,} jobs"
