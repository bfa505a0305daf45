"""Attempts given up while their process may still run: their nodes are told to end them."""

import pytest

from events import subjects
from events.ids import JobId, NodeId
from events.job import Assigned, AttemptLost, LossCause, Started
from events.node import Action, Drained, Lost, NodeFact, Recovered, Refused, Removed, Signal
from services.clock import Pen
from services.scheduler.upkeep import strays
from services.scheduler.upkeep.strays import Strays
from tests.fakes import LoopClock
from tests.worlds import Told

pytestmark = pytest.mark.anyio
N1 = NodeId("n1")
JOB = JobId("clip")


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


class GivenUp(Told):
    """A node, and a job whose attempt there was given up."""

    def __init__(self, cause: LossCause, by: str = "scheduler/1") -> None:
        super().__init__()
        self.strays = Strays(self.world)
        self.also.append(lambda recorded, _: self.strays.apply(recorded))
        self.register("n1", 4)
        self.give_up(JOB, cause, by)

    def give_up(self, job: JobId, cause: LossCause, by: str) -> None:
        self.submit(job)
        self.job(job, Assigned(node=N1, attempt=1), Started(node=N1, attempt=1))
        self.source = by
        self.job(job, AttemptLost(node=N1, attempt=1, cause=cause))
        self.source = "test"

    def told(self) -> list[tuple[str, object]]:
        """Return what nodes are told now."""
        entries = self.strays.entries(Pen("test", LoopClock()))
        assert all(entry.expected is None for entry in entries)
        return [(entry.event.subject, entry.event.data) for entry in entries]


END_IT = (subjects.node(N1), Signal(job=JOB, attempt=1, action=Action.CANCEL))


@pytest.mark.parametrize("cause", [LossCause.TIMED_OUT, LossCause.NOT_STARTED])
async def test_a_node_that_lives_is_told_at_once_and_once(cause: LossCause) -> None:
    given_up = GivenUp(cause)
    assert given_up.told() == [END_IT]
    assert given_up.told() == []


async def test_a_lost_node_is_told_when_it_is_back() -> None:
    given_up = GivenUp(LossCause.NODE_LOST)
    given_up.node("n1", Lost())
    assert given_up.told() == []
    given_up.node("n1", Recovered())
    assert given_up.told() == [END_IT]


async def test_what_one_scheduler_told_the_next_one_does_not() -> None:
    given_up = GivenUp(LossCause.TIMED_OUT)
    given_up.node("n1", END_IT[1])
    given_up.strays.begin()
    assert given_up.told() == []


async def test_what_one_scheduler_did_not_tell_the_next_one_tells() -> None:
    given_up = GivenUp(LossCause.TIMED_OUT)
    given_up.told()
    given_up.strays.begin()
    assert given_up.told() == [END_IT]


@pytest.mark.parametrize(
    "fact", [Removed(), Drained(epoch=1), Refused(epoch=1)], ids=["removed", "drained", "refused"]
)
async def test_a_node_that_is_gone_for_good_has_no_strays(fact: NodeFact) -> None:
    given_up = GivenUp(LossCause.TIMED_OUT)
    given_up.node("n1", fact)
    given_up.node("n1", Recovered())
    assert given_up.told() == []


async def test_a_worker_that_starts_anew_has_none() -> None:
    given_up = GivenUp(LossCause.NODE_LOST)
    given_up.register("n1", 4, epoch=2)
    assert given_up.told() == []


@pytest.mark.parametrize("cause", [LossCause.DRAINED, LossCause.NODE_RESTARTED, LossCause.STALLED])
async def test_what_ended_with_its_process_is_none(cause: LossCause) -> None:
    assert GivenUp(cause).told() == []


async def test_what_its_worker_ended_is_none() -> None:
    assert GivenUp(LossCause.TIMED_OUT, by="worker/n1").told() == []


async def test_of_too_many_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strays, "OF_ONE_NODE_MAX", 2)
    given_up = GivenUp(LossCause.TIMED_OUT)
    for job in ("b", "c"):
        given_up.give_up(JobId(job), LossCause.TIMED_OUT, "scheduler/1")
    jobs = [signal.job for _, signal in given_up.told() if isinstance(signal, Signal)]
    assert jobs == ["b", "c"]
