"""What `ffrtmp up` says of the processes it keeps."""

from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.host.up import line
from services.cli.invocation import Invocation
from services.cli.main import main
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


@pytest.mark.parametrize(
    ("environment", "settings", "words"),
    [
        ({"FFRTMP_NODE_DEAD_S": "abc"}, "", "'abc' by FFRTMP_NODE_DEAD_S; allowed: a number"),
        ({}, "[worker]\nstall_s = -1\n", "-1 by [worker] stall_s; allowed: a number above 0"),
        ({}, "[scheduler]\nnonsense = 1\n", "[scheduler] nonsense: unknown setting; allowed: "),
        ({}, "[projector]\nnonsense = 1\n", "[projector] nonsense: unknown setting; allowed: "),
    ],
)
def test_nothing_is_started_with_settings_that_a_service_would_refuse(
    environment: dict[str, str], settings: str, words: str, tmp_path: Path
) -> None:
    config, data_dir = tmp_path / "ffrtmp.toml", tmp_path / "data"
    config.write_text(settings)
    invocation = Invocation(data_dir=data_dir, config=config, environment=environment)
    result = CliRunner().invoke(main, ["up"], obj=invocation)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert not data_dir.exists()
