"""Whatever strangers write on the ledger, and whatever a job may ask: schedulers go on."""

from datetime import UTC, datetime

import anyio
import pytest
import trio.testing
from msgspec import json

from events import subjects
from events.codec import Event, Fact, encode
from events.ids import EventId, JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Completed,
    FailureClass,
    LossCause,
    Paused,
    Resumed,
    Retried,
    Started,
    Submitted,
)
from events.node import Action, CircuitOpened, Registered, Signal
from events.spec import JobSpec
from events.subjects import Subject
from services.config import SchedulerSettings
from services.log.memory import MemoryLog
from tests.sim.puppets import Puppet, Show, playing
from tests.worlds import noop

pytestmark = pytest.mark.anyio
SETTINGS = SchedulerSettings(pending_s=100.0, repeat_s=1.0, assign_s=20.0)
LAST = datetime.max.replace(tzinfo=UTC)
FIRST = datetime.min.replace(tzinfo=UTC)
JOB, OTHER = "ffrtmp.job.x", "ffrtmp.job.a:b"
NODE, ODD_NODE = "ffrtmp.node.x", "ffrtmp.node.a:b"
N1, GHOST = NodeId("n1"), NodeId("ghost")
SUBMITTED = Submitted(spec=noop(timeout_s=60))
OFFER = Registered(epoch=1, slots=4, capabilities=("engine:noop",))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def given(node: str) -> Assigned:
    return Assigned(node=NodeId(node), attempt=1)


STORIES: dict[str, list[tuple[str, Fact]]] = {
    "a job under a name that none may have": [(OTHER, SUBMITTED)],
    "a retry of it": [(OTHER, Retried())],
    "a node under a name that none may have": [(ODD_NODE, OFFER)],
    "a job given to such a node": [(JOB, SUBMITTED), (JOB, given("no node"))],
    "a job given to a node that is none": [(JOB, SUBMITTED), (JOB, given(GHOST))],
    "facts of jobs where nodes are": [
        (NODE, Retried()),
        (NODE, AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST)),
    ],
    "facts of nodes where jobs are": [
        (JOB, OFFER),
        (JOB, Signal(job=JobId("x"), attempt=1, action=Action.CANCEL)),
    ],
    "facts of both where the fleet's are": [(subjects.POLICY, OFFER), (subjects.LEADER, Retried())],
    "a pause of all time": [
        (JOB, SUBMITTED),
        (JOB, given(GHOST)),
        (JOB, Started(node=GHOST, attempt=1)),
        (JOB, Paused(attempt=1)),
        (JOB, Resumed(attempt=1, paused_s=1e308)),
        (JOB, Paused(attempt=1)),
        (JOB, Resumed(attempt=1, paused_s=1e308)),
    ],
    "a failed attempt": [
        (JOB, SUBMITTED),
        (JOB, given(GHOST)),
        (JOB, Started(node=GHOST, attempt=1)),
        (JOB, AttemptFailed(node=GHOST, attempt=1, failure=FailureClass.TRANSIENT)),
    ],
    "a circuit that is open for ever": [
        (NODE, OFFER),
        (NODE, CircuitOpened(until=LAST, failures=1, attempts=1)),
    ],
}


async def put(show: Show, time: datetime, *facts: tuple[str, Fact]) -> None:
    """Store facts as a stranger does, with whatever instant."""
    ledger = show.backbone.ledger
    assert isinstance(ledger, MemoryLog)
    for number, (subject, fact) in enumerate(facts):
        event = Event(
            id=EventId(f"stranger-{subject}-{number}"),
            source="stranger",
            type=fact.tag,
            time=time,
            subject=Subject(subject),
            data=fact,
        )
        await ledger.put(subject, encode(event))


async def goes_on(show: Show) -> bool:
    """Tell whether a job is done, now and after every time-out of a usual length."""
    for name in ("one", "two"):
        await show.submit(name)
        with anyio.fail_after(60):
            async with show.backbone.ledger.follow(
                after=0, filters=(subjects.only(subjects.job(JobId(name))),)
            ) as batches:
                async for batch in batches:
                    if any(isinstance(event.fact, Completed) for event in batch):
                        break
        await anyio.sleep(200)
    return True


@pytest.mark.parametrize("time", [FIRST, LAST], ids=["the first", "the last"])
@pytest.mark.parametrize("story", STORIES)
async def test_a_stranger_s_facts_of_any_instant_stop_no_scheduler(
    story: str, time: datetime
) -> None:
    show = Show(SETTINGS)
    await put(show, time, *STORIES[story])
    async with playing(show, Puppet(show, "n1")):
        await put(show, time, *STORIES[story])
        assert await goes_on(show)


SPECS: dict[str, dict[str, object]] = {
    "due at the end of time": {"deadline": "9999-12-31T23:59:59.999999Z"},
    "due at the beginning of time": {"deadline": "0001-01-01T00:00:00Z"},
    "not before the end of time": {"not_before": "9999-12-31T23:59:59.999999-23:59"},
    "not before the beginning of time": {"not_before": "0001-01-01T00:00:00+23:59"},
    "not before the end of time, and after others": {
        "not_before": "9999-12-31T23:59:59.999999Z",
        "depends_on": [f"j{number}" for number in range(256)],
    },
    "after itself, again and again": {"depends_on": ["odd"] * 256},
    "of all memory there is": {"limits": {"memory_bytes": 2**63 - 1, "disk_bytes": 2**63 - 1}},
}


@pytest.mark.parametrize("spec", SPECS)
async def test_a_job_that_asks_for_anything_stops_no_scheduler(spec: str) -> None:
    show = Show(SETTINGS)
    odd = json.decode(json.encode({"engine": "noop", **SPECS[spec]}), type=JobSpec)
    await show.submit("odd", spec=odd)
    async with playing(show, Puppet(show, "n1")):
        assert await goes_on(show)
