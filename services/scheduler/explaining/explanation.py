"""Why a job is where it is: pure, from a world, the job's own facts and the hour."""

from datetime import datetime
from functools import reduce
from typing import assert_never

from msgspec.structs import replace

from events.job import Submitted
from events.requests import Explanation, Problem
from events.state.job import (
    INITIAL,
    Absent,
    Ended,
    Halted,
    Held,
    Pending,
    Waiting,
    evolve,
    status_of,
)
from services.config import SchedulerSettings
from services.scheduler.explaining.case import Answer, Case, Dossier
from services.scheduler.explaining.ended import ended
from services.scheduler.explaining.held import halted, held, placement_of
from services.scheduler.explaining.history import length_s, tries
from services.scheduler.explaining.line import place_in_line
from services.scheduler.explaining.nodes import survey
from services.scheduler.explaining.waiting import pending, queued
from services.scheduler.explaining.words import ago
from services.scheduler.state.needs import need_of, requirements
from services.scheduler.state.world import World

UNKNOWN = Problem(
    code="job_unknown",
    message="there is no such job; look at `ffrtmp jobs list`",
    field="$.job_id",
)


def explain(
    world: World, dossier: Dossier, now: datetime, *, settings: SchedulerSettings
) -> Explanation:
    """Say why a job is where it is, and what must happen next; total, for every history.

    `dossier` and `world` must be of the same ledger sequence, see `gather`; `settings` are the
    scheduler's.
    """
    state = reduce(evolve, dossier.facts, INITIAL)
    if isinstance(state, Absent):
        return Explanation(job_id=dossier.job, seq=world.seq, error=UNKNOWN)
    case = Case(world=world, settings=settings, dossier=dossier, state=state, now=now)
    figures = _figures(case)
    match state:
        case Pending():
            return _urged(_said(figures, pending(case, state)))
        case Waiting():
            return _urged(_in_line(case, state, figures))
        case Held():
            return _urged(_said(figures, held(case, state)))
        case Halted():
            return _said(figures, halted(case, state))
        case Ended():
            return _said(figures, ended(case, state))
        case _:
            assert_never(state)


def _said(figures: Explanation, answer: Answer) -> Explanation:
    return replace(figures, summary=answer.summary, next=answer.next)


def _urged(told: Explanation) -> Explanation:
    """Add that its deadline has passed, where it has."""
    if told.deadline is None or told.time is None or told.deadline > told.time:
        return told
    late = f"Its deadline passed {ago(told.deadline, told.time)}."
    return replace(told, summary=f"{told.summary} {late}")


def _in_line(case: Case, state: Waiting, figures: Explanation) -> Explanation:
    place = place_in_line(case.world, case.job)
    seen = survey(case.world, need_of(state.terms.spec, state.avoid))
    said = _said(figures, queued(case, state, place, seen))
    said = replace(said, verdicts=seen.verdicts, nodes=seen.nodes, excluded=seen.excluded)
    if place is None:
        return said
    return replace(
        said,
        position=place.position,
        overall=place.overall,
        estimate=place.estimate,
        ahead=place.ahead,
    )


def _figures(case: Case) -> Explanation:
    state = case.state
    terms = state.terms
    if case.last(Submitted) is None:  # refused before it could be read: nothing was asked
        return Explanation(
            job_id=case.job, status=str(status_of(state) or ""), seq=case.world.seq, time=case.now
        )
    attempts = tries(case.dossier.facts)
    placement = placement_of(case)
    until = case.now
    if attempts and not isinstance(state, Pending | Waiting):
        until = attempts[-1].assigned
    return Explanation(
        job_id=case.job,
        status=str(status_of(state) or ""),
        seq=case.world.seq,
        time=case.now,
        weight=case.world.ranking.weight(terms.queue, terms.priority),
        waited_s=round(length_s(terms.submitted_at, until), 3),
        policy=str(case.world.ranking.policy.kind),
        deadline=terms.spec.deadline,
        requires=tuple(sorted(requirements(terms.spec))),
        waiting=len(case.world.ready),
        node=attempts[-1].node if attempts else "",
        placement=placement,
        attempts=attempts,
    )
