"""What is said of a job that a node has, or has just had, word for word."""

import pytest

from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    CancelRequested,
    FailureClass,
    LossCause,
    Paused,
    PauseRequested,
    Placement,
    Queued,
    QueuedAfter,
    ResumeRequested,
    RetryScheduled,
)
from events.node import (
    Lost,
    Suspected,
)
from tests.explaining import N1, Story, failing, given, one_node, running
from tests.vocabulary import instant
from tests.worlds import noop


class TestHeld:
    def test_an_assignment_is_told_with_its_reason_and_its_limit(self) -> None:
        story = one_node()
        placement = Placement(candidates=3, free=4, runner_up="n2")
        story.job("a", Assigned(node=N1, attempt=1, placement=placement))
        assert story.says("a", at_s=5) == (
            (
                "It was given to n1 2 s ago as attempt 1, which has not started it yet. It was the "
                "best of 3 nodes that could take it, with 4 slots free, then came n2."
            ),
            (
                "n1 starts it; otherwise the attempt is given up at 12:01:03 UTC, in 58 s, and the "
                "job is queued again"
            ),
        )

    def test_an_overdue_assignment_is_given_up(self) -> None:
        story = one_node()
        story.job("a", given())
        assert story.says("a", at_s=63) == (
            (
                "Attempt 1 was given to n1, which has not started it in time (not started within "
                "60 s)."
            ),
            (
                "the scheduler gives the attempt up with its next look, within a second, and "
                "decides what follows"
            ),
        )

    def test_an_attempt_on_a_lost_node_is_given_up(self) -> None:
        story = one_node()
        running(story)
        story.node("n1", Lost())
        assert story.says("a")[0] == "Attempt 1 was given to n1, which is lost."

    def test_a_doubtful_node_is_named_as_such(self) -> None:
        story = one_node()
        running(story)
        story.node("n1", Suspected())
        assert story.says("a")[0] == "Attempt 1 runs on n1 for 1 s (the node is suspected)."

    def test_a_running_attempt_is_told_with_its_age_and_its_limits(self) -> None:
        story = Story()
        story.register("n1")
        story.submit("a", noop(timeout_s=600))
        running(story)
        story.job("a", failing(), RetryScheduled(not_before=instant(7), delay_s=1.0, failures=1))
        story.job("a", Queued(after=QueuedAfter.BACKOFF))
        running(story, attempt=2)
        assert story.says("a", at_s=129) == (
            "Attempt 2 runs on n1 for 2 min. 1 earlier attempt failed.",
            (
                "the attempt ends; if it makes no progress for 60 s, or has not ended at 12:10:09 "
                "UTC, in 8 min (its own time-out), it is given up"
            ),
        )

    def test_a_request_to_pause_is_told_until_it_is_confirmed(self) -> None:
        story = one_node()
        running(story)
        story.job("a", PauseRequested(attempt=1, by="ann", reason="noon"))
        assert story.says("a", at_s=9) == (
            "Attempt 1 was asked to pause 4 s ago by ann (noon); n1 has not confirmed it yet.",
            "n1 stops its processes",
        )
        story.job("a", Paused(attempt=1))
        assert story.says("a", at_s=90) == (
            (
                "Attempt 1 is paused on n1 for 1 min 24 s by ann (noon); it keeps its slot, and "
                "its time-outs stand still."
            ),
            "somebody lets it go on: `ffrtmp jobs resume a`",
        )
        story.job("a", ResumeRequested(attempt=1, by="bob"))
        assert story.says("a") == (
            "Attempt 1 was asked to go on just now by bob; n1 has not confirmed it yet.",
            "n1 lets its processes run again",
        )

    def test_a_cancel_waits_for_the_process_to_be_gone(self) -> None:
        story = one_node()
        running(story)
        story.job("a", CancelRequested(by="ann"))
        assert story.says("a", at_s=8) == (
            "Its end was asked for 3 s ago by ann; attempt 1 is still on n1.",
            "n1 ends its processes; then it is canceled",
        )


class TestHalted:
    def test_what_follows_is_what_will_be_decided(self) -> None:
        story = one_node()
        running(story)
        story.job("a", failing())
        assert story.says("a") == (
            "Attempt 1 on n1 failed (transient): connection reset.",
            (
                "within a second it is given another attempt, to begin after 4 s: 1 of 3 failures "
                "allowed so far"
            ),
        )

    @pytest.mark.parametrize(
        ("ending", "summary", "follows"),
        [
            (
                failing(FailureClass.PERMANENT),
                "Attempt 1 on n1 failed (permanent): connection reset.",
                "it is failed: no attempt is left that could help",
            ),
            (
                AttemptLost(node=N1, attempt=1, cause=LossCause.NODE_LOST),
                "Attempt 1 on n1 was lost: its node went silent.",
                "it is queued again: the loss was not its fault",
            ),
            (
                AttemptLost(node=N1, attempt=1, cause=LossCause.DRAINED),
                "Attempt 1 on n1 was handed back: its worker stopped.",
                "it is queued again: the loss was not its fault",
            ),
            (
                AttemptLost(
                    node=N1, attempt=1, cause=LossCause.STALLED, reason="no progress for 61 s"
                ),
                "Attempt 1 on n1 stalled: no progress for 61 s.",
                "it is given another attempt, to begin after 4 s: 1 of 3 failures allowed so far",
            ),
        ],
    )
    def test_each_ending_has_its_consequence(
        self, ending: AttemptFailed | AttemptLost, summary: str, follows: str
    ) -> None:
        story = one_node()
        running(story)
        story.job("a", ending)
        assert story.says("a") == (summary, f"within a second {follows}")

    def test_a_cancel_that_was_asked_for_is_what_follows(self) -> None:
        story = one_node()
        running(story)
        story.job("a", CancelRequested(by="ann"), failing())
        assert story.says("a")[1] == "within a second it is canceled, as asked for by ann"
