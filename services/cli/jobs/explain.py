"""`ffrtmp jobs explain`: why a job is where it is, and what must happen next."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from events import subjects
from events.ids import JobId
from events.requests import Explanation, Try
from events.state.job import JobStatus
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.jobs.arguments import job_id as checked
from services.cli.look.past import Point, PointType
from services.cli.output import complain, show_json, show_table, styled
from tui import present

if TYPE_CHECKING:
    from rich.text import Text

Figure = tuple[str, object]
_WAITING = frozenset({JobStatus.PENDING.value, JobStatus.QUEUED.value})


@click.command()
@click.argument("job_id", callback=checked)
@click.option(
    "--as-of",
    type=PointType(),
    help="Explain it as it was then, from the ledger alone: a sequence (1234), an instant "
    "(2026-01-31T12:00:00Z), a time of day in UTC (03:12), a time ago (-10m), or now.",
)
@output_option
@pass_invocation
def explain(invocation: Invocation, /, *, job_id: str, as_of: Point | None) -> int:
    """Say why a job is where it is, and what must happen next.

    The first two lines are the answer; the figures follow: its place in the line, who is ahead by
    which rule, which nodes cannot take it and why, and its attempts. Without --as-of the scheduler
    answers; with it nothing but the log is needed.
    """
    job = JobId(job_id)

    async def work(fleet: Fleet) -> int:
        if as_of is None:
            told = await fleet.client.explain(job)
        else:
            told = await _as_of(invocation, fleet, job, as_of)
        if told.error is not None:
            return await _refused(fleet, told)
        if invocation.json:
            show_json(told)
        else:
            _show(told)
        return Exit.OK

    return invocation.work(work)


async def _as_of(invocation: Invocation, fleet: Fleet, job: JobId, point: Point) -> Explanation:
    """Explain the job as the ledger alone tells it, up to a point."""
    from services.cli.look.replay import explain_then  # noqa: PLC0415 - the whole scheduler
    from services.cli.options import load_settings  # noqa: PLC0415 - only for a replay
    from services.config import SchedulerSettings  # noqa: PLC0415 - only for a replay

    settings = load_settings(invocation, SchedulerSettings, "scheduler", options={}, defaults={})
    return await explain_then(fleet.backbone.ledger, job, point, settings)


async def _refused(fleet: Fleet, told: Explanation) -> Exit:
    """Say what the ledger has instead: nothing of that name, or not yet then."""
    assert told.error is not None
    if told.error.code != "job_unknown":
        complain(f"refused: {told.error.message}")
        return Exit.REFUSED
    facts = await fleet.backbone.ledger.read(subjects.job(JobId(told.job_id)))
    if facts and facts[0].seq > told.seq:
        first = f"#{facts[0].seq}, {facts[0].time:%Y-%m-%d %H:%M:%S} UTC"
        complain(f"job {told.job_id!r} came later: its first fact is {first}")
    else:
        complain(f"no job {told.job_id!r} in the ledger; `ffrtmp jobs list` shows what is there")
    return Exit.FAILED


def _show(told: Explanation) -> None:
    """Print the answer, and below it the figures behind it."""
    retrying = told.status == JobStatus.PENDING and bool(told.attempts)
    look = styled(present.job_look(told.status, retrying=retrying))
    then = present.printable(told.next) or "nothing: it is done"
    show_table(("", ""), [(look, present.printable(told.summary)), ("  next", then)])
    click.echo()
    show_table(("", ""), _figures(told))
    _show_attempts(told.attempts)
    if told.verdicts:
        _show_nodes(told)


def _figures(told: Explanation) -> list[Figure]:
    figures: list[Figure] = [("job", told.job_id), ("as of", _as_of_words(told))]
    if told.requires:
        figures.append(("needs", ", ".join(told.requires)))
    if told.position is not None:
        figures.append(("place", _place(told)))
    figures += [("ahead", f"{rival.job}: {rival.why}") for rival in told.ahead[:1]]
    figures += [("", f"{rival.job}: {rival.why}") for rival in told.ahead[1:]]
    hidden = 0 if told.position is None else told.position - 1 - len(told.ahead)
    if told.ahead and hidden > 0:
        figures.append(("", f"and {present.count(hidden)} more"))
    if told.weight:
        figures.append(("weight", f"{told.weight:g}, policy {told.policy}"))
        figures.append(("submitted", _since_submission(told)))
    if told.position is None and (chosen := _chosen(told)):
        figures.append(("chosen", chosen))
    if told.deadline is not None:
        figures.append(("deadline", f"{told.deadline:%Y-%m-%d %H:%M:%S} UTC{_left(told)}"))
    return figures


def _as_of_words(told: Explanation) -> str:
    time = "" if told.time is None else f", {told.time:%Y-%m-%d %H:%M:%S} UTC"
    return f"#{told.seq}{time}"


def _place(told: Explanation) -> str:
    about = f"{told.estimate} " if told.estimate else ""
    kind = f"{about}{present.count(told.position)} among jobs with its needs"
    place = "far back" if told.overall is None else present.count(told.overall)
    return f"{kind}, {place} of {present.count(told.waiting)} in all"


def _since_submission(told: Explanation) -> str:
    """Return how long ago it was submitted, or how long before its node got it."""
    length = present.duration(told.waited_s)
    if told.attempts and told.status not in _WAITING:
        return f"{length} before {told.node} got it"
    return f"{length} ago"


def _chosen(told: Explanation) -> str:
    """Return why the job went where it went last; empty: nobody has said."""
    placement = told.placement
    if placement is None or not placement.candidates:
        return ""
    nodes = (
        "1 node" if placement.candidates == 1 else f"{present.count(placement.candidates)} nodes"
    )
    terms = [f"of {nodes} that could, {present.count(placement.free)} free there"]
    if placement.score:
        terms.append(f"score {placement.score:g}")
    if placement.speed:
        terms.append(f"{present.speed(placement.speed)} at such work")
    if placement.runner_up:
        terms.append(f"then came {placement.runner_up}")
    return f"{told.node}, {', '.join(terms)}"


def _left(told: Explanation) -> str:
    assert told.deadline is not None
    if told.time is None:
        return ""
    left_s = (told.deadline - told.time).total_seconds()
    word = "in {}" if left_s >= 0 else "{} ago"
    return f", {word.format(present.duration(abs(left_s)))}"


def _show_attempts(attempts: Sequence[Try]) -> None:
    if not attempts:
        return
    click.echo()
    show_table(
        (">attempt", "node", "assigned (UTC)", ">ran", ""),
        [
            (
                each.attempt,
                each.node,
                present.clock_time(each.assigned).partition(".")[0],
                _ran(each),
                present.printable(each.end or ("running" if each.started else "not started")),
            )
            for each in attempts
        ],
        spare=("assigned (UTC)",),
    )


def _ran(attempt: Try) -> str:
    if attempt.started is None or attempt.ended is None:
        return present.UNKNOWN
    return present.duration((attempt.ended - attempt.started).total_seconds())


def _show_nodes(told: Explanation) -> None:
    """Print which nodes were looked at: counted by reason, then the likeliest by name."""
    able = told.nodes - sum(told.excluded.values())
    parts = [f"{present.count(able)} can take it"] if able else []
    parts += [f"{reason}: {present.count(number)}" for reason, number in told.excluded.items()]
    click.echo()
    show_table(("", ""), [("nodes", f"{present.count(told.nodes)} in all; {'; '.join(parts)}")])
    click.echo()
    show_table(
        ("node", "", ""),
        [
            (each.node, _mark(able=each.able), present.printable(each.reason) or "can take it")
            for each in told.verdicts
        ],
    )


def _mark(*, able: bool) -> "Text":
    """Return yes or no, in the colors of a job that has its output and of one that has not."""
    look = present.job_look(JobStatus.COMPLETED if able else JobStatus.FAILED)
    mark = styled(present.Look(look.glyph, "", look.color))
    mark.rstrip()
    return mark
