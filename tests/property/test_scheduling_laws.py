"""Laws of one job's life: true for every history."""

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Completed,
    Declined,
    FailureClass,
    JobFact,
    LossCause,
    Paused,
    Placement,
    Resumed,
    Retried,
    Started,
)
from events.spec import JobSpec, OnDependencyFailure, Queue
from events.state.job import INITIAL, Ended, Held, JobState, evolve
from services.scheduler.deciders.job import (
    Assign,
    Cancel,
    GiveUp,
    JobCommand,
    Orphan,
    Pause,
    Reject,
    Release,
    Reprioritize,
    Resume,
    Retry,
    RetryPolicy,
    Settle,
    Submit,
    decide,
)
from services.scheduler.deciders.refusal import Refused
from tests.vocabulary import instant, recorded

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
JOB, OTHER = JobId("clip"), JobId("other")
POLICY = RetryPolicy(crashes_max=3)

SPECS = st.builds(
    JobSpec,
    attempts_max=st.integers(1, 3),
    not_before=st.none() | st.integers(0, 40).map(instant),
    depends_on=st.sampled_from([(), (OTHER,)]),
    on_dependency_failure=st.sampled_from(OnDependencyFailure),
)
COMMANDS: st.SearchStrategy[JobCommand] = st.one_of(
    st.builds(Submit, spec=SPECS, via=st.just("api")),
    st.builds(Reject, reason=st.just("no node has it")),
    st.builds(Cancel, by=st.sampled_from(["ann", "bob"])),
    st.builds(Pause, by=st.sampled_from(["ann", "bob"])),
    st.builds(Resume, by=st.sampled_from(["ann", "bob"])),
    st.builds(Retry, by=st.sampled_from(["ann", "bob"])),
    st.builds(Reprioritize, queue=st.none() | st.sampled_from(Queue)),
    st.builds(
        Assign, node=st.sampled_from([NodeId("n1"), NodeId("n2")]), placement=st.just(Placement())
    ),
    st.builds(GiveUp, attempt=st.integers(1, 4), cause=st.sampled_from(LossCause)),
    st.builds(
        Settle, job=st.just(JOB), now=st.integers(0, 60).map(instant), policy=st.just(POLICY)
    ),
    st.builds(Release, now=st.integers(0, 600).map(instant), dependencies_met=st.booleans()),
    st.builds(Orphan, dependency=st.just(OTHER), status=st.just("failed")),
)
WORKER_WORDS = st.sampled_from(["started", "declined", "failed", "lost", "completed", "turned"])
STEPS = st.lists(COMMANDS | WORKER_WORDS, max_size=30)
SUBMITTED_FIRST = st.tuples(st.builds(Submit, spec=SPECS, via=st.just("api")), STEPS).map(
    lambda steps: [steps[0], *steps[1]]
)


def said(word: str, state: Held) -> JobFact:
    """Return what the worker that holds the job says."""
    node, attempt = state.node, state.attempt
    match word:
        case "started":
            return Started(node=node, attempt=attempt)
        case "declined":
            return Declined(node=node, attempt=attempt)
        case "failed":
            return AttemptFailed(node=node, attempt=attempt, failure=FailureClass.TRANSIENT)
        case "turned":
            return Resumed(attempt=attempt) if state.paused else Paused(attempt=attempt)
        case "lost":
            return AttemptLost(node=node, attempt=attempt, cause=LossCause.DRAINED)
        case _:
            return Completed(node=node, attempt=attempt)


def facts_of(step: JobCommand | str, state: JobState) -> tuple[JobFact, ...]:
    """Return what a step writes: a decided command's facts, or the word of the holder."""
    if isinstance(step, str):
        sayable = isinstance(state, Held) and (
            step not in {"started", "declined"} or not (state.started_at)
        )
        return (said(step, state),) if isinstance(state, Held) and sayable else ()
    try:
        return decide(step, state)
    except Refused:
        return ()


def lived(steps: Sequence[JobCommand | str]) -> list[tuple[JobState, Recorded, JobState]]:
    """Carry out steps, each on the state it meets; return every fact between its states."""
    state, story = INITIAL, list[tuple[JobState, Recorded, JobState]]()
    for step in steps:
        for fact in facts_of(step, state):
            event = recorded(len(story) + 1, fact)
            before, state = state, evolve(state, event)
            story.append((before, event, state))
    return story


@QUICK
@given(SUBMITTED_FIRST)
def test_no_decided_fact_is_ignored_by_the_fold(steps: list[JobCommand | str]) -> None:
    for before, event, after in lived(steps):
        assert after.version == event.seq
        assert replace(before, version=event.seq) != after, event.fact


@QUICK
@given(SUBMITTED_FIRST, COMMANDS)
def test_an_accepted_command_repeated_decides_nothing(
    steps: list[JobCommand | str], command: JobCommand
) -> None:
    story = lived(steps)
    state = story[-1][2] if story else INITIAL
    for fact in facts_of(command, state):
        state = evolve(state, recorded(len(story) + 1, fact))
    assert facts_of(command, state) == ()


@QUICK
@given(SUBMITTED_FIRST)
def test_attempts_are_counted_without_gaps(steps: list[JobCommand | str]) -> None:
    facts = [event.fact for _, event, _ in lived(steps)]
    attempts = [fact.attempt for fact in facts if isinstance(fact, Assigned)]
    assert attempts == list(range(1, len(attempts) + 1))


@QUICK
@given(SUBMITTED_FIRST)
def test_only_a_retry_leads_out_of_an_end(steps: list[JobCommand | str]) -> None:
    for before, event, after in lived(steps):
        if isinstance(before, Ended):
            assert (type(event.fact), isinstance(after, Ended)) == (Retried, False)
