"""The running scheduler explains a job, and a replay of its ledger says the same."""

from pathlib import Path

import anyio
import pytest
import trio.testing
from msgspec import json

from events import subjects
from events.ids import JobId
from events.job import Assigned, Completed, Failed, FailureClass, Promoted, RetryScheduled, Started
from events.requests import Explanation
from services.bus.port import Request
from services.cli.look.past import Point
from services.cli.look.replay import fold_up_to
from services.scheduler.control.explain import Explainer
from services.scheduler.explaining.explanation import explain
from services.scheduler.explaining.gather import gather
from services.scheduler.state.ranking import initial_policy
from services.scheduler.state.world import World
from services.worker.port import Broken, Report, Result, Work
from tests.fakes import FakeExecutor, LoopClock
from tests.sim.test_stories import SETTINGS, Stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def told(stage: Stage, job: str) -> Explanation:
    """Return the running scheduler's answer, which a replay must repeat."""
    answer = await stage.ask(subjects.API_EXPLAIN, {"job_id": job})
    live = json.decode(answer, type=Explanation)
    assert live.time is not None
    world = World(initial_policy(SETTINGS))
    await fold_up_to(world, stage.ledger, Point(seq=live.seq))
    dossier = await gather(world, stage.ledger, JobId(job))
    assert explain(world, dossier, live.time, settings=SETTINGS) == live
    return live


async def test_a_life_is_explained_from_its_submission_to_its_end(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=10, slots=1)
    async with stage.scheduler():
        await stage.submit("a", "b")
        lonely = await told(stage, "b")
        async with stage.site.worker():
            await stage.site.until("a", Started)
            runs, waits = await told(stage, "a"), await told(stage, "b")
            await stage.site.until("a", Promoted)
            done = await told(stage, "a")
            await stage.site.until("b", Assigned)
            await stage.site.until("b", Completed)
    assert [each.status for each in (lonely, runs, waits, done)] == [
        "queued",
        "processing",
        "queued",
        "completed",
    ]
    assert lonely.summary == "It is 2nd in line, behind a, but no node is registered."
    assert runs.summary == "Attempt 1 runs on n1 for 0 s."
    assert waits.summary == "It is next in line, but the one node that can run it, n1, is full."
    assert waits.next == "an attempt on n1 ends (a runs there for 0 s)"
    assert [(each.node, each.able) for each in waits.verdicts] == [("n1", False)]
    assert done.summary == "Attempt 1 on n1 completed it just now; it ran for 10 s."
    assert done.next == ""


async def test_a_back_off_and_a_failure_are_explained(tmp_path: Path) -> None:
    async def breaks(work: Work, report: Report) -> Result:
        del work, report
        await anyio.sleep(1)
        return Broken(failure=FailureClass.TRANSIENT, message="connection reset by peer")

    stage = Stage(tmp_path, takes_s=1)
    stage.site.executor = FakeExecutor(breaks)
    async with stage.site.worker(), stage.scheduler():
        await stage.submit("a")
        await stage.site.until("a", RetryScheduled)
        waits = await told(stage, "a")
        await stage.site.until("a", Failed)
        failed = await told(stage, "a")
    assert waits.summary == (
        "Attempt 1 on n1 failed (transient): connection reset by peer. It backs off before the "
        "next attempt; 1 of 3 failures allowed so far."
    )
    assert waits.next.startswith("its back-off ends at ")
    assert [(each.attempt, each.end) for each in failed.attempts] == [
        (number, "failed (transient): connection reset by peer") for number in (1, 2, 3)
    ]
    assert failed.next == (
        "nothing by itself; `ffrtmp jobs retry a` runs it again (the same again may work)"
    )


async def test_a_dependency_that_has_ended_is_read_from_the_ledger(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=1)
    async with stage.site.worker(), stage.scheduler():
        await stage.submit("a")
        await stage.site.until("a", Promoted)
        body = {"job_id": "d", "depends_on": ["a", "b"]}
        await stage.ask(subjects.API_SUBMIT, body)
        waits = await told(stage, "d")
    assert waits.summary == "It waits for 1 of 2 jobs: b (nobody has submitted it)."


async def test_who_asks_right_after_submitting_is_answered_about_the_job(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=1)
    async with stage.scheduler():
        await stage.ask(subjects.API_SUBMIT, {"job_id": "a", "engine": "noop"})
        assert (await told(stage, "a")).position == 1


class Behind:
    """A scheduler that folds the ledger only when it is asked to reach a sequence."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.world = World(initial_policy(SETTINGS))

    async def reach(self, seq: int) -> None:
        await fold_up_to(self.world, self._stage.ledger, Point(seq=seq))


async def test_a_world_that_is_behind_catches_up_with_the_job_before_it_is_explained(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, takes_s=1)
    await stage.submit("a", "b")
    explainer = Explainer(Behind(stage), stage.ledger, settings=SETTINGS, clock=LoopClock())
    request = Request(subjects.API_EXPLAIN, b'{"job_id":"a"}')
    answer = json.decode(await explainer.answer(request), type=Explanation)
    assert (answer.error, answer.seq, answer.position) == (None, 1, 1)


async def test_what_is_not_there_or_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    stage = Stage(tmp_path, takes_s=1)
    async with stage.scheduler():
        answers = [
            json.decode(await stage.ask(subjects.API_EXPLAIN, body), type=Explanation)
            for body in ({"job_id": "a"}, {"job_id": "a.b"}, {"job": "a"})
        ]
    problems = [(each.error.code, each.error.field) for each in answers if each.error is not None]
    assert problems == [
        ("job_unknown", "$.job_id"),
        ("invalid", "$.job_id"),
        ("invalid", "$.job_id"),
    ]
