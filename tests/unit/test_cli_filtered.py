"""What is asked of many jobs at once: who is meant, what is shown before, and what it comes to."""

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from events.ids import JobId
from events.job import Assigned, Canceled, Failed, FailureClass, Started, Submitted
from events.requests import Problem, Reply
from events.spec import JobSpec, Priority, Queue
from projections.query import QueryGuard
from services.cli.invocation import Exit
from services.cli.jobs.filtered import selection
from services.cli.jobs.filtered.asking import IN_FLIGHT_MAX, UNANSWERED_MAX, Tally, ask_all
from services.cli.jobs.filtered.verbs import CANCEL, PAUSE, RESUME, RETRY, Verb, come_to
from services.errors import LogUnavailable
from tests.projecting import N1, Ledger
from tests.unit.cli_fleet import Recorder, run
from tests.unit.cli_projection import Projected, projection_of

BATCH = JobSpec(queue=Queue.BATCH, labels={"show": "x", "day": "1"})
OTHER = JobSpec(queue=Queue.BATCH, labels={"show": "y", "day": "1"})
GONE = Reply(error=Problem(code="job_ended", message="the job is completed already"))
MOVED = Reply(error=Problem(code="job_not_running", message="the job is queued"))


def some_jobs() -> Ledger:
    """Return six jobs: of the show x three that go on and two that have ended, one of y."""
    ledger = Ledger()
    ledger.job("x-1", Submitted(spec=BATCH))
    ledger.job("x-2", Submitted(spec=BATCH), Assigned(node=N1, attempt=1))
    ledger.job("x-2", Started(node=N1, attempt=1))
    ledger.job("y-1", Submitted(spec=OTHER))
    ledger.job("x-3", Submitted(spec=BATCH), Failed(failure=FailureClass.TRANSIENT, reason="net"))
    ledger.job("x-4", Submitted(spec=BATCH), Canceled(by="ann"))
    ledger.job("x-5", Submitted(spec=BATCH))
    return ledger


@pytest.fixture(scope="module")
def projection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryGuard]:
    with projection_of(tmp_path_factory.mktemp("filtered"), some_jobs()) as guard:
        yield guard


@pytest.fixture
def fleet(projection: QueryGuard) -> Projected:
    return Projected(projection)


def canceled(recorder: Recorder) -> list[str]:
    return [asked.job_id for asked in recorder.canceled]


class TestWhoIsMeant:
    def test_exactly_those_that_match_and_go_on_are_asked_the_oldest_first(
        self, fleet: Projected
    ) -> None:
        options = ("--label", "show=x", "--label", "day=1", "--queue", "batch", "--yes")
        result = run("jobs", "cancel", *options, "--reason", "enough", recorder=fleet)
        assert result.exit_code == Exit.OK
        assert sorted(canceled(fleet)) == ["x-1", "x-2", "x-5"]
        assert {asked.reason for asked in fleet.canceled} == {"enough"}
        assert result.stdout.splitlines() == ["jobs  outcome", "   3  done     now canceled"]

    def test_a_state_that_is_given_narrows_what_can_be_asked(self, fleet: Projected) -> None:
        run("jobs", "cancel", "--state", "queued", "--state", "failed", "--yes", recorder=fleet)
        assert sorted(canceled(fleet)) == ["x-1", "x-5", "y-1"]

    def test_all_means_every_job_that_it_can_be_asked_of(self, fleet: Projected) -> None:
        run("jobs", "cancel", "--all", "--yes", recorder=fleet)
        assert sorted(canceled(fleet)) == ["x-1", "x-2", "x-5", "y-1"]

    @pytest.mark.parametrize(
        ("arguments", "asked"),
        [
            (("pause", "--queue", "batch"), ["x-2"]),
            (("resume", "--queue", "batch"), []),
            (("resume", "--queue", "batch", "--state", "processing"), ["x-2"]),
            (("retry", "--queue", "batch"), ["x-3", "x-4"]),
            (("retry", "--state", "failed", "--failure", "transient"), ["x-3"]),
            (("retry", "--failure", "permanent"), []),
            (("retry", "--poison"), []),
            (
                ("reprioritize", "--in-queue", "batch", "--queue", "live"),
                ["x-1", "x-2", "y-1", "x-5"],
            ),
            (("reprioritize", "--in-queue", "live", "--queue", "live"), []),
            (("pause", "--id-glob", "x-[2-9]"), ["x-2"]),
            (("pause", "--node", "n1"), ["x-2"]),
            (("pause", "--node", "n2"), []),
            (("pause", "--since", "2026-01-31T12:00:03Z"), []),
            (("pause", "--until", "2026-01-31 12:00:03"), ["x-2"]),
        ],
        ids=" ".join,
    )
    def test_each_verb_goes_to_the_jobs_that_take_it(
        self, fleet: Projected, arguments: tuple[str, ...], asked: list[str]
    ) -> None:
        result = run("jobs", *arguments, "--yes", recorder=fleet)
        assert result.exit_code == Exit.OK
        assert sorted(fields["job_id"] for _, fields in fleet.controlled) == sorted(asked)

    def test_no_page_of_the_projection_is_the_last_before_all_are_found(
        self, tmp_path: Path
    ) -> None:
        ledger = Ledger()
        for number in range(95):
            ledger.job(f"j{number}", Submitted(spec=BATCH))
        with projection_of(tmp_path, ledger, rows_max=10) as guard:
            recorder = Projected(guard)
            result = run("jobs", "cancel", "--queue", "batch", "--yes", recorder=recorder)
        assert len(set(canceled(recorder))) == len(recorder.canceled) == 95
        assert "cancel: 95 jobs (queue batch)" in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((), "which jobs? give ids, `-` for ids from stdin, a filter"),
            (("x-1", "--queue", "batch"), "ids and filters exclude each other"),
            (("--all", "--queue", "batch"), "--all means every job; leave it out"),
            (("x-1", "--dry-run"), "--dry-run shows whom a filter means"),
            (("--label", "show"), "given: 'show'; allowed: KEY=VALUE"),
            (("--label", "show=x", "--label", "show=y"), "given: 'show' twice"),
            (("--since", "yesterday"), "given: 'yesterday'; allowed: an age as 90s"),
            (("--since", "999999999w"), "given: '999999999w'; allowed: an age as 90s"),
        ],
    )
    def test_what_cannot_be_meant_is_status_two_and_nobody_is_asked(
        self, fleet: Projected, arguments: tuple[str, ...], words: str
    ) -> None:
        result = run("jobs", "cancel", *arguments, "--yes", recorder=fleet)
        assert (result.exit_code, canceled(fleet)) == (Exit.USAGE, [])
        assert words in " ".join(result.stderr.split())


class TestPreview:
    def test_it_shows_how_many_by_state_and_the_first_of_them(self, fleet: Projected) -> None:
        result = run("jobs", "cancel", "--label", "show=x", "--dry-run", recorder=fleet)
        assert (result.exit_code, canceled(fleet)) == (Exit.OK, [])
        refusal = "only a job that has not ended can be canceled"
        assert result.stdout.splitlines() == [
            "cancel: 3 jobs of 5 that match (label show=x)",
            "jobs  state",
            "   2  ◌ queued",
            "   1  ▶ processing",
            "   1  ⊘ canceled    not asked: needs nothing",
            f"   1  ✖ failed      not asked: {refusal}",
            "namely:",
            "job  state         queue         tenant   node  labels        submitted (UTC)",
            "x-5  ◌ queued      batch/medium  default        day=1 show=x  2026-01-31 12:00:10",
            "x-2  ▶ processing  batch/medium  default  n1    day=1 show=x  2026-01-31 12:00:02",
            "x-1  ◌ queued      batch/medium  default        day=1 show=x  2026-01-31 12:00:01",
        ]

    def test_of_many_only_the_newest_are_shown(self, tmp_path: Path) -> None:
        ledger = Ledger()
        for number in range(12):
            ledger.job(f"j{number}", Submitted(spec=BATCH))
        with projection_of(tmp_path, ledger) as guard:
            result = run("jobs", "cancel", "--all", "--dry-run", recorder=Projected(guard))
        lines = result.stdout.splitlines()
        assert (lines[0], lines[3]) == ("cancel: 12 jobs (all jobs)", "the newest 10:")
        assert [line.split()[0] for line in lines[5:]] == [
            f"j{number}" for number in range(11, 1, -1)
        ]

    def test_for_programs_it_is_a_job_a_line(self, fleet: Projected) -> None:
        result = run("jobs", "pause", "--all", "--dry-run", "-o", "json", recorder=fleet)
        assert [json.loads(line) for line in result.stdout.splitlines()] == [
            {"job_id": "x-2", "status": "processing", "would": "pause"}
        ]

    def test_without_a_terminal_and_without_yes_nothing_is_asked(self, fleet: Projected) -> None:
        result = run("jobs", "cancel", "--label", "show=x", recorder=fleet)
        assert (result.exit_code, result.stdout, canceled(fleet)) == (Exit.USAGE, "", [])
        assert result.stderr.startswith("cancel: 3 jobs of 5 that match (label show=x)\n")
        assert result.stderr.endswith("nothing was asked; --yes does it all the same\n")

    @pytest.mark.parametrize(("answer", "status", "asked"), [(True, 0, 1), (False, 1, 0)])
    def test_a_person_decides(
        self,
        fleet: Projected,
        monkeypatch: pytest.MonkeyPatch,
        answer: bool,  # noqa: FBT001 - a parameter of the test
        status: int,
        asked: int,
    ) -> None:
        questions: list[str] = []

        def decide(question: str) -> bool:
            questions.append(question)
            return answer

        monkeypatch.setattr(selection, "confirmed", decide)
        result = run("jobs", "pause", "--all", recorder=fleet)
        assert (result.exit_code, len(fleet.controlled)) == (status, asked)
        assert questions == ["pause 1 job?"]

    def test_nobody_to_ask_is_no_failure(self, fleet: Projected) -> None:
        result = run("jobs", "cancel", "--label", "show=z", recorder=fleet)
        assert (result.exit_code, result.stdout) == (Exit.OK, "")
        assert result.stderr == "cancel: 0 jobs (label show=z)\nffrtmp: nothing to do\n"

    def test_more_than_may_be_asked_at_once_are_not_asked_at_all(
        self, fleet: Projected, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.cli.jobs.filtered.targets.TARGETS_MAX", 2)
        result = run("jobs", "cancel", "--all", "--yes", recorder=fleet)
        assert (result.exit_code, canceled(fleet)) == (Exit.USAGE, [])
        assert "give a filter that takes fewer" in result.stderr


class TestOutcome:
    def test_a_job_that_has_ended_since_is_refused_and_no_failure(self, fleet: Projected) -> None:
        fleet.refusals = {"x-3": GONE}
        result = run("jobs", "retry", "--queue", "batch", "--yes", recorder=fleet)
        assert result.exit_code == Exit.OK
        assert [line.split(maxsplit=2)[:2] for line in result.stdout.splitlines()[1:]] == [
            ["1", "done"],
            ["1", "refused"],
        ]
        assert result.stdout.endswith("the job is completed already\n")

    def test_a_job_that_is_refused_otherwise_is_status_three(self, fleet: Projected) -> None:
        fleet.refusals = {"x-3": GONE, "x-4": MOVED}
        result = run("jobs", "retry", "--queue", "batch", "--yes", "-o", "json", recorder=fleet)
        assert result.exit_code == Exit.REFUSED
        answers = [json.loads(line)["error"]["code"] for line in result.stdout.splitlines()]
        assert sorted(answers) == ["job_ended", "job_not_running"]

    def test_ids_from_a_pipe_are_asked_once_each_without_a_question(self) -> None:
        recorder = Recorder()
        result = run("jobs", "cancel", "-", recorder=recorder, stdin="b\n\na\nb\n")
        assert (result.exit_code, sorted(canceled(recorder))) == (Exit.OK, ["a", "b"])
        assert result.stdout == "jobs  outcome\n   2  done     now canceled\n"

    def test_a_piped_id_that_has_ended_is_status_three_as_a_named_one_is(self) -> None:
        result = run("jobs", "retry", "-", recorder=Recorder(GONE), stdin="a\n")
        assert result.exit_code == Exit.REFUSED

    def test_a_line_that_is_no_id_stops_it_before_anybody_is_asked(self) -> None:
        recorder = Recorder()
        result = run("jobs", "cancel", "-", recorder=recorder, stdin="a\nb c\n")
        assert (result.exit_code, canceled(recorder)) == (Exit.USAGE, [])
        assert "line 2: given: 'b c'; allowed: one id a line" in result.stderr

    def test_a_new_rank_goes_with_each_request(self, fleet: Projected) -> None:
        options = ("--in-queue", "batch", "--in-priority", "medium", "--priority", "high")
        run("jobs", "reprioritize", *options, "--state", "queued", "--yes", recorder=fleet)
        assert {fields["priority"] for _, fields in fleet.controlled} == {Priority.HIGH}
        assert len(fleet.controlled) == 3


@pytest.mark.anyio
class TestAskAll:
    async def test_so_many_are_asked_at_a_time_and_no_more(self) -> None:
        waiting, most = 0, 0

        async def ask(job: JobId) -> Reply:
            nonlocal waiting, most
            waiting += 1
            most = max(most, waiting)
            await anyio.lowlevel.checkpoint()
            waiting -= 1
            return Reply(job_id=job, status="canceled")

        jobs = [JobId(f"j{number}") for number in range(1000)]
        tally = Tally(CANCEL, as_json=False, chosen=True)
        await ask_all(jobs, ask, tally)
        assert (most, tally.exit) == (IN_FLIGHT_MAX, Exit.OK)
        assert sorted(tally.carried_out) == sorted(jobs)

    async def test_silence_ends_it_and_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        asked = 0

        async def ask(job: JobId) -> Reply:
            nonlocal asked
            asked += 1
            await anyio.lowlevel.checkpoint()
            raise LogUnavailable(f"nobody serves it, {job[0]}")

        jobs = [JobId(f"j{number}") for number in range(1000)]
        tally = Tally(CANCEL, as_json=False, chosen=True)
        await ask_all(jobs, ask, tally)
        assert (asked, tally.exit) == (UNANSWERED_MAX - 1 + IN_FLIGHT_MAX, Exit.UNREACHABLE)
        assert capsys.readouterr().out.splitlines()[1:] == [
            " 921  not asked   too many had no answer",
            "  79  unanswered  nobody serves it, j",
        ]

    async def test_what_its_node_has_still_to_do_is_said(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async def ask(job: JobId) -> Reply:
            return Reply(job_id=job, status="paused" if job == "j1" else "processing")

        tally = Tally(PAUSE, as_json=False, chosen=True)
        await ask_all([JobId("j1"), JobId("j2"), JobId("j3")], ask, tally)
        assert capsys.readouterr().out.splitlines()[1:] == [
            "   2  done     now processing; its node is told to pause it",
            "   1  done     now paused",
        ]


@pytest.mark.parametrize(
    ("verb", "status", "words"),
    [
        (PAUSE, "processing", "processing; its node is told to pause it"),
        (PAUSE, "paused", "paused"),
        (RESUME, "paused", "paused; its node is told to resume it"),
        (RESUME, "processing", "processing"),
        (CANCEL, "assigned", "assigned; its node is told to cancel it"),
        (CANCEL, "canceled", "canceled"),
        (CANCEL, "a_later_state", "a_later_state"),
        (RETRY, "processing", "processing"),
    ],
)
def test_an_answer_says_whether_a_node_has_still_to_act(
    verb: Verb, status: str, words: str
) -> None:
    assert come_to(verb, status) == words
