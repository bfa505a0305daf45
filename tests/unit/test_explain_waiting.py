"""What is said of a job that waits, word for word."""

import pytest

from events.ids import JobId
from events.job import (
    Completed,
    Declined,
    Failed,
    FailureClass,
    Queued,
    QueuedAfter,
    RetryScheduled,
)
from events.node import (
    Available,
    CircuitOpened,
    Cordoned,
    Drained,
    Draining,
    Hardware,
    Lost,
    Registered,
    Removed,
    Suspected,
)
from events.requests import Verdict
from tests.explaining import N1, Story, failing, given, one_node, running
from tests.vocabulary import instant
from tests.worlds import noop

GIB = 2**30


class TestPending:
    def test_a_start_time_is_told_with_the_time_left(self) -> None:
        story = Story()
        story.submit("a", noop(not_before=instant(100).isoformat()))
        assert story.says("a", at_s=10) == (
            "It was asked not to begin before 12:01:40 UTC.",
            "its start time comes at 12:01:40 UTC, in 1 min 30 s; then it is queued",
        )
        assert story.says("a", at_s=100) == (
            "All that it waited for is there.",
            "the scheduler queues it with its next look, within a second",
        )

    def test_each_dependency_that_is_missing_is_told_with_its_state(self) -> None:
        story = one_node()
        story.submit("d", noop(depends_on=["a", "b", "c"]))
        story.submit("b")
        running(story, "b")
        story.job("b", Completed(node=N1, attempt=1))
        running(story, "a")
        assert story.says("d") == (
            "It waits for 2 of 3 jobs: a (processing on n1) and c (nobody has submitted it).",
            (
                "somebody submits c (until 2026-02-01 12:00:03 UTC, in 23 h 59 min, or this one "
                "ends), and a completes; then it is queued"
            ),
        )

    def test_a_dependency_that_has_failed_ends_it(self) -> None:
        story = Story()
        story.submit("d", noop(depends_on=["a"], on_dependency_failure="skip"))
        story.submit("a")
        story.job("a", Failed(failure=FailureClass.PERMANENT, reason="no input", attempts=1))
        assert story.says("d") == (
            "It waits for 1 job: a (failed).",
            "a is failed, so this one is canceled with the scheduler's next look, within a second",
        )

    def test_a_start_time_counts_beside_dependencies(self) -> None:
        story = Story()
        story.submit("d", noop(depends_on=["a"], not_before=instant(100).isoformat()))
        story.submit("a")
        assert story.says("d")[1] == (
            "a completes, and its start time comes at 12:01:40 UTC, in 1 min 38 s; "
            "then it is queued"
        )

    def test_a_back_off_is_told_with_the_failure_before_it(self) -> None:
        story = one_node()
        running(story)
        story.job("a", failing(), RetryScheduled(not_before=instant(20), delay_s=5.0, failures=1))
        assert story.says("a", at_s=12) == (
            (
                "Attempt 1 on n1 failed (transient): connection reset. It backs off before the "
                "next attempt; 1 of 3 failures allowed so far."
            ),
            "its back-off ends at 12:00:20 UTC, in 8 s; then it is queued again",
        )
        assert story.says("a", at_s=20)[1].startswith("the scheduler queues it with its next look")


class TestQueued:
    def test_no_node_is_registered(self) -> None:
        story = Story()
        story.submit("a")
        assert story.says("a") == (
            "It is next in line, but no node is registered.",
            "a worker starts: `ffrtmp worker` on the machine that is to do it",
        )

    def test_a_removed_node_is_none(self) -> None:
        story = one_node()
        story.node("n1", Drained(), Removed())
        assert story.says("a")[0] == "It is next in line, but no node is registered."

    def test_no_node_has_what_it_needs(self) -> None:
        story = one_node()
        story.submit("g", noop(requires=["codec:av1"]))
        assert story.says("g", at_s=23) == (
            "It can run nowhere: no node has codec:av1 (1 node looked at).",
            (
                "a worker that can do it registers; otherwise the job is rejected at 12:02:03 UTC, "
                "in 1 min 40 s"
            ),
        )
        told = story.explain("g")
        assert told.excluded == {"lacks codec:av1": 1}
        assert told.verdicts == (Verdict(node=N1, able=False, reason="lacks codec:av1"),)

    def test_no_node_is_large_enough(self) -> None:
        story = Story()
        hardware = Hardware(cpu_threads=8, memory_bytes=16 * GIB)
        registered = Registered(epoch=1, slots=4, capabilities=("engine:noop",), hardware=hardware)
        story.node("n1", registered)
        story.submit("a", noop(limits={"cpu_threads": 64}))
        assert story.says("a")[0] == (
            "It can run nowhere: it asks for 64 CPU threads; the largest node has 8 CPU threads "
            "(1 node looked at)."
        )
        assert story.explain("a").excluded == {"too small": 1}

    def test_a_full_node_frees_when_what_runs_there_ends(self) -> None:
        story = one_node(slots=2)
        for job in ("r1", "r2"):
            story.submit(job)
            running(story, job)
        assert story.says("a", at_s=65) == (
            "It is next in line, but the one node that can run it, n1, is full.",
            "an attempt on n1 ends (2 run; the longest is r1 on n1, for 1 min)",
        )
        assert story.explain("a").verdicts == (
            Verdict(node=N1, able=False, reason="full: 2 of 2 slots taken"),
        )

    def test_a_node_short_of_memory_says_how_much(self) -> None:
        story = Story()
        hardware = Hardware(cpu_threads=8, memory_bytes=16 * GIB)
        story.node(
            "n1", Registered(epoch=1, slots=4, capabilities=("engine:noop",), hardware=hardware)
        )
        for job in ("r", "a"):
            story.submit(job, noop(limits={"memory_bytes": 10 * GIB}))
        running(story, "r")
        told = story.explain("a")
        assert told.summary == (
            "It is next in line, but the one node that can run it, n1, is short of memory."
        )
        assert told.verdicts[0].reason == "memory: needs 10 GiB, 6 GiB free"

    def test_nodes_are_counted_by_reason_and_told_the_likeliest_first(self) -> None:
        story = one_node()
        for name in ("n2", "n3", "n4", "n5"):
            story.register(name)
        running(story, "a")
        story.submit("b")
        story.node("n2", Cordoned())
        story.node("n3", Suspected(), Lost(reason="no heartbeat for 15.1 s"))
        opened = CircuitOpened(until=instant(100), failures=3, attempts=4)
        story.node("n4", opened)
        story.node("n5", Available(epoch=1, slots=1, free=1, refusing="disk: 1.0 GB free"))
        told = story.explain("b")
        assert told.summary == (
            "It is next in line, but none of the 5 nodes that can run it is free: 1 full, "
            "1 cordoned, 1 lost, 1 circuit open, 1 refusing."
        )
        assert told.next.startswith("an attempt on n1 ends")
        assert [(each.node, each.reason) for each in told.verdicts] == [
            ("n1", "full: 1 of 1 slot taken"),
            ("n5", "refusing: disk: 1.0 GB free"),
            ("n4", "circuit open: until 12:01:40 UTC"),
            ("n2", "cordoned"),
            ("n3", "lost: no heartbeat for 15.1 s"),
        ]
        assert (told.nodes, sum(told.excluded.values())) == (5, 5)

    @pytest.mark.parametrize(
        ("fact", "adjective", "remedy"),
        [
            (
                Cordoned(),
                "cordoned",
                "somebody lets n1 have work again: `ffrtmp nodes uncordon n1`",
            ),
            (
                Draining(),
                "draining",
                "another node that can run it registers, or n1 after its drain",
            ),
            (Suspected(), "suspected", "n1 speaks again"),
            (Lost(), "lost", "n1 speaks again, or its worker is started again"),
            (Drained(), "offline", "the worker on n1 is started again"),
            (
                Available(epoch=1, slots=1, free=1, refusing="disk: full"),
                "refusing",
                "n1 takes work again; it says: disk: full",
            ),
            (
                CircuitOpened(until=instant(100), failures=3, attempts=4),
                "circuit open",
                "n1 is tried again; too much failed there: its circuit is open until 12:01:40 UTC",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) and " " not in value else "",
    )
    def test_each_reason_has_its_remedy(self, fact: object, adjective: str, remedy: str) -> None:
        story = one_node()
        story.node("n1", fact)  # type: ignore[arg-type]  # one of the facts above
        assert story.says("a") == (
            f"It is next in line, but the one node that can run it, n1, is {adjective}.",
            remedy,
        )

    def test_a_node_that_declined_is_full_until_it_reports_room(self) -> None:
        story = one_node(slots=2)
        story.job("a", given(), Declined(node=N1, attempt=1))
        assert story.explain("a").verdicts[0].reason == (
            "full: 0 of 2 slots taken, and it declined work"
        )

    def test_a_node_where_it_lacked_something_is_avoided(self) -> None:
        story = one_node()
        story.register("n2")
        story.submit("b")
        running(story)
        story.job(
            "a",
            failing(FailureClass.RESOURCE),
            RetryScheduled(not_before=instant(7), delay_s=1.0, failures=1),
            Queued(after=QueuedAfter.BACKOFF),
        )
        running(story, "b", "n2")
        told = story.explain("a")
        assert [(each.node, each.reason) for each in told.verdicts] == [
            ("n2", "full: 1 of 1 slot taken"),
            ("n1", "avoided: an attempt of this job found too little there"),
        ]

    def test_a_free_node_takes_the_first_in_line_at_once(self) -> None:
        story = one_node()
        story.submit("b")
        assert story.says("a") == (
            "It is next in line, and n1 has room for it.",
            "the scheduler assigns it with its next pass, within a second",
        )
        assert story.says("b") == (
            "It is 2nd in line, behind a; n1 has room.",
            "a gets its node first; if room is left then, it is assigned in the same pass",
        )

    def test_a_job_that_is_claimed_is_on_its_way(self) -> None:
        story = one_node()
        story.world.claim(JobId("a"), N1)
        told = story.explain("a")
        assert (told.position, told.summary) == (None, "It is being given to a node just now.")
        assert told.next == "its assignment is recorded"

    def test_a_missed_deadline_is_said(self) -> None:
        story = one_node()
        story.submit("b", noop(deadline=instant(30).isoformat()))
        assert story.says("b", at_s=29)[0] == "It is next in line, and n1 has room for it."
        assert story.says("b", at_s=42)[0] == (
            "It is next in line, and n1 has room for it. Its deadline passed 12 s ago."
        )
