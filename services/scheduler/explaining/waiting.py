"""Why a job waits: for an hour, for other jobs, after a failure, or for a node."""

from collections.abc import Sequence
from datetime import MAXYEAR, datetime, timedelta

from events.ids import JobId, NodeId
from events.spec import OnDependencyFailure
from events.state.job import Held, JobStatus, Pending, Waiting
from services.scheduler.explaining.case import Answer, Case
from services.scheduler.explaining.history import told_of, tries
from services.scheduler.explaining.line import Place
from services.scheduler.explaining.nodes import NEVER, SHORT, Survey
from services.scheduler.explaining.words import (
    NAMED_MAX,
    at,
    listed,
    many,
    ordinal,
    sentence,
    since,
)

_AT_ONCE = "the scheduler queues it with its next look, within a second"


def pending(case: Case, state: Pending) -> Answer:
    """Say what a job waits for that may not be assigned yet."""
    if state.backoff:
        return _back_off(case, state)
    waiting_for = [
        job for job, status in case.dossier.dependencies.items() if status != JobStatus.COMPLETED
    ]
    if waiting_for:
        return _dependencies(case, state, waiting_for)
    return _start_time(case, state)


def _back_off(case: Case, state: Pending) -> Answer:
    attempts = tries(case.dossier.facts)
    after = told_of(attempts[-1]) if attempts else "An attempt failed"
    count = f"{state.failures} of {many(state.terms.spec.attempts_max, 'failure')} allowed so far"
    until = state.not_before
    if until is None or until <= case.now:
        return Answer(f"{sentence(after)} Its back-off is over; {count}.", _AT_ONCE)
    return Answer(
        f"{sentence(after)} It backs off before the next attempt; {count}.",
        f"its back-off ends {at(until, case.now)}; then it is queued again",
    )


def _start_time(case: Case, state: Pending) -> Answer:
    until = state.not_before
    if until is None or until <= case.now:
        return Answer("All that it waited for is there.", _AT_ONCE)
    when = at(until, case.now)
    return Answer(
        f"It was asked not to begin before {when.removeprefix('at ').partition(',')[0]}.",
        f"its start time comes {when}; then it is queued",
    )


def _dependencies(case: Case, state: Pending, waiting_for: Sequence[JobId]) -> Answer:
    statuses = case.dossier.dependencies
    told = listed([f"{job} ({_how(case, job)})" for job in waiting_for])
    total = "" if len(statuses) == len(waiting_for) else f" of {len(statuses)}"
    noun = "job" if max(len(waiting_for), len(statuses)) == 1 else "jobs"
    summary = f"It waits for {len(waiting_for)}{total} {noun}: {told}."
    broken = [job for job in waiting_for if statuses[job] in _BROKEN]
    if broken:
        skip = state.terms.spec.on_dependency_failure is OnDependencyFailure.SKIP
        end = "canceled" if skip else "failed"
        return Answer(
            summary,
            f"{broken[0]} is {statuses[broken[0]]}, so this one is {end} with the scheduler's next "
            "look, within a second",
        )
    missing = [job for job in waiting_for if statuses[job] is None]
    running = [job for job in waiting_for if statuses[job] is not None]
    steps = [f"somebody submits {listed(missing)}{_in_time(case, state)}"] if missing else []
    if running:
        steps.append(f"{listed(running)} {'completes' if len(running) == 1 else 'complete'}")
    if state.not_before is not None and state.not_before > case.now:
        steps.append(f"its start time comes {at(state.not_before, case.now)}")
    return Answer(summary, f"{', and '.join(steps)}; then it is queued")


def _in_time(case: Case, state: Pending) -> str:
    """Return until when a job it waits for must have been submitted."""
    begin = max(state.terms.submitted_at, state.not_before or state.terms.submitted_at)
    if begin.year == MAXYEAR:
        return ""
    end = begin + timedelta(seconds=case.settings.pending_s)
    return f" (until {at(end, case.now).removeprefix('at ')}, or this one ends)"


_BROKEN = frozenset({JobStatus.FAILED, JobStatus.CANCELED, JobStatus.REJECTED})


def _how(case: Case, job: JobId) -> str:
    status = case.dossier.dependencies[job]
    if status is None:
        return "nobody has submitted it"
    state = case.world.job(job)
    return f"{status} on {state.node}" if isinstance(state, Held) else str(status)


def queued(case: Case, state: Waiting, place: Place | None, seen: Survey) -> Answer:
    """Say why a job that may be assigned is not, and what would change that."""
    if place is None:
        return Answer("It is being given to a node just now.", "its assignment is recorded")
    if not seen.nodes:
        return Answer(
            f"{_stands(place)}, but no node is registered.",
            "a worker starts: `ffrtmp worker` on the machine that is to do it",
        )
    if not seen.capable:
        return _unplaceable(case, state, seen)
    if seen.able:
        return _has_room(place, seen)
    return Answer(f"{_stands(place)}, but {_none_free(seen)}.", _what_frees(case, place, seen))


def _stands(place: Place) -> str:
    others = "" if place.overall == place.position else f" ({_overall(place)})"
    if place.next:
        return f"It is next {'among jobs with its needs' if others else 'in line'}{others}"
    about = f"{place.estimate} " if place.estimate else ""
    ahead = listed([rival.job for rival in place.ahead], place.position - 1)
    return f"It is {about}{ordinal(place.position)} in line{others}, behind {ahead}"


def _overall(place: Place) -> str:
    return "far back in all" if place.overall is None else f"{ordinal(place.overall)} in all"


def _none_free(seen: Survey) -> str:
    """Return why no node that could run it can do so now."""
    first = seen.verdicts[0]
    if seen.capable == 1:
        return f"the one node that can run it, {first.node}, is {_adjective(first.reason)}"
    reasons = [
        f"{number:,} {_adjective(reason)}"
        for reason, number in seen.excluded.items()
        if not reason.startswith(NEVER)
    ]
    which = "the two nodes" if seen.capable == _TWO else f"the {seen.capable:,} nodes"
    return f"none of {which} that can run it is free: {', '.join(reasons)}"


_TWO = 2


def _adjective(reason: str) -> str:
    """Return a reason as what a node is."""
    head = reason.partition(":")[0]
    return f"short of {head}" if head in SHORT and head != "full" else head


def _unplaceable(case: Case, state: Waiting, seen: Survey) -> Answer:
    end = state.since + timedelta(seconds=case.settings.unschedulable_s)
    reject = "with the scheduler's next look" if end <= case.now else at(end, case.now)
    return Answer(
        f"It can run nowhere: {seen.impossible} ({many(seen.nodes, 'node')} looked at).",
        f"a worker that can do it registers; otherwise the job is rejected {reject}",
    )


def _has_room(place: Place, seen: Survey) -> Answer:
    nodes = listed(seen.able, len(seen.able) + _untold(seen))
    verb = "has" if len(seen.able) == 1 else "have"
    if place.next:
        rivals = "" if place.overall == 1 else ", if those before it in all leave room there"
        return Answer(
            f"{_stands(place)}, and {nodes} {verb} room for it.",
            f"the scheduler assigns it with its next pass, within a second{rivals}",
        )
    return Answer(
        f"{_stands(place)}; {nodes} {verb} room.",
        f"{_those_ahead(place)} first; if room is left then, it is assigned in the same pass",
    )


def _those_ahead(place: Place) -> str:
    if len(place.ahead) == place.position - 1 == 1:
        return f"{place.ahead[0].job} gets its node"
    return f"the {place.position - 1:,} jobs ahead get their nodes"


def _untold(seen: Survey) -> int:
    """Return how many able nodes are not among those that are told of."""
    return seen.nodes - sum(seen.excluded.values()) - len(seen.able)


def _what_frees(case: Case, place: Place, seen: Survey) -> str:
    """Return what must happen for a node to be free for it."""
    more = "" if place.next else f"; then {_those_ahead(place)} first"
    if seen.short:
        return f"an attempt on {_either(seen.short)} ends{_next_free(case, seen.short)}{more}"
    first = seen.verdicts[0]
    reason, _, why = first.reason.partition(": ")
    remedy = _REMEDY.get(reason, "{node} takes work again")
    return remedy.format(node=first.node, why=why) + more


def _either(nodes: Sequence[NodeId]) -> str:
    if len(nodes) > NAMED_MAX:
        return f"{', '.join(nodes[:NAMED_MAX])} or one of {len(nodes) - NAMED_MAX:,} more"
    return listed(nodes).replace(" and ", " or ")


_REMEDY = {
    "avoided": "another node that can run it is free",
    "refusing": "{node} takes work again; it says: {why}",
    "circuit open": "{node} is tried again; too much failed there: its circuit is open {why}",
    "cordoned": "somebody lets {node} have work again: `ffrtmp nodes uncordon {node}`",
    "draining": "another node that can run it registers, or {node} after its drain",
    "suspected": "{node} speaks again",
    "lost": "{node} speaks again, or its worker is started again",
    "offline": "the worker on {node} is started again",
}


def _next_free(case: Case, nodes: Sequence[NodeId]) -> str:
    """Return how many attempts hold these nodes, and which of them runs longest."""
    found: list[tuple[datetime, JobId, NodeId]] = []
    for node in nodes:
        for job in case.world.held.get(node, ()):
            state = case.world.job(job)
            if isinstance(state, Held):
                found.append((state.started_at or state.assigned_at, job, node))
    if not found:
        return ""
    begun, job, node = min(found)
    runs = since(begun, case.now)
    if len(found) == 1:
        return f" ({job} runs there for {runs})"
    return f" ({len(found):,} run; the longest is {job} on {node}, for {runs})"
