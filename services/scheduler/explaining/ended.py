"""How a job ended, and whether anything can still be done."""

from events.job import Canceled, Completed, Failed, Rejected
from events.requests import Try
from events.state.job import Ended, JobStatus
from services.scheduler.explaining.case import Answer, Case
from services.scheduler.explaining.history import length_s, tries, would_help
from services.scheduler.explaining.words import ago, many, said_by, sentence, span


def ended(case: Case, state: Ended) -> Answer:
    """Say how it came to its end."""
    match state.status:
        case JobStatus.COMPLETED:
            return _completed(case, state)
        case JobStatus.FAILED:
            return _failed(case)
        case JobStatus.CANCELED:
            return _canceled(case, state)
        case _:
            return _rejected(case)


def _completed(case: Case, state: Ended) -> Answer:
    found = case.last(Completed)
    when = "" if found is None else f" {ago(found[1], case.now)}"
    took = next((_took(each) for each in reversed(tries(case.dossier.facts))), "")
    where = f"Attempt {state.attempt} on {state.node} completed it{when}{took}"
    if state.promoted:
        return Answer(f"{where}.", "")
    return Answer(
        f"{where}; its files do not have their final names yet.",
        f"the worker on {state.node} gives them their final names, also after a restart",
    )


def _took(attempt: Try) -> str:
    if attempt.started is None or attempt.ended is None:
        return ""
    return f"; it ran for {span(length_s(attempt.started, attempt.ended))}"


def _failed(case: Case) -> Answer:
    found = case.last(Failed)
    if found is None:
        return Answer("It failed.", "")
    fact, time = found
    attempts = f" after {many(fact.attempts, 'attempt')}" if fact.attempts else ""
    return Answer(
        sentence(f"It failed {ago(time, case.now)}{attempts} ({fact.failure}): {fact.reason}"),
        _again(case, would_help(fact.failure) if fact.attempts else "mend that first"),
    )


def _canceled(case: Case, state: Ended) -> Answer:
    found = case.last(Canceled)
    by = "" if found is None else said_by(found[0].by, found[0].reason)
    when = "" if found is None else f" {ago(found[1], case.now)}"
    ran = f", in attempt {state.attempt}" if state.attempt else ", before any attempt"
    return Answer(f"It was canceled{when}{by}{ran}.", _again(case))


def _again(case: Case, advice: str = "") -> str:
    """Return that nothing happens by itself, and what can be done."""
    hint = f" ({advice})" if advice else ""
    return f"nothing by itself; `ffrtmp jobs retry {case.job}` runs it again{hint}"


def _rejected(case: Case) -> Answer:
    found = case.last(Rejected)
    if found is None:
        return Answer("It was rejected.", _ANEW)
    fact, time = found
    field = "" if not fact.field or fact.reason.startswith(fact.field) else f" for {fact.field}"
    return Answer(sentence(f"It was rejected {ago(time, case.now)}{field}: {fact.reason}"), _ANEW)


_ANEW = "nothing by itself; mend the request, and submit it anew under another id"
