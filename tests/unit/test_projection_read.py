"""The read API: each question on a known ledger, and its exact answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from events.job import Failed, FailureClass, Submitted
from events.requests import Params, Problem, QueryRequest, QueryResult
from events.spec import JobSpec
from projections import read
from projections.errors import QueryRefused
from projections.query import QueryGuard, QueryLimits
from projections.read import Ask, JobFilter
from tests.projecting import Ledger, fleet, instant, projected

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    store = projected(tmp_path_factory.mktemp("read"), fleet(2).recorded)
    guard = QueryGuard(store.cursor, QueryLimits(queries_max=1))

    async def asked(sql: str, params: Params) -> QueryResult:
        plain = dict(params) if isinstance(params, dict) else list(params)
        return guard.run(QueryRequest(sql=sql, params=plain))

    yield asked
    guard.close()
    store.close()


async def test_jobs_come_newest_first_and_by_any_filter(ask: Ask) -> None:
    ids = [job.job_id for job in await read.jobs(ask)]
    assert ids == [
        *("waiting-1", "running-1", "stopped-1", "refused-1", "hard-1", "good-1"),
        *("waiting-0", "running-0", "stopped-0", "refused-0", "hard-0", "good-0"),
    ]
    for which, expected in (
        (JobFilter(states=("processing",)), ["running-1", "running-0"]),
        (JobFilter(states=("processing", "rejected"), id_glob="r*-1"), ["running-1", "refused-1"]),
        (JobFilter(queue="live"), ["good-1", "good-0"]),
        (JobFilter(queue="batch", priority="low"), ["hard-1", "hard-0"]),
        (JobFilter(node="n2", states=("canceled",)), ["stopped-1", "stopped-0"]),
        (JobFilter(labels={"team": "news"}, tenant="default"), ["good-1", "good-0"]),
        (JobFilter(labels={"team": "news", "show": "x"}), []),
        (JobFilter(failure="permanent", poison=False), ["hard-1", "hard-0"]),
        (JobFilter(poison=True), []),
        (JobFilter(since=instant(82)), ["waiting-1"]),
        (JobFilter(until=instant(9), queue="live"), ["good-0"]),
        (JobFilter(until=instant(3)), []),
        (JobFilter(states=("paused",)), []),
    ):
        assert [job.job_id for job in await read.jobs(ask, which)] == expected
        assert [job.job_id for job in await read.job_keys(ask, which, limit=100)] == expected
        assert sum((await read.jobs_counted(ask, which)).values()) == len(expected)
    assert [job.job_id for job in await read.jobs(ask, limit=1)] == ["waiting-1"]


@pytest.mark.parametrize(
    "hostile",
    [
        *("' OR 1=1 --", '"', "\\", '\\"}], "', "$states", "?", "%", "_", "\0", "\u2028", "🎬"),
        *("[", "[!", "*]", "news') OR true OR ('", "}", "NULL", "1; DROP TABLE jobs", "x" * 10_000),
    ],
)
async def test_a_hostile_value_is_a_value_like_any_other(ask: Ask, hostile: str) -> None:
    for which in (
        JobFilter(states=(hostile,)),
        JobFilter(queue=hostile),
        JobFilter(priority=hostile),
        JobFilter(tenant=hostile),
        JobFilter(node=hostile),
        JobFilter(labels={"team": hostile}),
        JobFilter(labels={hostile: "news"}),
        JobFilter(id_glob=hostile),
        JobFilter(failure=hostile),
    ):
        assert await read.jobs(ask, which) == ()
        assert await read.jobs_counted(ask, which) == {}


async def test_a_label_is_found_whatever_is_in_it(tmp_path: Path) -> None:
    labels = {"quote": 'it\'s "here"', "back": "a\\b", "empty": "", "film": "é\u2028🎬"}
    store = projected(
        tmp_path, Ledger().job("clip", Submitted(spec=JobSpec(labels=labels))).recorded
    )
    guard = QueryGuard(store.cursor, QueryLimits(queries_max=1))

    async def asked(sql: str, params: Params) -> QueryResult:
        assert isinstance(params, dict)
        return guard.run(QueryRequest(sql=sql, params=dict(params)))

    for key, value in labels.items():
        found = await read.jobs(asked, JobFilter(labels={key: value}))
        assert [job.labels for job in found] == [labels]
        assert await read.jobs(asked, JobFilter(labels={key: value + " "})) == ()
    guard.close()
    store.close()


async def test_a_list_goes_on_over_every_page_that_was_cut(ask: Ask) -> None:
    asked: list[object] = []

    async def cutting(sql: str, params: Params) -> QueryResult:
        assert isinstance(params, dict)
        asked.append(params["before"])
        whole = await ask(sql, params)
        return structs.replace(whole, rows=whole.rows[:5], truncated=len(whole.rows) > 5)

    whole = await read.jobs(ask)
    assert await read.jobs(cutting) == whole
    assert asked == [None, whole[4].job_no, whole[9].job_no]
    assert await read.jobs(cutting, limit=7) == whole[:7]


async def test_failures_are_grouped_with_their_numbers_left_out(tmp_path: Path) -> None:
    ledger = Ledger()
    for number in range(3):
        failed = Failed(failure=FailureClass.PERMANENT, reason=f"in-{number}.mp4: line {number}7")
        ledger.job(f"p{number}", Submitted(spec=JobSpec()), failed)
    lost = Failed(failure=FailureClass.INFRASTRUCTURE, reason="5 lost", attempts=5, poison=True)
    ledger.job("q", Submitted(spec=JobSpec()), lost)
    ledger.job("fine", Submitted(spec=JobSpec()))
    store = projected(tmp_path, ledger.recorded)
    guard = QueryGuard(store.cursor, QueryLimits(queries_max=1))

    async def asked(sql: str, params: Params) -> QueryResult:
        assert isinstance(params, dict)
        return guard.run(QueryRequest(sql=sql, params=dict(params)))

    groups = await read.failures_grouped(asked, JobFilter(states=("failed",)))
    assert [(g.jobs, g.failure_class, g.poison, g.reason, g.example) for g in groups] == [
        (3, "permanent", False, "in-#.mp4: line #", "p2"),
        (1, "infrastructure", True, "# lost", "q"),
    ]
    assert [job.job_id for job in await read.jobs(asked, JobFilter(poison=True))] == ["q"]
    guard.close()
    store.close()


async def test_a_job_is_found_by_id_number_or_unique_beginning(ask: Ask) -> None:
    for reference, expected in (
        ("good-1", "good-1"),
        ("3", "good-0"),
        ("refused-0", "refused-0"),
        ("good-", None),
        ("hard", None),
        ("nothing", None),
        ("%", None),
    ):
        found = await read.job(ask, reference)
        assert (None if found is None else found.job_id) == expected


async def test_a_job_tells_all_of_itself(ask: Ask) -> None:
    found = await read.job(ask, "good-0")
    assert found is not None
    told = structs.asdict(found)
    assert {name: told[name] for name in ("status", "node", "labels", "outputs", "encoder")} == {
        "status": "completed",
        "node": "n1",
        "labels": {"team": "news"},
        "outputs": ("out-0.mp4",),
        "encoder": "libx264",
    }
    assert (found.submitted_at, found.ended_at) == (instant(3), instant(7))


async def test_attempts_come_in_order_with_their_ends(ask: Ask) -> None:
    hard = await read.job(ask, "hard-0")
    assert hard is not None
    assert [(each.attempt, each.outcome) for each in await read.attempts(ask, hard.job_no)] == [
        (1, "declined"),
        (2, "lost"),
        (3, "failed"),
        (4, "failed"),
    ]


async def test_a_timeline_has_all_facts_of_the_job_and_no_others(ask: Ask) -> None:
    good = await read.job(ask, "good-0")
    assert good is not None
    assert [(fact.seq, fact.type) for fact in await read.timeline(ask, good)] == [
        (3, "job.submitted.v1"),
        (4, "job.assigned.v1"),
        (6, "job.started.v1"),
        (7, "job.completed.v1"),
        (9, "job.promoted.v1"),
    ]


async def test_nodes_are_listed_and_found(ask: Ask) -> None:
    assert [(node.node_id, node.slots) for node in await read.nodes(ask)] == [("n1", 2), ("n2", 1)]
    found = await read.node(ask, "n1")
    assert found is not None
    assert (found.status, found.capabilities) == ("online", ("engine:ffmpeg", "gpu"))
    assert await read.node(ask, "n3") is None


async def test_queue_depth_is_by_queue_and_status(ask: Ask) -> None:
    assert [(each.queue, each.status, each.jobs) for each in await read.queue_depth(ask)] == [
        ("default", "pending", 2),
        ("default", "processing", 2),
    ]


async def test_waits_are_quantiles_by_queue_since_an_instant(ask: Ask) -> None:
    found = {each.queue: each for each in await read.waits(ask)}
    assert {queue: each.jobs for queue, each in found.items()} == {
        "batch": 2,
        "default": 4,
        "live": 2,
    }
    assert (found["live"].p50_s, found["live"].p99_s) == (1.0, 1.0)
    later = await read.waits(ask, since=instant(44))
    assert {each.queue: each.jobs for each in later} == {"batch": 1, "default": 2, "live": 1}


async def test_the_audit_counts_explains_and_tells_failures(ask: Ask) -> None:
    counts = {each.type: each.events for each in await read.fact_counts(ask)}
    assert counts["job.submitted.v1"] == 10
    assert counts[""] == 2
    decisions = await read.decisions(ask, limit=3)
    assert [(each.job_id, each.attempt, each.node) for each in decisions] == [
        ("good-0", 1, "n1"),
        ("hard-0", 1, "n1"),
        ("hard-0", 2, "n2"),
    ]
    assert [(each.job_id, each.failure_reason) for each in await read.failures(ask, limit=2)] == [
        ("hard-0", "no codec"),
        ("refused-0", "no such field"),
    ]


async def test_a_refused_question_is_an_error_with_its_reason() -> None:
    async def refusing(_sql: str, _params: Params) -> QueryResult:
        return QueryResult(error=Problem(code="busy", message="ask again"))

    with pytest.raises(QueryRefused, match="busy: ask again"):
        await read.nodes(refusing)


async def test_every_question_has_a_name_and_a_description() -> None:
    found = read.queries()
    assert len(found) == 15
    assert all(query.description.endswith((".", "?")) for query in found.values())
    assert not any(query.sql.endswith(";") for query in found.values())
