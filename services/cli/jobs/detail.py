"""One job in full, from its own facts: needs no projection."""

from collections.abc import Sequence
from datetime import datetime

import click
import msgspec
from msgspec import Raw, Struct

from events.codec import Recorded
from events.ids import JobId
from events.job import Completed, Failed, Submitted
from events.media import EncodeStats, MadeFile
from events.spec import JobSpec
from events.state.job import JobStatus
from services.cli.jobs.follow import Observer, Sight
from services.cli.output import show_table, styled
from tui import present

DATA_CHARACTERS_MAX = 100


class Moment(Struct, frozen=True, kw_only=True):
    """One fact of the job's history."""

    seq: int
    time: datetime
    type: str
    source: str
    data: Raw


class Detail(Struct, frozen=True, kw_only=True):
    """All there is to know of a job."""

    job_id: JobId
    status: str
    attempt: int
    node: str
    reason: str
    promoted: bool
    retrying: bool
    poison: bool
    """It failed because too many of its attempts were lost with their nodes."""
    spec: JobSpec | None
    """None: the request was refused before it could be read."""
    files: tuple[MadeFile, ...]
    stats: EncodeStats | None
    history: tuple[Moment, ...]


def detail_of(job: JobId, facts: Sequence[Recorded]) -> Detail | None:
    """Fold the facts of one job; None: there are none."""
    if not facts:
        return None
    observer = Observer([job])
    for recorded in facts:
        observer.fact(recorded)
    sight: Sight = observer.sights[job]
    made = next((r.fact for r in facts if isinstance(r.fact, Completed)), None)
    asked = next((r.fact for r in facts if isinstance(r.fact, Submitted)), None)
    return Detail(
        job_id=job,
        status=sight.status,
        attempt=sight.attempt,
        node=sight.node,
        reason="" if sight.well else sight.reason,
        promoted=sight.promoted,
        retrying=sight.retrying,
        poison=sight.status == JobStatus.FAILED and _is_poison(facts),
        spec=None if asked is None else asked.spec,
        files=() if made is None else made.files,
        stats=None if made is None else made.stats,
        history=tuple(
            Moment(seq=r.seq, time=r.time, type=r.type, source=r.source, data=r.data) for r in facts
        ),
    )


def _is_poison(facts: Sequence[Recorded]) -> bool:
    """Tell whether the last failure of the job says so."""
    last = next((r.fact for r in reversed(facts) if isinstance(r.fact, Failed)), None)
    return last is not None and last.poison


def show_detail(detail: Detail) -> None:
    """Print a job for people: what it is, what came of it, and its history."""
    look = styled(present.job_look(detail.status, retrying=detail.retrying))
    rows: list[tuple[str, object]] = [("job", detail.job_id), ("state", look)]
    if detail.node:
        rows.append(("node", f"{detail.node}, attempt {detail.attempt}"))
    if detail.poison:
        rows.append(("poison", "its attempts were lost with their nodes; retry it with care"))
    if detail.reason:
        rows.append(("reason", detail.reason))
    if detail.spec is not None:
        rows.append(("asked for", msgspec.json.encode(detail.spec).decode()))
    rows += [
        ("output", f"{file.path}  {present.size(file.size_bytes)}  {file.duration_s:g} s")
        for file in detail.files
    ]
    if detail.stats is not None:
        rows.append(("encoder", f"{detail.stats.encoder}  {present.speed(detail.stats.speed)}"))
    show_table(("", ""), rows)
    click.echo()
    show_table(
        (">seq", "time (UTC)", "fact", "by", ""),
        [
            (
                moment.seq,
                present.clock_time(moment.time),
                moment.type,
                moment.source,
                present.shortened(
                    bytes(moment.data).decode("utf-8", "replace"), DATA_CHARACTERS_MAX
                ),
            )
            for moment in detail.history
        ],
    )
