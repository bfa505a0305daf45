"""Where a waiting job stands among the others, and who comes before it by which rule."""

from collections.abc import Sequence
from contextlib import closing
from itertools import islice

from msgspec import Struct

from events.ids import JobId
from events.requests import Rival
from events.state.job import Terms, Waiting
from services.scheduler.explaining.words import many, span
from services.scheduler.state.lineup import in_order
from services.scheduler.state.needs import Need
from services.scheduler.state.ready import Line
from services.scheduler.state.world import World

AHEAD_COUNTED_MAX = 1_000
"""Most jobs counted ahead of one, among those of its kind and among all."""
AHEAD_NAMED_MAX = 5
"""Most jobs told by name."""
LINES_MAX = 1_000
"""With more lines than this only those of its kind are looked at: a walk begins with the heads."""
AT_LEAST = "at least"
ABOUT = "about"


class Place(Struct, frozen=True, kw_only=True):
    """A place among all that wait."""

    need: Need
    position: int
    """Among the jobs that need the same of a node; 1 is next."""
    overall: int | None
    """Among all; None: farther back than is counted."""
    estimate: str = ""
    """How the position is meant; empty: exactly."""
    ahead: tuple[Rival, ...] = ()
    """The first of its kind that come before it."""

    @property
    def next(self) -> bool:
        """Whether none of its kind comes before it."""
        return self.position == 1


def place_in_line(world: World, job: JobId) -> Place | None:
    """Return where a job stands; None: it stands in no line, for it is being given out.

    Costs a logarithm of a line for each job counted, and counts at most `AHEAD_COUNTED_MAX`.
    """
    own = world.ready.place(job)
    if own is None:
        return None
    need = own.line.need
    lines = world.ready.lines()
    kind = _ahead_of(world, job, [line for line in lines if line.need == need])
    everybody = lines if len(lines) <= LINES_MAX else []
    every = _ahead_of(world, job, everybody) if everybody else kind
    counted = len(every) < AHEAD_COUNTED_MAX and bool(everybody)
    more = len(kind) == AHEAD_COUNTED_MAX
    return Place(
        need=need,
        position=len(kind) + 1,
        overall=len(every) + 1 if counted else None,
        estimate=AT_LEAST if more else ABOUT if world.ranking.fair and kind else "",
        ahead=tuple(_rival(world, rival, job) for rival in kind[:AHEAD_NAMED_MAX]),
    )


def _ahead_of(world: World, job: JobId, lines: Sequence[Line]) -> Sequence[JobId]:
    """Return the jobs that would be given out before this one if nothing came in between."""
    found: list[JobId] = []
    with closing(in_order(world, lines)) as walk:
        for place in islice(walk, AHEAD_COUNTED_MAX):
            if place.job == job:
                break
            found.append(place.job)
    return found


def _rival(world: World, rival: JobId, job: JobId) -> Rival:
    theirs, ours = _terms(world, rival), _terms(world, job)
    if world.ranking.strict:
        return Rival(job=rival, why=_why_by_rank(theirs, ours))
    if world.ranking.fair and theirs.spec.tenant != ours.spec.tenant:
        return Rival(job=rival, why=f"of tenant {theirs.spec.tenant}, whose turn comes first")
    return Rival(job=rival, why=_why_by_weight(world, theirs, ours))


def _terms(world: World, job: JobId) -> Terms:
    state = world.job(job)
    assert isinstance(state, Waiting), "only waiting jobs are ready"
    return state.terms


def _why_by_rank(theirs: Terms, ours: Terms) -> str:
    if theirs.queue != ours.queue:
        return f"queue {theirs.queue} goes before {ours.queue}"
    if theirs.priority != ours.priority:
        return f"priority {theirs.priority} goes before {ours.priority}"
    return f"same rank, {_earlier(theirs, ours)}"


def _why_by_weight(world: World, theirs: Terms, ours: Terms) -> str:
    their, our = (world.ranking.weight(each.queue, each.priority) for each in (theirs, ours))
    if their > our:
        return f"{theirs.queue}/{theirs.priority} weighs {their:g}, this one {our:g}"
    if their < our:
        return f"weighs {their:g}, not {our:g}, but {_earlier(theirs, ours)}"
    if theirs.submitted_at > ours.submitted_at and theirs.spec.deadline is not None:
        return "weighs the same and is due earlier"
    return f"weighs the same and {_earlier(theirs, ours)}"


def _earlier(theirs: Terms, ours: Terms) -> str:
    earlier_s = (ours.submitted_at - theirs.submitted_at).total_seconds()
    if earlier_s < 1:
        return f"was accepted {many(max(ours.job_no - theirs.job_no, 1), 'fact')} earlier"
    return f"was submitted {span(earlier_s)} earlier"
