"""What is said of a job that has ended, word for word."""

import pytest
from msgspec.structs import replace

from events.job import (
    AttemptLost,
    Canceled,
    Completed,
    Failed,
    FailureClass,
    LossCause,
    Promoted,
    Queued,
    QueuedAfter,
    Rejected,
    Retried,
    RetryScheduled,
)
from events.media import MadeFile
from tests.explaining import N1, N2, Story, failing, given, one_node, running
from tests.vocabulary import instant

FILE = MadeFile(path="a.mp4", size_bytes=1, duration_s=1.0)


class TestEnded:
    def test_a_completed_job_says_where_and_how_long(self) -> None:
        story = one_node()
        running(story)
        story.job("a", Completed(node=N1, attempt=1, files=(FILE,)))
        assert story.says("a", at_s=65) == (
            (
                "Attempt 1 on n1 completed it 1 min ago; it ran for 1 s; its files do not have "
                "their final names yet."
            ),
            "the worker on n1 gives them their final names, also after a restart",
        )
        story.job("a", Promoted(node=N1, attempt=1))
        assert story.says("a", at_s=65) == (
            "Attempt 1 on n1 completed it 1 min ago; it ran for 1 s.",
            "",
        )

    @pytest.mark.parametrize(
        ("failure", "advice"),
        [
            (
                FailureClass.PERMANENT,
                "the same again fails the same: mend the input or the request first",
            ),
            (FailureClass.TRANSIENT, "the same again may work"),
            (FailureClass.RESOURCE, "another node, or this one with more room, may do it"),
            (
                FailureClass.INFRASTRUCTURE,
                "look at the nodes it was on first: it may take others down as well",
            ),
        ],
    )
    def test_a_failed_job_says_whether_a_retry_would_help(
        self, failure: FailureClass, advice: str
    ) -> None:
        story = one_node()
        running(story)
        story.job("a", failing(failure), Failed(failure=failure, reason="moov", attempts=1))
        assert story.says("a", at_s=9) == (
            f"It failed 3 s ago after 1 attempt ({failure}): moov.",
            f"nothing by itself; `ffrtmp jobs retry a` runs it again ({advice})",
        )

    def test_each_attempt_is_told_with_its_node_and_its_end(self) -> None:
        story = one_node()
        running(story)
        story.job("a", failing(), RetryScheduled(not_before=instant(7), delay_s=1.0, failures=1))
        story.job("a", Queued(after=QueuedAfter.BACKOFF), given(N2, 2))
        story.job("a", AttemptLost(node=N2, attempt=2, cause=LossCause.NOT_STARTED))
        story.job("a", Failed(failure=FailureClass.TRANSIENT, reason="enough", attempts=2))
        first, second = story.explain("a").attempts
        assert (first.node, first.started, first.ended) == (N1, instant(4), instant(5))
        assert first.end == "failed (transient): connection reset"
        assert (second.node, second.started, second.ended) == (N2, None, instant(9))
        assert second.end == "lost: it was not started in time"

    def test_a_canceled_job_says_by_whom_and_when(self) -> None:
        story = one_node()
        story.job("a", Canceled(by="ann", reason="too late"))
        assert story.says("a", at_s=9) == (
            "It was canceled 6 s ago by ann (too late), before any attempt.",
            "nothing by itself; `ffrtmp jobs retry a` runs it again",
        )

    def test_a_rejected_request_names_the_field(self) -> None:
        story = Story()
        story.job("a", Rejected(reason="given: h26x; allowed: h264", field="$.codec"))
        told = story.explain("a", at_s=3)
        assert (told.summary, told.next) == (
            "It was rejected 2 s ago for $.codec: given: h26x; allowed: h264.",
            "nothing by itself; mend the request, and submit it anew under another id",
        )
        assert (told.weight, told.requires) == (0.0, ())

    def test_a_retried_job_is_told_as_the_new_one_it_is(self) -> None:
        story = one_node()
        story.job("a", Canceled(by="ann"), Retried(by="bob"))
        assert story.says("a")[0] == "It is next in line, and n1 has room for it."

    def test_an_unknown_job_is_an_error_by_name(self) -> None:
        told = Story().explain("a")
        assert told.error is not None
        assert (told.error.code, told.status) == ("job_unknown", "")


def test_an_answer_is_of_its_sequence_and_its_hour() -> None:
    story = one_node()
    told = story.explain("a", at_s=9)
    assert (told.seq, told.time, told.waited_s) == (2, instant(9), 7.0)
    assert (told.weight, told.policy, told.requires) == (10.0, "weighted", ("engine:noop",))
    running(story)
    assert replace(story.explain("a"), summary="").waited_s == 1.0
