"""Why a job is where it is once a node has it: given, running, paused, or just halted."""

from datetime import datetime, timedelta

from events.job import (
    Assigned,
    Canceled,
    CancelRequested,
    Failed,
    LossCause,
    PauseRequested,
    Placement,
    Queued,
    ResumeRequested,
    RetryScheduled,
)
from events.state.job import Halted, Held
from events.state.node import NodeStatus
from services.scheduler.deciders.job import RetryPolicy, Settle, decide
from services.scheduler.explaining.case import Answer, Case
from services.scheduler.explaining.history import told_of, tries
from services.scheduler.explaining.words import ago, at, many, said_by, sentence, since, span
from services.scheduler.upkeep.deadlines import due_at, loss

_NODE_DID = {
    LossCause.NODE_LOST: "is lost",
    LossCause.NODE_RESTARTED: "has begun anew without it",
    LossCause.DRAINED: "has stopped in order",
    LossCause.NOT_STARTED: "has not started it in time",
    LossCause.TIMED_OUT: "has not ended it in time",
}


def held(case: Case, state: Held) -> Answer:
    """Say what the node does with the job, and how that ends."""
    gone = loss(case.world.node(state.node), state, case.now, case.settings)
    if gone is not None:
        return _given_up(state, *gone)
    if state.cancel is not None:
        return _canceling(case, state, state.cancel)
    if state.started_at is None:
        return _assigned(case, state)
    if state.asked is not None:
        return _asked(case, state, state.asked)
    return _paused(case, state) if state.paused else _running(case, state, state.started_at)


def _given_up(state: Held, cause: LossCause, reason: str) -> Answer:
    figures = f" ({reason})" if reason else ""
    return Answer(
        f"Attempt {state.attempt} was given to {state.node}, which "
        f"{_NODE_DID.get(cause, 'will not end it')}{figures}.",
        "the scheduler gives the attempt up with its next look, within a second, and decides what "
        "follows",
    )


def _canceling(case: Case, state: Held, cancel: CancelRequested) -> Answer:
    found = case.last(CancelRequested)
    when = "" if found is None else f" {ago(found[1], case.now)}"
    return Answer(
        f"Its end was asked for{when}{said_by(cancel.by, cancel.reason)}; attempt {state.attempt} "
        f"is still on {state.node}.",
        f"{state.node} ends its processes; then it is canceled",
    )


def _assigned(case: Case, state: Held) -> Answer:
    limit = due_at(state, case.settings) or case.now
    return Answer(
        f"It was given to {state.node} {ago(state.assigned_at, case.now)} as attempt "
        f"{state.attempt}, which has not started it yet{_doubt(case, state)}.{_why_there(case)}",
        f"{state.node} starts it; otherwise the attempt is given up {at(limit, case.now)}, and the "
        "job is queued again",
    )


def _why_there(case: Case) -> str:
    placement = placement_of(case)
    if placement is None or not placement.candidates:
        return ""
    if placement.candidates == 1:
        return " It was the one node that could take it."
    rival = f", then came {placement.runner_up}" if placement.runner_up else ""
    return (
        f" It was the best of {placement.candidates:,} nodes that could take it, with "
        f"{many(placement.free, 'slot')} free{rival}."
    )


def placement_of(case: Case) -> Placement | None:
    """Return why the job's last attempt went to its node; None: it has never been assigned."""
    found = case.last(Assigned)
    return None if found is None else found[0].placement


def _doubt(case: Case, state: Held) -> str:
    """Return what is wrong with its node; empty: nothing."""
    node = case.world.node(state.node)
    return "" if node.status is NodeStatus.ONLINE else f" (the node is {node.status})"


def _asked(case: Case, state: Held, asked: PauseRequested | ResumeRequested) -> Answer:
    pause = isinstance(asked, PauseRequested)
    found = case.last(type(asked))
    when = "" if found is None else f" {ago(found[1], case.now)}"
    what = "to pause" if pause else "to go on"
    reason = asked.reason if isinstance(asked, PauseRequested) else ""
    return Answer(
        f"Attempt {state.attempt} was asked {what}{when}{said_by(asked.by, reason)}; {state.node} "
        f"has not confirmed it yet{_doubt(case, state)}.",
        f"{state.node} {'stops its processes' if pause else 'lets its processes run again'}",
    )


def _paused(case: Case, state: Held) -> Answer:
    found = case.last(PauseRequested)
    who = "" if found is None else said_by(found[0].by, found[0].reason)
    lasts = "" if state.paused_at is None else f" for {since(state.paused_at, case.now)}"
    return Answer(
        f"Attempt {state.attempt} is paused on {state.node}{lasts}{who}; it keeps its slot, and "
        "its time-outs stand still.",
        f"somebody lets it go on: `ffrtmp jobs resume {case.job}`",
    )


def _running(case: Case, state: Held, started: datetime) -> Answer:
    stall = f"if it makes no progress for {case.settings.stall_s:g} s"
    own_s = state.terms.spec.timeout_s
    if own_s is None:
        limit = stall
    else:
        end = started + timedelta(seconds=own_s + state.paused_s)
        limit = f"{stall}, or has not ended {at(end, case.now)} (its own time-out)"
    return Answer(
        f"Attempt {state.attempt} runs on {state.node} for {since(started, case.now)}"
        f"{_doubt(case, state)}.{_before(state)}",
        f"the attempt ends; {limit}, it is given up",
    )


def _before(state: Held) -> str:
    if not state.failures and not state.crashes:
        return ""
    told = [
        many(state.failures, "earlier attempt") + " failed" if state.failures else "",
        many(state.crashes, "earlier attempt") + " went down with a node" if state.crashes else "",
    ]
    return f" {', '.join(filter(None, told))}."


def halted(case: Case, state: Halted) -> Answer:
    """Say what follows an attempt that has just ended without success: as will be decided."""
    attempts = tries(case.dossier.facts)
    summary = sentence(told_of(attempts[-1]) if attempts else "An attempt ended")
    settings = case.settings
    policy = RetryPolicy(
        base_s=settings.retry_base_s, max_s=settings.retry_max_s, crashes_max=settings.crashes_max
    )
    follows = "the scheduler decides what follows"
    for fact in decide(Settle(job=case.job, now=case.now, policy=policy), state):
        match fact:
            case Queued():
                follows = "it is queued again: the loss was not its fault"
            case RetryScheduled(delay_s=delay_s, failures=failures):
                follows = (
                    f"it is given another attempt, to begin after {span(delay_s)}: {failures} of "
                    f"{many(state.terms.spec.attempts_max, 'failure')} allowed so far"
                )
            case Canceled(by=by):
                follows = f"it is canceled, as asked for{said_by(by)}"
            case Failed():
                follows = "it is failed: no attempt is left that could help"
            case _:
                pass
    return Answer(summary, f"within a second {follows}")
