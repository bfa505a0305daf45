"""The projector as a service: it follows, answers while it writes, and ends in order."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest

from events import job as facts
from events import subjects
from events.codec import Recorded
from events.ids import JobId
from events.node import Registered
from events.requests import QueryRequest, QueryResult
from events.spec import JobSpec
from events.telemetry import Heartbeat
from projections.errors import StoreBusy
from projections.store import Store
from services.backbone import Backbone
from services.clock import Pen, SystemClock
from services.config import ProjectorSettings
from services.errors import SequenceGap
from services.log.memory import MemoryLog
from services.log.port import Entry
from services.memory import memory_backbone
from services.projector.intake import Intake
from services.projector.service import Projector, run_projector
from tests.projecting import N1, fleet, rows

pytestmark = pytest.mark.anyio
JOBS = 200


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settings_in(tmp_path: Path, **more: object) -> ProjectorSettings:
    plain = {"database": tmp_path / "projector" / "p.duckdb", "query_s_max": 2.0} | more
    return ProjectorSettings(**plain)  # type: ignore[arg-type] # each test gives what it is about


@asynccontextmanager
async def running(backbone: Backbone, settings: ProjectorSettings) -> AsyncGenerator[Projector]:
    async with anyio.create_task_group() as tasks:
        run = partial(run_projector, backbone, settings, clock=SystemClock())
        yield await tasks.start(run)
        tasks.cancel_scope.cancel()


async def submit(backbone: Backbone, count: int, prefix: str = "j") -> int:
    """Submit jobs; return the sequence of the last one."""
    pen = Pen("test", SystemClock())
    fact = facts.Submitted(spec=JobSpec())
    outcomes = await backbone.ledger.append(
        [
            Entry(pen.write(subjects.job(JobId(f"{prefix}{number}")), fact))
            for number in range(count)
        ]
    )
    last = outcomes[-1]
    assert isinstance(last, int)
    return last


async def ask(backbone: Backbone, sql: str, after_seq: int = 0) -> QueryResult:
    body = msgspec.json.encode(QueryRequest(sql=sql, after_seq=after_seq))
    return msgspec.json.decode(
        await backbone.bus.request(subjects.QUERY, body, timeout_s=30.0), type=QueryResult
    )


async def test_what_is_appended_is_in_the_tables(tmp_path: Path) -> None:
    backbone = memory_backbone()
    await submit(backbone, 5, "before")
    async with running(backbone, settings_in(tmp_path)) as projector:
        last = await submit(backbone, JOBS)
        await projector.reached(last)
        assert (await ask(backbone, "SELECT count(*) FROM jobs")).rows == ((JOBS + 5,),)


async def test_a_reader_reads_what_it_wrote(tmp_path: Path) -> None:
    backbone = memory_backbone()
    async with running(backbone, settings_in(tmp_path)):
        for number in range(5):
            last = await submit(backbone, 1, f"x{number}-")
            result = await ask(backbone, "SELECT count(*) FROM jobs", last)
            assert (result.rows, result.seq) == (((number + 1,),), last)


async def test_a_sequence_that_does_not_come_is_told_and_not_waited_for(tmp_path: Path) -> None:
    backbone = memory_backbone()
    async with running(backbone, settings_in(tmp_path, query_s_max=0.05)):
        result = await ask(backbone, "SELECT 1", 7)
    assert result.error is not None
    assert (result.error.code, result.rows) == ("behind", ())
    assert result.error.message == "sequence 7 asked for, 0 reached; ask again"


async def test_a_request_that_cannot_be_read_names_the_field(tmp_path: Path) -> None:
    backbone = memory_backbone()
    async with running(backbone, settings_in(tmp_path)):
        for body, field in (
            (b"{", "$"),
            (b'{"sql": 1}', "$.sql"),
            (b'{"sql": "SELECT 1", "rows_mx": 1}', "$.rows_mx"),
        ):
            answer = await backbone.bus.request(subjects.QUERY, body)
            result = msgspec.json.decode(answer, type=QueryResult)
            assert result.error is not None
            assert (result.error.code, result.error.field) == ("invalid_request", field)


async def test_a_slow_query_does_not_keep_the_projection_from_going_on(tmp_path: Path) -> None:
    backbone = memory_backbone()
    slow = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range + b.range = 7"
    results: list[QueryResult] = []

    async def ask_slowly() -> None:
        results.append(await ask(backbone, slow))

    async with (
        running(backbone, settings_in(tmp_path)) as projector,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(ask_slowly)
        await projector.reached(await submit(backbone, JOBS))
        assert not results
    (result,) = results
    assert result.error is not None
    assert result.error.code == "time_limit"


async def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path) -> None:
    backbone = memory_backbone()
    for round_ in range(3):
        last = await submit(backbone, 10, f"r{round_}-")
        async with running(backbone, settings_in(tmp_path)) as projector:
            await projector.reached(last)
    store = Store(settings_in(tmp_path).database)
    assert store.position == 30
    assert rows(store, "SELECT count(*), count(DISTINCT seq), max(seq) FROM audit") == [
        (30, 30, 30)
    ]
    store.close()


async def test_an_end_in_the_middle_of_the_stream_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    backbone = memory_backbone()
    settings = settings_in(tmp_path, batch_events_max=7)
    last = await submit(backbone, JOBS)
    position = 0
    while position < last:
        async with running(backbone, settings) as projector:
            await projector.reached(min(position + 40, last))
        store = Store(settings.database)
        position = store.position
        assert rows(store, "SELECT count(*), count(DISTINCT seq) FROM audit") == [
            (position, position)
        ]
        store.close()
    assert position == last


async def test_telemetry_reaches_the_tables(tmp_path: Path) -> None:
    backbone = memory_backbone()
    pen = Pen("test", SystemClock())
    node = pen.write(subjects.node(N1), Registered(epoch=1, slots=2))
    beat = pen.write(subjects.telemetry_of_node(N1), Heartbeat(epoch=1, running=1, cpu_percent=9))
    async with running(backbone, settings_in(tmp_path)) as projector:
        await backbone.ledger.append([Entry(node)])
        await projector.reached(1)
        await backbone.telemetry.append([Entry(beat)])
        await projector.reached_telemetry(1)
        result = await ask(backbone, "SELECT running, cpu_percent FROM nodes")
    assert result.rows == ((1, 9.0),)


async def test_a_ledger_made_anew_makes_the_projection_anew(tmp_path: Path) -> None:
    before = memory_backbone()
    async with running(before, settings_in(tmp_path)) as projector:
        await projector.reached(await submit(before, 9, "old"))
    after = memory_backbone()
    last = await submit(after, 2, "new")
    async with running(after, settings_in(tmp_path)) as projector:
        result = await ask(after, "SELECT job_id FROM jobs ORDER BY job_no", last)
    assert result.rows == (("new0",), ("new1",))


class HoledLog(MemoryLog):
    """A log that has lost its second event."""

    async def last_seq(self) -> int:
        return 3

    @asynccontextmanager
    async def follow(self, **_: object) -> AsyncGenerator[AsyncGenerator[list[Recorded]]]:
        async def batches() -> AsyncGenerator[list[Recorded]]:
            yield fleet().recorded[:1]
            raise SequenceGap("FFRTMP_LEDGER", 2, 2)

        yield batches()


async def test_a_hole_in_the_ledger_stops_the_projector_loudly(tmp_path: Path) -> None:
    backbone = msgspec.structs.replace(memory_backbone(), ledger=HoledLog())
    settings = settings_in(tmp_path)
    with pytest.raises(SequenceGap) as caught:
        await run_projector(backbone, settings, clock=SystemClock())
    assert (caught.value.first, caught.value.last) == (2, 2)
    Store(settings.database).close()


async def test_a_file_in_use_is_refused_by_name(tmp_path: Path) -> None:
    backbone = memory_backbone()
    async with running(backbone, settings_in(tmp_path)):
        with pytest.raises(StoreBusy, match="is in use by process"):
            await run_projector(backbone, settings_in(tmp_path), clock=SystemClock())


async def test_intake_gathers_until_there_is_enough_or_time_is_up() -> None:
    recorded = fleet().recorded
    intake = Intake(batch_events_max=4)
    await intake.put(recorded[:3])
    await intake.put(recorded[3:6])
    assert [event.seq for event in await intake.take(0.01)] == [1, 2, 3, 4]
    assert [event.seq for event in await intake.take(0.01)] == [5, 6]


async def test_intake_is_bounded_and_loses_nothing_when_cancelled() -> None:
    recorded = fleet().recorded
    intake = Intake(batch_events_max=2)
    await intake.put(recorded[:8])
    with anyio.move_on_after(0.01) as full:
        await intake.put(recorded[8:9])
    assert full.cancelled_caught
    for first in (1, 3, 5, 7):
        assert [event.seq for event in await intake.take(60.0)] == [first, first + 1]
    await intake.put(recorded[8:9])
    with anyio.move_on_after(0.01) as alone:
        await intake.take(60.0)
    assert alone.cancelled_caught
    await intake.put(recorded[9:10])
    assert [event.seq for event in await intake.take(60.0)] == [9, 10]
