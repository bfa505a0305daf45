"""Where a job stands in the line, and who is ahead by which rule."""

import pytest

from events.cluster import Policy, PolicyChanged, PolicyKind
from events.ids import JobId
from events.requests import Rival
from services.scheduler.explaining import line
from tests.explaining import Story
from tests.vocabulary import instant
from tests.worlds import noop


class TestLine:
    def test_who_is_ahead_is_told_with_the_rule(self) -> None:
        story = Story()
        story.submit("old", noop(queue="batch", priority="low"))
        for _ in range(4):
            story.register("n1")
        story.submit("peer", noop(queue="batch", priority="low"))
        story.submit("a", noop(queue="batch", priority="low"))
        story.submit("live", noop(queue="live"))
        told = story.explain("a")
        assert told.ahead == (
            Rival(job=JobId("live"), why="live/medium weighs 20, this one 1"),
            Rival(job=JobId("old"), why="weighs the same and was submitted 6 s earlier"),
            Rival(job=JobId("peer"), why="weighs the same and was submitted 1 s earlier"),
        )
        assert (told.position, told.overall, told.waiting, told.estimate) == (4, 4, 4, "")

    def test_a_lighter_job_is_ahead_by_its_age(self) -> None:
        story = Story(Policy(aging_s_per_weight=0.1))
        story.submit("old", noop(queue="batch", priority="low"))
        story.register("n1")
        story.submit("a")
        assert story.explain("a").ahead == (
            Rival(job=JobId("old"), why="weighs 1, not 10, but was submitted 2 s earlier"),
        )

    def test_an_earlier_deadline_goes_before_equals(self) -> None:
        story = Story()
        story.submit("a")
        story.submit("due", noop(deadline=instant(60).isoformat()))
        assert story.explain("a").ahead == (
            Rival(job=JobId("due"), why="weighs the same and is due earlier"),
        )

    def test_other_needs_count_overall_but_not_in_its_own_line(self) -> None:
        story = Story()
        story.submit("g", noop(queue="live", requires=["gpu"]))
        story.submit("a")
        told = story.explain("a")
        assert (told.position, told.overall, told.ahead) == (1, 2, ())
        assert told.summary.startswith("It is next among jobs with its needs (2nd in all), but")

    def test_strict_goes_by_queue_then_priority_then_age(self) -> None:
        story = Story(Policy(kind=PolicyKind.STRICT))
        story.submit("same", noop(queue="batch", priority="low"))
        story.submit("a", noop(queue="batch", priority="low"))
        story.submit("better", noop(queue="batch", priority="high"))
        story.submit("live", noop(queue="live"))
        told = story.explain("a")
        assert (told.policy, told.position) == ("strict", 4)
        assert told.ahead == (
            Rival(job=JobId("live"), why="queue live goes before batch"),
            Rival(job=JobId("better"), why="priority high goes before low"),
            Rival(job=JobId("same"), why="same rank, was submitted 1 s earlier"),
        )

    def test_fair_is_about_for_turns_may_come_in_between(self) -> None:
        story = Story(Policy(kind=PolicyKind.FAIR))
        for job in ("a1", "a2"):
            story.submit(job, noop(tenant="ann"))
        story.submit("b1", noop(tenant="bob"))
        told = story.explain("a2")
        assert (told.policy, told.position, told.estimate) == ("fair", 3, "about")
        assert Rival(job=JobId("b1"), why="of tenant bob, whose turn comes first") in told.ahead
        assert told.summary.startswith("It is about 3rd in line, behind a1 and b1")

    def test_the_policy_in_force_is_the_last_one_recorded(self) -> None:
        story = Story()
        story.submit("a")
        story.fleet(PolicyChanged(policy=Policy(kind=PolicyKind.STRICT)))
        assert story.explain("a").policy == "strict"

    def test_more_than_are_counted_is_at_least(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(line, "AHEAD_COUNTED_MAX", 7)
        story = Story()
        for number in range(10):
            story.submit(f"j{number}")
        told = story.explain("j9")
        assert (told.position, told.overall, told.estimate) == (8, None, "at least")
        assert told.summary.startswith(
            "It is at least 8th in line (far back in all), behind j0, j1, j2 and 4 more"
        )
        assert [rival.job for rival in told.ahead] == ["j0", "j1", "j2", "j3", "j4"]
        exact = story.explain("j6")
        assert (exact.position, exact.overall, exact.estimate) == (7, 7, "")
