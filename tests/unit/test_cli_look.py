import io
import json

import msgspec
import pytest
from rich.console import Console

from events.requests import Problem, QueryRequest, QueryResult
from services.bus.port import Request
from services.cli import output
from services.cli.look.standing import standing
from services.cli.output import fitting, is_fit
from tests.unit.cli_fleet import Recorder, run

JOB = {
    "job_id": "j1",
    "status": "completed",
    "queue": "live",
    "priority": "high",
    "tenant": "acme",
    "node": "n1",
    "attempt": 1,
    "progress_percent": 100.0,
    "speed": 6.25,
    "submitted_at": "2026-03-01T12:00:00Z",
    "wait_s": 0.5,
    "run_s": 4.0,
    "size_bytes": 1500,
    "failure_class": None,
    "failure_reason": None,
}
JOBS = QueryResult(columns=tuple(JOB), rows=(tuple(JOB.values()),))
NODE = {
    "node_id": "n1",
    "status": "online",
    "schedulable": True,
    "cordoned": False,
    "draining": False,
    "ordered_by": "",
    "order_reason": "",
    "reason": "",
    "refusing": "",
    "circuit": "closed",
    "circuit_until": None,
    "circuit_reason": "",
    "epoch": 2,
    "slots": 4,
    "free": 3,
    "running": 1,
    "capabilities": ["codec:h264"],
    "hostname": "box",
    "cpu_model": "EPYC",
    "cpu_threads": 8,
    "memory_bytes": 8_000_000_000,
    "disk_bytes": 0,
    "gpus": [],
    "encoder_sessions": 0,
    "ffmpeg": "9.0",
    "address": "box:9091",
    "fingerprint": "5f0c",
    "worker_version": "0.1.0",
    "registered_at": None,
    "last_seen": None,
    "cpu_percent": 12.5,
    "memory_free_bytes": 4_000_000_000,
    "disk_free_bytes": 0,
    "seen_ms": None,
    "until_ms": None,
}
NODES = QueryResult(columns=tuple(NODE), rows=(tuple(NODE.values()),))
NOTHING = QueryResult(columns=("job_id",))
HISTORY = QueryResult(
    columns=("seq", "time", "change", "actor", "reason", "epoch"),
    rows=(
        (9, "2026-03-01T12:00:05Z", "cordoned", "ann", "new driver", None),
        (4, "2026-03-01T12:00:00Z", "registered", None, None, "2"),
    ),
)


def node(**changes: object) -> QueryResult:
    """Return the node of the projection with these columns changed."""
    changed = {**NODE, **changes}
    return QueryResult(columns=tuple(changed), rows=(tuple(changed.values()),))


class Projection(Recorder):
    """Answers questions in the order given, and keeps them."""

    def __init__(self, *answers: QueryResult) -> None:
        super().__init__()
        self.asked: list[QueryRequest] = []
        self._answers = list(answers)

    async def query(self, request: Request) -> bytes:
        self.asked.append(msgspec.json.decode(request.body, type=QueryRequest))
        return msgspec.json.encode(self._answers.pop(0))


def test_a_table_has_the_rows_under_their_columns() -> None:
    result = run("sql", "SELECT 1", recorder=Projection(JOBS))
    header, row = result.stdout.splitlines()
    assert header.split()[:2] == ["job_id", "status"]
    assert row.split()[:2] == ["j1", "completed"]


def test_json_is_one_document_of_rows_by_column() -> None:
    asked = Projection(QueryResult(columns=("a", "b"), rows=((1, None), (2, "x"))))
    result = run("sql", "SELECT a, b FROM t", "--after-seq", "7", "-o", "json", recorder=asked)
    assert json.loads(result.stdout) == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    assert [(query.sql, query.after_seq) for query in asked.asked] == [("SELECT a, b FROM t", 7)]


def test_a_name_that_repeats_hides_no_value() -> None:
    twins = QueryResult(columns=("a", "a", "a_1"), rows=((1, 2, 3),))
    result = run("sql", "SELECT", "-o", "json", recorder=Projection(twins))
    assert json.loads(result.stdout) == [{"a": 1, "a_1": 2, "a_1_1": 3}]


def test_a_table_shows_texts_as_they_are_and_the_rest_as_json() -> None:
    body = b'{"columns":["a","b","c","d"],"rows":[[true,[1,"x"],null,"y"]]}'
    kinds = msgspec.json.decode(body, type=QueryResult)
    result = run("sql", "SELECT", recorder=Projection(kinds))
    assert result.stdout.splitlines()[1].split() == ["true", '[1,"x"]', "y"]


def test_a_question_comes_from_stdin_too() -> None:
    asked = Projection(NOTHING)
    run("sql", "-", recorder=asked, stdin="SELECT 2")
    assert asked.asked[0].sql == "SELECT 2"


def test_a_refused_question_is_status_three_with_the_reason() -> None:
    refused = QueryResult(error=Problem(code="not_read_only", message="DROP is no SELECT"))
    result = run("sql", "DROP TABLE jobs", recorder=Projection(refused))
    assert result.exit_code == 3
    assert result.stderr == "ffrtmp: not_read_only: DROP is no SELECT\n"


def test_a_cut_answer_says_so() -> None:
    cut = QueryResult(columns=("a",), rows=((1,),), truncated=True)
    result = run("sql", "SELECT 1", recorder=Projection(cut))
    assert result.stderr == "ffrtmp: only the first 1 rows; add a LIMIT or a WHERE\n"


def test_nodes_are_listed_with_what_runs_on_them() -> None:
    result = run("nodes", "list", recorder=Projection(NODES))
    words = result.stdout.splitlines()[1].split()
    assert words == ["n1", "●", "online", "1", "4", "12", "%", "9.0", "-"]


def test_a_list_of_nodes_says_what_keeps_work_away_from_them() -> None:
    away = node(status="lost", reason="silent for 15 s", draining=True, ordered_by="ann")
    result = run("nodes", "list", recorder=Projection(away))
    row = result.stdout.splitlines()[1]
    assert row.split()[:3] == ["n1", "✖", "lost"]
    assert row.endswith("  silent for 15 s; draining by ann")


def test_a_node_is_described_with_its_jobs() -> None:
    running = QueryResult(
        columns=("job_id", "attempt", "status", "progress_percent"),
        rows=(("j1", 1, "processing", 40.0),),
    )
    asked = Projection(NODES, running, HISTORY)
    result = run("nodes", "describe", "n1", "-o", "json", recorder=asked)
    shown = json.loads(result.stdout)
    assert (shown["node_id"], shown["jobs"][0]["job_id"]) == ("n1", "j1")
    assert [change["seq"] for change in shown["history"]] == [4, 9]
    assert [query.params for query in asked.asked] == [["n1"], ["n1", 100], ["n1", 20]]


def test_a_node_is_described_with_what_became_of_it() -> None:
    away = node(
        cordoned=True,
        ordered_by="ann",
        order_reason="new driver",
        gpus=["L4"],
        encoder_sessions=8,
        circuit="half_open",
        circuit_reason="8 of 10 attempts failed",
    )
    result = run("nodes", "describe", "n1", recorder=Projection(away, NOTHING, HISTORY))
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "node n1",
        "state ● online",
        "cordoned by ann: new driver",
        "on probation, one attempt at a time: 8 of 10 attempts failed",
        "circuit ◐ half open",
        "slots 3 of 4 free",
        "host box 8 x EPYC",
        "memory 4.0 GB free of 8.0 GB",
        "disk 0 B free of 0 B",
        "gpus L4, 8 encodes at once each",
        "ffmpeg 9.0",
        "worker 0.1.0, start 2",
        "address box:9091",
        "fingerprint 5f0c",
        "can codec:h264",
        "",
        "seq time (UTC) what by",
        "4 2026-03-01 12:00:00 registered start 2",
        "9 2026-03-01 12:00:05 cordoned ann new driver",
    ]


def test_a_list_of_nodes_leaves_removed_ones_out_unless_all_are_wanted() -> None:
    asked = Projection(NODES, NODES)
    run("nodes", "list", recorder=asked)
    run("nodes", "list", "--all", recorder=asked)
    ends = [query.sql.rpartition("FROM nodes")[2] for query in asked.asked]
    assert ends == [" WHERE status <> 'removed' ORDER BY node_id", " ORDER BY node_id"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ()),
        ({"status": "lost", "reason": "silent for 15 s"}, ("silent for 15 s",)),
        ({"cordoned": True}, ("cordoned",)),
        ({"cordoned": True, "order_reason": "disk"}, ("cordoned: disk",)),
        (
            {"cordoned": True, "draining": True, "ordered_by": "ann", "order_reason": "reboot"},
            ("draining by ann: reboot",),
        ),
        (
            {"circuit": "open", "circuit_reason": "8 of 10 failed", "until_ms": 42_000.0},
            ("circuit open for 42 s more: 8 of 10 failed",),
        ),
        ({"circuit": "open", "until_ms": 0.0}, ("circuit open, about to be tried again",)),
        (
            {"status": "drained", "draining": True, "ordered_by": "ann"},
            ("drained by ann",),
        ),
        ({"circuit": "half_open"}, ("on probation, one attempt at a time",)),
        ({"refusing": "disk: 1 GiB free"}, ("takes nothing new: disk: 1 GiB free",)),
        (
            {"cordoned": True, "refusing": "disk: full", "reason": "a twin lives"},
            ("a twin lives", "cordoned", "takes nothing new: disk: full"),
        ),
    ],
)
def test_what_keeps_work_away_from_a_node_is_told_in_words(
    changes: dict[str, object], words: tuple[str, ...]
) -> None:
    assert standing({**NODE, **changes}, 0.0) == words


def test_an_unknown_node_is_status_one() -> None:
    result = run("nodes", "describe", "n2", recorder=Projection(QueryResult(columns=tuple(NODE))))
    assert result.exit_code == 1
    assert result.stderr.startswith("ffrtmp: no node 'n2';")


def test_a_narrow_terminal_gets_fewer_columns_and_a_wide_one_all() -> None:
    columns, rows = ("job", ">size", "node", ""), [["j" * 10, 12345, "n1", "w" * 60]]
    wide = fitting(columns, rows, spare=("node", "size"), width=45)
    narrow = fitting(columns, rows, spare=("node", "size"), width=44)
    least = fitting(columns, rows, spare=("node", "size"), width=10)
    assert wide == (list(columns), rows)
    assert narrow == (["job", ">size", ""], [["j" * 10, 12345, "w" * 60]])
    assert least == (["job", ""], [["j" * 10, "w" * 60]])


class TestRows:
    def test_a_table_fits_where_every_column_has_its_place(self) -> None:
        rows = [["film", "completed"], ["trailer", "queued"]]
        assert is_fit(("job", "state"), rows, width=18)
        assert not is_fit(("job", "state"), rows, width=17)

    def test_the_last_column_may_go_over_several_lines(self) -> None:
        assert is_fit(("job", "why"), [["film", "no such file " * 20]], width=26)
        assert not is_fit(("job", "why"), [["film", "no such file " * 20]], width=25)

    def test_a_table_without_rows_needs_place_for_its_headings(self) -> None:
        assert is_fit(("job", "state"), [], width=10)
        assert not is_fit(("job", "state"), [], width=9)

    def test_what_does_not_fit_on_a_terminal_is_told_one_value_a_line(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        printed = io.StringIO()
        narrow = Console(file=printed, width=14, force_terminal=True, color_system=None)

        def console(*, stderr: bool = False) -> Console:
            assert not stderr
            return narrow

        monkeypatch.setattr(output, "console", console)
        output.show_rows(("job", "state", "node"), [["film", "completed", "vm-1"]])
        lines = [line.rstrip() for line in printed.getvalue().splitlines()]
        assert lines == ["job    film", "state  complet", "       ed", "node   vm-1"]
