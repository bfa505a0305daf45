import getpass
import json
from pathlib import Path

import pytest

from events import subjects
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    Completed,
    Failed,
    FailureClass,
    Promoted,
    Queued,
    QueuedAfter,
    Rejected,
    RetryScheduled,
    Started,
    Submitted,
)
from events.media import EncodeStats, MadeFile
from events.requests import Problem, Reply
from events.spec import JobSpec
from events.telemetry import LogChunk, OutputStream
from services.clock import SystemClock
from tests.unit.cli_fleet import Recorder, Story, of_job, run

N1 = NodeId("n1")
FILE = MadeFile(path="j1.mp4", size_bytes=1500, duration_s=4.0)
WELL = of_job(
    "j1",
    Submitted(spec=JobSpec()),
    Assigned(node=N1, attempt=1),
    Started(node=N1, attempt=1),
    Completed(node=N1, attempt=1, files=(FILE,), stats=EncodeStats(encoder="libx264")),
    Promoted(node=N1, attempt=1),
)
BADLY = of_job(
    "j1",
    Submitted(spec=JobSpec()),
    Assigned(node=N1, attempt=1),
    Started(node=N1, attempt=1),
    AttemptFailed(node=N1, attempt=1, failure=FailureClass.PERMANENT, message="moov not found"),
    Failed(failure=FailureClass.PERMANENT, reason="moov not found", attempts=1),
)
LOGS = [
    (
        subjects.logs(JobId("j1"), attempt),
        LogChunk(
            node=N1, attempt=attempt, number=0, stream=OutputStream.STDERR, lines=("one", "two")
        ),
    )
    for attempt in (1, 2)
]
REFUSAL = Reply(error=Problem(code="invalid", message="$.x: no", field="$.x"))


class TestSubmit:
    def test_a_job_without_an_id_gets_one_before_it_is_sent(self) -> None:
        recorder = Recorder()
        result = run("jobs", "submit", "--engine", "noop", recorder=recorder)
        (job,) = recorder.submitted
        assert result.exit_code == 0
        assert job.job_id is not None
        assert result.output == f"{job.job_id}  queued\n"

    def test_a_job_with_a_key_keeps_its_id_to_the_service(self) -> None:
        recorder = Recorder()
        run("jobs", "submit", "--idempotency-key", "k", recorder=recorder)
        assert [(job.job_id, job.idempotency_key) for job in recorder.submitted] == [(None, "k")]

    def test_a_scenario_is_an_argument_or_an_option_but_not_both(self) -> None:
        recorder = Recorder()
        run("jobs", "submit", "720p30-h264", recorder=recorder)
        run("jobs", "submit", "--scenario", "4K60-h265", recorder=recorder)
        both = run("jobs", "submit", "720p30-h264", "--scenario", "4K60-h265", recorder=recorder)
        assert [job.scenario for job in recorder.submitted] == ["720p30-h264", "4K60-h265"]
        assert both.exit_code == 2

    def test_a_file_says_by_itself_how_many_jobs_there_are(self) -> None:
        recorder = Recorder()
        result = run("jobs", "submit", "--file", "-", "--count", "2", stdin="{}", recorder=recorder)
        assert (result.exit_code, recorder.submitted) == (2, [])
        assert "--file says how many jobs there are; leave out --count" in result.stderr

    def test_json_is_the_reply(self) -> None:
        result = run("jobs", "submit", "--id", "j1", "-o", "json")
        assert json.loads(result.stdout) == {"job_id": "j1", "status": "queued", "seq": 1}

    def test_a_refusal_by_the_service_is_status_three(self) -> None:
        result = run("jobs", "submit", recorder=Recorder(REFUSAL))
        assert (result.exit_code, result.stderr) == (3, "ffrtmp: refused: $.x: no\n")

    def test_a_wrong_option_is_status_two_and_nothing_is_sent(self) -> None:
        recorder = Recorder()
        result = run("jobs", "submit", "--codec", "h26x", recorder=recorder)
        assert (result.exit_code, recorder.submitted) == (2, [])
        assert "Error: --codec: Invalid enum value 'h26x'" in result.stderr

    def test_follow_is_status_zero_only_with_the_output_in_place(self) -> None:
        well = run("jobs", "submit", "--id", "j1", "--follow", story=WELL)
        badly = run("jobs", "submit", "--id", "j1", "--follow", story=BADLY)
        assert (well.exit_code, badly.exit_code) == (0, 1)
        assert well.stdout == "j1  ✔ completed  on n1, attempt 1  → j1.mp4\n"
        assert badly.stdout == "j1  ✖ failed  on n1, attempt 1  moov not found\n"

    def test_follow_in_json_is_a_line_for_every_change(self) -> None:
        result = run("jobs", "submit", "--id", "j1", "--follow", "-o", "json", story=WELL)
        seen = [json.loads(line) for line in result.stdout.splitlines()]
        assert [(sight["status"], sight.get("promoted", False)) for sight in seen] == [
            ("queued", False),
            ("assigned", False),
            ("processing", False),
            ("completed", False),
            ("completed", True),
        ]


class TestBulk:
    def test_lines_become_jobs_and_a_wrong_line_is_refused_by_its_number(self) -> None:
        recorder = Recorder()
        lines = '{"engine":"noop"}\n\n{"engine":"nope"}\n[]\n{"job_id":"mine"}\n'
        result = run("jobs", "submit", "--file", "-", recorder=recorder, stdin=lines)
        assert result.exit_code == 3
        assert result.stdout == "2 accepted, 0 were there already, 2 refused\n"
        assert [job.job_id for job in recorder.submitted][1] == "mine"
        assert all(job.job_id for job in recorder.submitted)
        first, second = result.stderr.splitlines()
        assert first.startswith("ffrtmp: refused: line 3: $.engine: Invalid enum value 'nope'")
        assert second.startswith("ffrtmp: refused: line 4: no JSON object: ")

    def test_options_are_what_lines_do_not_say(self, tmp_path: Path) -> None:
        file, recorder = tmp_path / "jobs.jsonl", Recorder()
        file.write_text('{"queue":"live"}\n{}\n')
        options = ("--queue", "batch", "--id", "b")
        result = run("jobs", "submit", *options, "--file", str(file), recorder=recorder)
        assert result.exit_code == 0
        assert [(job.queue, job.job_id) for job in recorder.submitted] == [
            ("live", "b-1"),
            ("batch", "b-2"),
        ]

    def test_a_count_is_sent_in_chunks_and_numbered(self) -> None:
        recorder = Recorder()
        result = run(
            "jobs", "submit", "--count", "2500", "--idempotency-key", "k", recorder=recorder
        )
        assert result.stdout == "2,500 accepted, 0 were there already, 0 refused\n"
        assert [job.idempotency_key for job in recorder.submitted] == [
            f"k-{number}" for number in range(1, 2501)
        ]

    def test_json_is_a_reply_a_line(self) -> None:
        result = run("jobs", "submit", "--count", "2", "--id", "j", "-o", "json")
        assert [json.loads(line)["job_id"] for line in result.stdout.splitlines()] == ["j-1", "j-2"]


class TestStatus:
    def test_a_job_is_told_from_its_own_facts(self) -> None:
        result = run("jobs", "status", "j1", story=WELL)
        assert result.exit_code == 0
        assert "state      ✔ completed" in result.stdout
        assert "output     j1.mp4  1.5 kB  4 s" in result.stdout
        assert result.stdout.count("job.") == 5

    def test_json_has_the_history_and_the_facts_as_they_lie(self) -> None:
        detail = json.loads(run("jobs", "status", "j1", "-o", "json", story=BADLY).stdout)
        assert (detail["status"], detail["reason"]) == ("failed", "moov not found")
        assert [moment["type"] for moment in detail["history"]] == [
            "job.submitted.v1",
            "job.assigned.v1",
            "job.started.v1",
            "job.attempt_failed.v1",
            "job.failed.v1",
        ]
        assert detail["history"][1]["data"] == {"node": "n1", "attempt": 1}

    def test_a_rejected_command_has_a_reason_and_no_specification(self) -> None:
        story = of_job("j1", Rejected(reason="$.codec: no", field="$.codec", request="{}"))
        detail = json.loads(run("jobs", "status", "j1", "-o", "json", story=story).stdout)
        assert (detail["status"], detail["reason"], detail["spec"]) == (
            "rejected",
            "$.codec: no",
            None,
        )

    def test_a_job_in_back_off_is_retrying(self) -> None:
        later = SystemClock().now()
        retry = RetryScheduled(not_before=later, delay_s=5.0, failures=1)
        story = [*BADLY[:4], *of_job("j1", retry)]
        assert "↻ retrying" in run("jobs", "status", "j1", story=story).stdout

    def test_an_unknown_job_is_status_one(self) -> None:
        result = run("jobs", "status", "j2", story=WELL)
        assert result.exit_code == 1
        assert result.stderr.startswith("ffrtmp: no job 'j2' in the ledger;")

    def test_an_id_that_cannot_be_one_is_status_two(self) -> None:
        result = run("jobs", "status", "a.b")
        assert result.exit_code == 2
        assert "given: 'a.b'; allowed: 1 to 64 letters, digits, _ or -" in result.stderr

    @pytest.mark.parametrize(("story", "status"), [(WELL, 0), (BADLY, 1)])
    def test_follow_ends_with_the_job(self, story: Story, status: int) -> None:
        assert run("jobs", "status", "j1", "--follow", story=story).exit_code == status


class TestLogs:
    def test_lines_come_with_attempt_and_stream(self) -> None:
        result = run("jobs", "logs", "j1", story=WELL, logs=LOGS)
        assert result.stdout == "1 stderr: one\n1 stderr: two\n2 stderr: one\n2 stderr: two\n"

    def test_a_line_cannot_steer_the_terminal(self) -> None:
        chunk = LogChunk(
            node=N1, attempt=1, number=0, stream=OutputStream.STDERR, lines=("\x1b]0;x\x07ü\t1",)
        )
        told = run("jobs", "logs", "j1", story=WELL, logs=[(LOGS[0][0], chunk)]).stdout
        assert told == "1 stderr: \ufffd]0;x\ufffdü\t1\n"

    def test_one_attempt_alone(self) -> None:
        result = run("jobs", "logs", "j1", "--attempt", "2", story=WELL, logs=LOGS)
        assert result.stdout == "2 stderr: one\n2 stderr: two\n"

    def test_follow_ends_with_the_job_and_repeats_nothing(self) -> None:
        result = run("jobs", "logs", "j1", "--follow", story=WELL, logs=LOGS)
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "1 stderr: one",
            "1 stderr: two",
            "2 stderr: one",
            "2 stderr: two",
        ]

    def test_json_is_a_line_of_output_a_line(self) -> None:
        result = run("jobs", "logs", "j1", "-o", "json", story=WELL, logs=LOGS[:1])
        first = json.loads(result.stdout.splitlines()[0])
        assert sorted(first) == ["attempt", "line", "node", "seq", "stream", "time"]
        assert (first["stream"], first["line"]) == ("stderr", "one")


class TestCancel:
    def test_each_job_is_asked_for_by_name(self) -> None:
        recorder = Recorder()
        result = run("jobs", "cancel", "j1", "j2", "--reason", "enough", recorder=recorder)
        assert (result.exit_code, result.stdout) == (0, "j1  canceled\nj2  canceled\n")
        assert [(asked.job_id, asked.reason) for asked in recorder.canceled] == [
            ("j1", "enough"),
            ("j2", "enough"),
        ]

    def test_a_refusal_is_status_three(self) -> None:
        result = run("jobs", "cancel", "j1", recorder=Recorder(REFUSAL))
        assert (result.exit_code, result.stderr) == (3, "ffrtmp: refused: $.x: no\n")


class TestControl:
    @pytest.mark.parametrize(
        ("arguments", "fields"),
        [
            (("pause", "j1", "--reason", "noon"), {"reason": "noon"}),
            (("resume", "j1"), {}),
            (("retry", "j1"), {}),
            (("reprioritize", "j1", "--queue", "live"), {"queue": "live"}),
            (("reprioritize", "j1", "--priority", "low"), {"priority": "low"}),
        ],
        ids=" ".join,
    )
    def test_a_job_is_asked_for_by_name(
        self, arguments: tuple[str, ...], fields: dict[str, str]
    ) -> None:
        recorder = Recorder()
        result = run("jobs", *arguments, recorder=recorder)
        assert (result.exit_code, result.stdout) == (0, "j1  after 1\n")
        asked = {"job_id": "j1", "by": getpass.getuser(), **fields}
        assert recorder.controlled == [(arguments[0], asked)]

    def test_a_job_that_is_refused_keeps_back_no_other(self) -> None:
        recorder = Recorder(REFUSAL)
        result = run("jobs", "retry", "j1", "j2", "-o", "json", recorder=recorder)
        assert (result.exit_code, len(result.stdout.splitlines())) == (3, 2)
        assert [asked["job_id"] for _, asked in recorder.controlled] == ["j1", "j2"]

    def test_a_new_rank_must_say_something(self) -> None:
        recorder = Recorder()
        result = run("jobs", "reprioritize", "j1", recorder=recorder)
        assert (result.exit_code, recorder.controlled) == (2, [])
        assert "give --queue, --priority or both" in result.stderr


class TestEvents:
    def test_a_type_needs_no_version(self) -> None:
        result = run("events", "tail", "job.completed", "--no-follow", "-o", "json", story=WELL)
        (event,) = [json.loads(line) for line in result.stdout.splitlines()]
        assert (event["seq"], event["type"]) == (4, "job.completed.v1")
        assert event["data"]["files"] == [{"path": "j1.mp4", "size_bytes": 1500, "duration_s": 4.0}]

    def test_a_subject_selects_an_entity(self) -> None:
        story = [*WELL, *of_job("j2", Submitted(spec=JobSpec()))]
        result = run("events", "tail", "ffrtmp.job.j2", "--no-follow", story=story)
        assert len(result.stdout.splitlines()) == 1
        assert "job.j2" in result.stdout

    def test_it_begins_a_few_events_before_the_end_or_where_asked(self) -> None:
        last = run("events", "tail", "--no-follow", "--last", "2", story=WELL).stdout
        since = run("events", "tail", "--no-follow", "--since", "2", story=WELL).stdout
        assert [line.split()[0] for line in last.splitlines()] == ["4", "5"]
        assert [line.split()[0] for line in since.splitlines()] == ["2", "3", "4", "5"]

    @pytest.mark.parametrize("pattern", ["job.submitted", "ffrtmp.job.j1"])
    def test_the_last_events_are_the_last_that_fit(self, pattern: str) -> None:
        story = [*WELL, *of_job("j2", *(Queued(after=QueuedAfter.LOSS) for _ in range(20)))]
        result = run("events", "tail", pattern, "--last", "1", "--no-follow", story=story)
        (line,) = result.stdout.splitlines()
        assert "job.j1" in line

    def test_a_sequence_to_come_is_no_gap(self) -> None:
        result = run("events", "tail", "--no-follow", "--since", "99", story=WELL)
        assert (result.exit_code, result.output) == (0, "")

    @pytest.mark.parametrize("wrong", ["ffrtmp..x", "ffrtmp.a b", "ffrtmp.>.x", "ffrtmp."])
    def test_a_subject_that_cannot_be_one_is_status_two(self, wrong: str) -> None:
        result = run("events", "tail", wrong, "--no-follow", story=WELL)
        assert result.exit_code == 2
        assert f"given: {wrong!r}; allowed: words with dots between" in result.stderr

    def test_a_type_that_no_event_has_is_status_two_with_the_nearest(self) -> None:
        result = run("events", "tail", "job.complete", "--no-follow", story=WELL)
        assert result.exit_code == 2
        assert "did you mean 'job.completed'?" in result.stderr

    @pytest.mark.parametrize("right", ["ffrtmp.>", "ffrtmp.job.*", "job.*", "job.completed.v1"])
    def test_wildcards_and_versions_are_filters(self, right: str) -> None:
        result = run("events", "tail", right, "--no-follow", story=WELL)
        assert result.exit_code == 0
        assert "job.completed.v1" in result.stdout


def test_output_may_stand_before_the_command_too() -> None:
    result = run("-o", "json", "jobs", "submit", "--id", "j1")
    assert json.loads(result.stdout)["job_id"] == "j1"
