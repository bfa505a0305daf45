"""The demo on a running fleet: submit, watch, ask, prove."""

from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.abc
import click
import msgspec
from msgspec import Struct

from events import subjects
from events.codec import Recorded
from events.job import Failed, Rejected
from events.requests import QueryRequest
from events.state.job import JobStatus
from services.backbone import Backbone
from services.cli.demo.accident import Accident
from services.cli.demo.media import prove
from services.cli.demo.raw import publish
from services.cli.demo.scenes import (
    FAILURE,
    REFUSED_FIELD,
    SURVIVOR,
    WRONG_CODEC,
    Scene,
    refused_request,
    scenes,
)
from services.cli.demo.view import showing
from services.cli.invocation import Fleet
from services.cli.jobs.follow import Observer, OnSight, Sight
from services.cli.look.query import ask, show_result
from services.cli.output import complain, show_table, styled
from services.client import Client
from services.log.jetstream.backbone import open_backbone
from tui import present

AUDITS = {
    "What is in the ledger?": (
        "SELECT type, count(*) AS events, min(seq) AS first, max(seq) AS last FROM audit "
        "GROUP BY type ORDER BY events DESC, type"
    ),
    "Why did each job run where it ran, and how long did it wait?": (
        "SELECT job_id, node, queue, priority, weight, round(waited_s, 2) AS waited_s, candidates, "
        "runner_up FROM assignments ORDER BY seq"
    ),
    "What was refused or failed, and why?": (
        "SELECT job_id, status, failure_class, failure_reason FROM jobs "
        "WHERE status IN ('failed', 'rejected') ORDER BY first_seq"
    ),
}
_RESULTS = (
    "SELECT job_id, status, node, wait_s, wall_s, speed, size_bytes, outputs FROM jobs "
    "ORDER BY first_seq"
)


class Stage(Struct, frozen=True, kw_only=True):
    """Where the demo plays."""

    url: str
    ffmpeg: Path
    output_root: Path
    pids: Mapping[str, int]
    """Process ids of the workers by the names of their nodes, as they are now."""


async def play(stage: Stage) -> bool:
    """Run all scenes, kill a worker; return whether all ended as it must and all outputs hold."""
    async with open_backbone(stage.url, name="ffrtmp demo") as backbone:
        fleet = Fleet(backbone, Client(backbone.bus))
        asked = scenes()
        watched = _Watched(asked, Accident(SURVIVOR, stage.pids))
        last_seq = 0
        async with anyio.create_task_group() as tasks:
            await tasks.start(_watch_progress, backbone, watched)
            tasks.start_soon(_submit, fleet, stage.url, asked)
            with showing(watched.observer.sights) as show:
                last_seq = await _watch(backbone, watched, show)
            tasks.cancel_scope.cancel()
        await _show_results(fleet, last_seq)
        problems = [*watched.problems(), *await _prove_all(stage, asked)]
    for problem in problems:
        complain(problem)
    return not problems


class _Watched:
    """What has been seen of the demo's jobs."""

    def __init__(self, asked: tuple[Scene, ...], accident: Accident) -> None:
        self._asked = asked
        self._accident = accident
        self.observer = Observer([scene.job_id for scene in asked])
        self._rejected: list[Rejected] = []
        self._failed: dict[str, Failed] = {}

    @property
    def over(self) -> bool:
        """Whether every job has ended, the one without an id of its own too."""
        return self.observer.over and bool(self._rejected)

    def progress(self, recorded: Recorded) -> None:
        """Take one report of a running attempt."""
        self.observer.progress(recorded)
        self._accident.see(recorded)

    def fact(self, recorded: Recorded) -> Sight | None:
        """Apply one fact of any job: the fleet is the demo's alone."""
        job = subjects.job_of(recorded.subject)
        self.observer.add(job)
        match recorded.fact:
            case Rejected() as rejected:
                self._rejected.append(rejected)
            case Failed() as failed:
                self._failed[job] = failed
            case _:
                pass
        return self.observer.fact(recorded)

    def problems(self) -> list[str]:
        """Return what did not end as it must."""
        found: list[str] = []
        for scene in self._asked:
            sight = self.observer.sights[scene.job_id]
            failed = self._failed.get(scene.job_id)
            if scene.outputs and not sight.well:
                found.append(f"{scene.job_id} is {sight.status}: {sight.reason}")
            elif not scene.outputs and (failed is None or failed.failure is not FAILURE):
                found.append(f"{scene.job_id} is {sight.status}, not failed as {FAILURE}")
        fields = [rejected.field for rejected in self._rejected]
        if fields != [REFUSED_FIELD]:
            found.append(f"rejected for {fields}, not for {REFUSED_FIELD} alone")
        if not all(WRONG_CODEC in rejected.reason for rejected in self._rejected):
            found.append("the rejection does not say what was given")
        accident = self._accident.problem(self.observer.sights[SURVIVOR].attempt)
        if accident is not None:
            found.append(accident)
        return found


async def _submit(fleet: Fleet, url: str, asked: tuple[Scene, ...]) -> None:
    """Submit the plain publishes first: they are at most once, so nothing may hide a loss."""
    raw = {msgspec.json.encode(scene.job): subjects.COMMAND_SUBMIT for scene in asked if scene.raw}
    await publish(url, {**raw, refused_request(): subjects.COMMAND_SUBMIT})
    for scene in asked:
        if not scene.raw:
            await fleet.client.submit(scene.job)


async def _watch(backbone: Backbone, watched: _Watched, show: OnSight) -> int:
    """Watch until all jobs have ended; return the ledger sequence of the last fact."""
    async with backbone.ledger.follow(after=0, filters=(subjects.ALL_JOBS,)) as batches:
        async for batch in batches:
            for recorded in batch:
                sight = watched.fact(recorded)
                if sight is not None:
                    show(sight)
            if watched.over:
                return batch[-1].seq
    raise AssertionError("a live log does not end")


async def _watch_progress(
    backbone: Backbone,
    watched: _Watched,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    async with backbone.telemetry.follow(after=0, filters=(subjects.TELEMETRY_JOBS,)) as batches:
        task_status.started()
        async for batch in batches:
            for recorded in batch:
                watched.progress(recorded)


async def _show_results(fleet: Fleet, last_seq: int) -> None:
    click.echo("\n== Results, from the projection")
    rows = await ask(fleet, _RESULTS, after_seq=last_seq)
    show_table(
        ("job", "state", "node", ">waited", ">encode", ">speed", ">size", "output"),
        [
            (
                row["job_id"],
                styled(present.job_look(str(row["status"]))),
                row["node"] or "",
                present.duration(row["wait_s"]),
                present.duration(row["wall_s"]),
                present.speed(row["speed"]),
                present.size(row["size_bytes"]),
                ", ".join(row["outputs"] or ()),
            )
            for row in rows
        ],
    )
    for question, statement in AUDITS.items():
        click.echo(f"\n== {question}\n   {statement}")
        result = await fleet.client.query(QueryRequest(sql=statement, after_seq=last_seq))
        show_result(result, as_json=False)


async def _prove_all(stage: Stage, asked: tuple[Scene, ...]) -> list[str]:
    click.echo("\n== Looking into every output: codecs, size, length, and that it decodes")
    problems: list[str] = []
    for scene in asked:
        for expected in scene.outputs:
            proof = await prove(stage.ffmpeg, stage.output_root, expected)
            look = present.job_look(JobStatus.FAILED if proof.problem else JobStatus.COMPLETED)
            click.echo(f"   {look.glyph} {proof.path:<22} {proof.found}  {proof.problem}".rstrip())
            if proof.problem:
                problems.append(f"{proof.path}: {proof.problem}")
    return problems
