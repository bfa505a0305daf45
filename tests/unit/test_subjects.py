"""Where facts are filed."""

from collections.abc import Callable

import pytest

from events import subjects
from events.ids import JobId, NodeId
from events.subjects import Filter, Subject
from services.clock import Pen, SystemClock
from services.memory import memory_backbone
from services.scheduler.control.intake import Intake

BAD_TOKENS = ("", "a.b", "a b", "*", ">", "a\n", "\r\nPUB x", "ü", "a" * 65)

MAKERS: dict[str, Callable[[str], str]] = {
    "job": lambda token: subjects.job(JobId(token)),
    "node": lambda token: subjects.node(NodeId(token)),
    "telemetry_of_job": lambda token: subjects.telemetry_of_job(JobId(token)),
    "telemetry_of_node": lambda token: subjects.telemetry_of_node(NodeId(token)),
    "logs": lambda token: subjects.logs(JobId(token), 1),
    "logs_of_job": lambda token: subjects.logs_of_job(JobId(token)),
}


class TestSubjects:
    def test_every_entity_has_its_own_subject(self) -> None:
        assert subjects.job(JobId("clip-1")) == "ffrtmp.job.clip-1"
        assert subjects.node(NodeId("n_1")) == "ffrtmp.node.n_1"
        assert subjects.telemetry_of_job(JobId("j")) == "ffrtmp.telemetry.job.j"
        assert subjects.telemetry_of_node(NodeId("n")) == "ffrtmp.telemetry.node.n"
        assert subjects.logs(JobId("j"), 2) == "ffrtmp.logs.j.2"

    @pytest.mark.parametrize("token", BAD_TOKENS)
    @pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
    def test_what_is_no_token_is_refused(self, make: Callable[[str], object], token: str) -> None:
        with pytest.raises(ValueError, match="is no subject token; allowed: 1 to 64 letters"):
            make(token)

    def test_a_token_of_full_length_is_allowed(self) -> None:
        assert subjects.job(JobId("a" * 64)) == "ffrtmp.job." + "a" * 64

    def test_an_entity_is_read_from_its_subject(self) -> None:
        assert subjects.job_of("ffrtmp.job.j") == "j"
        assert subjects.node_of("ffrtmp.node.n") == "n"
        assert subjects.node_of_telemetry("ffrtmp.telemetry.node.n") == "n"

    @pytest.mark.parametrize(
        "read", [subjects.job_of, subjects.node_of, subjects.node_of_telemetry]
    )
    def test_a_foreign_subject_has_no_entity(self, read: Callable[[str], str]) -> None:
        with pytest.raises(AssertionError):
            read("ffrtmp.logs.j.1")

    def test_subjects_tell_what_they_are_of(self) -> None:
        subject = subjects.job(JobId("j"))
        assert (subjects.is_job(subject), subjects.is_node(subject)) == (True, False)
        subject = subjects.node(NodeId("n"))
        assert (subjects.is_job(subject), subjects.is_node(subject)) == (False, True)
        assert not subjects.is_job(subjects.telemetry_of_job(JobId("j")))


class TestFilters:
    @pytest.mark.parametrize(
        ("subject", "filters"),
        [
            (subjects.job(JobId("j")), (subjects.ALL_JOBS,)),
            (subjects.node(NodeId("n")), (subjects.ALL_NODES,)),
            (subjects.telemetry_of_job(JobId("j")), subjects.TELEMETRY),
            (subjects.telemetry_of_node(NodeId("n")), subjects.TELEMETRY),
            (subjects.telemetry_of_job(JobId("j")), (subjects.TELEMETRY_JOBS,)),
            (subjects.telemetry_of_node(NodeId("n")), (subjects.TELEMETRY_NODES,)),
            (subjects.logs(JobId("j"), 1), subjects.LOGS),
            (subjects.logs(JobId("j"), 1), (subjects.logs_of_job(JobId("j")),)),
            (subjects.COMMAND_SUBMIT, subjects.COMMANDS),
            (subjects.COMMAND_CANCEL, subjects.COMMANDS),
            (subjects.COMMAND_PAUSE, subjects.COMMANDS),
            (subjects.COMMAND_RESUME, subjects.COMMANDS),
            (subjects.COMMAND_RETRY, subjects.COMMANDS),
            (subjects.COMMAND_REPRIORITIZE, subjects.COMMANDS),
            (subjects.job(JobId("j")), (subjects.only(subjects.job(JobId("j"))),)),
        ],
    )
    def test_a_filter_selects_its_subjects(
        self, subject: Subject, filters: tuple[Filter, ...]
    ) -> None:
        assert any(_selects(pattern, subject) for pattern in filters)

    def test_streams_share_no_subject(self) -> None:
        samples = (
            (subjects.LEDGER, subjects.job(JobId("j"))),
            (subjects.LEDGER, subjects.node(NodeId("n"))),
            (subjects.TELEMETRY, subjects.telemetry_of_job(JobId("j"))),
            (subjects.LOGS, subjects.logs(JobId("j"), 1)),
            (subjects.COMMANDS, subjects.COMMAND_SUBMIT),
            (subjects.LEASES, subjects.LEASE_LEADER),
        )
        streams = tuple(dict.fromkeys(stream for stream, _ in samples))
        for own, subject in samples:
            taken = [s for s in streams if any(_selects(pattern, subject) for pattern in s)]
            assert taken == [own]

    def test_requests_that_are_answered_at_once_are_kept_by_no_stream(self) -> None:
        kept = (*subjects.LEDGER, *subjects.TELEMETRY, *subjects.LOGS, *subjects.COMMANDS)
        pen = Pen("test", SystemClock())
        answered = Intake(memory_backbone().ledger, pen, lambda: "x").endpoints()
        asked = [*answered, subjects.API_EXPLAIN, subjects.QUERY]
        assert [s for s in asked if any(_selects(pattern, s) for pattern in kept)] == []


def _selects(pattern: Filter, subject: Subject) -> bool:
    """Tell whether a NATS filter selects a subject: `*` is one token, `>` all that follow."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        token in {"*", piece} for token, piece in zip(wanted, given, strict=True)
    )
