"""The attempts of one job, as its own facts tell them."""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from msgspec.structs import replace

from events.codec import Recorded
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Canceled,
    Completed,
    Declined,
    FailureClass,
    LossCause,
    Started,
)
from events.requests import Try
from services.scheduler.explaining.words import said_by

TRIES_MAX = 20
"""Most attempts told of one job."""

_LOST = {
    LossCause.NODE_LOST: "lost: its node went silent",
    LossCause.NODE_RESTARTED: "lost: its worker began anew",
    LossCause.STALLED: "stalled: it made no progress",
    LossCause.TIMED_OUT: "timed out",
    LossCause.NOT_STARTED: "lost: it was not started in time",
    LossCause.DRAINED: "handed back: its worker stopped",
}


def tries(facts: Iterable[Recorded]) -> tuple[Try, ...]:
    """Return the job's last `TRIES_MAX` attempts, the first first.

    What does not fit the attempt at hand, such as the end of an earlier one, changes nothing.
    """
    told: list[Try] = []
    for recorded in facts:
        fact = recorded.fact
        current = told[-1] if told and told[-1].ended is None else None
        match fact:
            case Assigned(node=node, attempt=attempt) if current is None:
                told.append(Try(attempt=attempt, node=node, assigned=recorded.time))
            case Started(attempt=attempt) if _is(current, attempt):
                told[-1] = replace(told[-1], started=recorded.time)
            case Declined() | AttemptFailed() | AttemptLost() | Completed() if _is(
                current, fact.attempt
            ):
                told[-1] = replace(told[-1], ended=recorded.time, end=how_it_ended(fact))
            case Canceled(by=by, reason=reason) if current is not None:
                end = f"canceled{said_by(by, reason)}"
                told[-1] = replace(told[-1], ended=recorded.time, end=end)
            case _:
                pass
    return tuple(told[-TRIES_MAX:])


def how_it_ended(fact: Declined | AttemptFailed | AttemptLost | Completed) -> str:
    """Return in words how an attempt ended."""
    match fact:
        case Completed():
            return "completed"
        case Declined(reason=reason):
            return f"declined: {reason}" if reason else "declined: no room"
        case AttemptLost(cause=cause, reason=reason):
            known = _LOST[cause]
            return f"{known.partition(':')[0]}: {reason}" if reason else known
        case AttemptFailed(failure=failure, message=message):
            said = message or (
                "" if fact.exit_status is None else f"exit status {fact.exit_status}"
            )
            return f"failed ({failure})" + (f": {said}" if said else "")
        case _:
            assert_never(fact)


def told_of(attempt: Try) -> str:
    """Return how an attempt ended, as a sentence without its end."""
    verb = "was " if attempt.end.startswith(_PASSIVE) else ""
    return f"Attempt {attempt.attempt} on {attempt.node} {verb}{attempt.end}"


_PASSIVE = ("lost", "handed back", "canceled")


def would_help(failure: FailureClass) -> str:
    """Return whether the same again would help after this kind of failure."""
    match failure:
        case FailureClass.PERMANENT:
            return "the same again fails the same: mend the input or the request first"
        case FailureClass.TRANSIENT:
            return "the same again may work"
        case FailureClass.RESOURCE:
            return "another node, or this one with more room, may do it"
        case FailureClass.INFRASTRUCTURE:
            return "look at the nodes it was on first: it may take others down as well"
        case _:
            assert_never(failure)


def _is(current: Try | None, attempt: int) -> bool:
    return current is not None and current.attempt == attempt


def length_s(begun: datetime, ended: datetime) -> float:
    """Return the seconds between two instants of different clocks, never less than none."""
    return max((ended - begun).total_seconds(), 0.0)
