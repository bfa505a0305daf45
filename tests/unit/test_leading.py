"""Only the leader's tasks append, and only while it leads by its own clock."""

import anyio
import pytest
import trio.testing

from events import subjects
from events.cluster import LeaderElected, LeaderResigned
from events.ids import JobId
from events.job import Submitted
from services.clock import Pen
from services.log.port import Entry
from services.memory import memory_backbone
from services.scheduler.finishing import FINISH_S
from services.scheduler.leading import Candidate, Lead
from tests.fakes import LoopClock, passing
from tests.worlds import noop

pytestmark = pytest.mark.anyio
LEASE_S = 2.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Sleeper(LoopClock):
    """A clock that can be found to have gone on while nobody looked."""

    slept_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.slept_s


class Throne:
    """A candidate on streams in memory."""

    def __init__(self) -> None:
        self.backbone = memory_backbone()
        self.clock = Sleeper()
        self.pen = Pen("scheduler/1", self.clock)
        self.candidate = Candidate(
            self.backbone, "scheduler/1", lease_s=LEASE_S, clock=self.clock, pen=self.pen
        )
        self.standbys = 0

    def entry(self, job: str = "a") -> Entry:
        return Entry(self.pen.write(subjects.job(JobId(job)), Submitted(spec=noop())))

    def on_standby(self) -> None:
        self.standbys += 1

    async def facts(self) -> list[object]:
        async with self.backbone.ledger.follow(after=0, live=False) as batches:
            return [event.fact async for batch in batches for event in batch]


async def test_before_it_leads_nothing_can_be_appended() -> None:
    throne = Throne()
    for append in (throne.candidate.ledger.append, throne.candidate.ledger.append_atomic):
        with pytest.raises(AssertionError, match="only the tasks of a leader's term append"):
            await append([throne.entry()])
    assert await throne.facts() == []


async def test_all_that_only_reads_needs_no_lead() -> None:
    throne = Throne()
    await throne.backbone.ledger.append([throne.entry()])
    ledger = throne.candidate.ledger
    assert await ledger.last_seq() == 1
    assert len(await ledger.read(subjects.job(JobId("a")))) == 1
    async with ledger.follow(after=0, live=False) as batches:
        assert [len(batch) async for batch in batches] == [1]


async def test_a_leader_is_elected_appends_and_resigns() -> None:
    throne, terms = Throne(), list[int]()

    async def lead(seq: int, resign: anyio.Event) -> None:
        terms.append(seq)
        await throne.candidate.ledger.append([throne.entry()])
        await resign.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, throne, lead)
        await passing(10 * LEASE_S)
        tasks.cancel_scope.cancel()
    elected = LeaderElected(scheduler="scheduler/1", term=1)
    resigned = LeaderResigned(scheduler="scheduler/1", term=1)
    assert await throne.facts() == [elected, Submitted(spec=noop()), resigned]
    assert terms == [1]
    assert await throne.backbone.lease.holder() is None


async def test_one_that_has_slept_through_its_lease_appends_nothing_more() -> None:
    throne, reached = Throne(), list[str]()

    async def lead(seq: int, resign: anyio.Event) -> None:
        if seq > 1:
            await resign.wait()
            return
        throne.clock.slept_s += LEASE_S
        await throne.candidate.ledger.append([throne.entry()])
        reached.append("it was appended")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, throne, lead)
        await passing(10 * LEASE_S)
        tasks.cancel_scope.cancel()
    assert reached == []
    assert await throne.facts() == [
        LeaderElected(scheduler="scheduler/1", term=1),
        LeaderElected(scheduler="scheduler/1", term=2),
        LeaderResigned(scheduler="scheduler/1", term=2),
    ]


async def test_while_another_leads_it_waits_and_says_so() -> None:
    throne = Throne()
    await throne.backbone.lease.acquire("scheduler/2", 5 * LEASE_S)

    async def lead(seq: int, resign: anyio.Event) -> None:
        del seq
        await resign.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, throne, lead)
        await passing(5 * LEASE_S - 0.1)
        assert await throne.facts() == []
        assert throne.standbys > 1
        await passing(LEASE_S)
        assert len(await throne.facts()) == 1
        tasks.cancel_scope.cancel()


async def test_an_end_that_takes_too_long_is_cut_short_and_the_lease_given_back() -> None:
    throne = Throne()

    async def lead(seq: int, resign: anyio.Event) -> None:
        del seq, resign
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, throne, lead)
        await passing(1)
        tasks.cancel_scope.cancel()
    assert anyio.current_time() == pytest.approx(1 + FINISH_S)
    assert await throne.facts() == [LeaderElected(scheduler="scheduler/1", term=1)]
    assert await throne.backbone.lease.holder() is None


async def run(throne: Throne, lead: Lead) -> None:
    await throne.candidate.run(lead, on_standby=throne.on_standby)
