"""Laws of the projection: what holds for every history, however it is cut into batches."""

import functools
import random
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from events import job as facts
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import JobFact
from events.media import MadeFile
from events.spec import JobSpec, Priority, Queue
from events.state.job import (
    INITIAL,
    RETRIABLE,
    Absent,
    Ended,
    Halted,
    Held,
    JobState,
    Pending,
    Waiting,
    evolve,
)
from events.subjects import job as job_subject
from projections.store import Store
from tests.projecting import Ledger, derived, everything, fleet, folded, instant
from tests.vocabulary import job_facts

NODE = NodeId("n1")
FILES = (MadeFile(path="out.mp4", size_bytes=1),)
LATER = instant(100_000)
SPECS = (
    JobSpec(),
    JobSpec(not_before=LATER),
    JobSpec(depends_on=(JobId("other"),), queue=Queue.LIVE),
)

EVENTS_MAX = 150


def throws(seed: int, count: int) -> list[tuple[int, int]]:
    """Return which job has the next fact, and which of those that may follow it is."""
    dice = random.Random(seed)
    return [(dice.randrange(4), dice.randrange(10**6)) for _ in range(count)]


draws = st.builds(throws, st.integers(0, 2**32), st.integers(1, EVENTS_MAX))


def legal(state: JobState) -> Sequence[JobFact]:
    """Return facts that a decider could let follow."""
    match state:
        case Absent():
            return (*(facts.Submitted(spec=spec) for spec in SPECS), facts.Rejected(reason="x"))
        case Pending():
            queued = facts.Queued(after=facts.QueuedAfter.START_TIME)
            return (queued, queued, queued, facts.Canceled(), facts.Rejected(reason="x"), RANKED)
        case Waiting(attempt=attempt):
            assigned = facts.Assigned(node=NODE, attempt=attempt + 1)
            return (assigned, assigned, assigned, assigned, facts.Canceled(), RANKED)
        case Held(attempt=attempt):
            return held(attempt, started=state.started_at is not None, paused=state.paused)
        case Halted():
            again = facts.RetryScheduled(not_before=LATER, delay_s=1.0, failures=state.failures)
            return (again, again, facts.Queued(after=facts.QueuedAfter.BACKOFF), FAILED)
        case Ended(attempt=attempt, status=status):
            late = losers(attempt) if attempt else (FAILED, facts.Canceled())
            return (*late, *([facts.Retried()] * 3)) if status in RETRIABLE else late
        case _:
            assert_never(state)


RANKED = facts.Reprioritized(queue=Queue.BATCH, priority=Priority.LOW)
FAILED = facts.Failed(failure=facts.FailureClass.PERMANENT, reason="x")


def held(attempt: int, *, started: bool, paused: bool) -> Sequence[JobFact]:
    lost = facts.AttemptLost(node=NODE, attempt=attempt, cause=facts.LossCause.NODE_LOST)
    asked = facts.CancelRequested(by="ann")
    if not started:
        declined = facts.Declined(node=NODE, attempt=attempt)
        start = facts.Started(node=NODE, attempt=attempt)
        return (start, start, start, declined, lost, asked)
    failed = facts.AttemptFailed(
        node=NODE, attempt=attempt, failure=facts.FailureClass.TRANSIENT, message="x"
    )
    turn = facts.Resumed(attempt=attempt) if paused else facts.Paused(attempt=attempt)
    done = facts.Completed(node=NODE, attempt=attempt, files=FILES)
    over = facts.Canceled(attempt=attempt)
    handed_back = facts.AttemptLost(node=NODE, attempt=attempt, cause=facts.LossCause.DRAINED)
    made_nothing = facts.Completed(node=NODE, attempt=attempt)
    return (done, made_nothing, failed, failed, lost, handed_back, asked, over, turn)


def losers(attempt: int) -> Sequence[JobFact]:
    """Return what an attempt that is over may still say."""
    return (
        facts.Promoted(node=NODE, attempt=attempt),
        facts.Completed(node=NODE, attempt=attempt, files=FILES),
        facts.Started(node=NODE, attempt=attempt),
        facts.AttemptFailed(node=NODE, attempt=attempt, failure=facts.FailureClass.RESOURCE),
        facts.AttemptLost(node=NODE, attempt=attempt, cause=facts.LossCause.STALLED),
    )


def history(drawn: Sequence[tuple[int, int]]) -> list[Recorded]:
    """Return a ledger that deciders could have written, with the words of losers in between."""
    ledger = Ledger()
    states: dict[int, JobState] = {}
    for job, choice in drawn:
        state = states.get(job, INITIAL)
        over = 0 if isinstance(state, Absent) else state.attempt - isinstance(state, Held)
        may = losers(over) if over and choice % 5 == 0 else legal(state)
        ledger.job(f"j{job}", may[choice // 5 % len(may)])
        states[job] = evolve(state, ledger.recorded[-1])
    return ledger.recorded


@functools.cache
def empty_file() -> bytes:
    """Return a file without rows; making one takes longer than most examples."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "private" / "empty.duckdb"
        store = Store(path)
        store.checkpoint()
        store.close()
        return path.read_bytes()


@contextmanager
def new_file() -> Generator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "projection.duckdb"
        path.write_bytes(empty_file())
        yield path


def cut(recorded: Sequence[Recorded], sizes: Sequence[int]) -> list[Sequence[Recorded]]:
    """Cut a ledger into batches of these sizes, over and over."""
    batches: list[Sequence[Recorded]] = []
    begin = 0
    while begin < len(recorded):
        size = sizes[len(batches) % len(sizes)]
        batches.append(recorded[begin : begin + size])
        begin += size
    return batches


def whole(recorded: Sequence[Recorded]) -> dict[str, list[tuple[object, ...]]]:
    """Return all tables after one batch."""
    with new_file() as path:
        store = Store(path)
        store.apply(recorded)
        tables = everything(store)
        store.close()
        return tables


@given(draws)
@settings(max_examples=25, deadline=None)
def test_the_oracle_derives_the_same_jobs_as_the_fold(drawn: list[tuple[int, int]]) -> None:
    with new_file() as path:
        store = Store(path)
        store.apply(history(drawn))
        assert derived(store) == folded(store)
        store.close()


@given(draws, st.lists(st.integers(3, 40), min_size=1, max_size=4), st.booleans())
@settings(max_examples=12, deadline=None)
def test_any_split_into_batches_gives_the_same_tables(
    drawn: list[tuple[int, int]],
    sizes: list[int],
    restarting: bool,  # noqa: FBT001 - drawn by name
) -> None:
    recorded = history(drawn)
    with new_file() as path:
        store = Store(path)
        for batch in cut(recorded, sizes):
            store.apply(batch)
            if restarting:
                store.close()
                store = Store(path)
        tables = everything(store)
        store.close()
    assert tables == whole(recorded)


@given(st.lists(st.tuples(st.integers(0, 1), job_facts(get_args(JobFact))), max_size=12))
@settings(max_examples=12, deadline=None)
def test_facts_that_fit_nowhere_are_filed_and_stop_nothing(
    drawn: list[tuple[int, JobFact]],
) -> None:
    ledger = Ledger()
    for job, fact in drawn:
        ledger.add(job_subject(JobId(f"j{job}")), fact)
    with new_file() as path:
        store = Store(path)
        for batch in cut(ledger.recorded, [3]):
            store.apply(batch)
            store.close()
            store = Store(path)
        tables = everything(store)
        store.close()
    assert [row[0] for row in tables["audit"]] == list(range(1, len(drawn) + 1))
    assert tables["parked"] == []
    if drawn:
        assert tables == whole(ledger.recorded)


def test_everything_that_can_happen_survives_a_restart_after_every_event() -> None:
    recorded = fleet(1).recorded
    with new_file() as path:
        for event in recorded:
            store = Store(path)
            store.apply([event])
            store.close()
        store = Store(path)
        tables = everything(store)
        store.close()
    assert tables == whole(recorded)
