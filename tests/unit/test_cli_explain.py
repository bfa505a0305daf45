"""`ffrtmp jobs explain`: from the scheduler, and from the ledger alone as of any point."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from events import subjects
from events.codec import Event, Fact
from events.ids import EventId, JobId, NodeId
from events.job import Assigned, Canceled, Completed, Promoted, Retried, Started, Submitted
from events.node import Registered
from events.subjects import Filter, Subject
from services.backbone import Backbone
from services.cli.invocation import Invocation
from services.cli.look import replay
from services.cli.look.past import Point, point_of
from services.cli.look.replay import fold_up_to
from services.cli.main import main
from services.clock import SystemClock
from services.config import SchedulerSettings
from services.log.memory import MemoryLog
from services.log.port import Batch, Entry
from services.memory import memory_backbone
from services.scheduler.control.explain import Explainer
from services.scheduler.state.ranking import initial_policy
from services.scheduler.state.world import World
from tests.vocabulary import instant
from tests.worlds import noop

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
N1 = NodeId("n1")
SETTINGS = SchedulerSettings()
Story = Sequence[tuple[Subject, Fact]]

NODE: Story = [
    (subjects.node(N1), Registered(epoch=1, slots=1, capabilities=("engine:noop",))),
]
LIFE: Story = [
    *NODE,
    *((subjects.job(JobId(job)), Submitted(spec=noop())) for job in ("a", "b")),
    (subjects.job(JobId("a")), Assigned(node=N1, attempt=1)),
    (subjects.job(JobId("a")), Started(node=N1, attempt=1)),
    (subjects.job(JobId("a")), Completed(node=N1, attempt=1)),
    (subjects.job(JobId("a")), Promoted(node=N1, attempt=1)),
]


def event(number: int, subject: Subject, fact: Fact, at: datetime | None = None) -> Event:
    time = instant(number) if at is None else at
    name = EventId(f"e-{number}")
    return Event(id=name, source="test", type=fact.tag, time=time, subject=subject, data=fact)


async def stored(log: MemoryLog, story: Story) -> None:
    """Store facts, one a second."""
    facts = [event(number, *each) for number, each in enumerate(story, start=1)]
    await log.append([Entry(each) for each in facts])


class _Follower:
    """A scheduler that has folded a ledger."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def reach(self, seq: int) -> None:
        assert self.world.seq >= seq


def run(*args: str, story: Story = LIFE, schedulers: int = 1) -> Result:
    """Run the command line against a ledger, with a scheduler that explains or without."""

    @asynccontextmanager
    async def connect(url: str, name: str) -> AsyncGenerator[Backbone]:
        del url, name
        backbone = memory_backbone()
        assert isinstance(backbone.ledger, MemoryLog)
        await stored(backbone.ledger, story)
        world = World(initial_policy(SETTINGS))
        async with backbone.ledger.follow(after=0, live=False) as batches:
            async for batch in batches:
                for recorded in batch:
                    world.apply(recorded)
        explainer = Explainer(
            _Follower(world), backbone.ledger, settings=SETTINGS, clock=SystemClock()
        )
        endpoints = {subjects.API_EXPLAIN: explainer.answer} if schedulers else {}
        async with backbone.bus.serve("test", endpoints):
            yield backbone

    invocation = Invocation(data_dir=Path("/nonexistent"), connect=connect, environment={})
    return CliRunner().invoke(main, ("jobs", "explain", *args), obj=invocation)


class TestAnswer:
    def test_the_first_two_lines_are_the_answer(self) -> None:
        first, second, *_ = run("b").stdout.splitlines()
        assert first == "◌ queued  It is next in line, and n1 has room for it."
        assert second == ("  next    the scheduler assigns it with its next pass, within a second")

    def test_the_figures_follow(self) -> None:
        told = run("b", "--as-of", "5").stdout
        assert told == (
            "◌ queued  It is next in line, but the one node that can run it, n1, is full.\n"
            "  next    an attempt on n1 ends (a runs there for 0 s)\n"
            "\n"
            "job        b\n"
            "as of      #5, 2026-01-31 12:00:05 UTC\n"
            "needs      engine:noop\n"
            "place      1 among jobs with its needs, 1 of 1 in all\n"
            "weight     10, policy weighted\n"
            "submitted  2.0 s ago\n"
            "\n"
            "nodes  1 in all; full: 1\n"
            "\n"
            "node\n"
            "n1    ✖  full: 1 of 1 slot taken\n"
        )

    def test_a_job_that_is_done_says_so(self) -> None:
        told = run("a").stdout
        assert "  next       nothing: it is done\n" in told
        assert " before n1 got it\n" in told
        assert "      1  n1    12:00:04        1.0 s  completed\n" in told

    def test_json_is_the_whole_explanation(self) -> None:
        told = json.loads(run("b", "-o", "json", "--as-of", "5").stdout)
        assert (told["job_id"], told["seq"], told["position"]) == ("b", 5, 1)
        assert told["time"] == "2026-01-31T12:00:05Z"
        assert told["excluded"] == {"full": 1}
        assert told["verdicts"] == [
            {"node": "n1", "able": False, "reason": "full: 1 of 1 slot taken"}
        ]

    def test_an_unknown_job_ends_as_with_status(self) -> None:
        for arguments in (("x",), ("x", "--as-of", "3")):
            result = run(*arguments)
            assert (result.exit_code, result.stdout) == (1, "")
            assert result.stderr == (
                "ffrtmp: no job 'x' in the ledger; `ffrtmp jobs list` shows what is there\n"
            )

    def test_an_id_that_cannot_be_one_is_status_two(self) -> None:
        assert run("a.b").exit_code == 2


class TestAsOf:
    def test_a_sequence_is_answered_without_a_scheduler(self) -> None:
        result = run("a", "--as-of", "4", schedulers=0)
        assert result.exit_code == 0
        assert result.stdout.startswith("▷ assigned  It was given to n1 just now as attempt 1")
        assert "as of" in result.stdout

    def test_a_time_is_answered_as_of_the_last_fact_before_it(self) -> None:
        told = json.loads(run("a", "-o", "json", "--as-of", "2026-01-31T13:00:05.5+01:00").stdout)
        assert (told["seq"], told["status"]) == (5, "processing")
        assert told["time"] == "2026-01-31T12:00:05.500000Z"

    def test_a_job_that_came_later_is_said_to_have_come_later(self) -> None:
        result = run("b", "--as-of", "1")
        assert (result.exit_code, result.stderr) == (
            1,
            "ffrtmp: job 'b' came later: its first fact is #3, 2026-01-31 12:00:03 UTC\n",
        )

    @pytest.mark.parametrize("seq", ["0", "8"])
    def test_a_sequence_that_is_not_there_is_status_two(self, seq: str) -> None:
        result = run("b", "--as-of", seq)
        assert result.exit_code == 2
        assert f"--as-of: given: {seq}; allowed: 1 to 7, where it ends" in result.stderr

    @pytest.mark.parametrize("text", ["yesterday", "25:00", "-10", "-m", "2026-13-01", "", "-"])
    def test_what_is_no_point_is_status_two(self, text: str) -> None:
        result = run("b", "--as-of", text)
        assert result.exit_code == 2
        assert f"given: {text!r}; allowed: a sequence as 1234" in result.stderr

    def test_the_future_is_refused(self) -> None:
        result = run("b", "--as-of", "2999-01-01T00:00:00Z")
        assert result.exit_code == 2
        assert "it lies ahead" in result.stderr

    def test_a_job_that_was_retried_is_recalled(self) -> None:
        retried: Story = [*NODE, *LIFE[1:2], *_of_a(Canceled(), Retried(by="ann"))]
        told = run("a", "--as-of", "now", story=retried)
        assert told.stdout.startswith("◌ queued  It is next in line, and n1 has room for it.")


def _of_a(*facts: Fact) -> Story:
    return [(subjects.job(JobId("a")), fact) for fact in facts]


class TestPoint:
    @pytest.mark.parametrize(
        ("text", "point"),
        [
            ("1234", Point(seq=1234)),
            ("#7", Point(seq=7)),
            ("now", Point(time=NOW)),
            ("-10m", Point(time=NOW - timedelta(minutes=10))),
            ("-1h30m", Point(time=NOW - timedelta(minutes=90))),
            ("-2d", Point(time=NOW - timedelta(days=2))),
            ("-90s", Point(time=NOW - timedelta(seconds=90))),
            ("03:12", Point(time=NOW.replace(hour=3, minute=12))),
            ("3:12", Point(time=NOW.replace(hour=3, minute=12))),
            ("12:30:01", Point(time=NOW.replace(second=1) - timedelta(days=1))),
            ("2026-02-28T23:00:00Z", Point(time=datetime(2026, 2, 28, 23, tzinfo=UTC))),
            ("2026-02-28 23:00", Point(time=datetime(2026, 2, 28, 23, tzinfo=UTC))),
            ("2026-03-01T00:00:00+01:00", Point(time=datetime(2026, 2, 28, 23, tzinfo=UTC))),
            ("tomorrow", None),
            ("-999999d", None),
        ],
    )
    def test_people_write_it_in_many_ways(self, text: str, point: Point | None) -> None:
        assert point_of(text, NOW) == point


class Watched(MemoryLog):
    """A log that notes how far it was read."""

    read_up_to = 0

    @asynccontextmanager
    async def follow(
        self,
        *,
        after: int,
        filters: Sequence[Filter] = (),
        live: bool = True,
        linger_s: float = 0.0,
    ) -> AsyncGenerator[AsyncIterator[Batch]]:
        async with super().follow(
            after=after, filters=filters, live=live, linger_s=linger_s
        ) as batches:
            yield self._noted(batches)

    async def _noted(self, batches: AsyncIterator[Batch]) -> AsyncGenerator[Batch]:
        async for batch in batches:
            self.read_up_to = batch[-1].seq
            yield batch


@pytest.mark.anyio
class TestFold:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_a_writer_whose_clock_is_ahead_does_not_end_it(self) -> None:
        log, world = MemoryLog(batch_max=2), World(initial_policy(SETTINGS))
        ahead = instant(3600)
        facts = [
            event(1, subjects.job(JobId("a")), Submitted(spec=noop())),
            event(2, subjects.job(JobId("b")), Submitted(spec=noop()), ahead),
            event(3, subjects.job(JobId("c")), Submitted(spec=noop())),
            event(4, subjects.job(JobId("d")), Submitted(spec=noop()), ahead),
            event(5, subjects.job(JobId("e")), Submitted(spec=noop()), ahead),
        ]
        await log.append([Entry(each) for each in facts])
        assert await fold_up_to(world, log, Point(time=instant(4))) == instant(4)
        assert (world.seq, sorted(world.jobs)) == (3, ["a", "b", "c"])

    async def test_it_does_not_read_far_beyond_its_point(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replay, "STRAY_EVENTS_MAX", 3)
        log, world = Watched(batch_max=2), World(initial_policy(SETTINGS))
        jobs = [subjects.job(JobId(f"j{number}")) for number in range(1, 21)]
        await stored(log, [(job, Submitted(spec=noop())) for job in jobs])
        await fold_up_to(world, log, Point(time=instant(4)))
        assert (world.seq, log.read_up_to) == (4, 8)
        log.read_up_to = 0
        await fold_up_to(World(initial_policy(SETTINGS)), log, Point(seq=5))
        assert log.read_up_to == 6

    async def test_a_long_one_tells_how_far_it_is(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(replay, "TOLD_EVERY_S", 0.0)
        log = MemoryLog(batch_max=1)
        await stored(log, LIFE)
        await fold_up_to(World(initial_policy(SETTINGS)), log, Point(time=instant(60)))
        lines = capsys.readouterr().err.splitlines()
        assert lines
        assert lines[-1].startswith("ffrtmp: reading the ledger: ")
        assert lines[-1].endswith(" of 7 events")
