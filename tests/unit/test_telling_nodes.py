"""What nodes are told: once at once, again when they do not act; in facts that the log takes."""

from datetime import datetime, timedelta

import msgspec
import pytest

from events.ids import JobId, NodeId
from events.job import Assigned, CancelRequested, Completed, Paused, PauseRequested, Started
from events.media import Output
from events.node import Assignment, Assignments, Signal
from events.spec import JobSpec
from events.state.job import JobState
from services.clock import Pen
from services.log.memory import MemoryLog
from services.scheduler import telling
from services.scheduler.telling import TOLD_BYTES_MAX, parts
from tests.vocabulary import T0
from tests.worlds import Told

N1 = NodeId("n1")
REPEAT_S = 5.0
RUN = Assigned(node=N1, attempt=1)
RUNS = Started(node=N1, attempt=1)


class Hands:
    """A clock that stands where it is put; it says that no time is between a fact and its fold."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.at_s)

    def monotonic_s(self) -> float:
        return self.at_s


class Voice:
    """A scheduler's word to nodes, over a world that is told fact by fact."""

    def __init__(self) -> None:
        self.hands = Hands()
        self.story = Told()
        self.ledger = MemoryLog()
        pen = Pen("scheduler", self.hands)
        self.told = telling.Told(self.story.world, self.ledger, clock=self.hands, pen=pen)
        self.story.also.append(lambda recorded, _: self.told.apply(recorded))
        self.story.register("n1", 9)

    async def after(self, seconds: float) -> list[str]:
        """Return what nodes are told that much later."""
        self.hands.at_s += seconds
        before = await self.ledger.last_seq()
        await self.told.repeat(REPEAT_S)
        said: list[str] = []
        async with self.ledger.follow(after=before, live=False) as batches:
            async for batch in batches:
                for recorded in batch:
                    if isinstance(recorded.fact, Signal):
                        said.append(f"{recorded.fact.action} {recorded.fact.job}")
                    elif isinstance(recorded.fact, Assignments):
                        said += [f"run {each.job}" for each in recorded.fact.jobs]
        return said

    def give(self, job: str, *facts: Started | CancelRequested | Paused | PauseRequested) -> None:
        """Tell that a job was submitted and assigned just now, and what came of it."""
        self.story.submit(job)
        self.story.job(job, RUN, *facts, at=self.hands.now())


@pytest.mark.anyio
class TestRepeating:
    async def test_an_assignment_that_is_not_acted_on_is_told_again_and_again(self) -> None:
        voice = Voice()
        voice.give("a")
        assert [await voice.after(s) for s in (4.0, 2.0, 4.0, 2.0)] == [
            [],
            ["run a"],
            [],
            ["run a"],
        ]

    async def test_one_that_was_made_long_before_it_is_folded_is_told_at_once(self) -> None:
        voice = Voice()
        voice.story.submit("a")
        voice.story.job("a", RUN, at=voice.hands.now() - timedelta(seconds=60))
        assert await voice.after(0.0) == ["run a"]

    async def test_what_has_started_is_not_told_again(self) -> None:
        voice = Voice()
        voice.give("a", RUNS)
        assert await voice.after(60.0) == []

    async def test_a_cancellation_is_told_at_once_and_again_until_it_ends(self) -> None:
        voice = Voice()
        voice.give("a", RUNS, CancelRequested())
        assert [await voice.after(s) for s in (0.0, 1.0, 5.0)] == [["cancel a"], [], ["cancel a"]]
        voice.story.job("a", Completed(node=N1, attempt=1))
        assert await voice.after(60.0) == []

    async def test_a_pause_asked_before_the_start_is_told_with_the_start(self) -> None:
        voice = Voice()
        voice.give("a", PauseRequested(attempt=1))
        assert await voice.after(0.0) == []
        voice.story.job("a", RUNS)
        assert await voice.after(0.0) == ["pause a"]
        voice.story.job("a", Paused(attempt=1))
        assert await voice.after(60.0) == []

    async def test_a_look_costs_nothing_for_attempts_that_run(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        voice = Voice()
        for number in range(1_000):
            voice.give(f"j{number}", RUNS)
        voice.give("late")
        looks: list[JobId] = []
        job = voice.story.world.job

        def look(name: JobId) -> JobState:
            looks.append(name)
            return job(name)

        monkeypatch.setattr(voice.story.world, "job", look)
        assert [await voice.after(s) for s in (1.0, 60.0)] == [[], ["run late"]]
        assert looks == ["late"]


def test_assignments_are_told_in_parts_that_the_log_takes() -> None:
    spec = JobSpec(labels={f"k{n}": "x" * 250 for n in range(32)})
    given = [Assignment(job=JobId(f"j{n}"), attempt=1, seq=n + 1, spec=spec) for n in range(100)]
    told = list(parts(given))
    assert [assignment for part in told for assignment in part] == given
    assert len(told) > 1
    assert max(len(msgspec.json.encode(part)) for part in told) <= TOLD_BYTES_MAX + 200
    huge = JobSpec(input="x" * 4096, outputs=tuple(Output(path=f"{n}" * 4000) for n in range(9)))
    assert [
        len(part) for part in parts([Assignment(job=JobId("h"), attempt=1, seq=1, spec=huge)])
    ] == [1]
