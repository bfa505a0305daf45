"""How an attempt ends, as a fact: by a result of its own, or by a verdict of its guard."""

from typing import TypeAlias, assert_never

from msgspec import Struct

from events.ids import NodeId
from events.job import AttemptFailed, AttemptLost, Completed, FailureClass, LossCause
from services.worker.port import Broken, Made, Result, Work

MESSAGE_CHARS_MAX = 2_000
"""Of an error's words; more would only fill the log."""


class Lost(Struct, frozen=True):
    """The attempt made no progress, or ran out of time: it is given up."""

    cause: LossCause
    reason: str


class Exceeded(Struct, frozen=True):
    """The attempt used more than its job allows: it has failed."""

    failure: FailureClass
    message: str


Verdict: TypeAlias = Lost | Exceeded


def fact_of(
    work: Work, node: NodeId, end: Result | Verdict
) -> Completed | AttemptFailed | AttemptLost:
    """Return the fact that tells how an attempt on this node has ended."""
    number = work.attempt
    match end:
        case Made(files=files, stats=stats):
            return Completed(node=node, attempt=number, files=files, stats=stats)
        case Broken():
            return AttemptFailed(
                node=node,
                attempt=number,
                failure=end.failure,
                message=_storable(end.message),
                exit_status=end.exit_status,
                stats=end.stats,
            )
        case Lost(cause=cause, reason=reason):
            return AttemptLost(node=node, attempt=number, cause=cause, reason=reason)
        case Exceeded(failure=failure, message=message):
            return AttemptFailed(node=node, attempt=number, failure=failure, message=message)
        case _:
            assert_never(end)


def _storable(message: str) -> str:
    """Return a message that the log takes: names of files may hold bytes that are no text."""
    return message[:MESSAGE_CHARS_MAX].encode("utf-8", "replace").decode()
