"""What `ffrtmp up` says of the processes it keeps."""

from datetime import datetime

from services.cli.host.up import line
from services.supervise import ChildState, ChildStatus
from tests.fakes import T0


class NoonClock:
    """It is noon."""

    def now(self) -> datetime:
        return T0

    def monotonic_s(self) -> float:
        return 0.0


def said(status: ChildStatus) -> list[str]:
    return line(status, NoonClock()).split("\n")


def test_a_worker_that_was_drained_can_be_started_again_by_hand() -> None:
    again = "ffrtmp --data-dir /data worker --node-id n1"
    left = ChildStatus(
        name="worker-n1", state=ChildState.STOPPED, exit="exit status 0", again=again
    )
    first, second = said(left)
    assert first.startswith("12:00:00  worker-n1")
    assert first.endswith("stopped  left in order; start it again with:")
    assert second == f"          | {again}"


def test_a_child_that_was_told_to_stop_needs_no_advice() -> None:
    (only,) = said(ChildStatus(name="worker-n1", state=ChildState.STOPPED, exit="exit status 0"))
    assert only.endswith("stopped")


def test_a_child_that_crashed_shows_its_last_words() -> None:
    first, *words = said(
        ChildStatus(
            name="scheduler",
            state=ChildState.BACKING_OFF,
            exit="exit status 3",
            last_lines=("boom",),
            retry_s=2.0,
        )
    )
    assert first.endswith("backing off  exit status 3  again in 2.0 s")
    assert words == ["          | boom"]
