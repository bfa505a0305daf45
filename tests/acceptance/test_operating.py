"""Nodes are taken out and let back over the real command line, in a fleet of real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from events import subjects
from events.ids import JobId, NodeId
from tests.fleet import Fleet, fleet

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance, pytest.mark.nats]
N1 = subjects.node(NodeId("n1"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ffrtmp(running: Fleet, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.cli.main", "--nats", running.server.url, *args],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env=os.environ | {"USER": "ann", "LOGNAME": "ann"},
        )

    return await anyio.to_thread.run_sync(run)


async def answer(running: Fleet, *args: str) -> dict[str, Any]:
    done = await ffrtmp(running, *args, "--output", "json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def kinds_on(running: Fleet, subject: subjects.Subject) -> dict[str, int]:
    """Return the last sequence of each type on a subject."""
    return {at.type: at.seq for at in await running.backbone.ledger.read(subject)}


async def test_a_node_is_cordoned_uncordoned_drained_and_removed(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        running.start_scheduler()
        running.start_projector()
        running.start_worker("n1", slots=2)
        await running.serving(subjects.API_CANCEL)
        await running.serving(subjects.QUERY, b'{"sql":"select 1"}')
        await running.registered(1)

        cordoned = await ffrtmp(running, "nodes", "cordon", "n1", "--reason", "new driver")
        assert (cordoned.returncode, cordoned.stdout) == (0, "n1  online, cordoned\n")
        await running.submit([{"engine": "noop", "job_id": "clip"}])
        last = await running.backbone.ledger.last_seq()
        await running.sql("SELECT 1", after_seq=last)
        listed = await ffrtmp(running, "nodes", "list")
        assert "cordoned by ann: new driver" in listed.stdout
        refused = await ffrtmp(running, "nodes", "remove", "n1", "--yes")
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "n1: the node is online; drain it first" in refused.stderr

        uncordoned = await ffrtmp(running, "nodes", "uncordon", "n1")
        assert (uncordoned.returncode, uncordoned.stdout) == (0, "n1  online\n")
        await running.eventually(
            lambda: running.count("status = 'completed'"), lambda count: count == 1, "clip is done"
        )
        let_back = (await kinds_on(running, N1))["node.uncordoned.v1"]
        assigned = (await kinds_on(running, subjects.job(JobId("clip"))))["job.assigned.v1"]
        assert assigned > let_back > last

        drained = await ffrtmp(running, "nodes", "drain", "n1", "--reason", "reboot", "--wait")
        assert (drained.returncode, drained.stderr) == (0, "")
        assert drained.stdout.splitlines()[-1] == "n1  drained"
        removed = await ffrtmp(running, "nodes", "remove", "n1", "--yes")
        assert (removed.returncode, removed.stdout) == (0, "n1  removed\n")

        last = await running.backbone.ledger.last_seq()
        await running.sql("SELECT 1", after_seq=last)
        told = await answer(running, "nodes", "describe", "n1")
        assert [(change["change"], change["reason"]) for change in told["history"]] == [
            ("registered", None),
            ("cordoned", "new driver"),
            ("uncordoned", None),
            ("draining", "reboot"),
            ("drained", None),
            ("removed", None),
        ]
        assert "n1" not in (await ffrtmp(running, "nodes", "list")).stdout


async def test_the_policy_is_set_and_shown_and_kept(tmp_path: Path) -> None:
    async with fleet(tmp_path) as running:
        running.start_scheduler()
        await running.serving(subjects.API_CANCEL)
        reply = await answer(
            running,
            *("policy", "set", "--kind", "fair", "--share", "news=3", "--reason", "elections"),
        )
        assert reply["status"] == "fair"
        running.kill("scheduler")
        shown = await answer(running, "policy", "show")
        assert (shown["policy"]["kind"], shown["policy"]["shares"]) == ("fair", {"news": 3.0})
        assert (shown["seq"], shown["by"], shown["reason"]) == (reply["seq"], "ann", "elections")
