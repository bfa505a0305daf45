"""The command line on a real fleet: many jobs found by their labels, canceled, retried, listed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from events import subjects
from tests.fleet import Fleet, fleet

pytestmark = [pytest.mark.acceptance, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def some_jobs() -> list[dict[str, Any]]:
    """Return 60 jobs that no node takes, half of them of the show x, and two that fail."""
    waiting = [
        {
            "job_id": f"{show}-{number:02}",
            "engine": "noop",
            "queue": "batch",
            "requires": ["gpu"],
            "labels": {"show": show, "day": str(number % 2)},
        }
        for number in range(30)
        for show in "xy"
    ]
    failing = [
        {"job_id": f"bad-{number}", "input": f"missing-{number}.mp4", "labels": {"show": "z"}}
        for number in range(2)
    ]
    return waiting + failing


async def ffrtmp(made: Fleet, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-m", "services.cli.main", "jobs", *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "FFRTMP_NATS": made.server.url},
        )
    )


def ids(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the ids of a list, or of answers one a line, in order."""
    found: list[str] = []
    for line in done.stdout.splitlines():
        told: Any = json.loads(line)
        jobs: list[dict[str, Any]] = told if line.startswith("[") else [told]
        found += [job["job_id"] for job in jobs]
    return sorted(found)


async def test_exactly_those_with_the_label_are_canceled_retried_and_listed(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as made:
        made.start_scheduler(unschedulable_s=3600)
        made.start_projector()
        made.start_worker("n1", slots=2)
        await made.serving(subjects.QUERY)
        await made.registered(1)
        await made.submit(some_jobs())
        wanted = [f"x-{number:02}" for number in range(1, 30, 2)]
        which = ("--label", "show=x", "--label", "day=1")

        refused = await ffrtmp(made, "cancel", *which)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith("cancel: 15 jobs (label show=x, label day=1)\n")
        canceled = await ffrtmp(made, "cancel", *which, "--yes", "-o", "json")
        assert (canceled.returncode, ids(canceled)) == (0, wanted)
        again = await ffrtmp(made, "cancel", *which, "--yes")
        assert (again.returncode, again.stdout) == (0, "")
        assert again.stderr.endswith("nothing to do\n")
        listed = await ffrtmp(made, "list", "--state", "canceled", "-o", "json")
        assert ids(listed) == wanted

        retried = await ffrtmp(made, "retry", *which, "--yes")
        assert (retried.returncode, retried.stdout) == (
            0,
            "jobs  outcome\n  15  done     now queued\n",
        )
        await made.eventually(
            lambda: made.count("status = 'queued'"), lambda count: count == 60, "60 queued again"
        )
        piped = await ffrtmp(made, "cancel", "-", stdin="y-01\ny-02\nnobody\n")
        assert piped.returncode == 3
        assert "there is no such job" in piped.stdout

        await made.eventually(
            lambda: made.count("status = 'failed'"), lambda count: count == 2, "two failures"
        )
        dead = await ffrtmp(made, "dead", "--label", "show=z", "-o", "json")
        told = {
            (job["job_id"], job["failure_class"], job["retry"]) for job in json.loads(dead.stdout)
        }
        assert told == {("bad-0", "permanent", "no"), ("bad-1", "permanent", "no")}
        grouped = await ffrtmp(made, "dead", "--group", "-o", "json")
        assert [group["jobs"] for group in json.loads(grouped.stdout)] == [2]
