"""`ffrtmp jobs`: the group, and the commands that look at jobs."""

import anyio
import click

from events import subjects
from events.codec import Recorded
from events.ids import JobId
from events.telemetry import LogChunk
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.jobs.arguments import job_id as checked
from services.cli.jobs.control import cancel, pause, reprioritize, resume, retry
from services.cli.jobs.detail import detail_of, show_detail
from services.cli.jobs.explain import explain
from services.cli.jobs.filtered.listing import dead, list_jobs
from services.cli.jobs.follow import follow as follow_jobs
from services.cli.jobs.submit import submit
from services.cli.jobs.watch import watch_to_end
from services.cli.output import complain, show_json
from tui import present


@click.group()
def jobs() -> None:
    """Submit, list, follow and control jobs."""


for _command in (submit, list_jobs, explain, dead, cancel, pause, resume, retry, reprioritize):
    jobs.add_command(_command)


@jobs.command()
@click.argument("job_id", callback=checked)
@click.option("--follow", is_flag=True, help="Go on until the job has ended.")
@output_option
@pass_invocation
def status(invocation: Invocation, /, *, job_id: str, follow: bool) -> int:
    """Show one job and its history, straight from the ledger.

    With --follow the exit status is 0 only if the job has its output.
    """
    job = JobId(job_id)

    async def work(fleet: Fleet) -> int:
        detail = detail_of(job, await fleet.backbone.ledger.read(subjects.job(job)))
        if detail is None:
            return _unknown(job)
        if follow:
            return await watch_to_end(
                fleet, [job], after=detail.history[0].seq - 1, as_json=invocation.json
            )
        if invocation.json:
            show_json(detail)
        else:
            show_detail(detail)
        return Exit.OK

    return invocation.work(work)


@jobs.command()
@click.argument("job_id", callback=checked)
@click.option("--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--attempt", type=click.IntRange(1), help="Only this attempt.")
@output_option
@pass_invocation
def logs(invocation: Invocation, /, *, job_id: str, follow: bool, attempt: int | None) -> int:
    """Print what the job's processes printed."""
    job = JobId(job_id)
    chosen = subjects.logs_of_job(job)
    if attempt is not None:
        chosen = subjects.only(subjects.logs(job, attempt))
    printer = _LogPrinter(as_json=invocation.json)

    async def work(fleet: Fleet) -> int:
        if not await fleet.backbone.ledger.read(subjects.job(job)):
            return _unknown(job)
        if follow:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(printer.print_live, fleet, chosen)
                await follow_jobs(fleet.backbone, [job], lambda _: None)
                tasks.cancel_scope.cancel()
        await printer.print_new(fleet, chosen)
        return Exit.OK

    return invocation.work(work)


class _LogPrinter:
    """Prints log lines, each once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._seq = 0

    async def print_live(self, fleet: Fleet, chosen: subjects.Filter) -> None:
        """Print what is there and what comes, until cancelled."""
        await self._print_all(fleet, chosen, live=True)

    async def print_new(self, fleet: Fleet, chosen: subjects.Filter) -> None:
        """Print what has come since the last call."""
        await self._print_all(fleet, chosen, live=False)

    async def _print_all(self, fleet: Fleet, chosen: subjects.Filter, *, live: bool) -> None:
        logs = fleet.backbone.logs
        async with logs.follow(after=self._seq, filters=(chosen,), live=live) as batches:
            async for batch in batches:
                for recorded in batch:
                    self._print(recorded)

    def _print(self, recorded: Recorded) -> None:
        self._seq = recorded.seq
        chunk = recorded.fact
        if not isinstance(chunk, LogChunk):
            return
        for text in chunk.lines:
            if self._as_json:
                show_json(
                    {
                        "seq": recorded.seq,
                        "time": recorded.time,
                        "node": chunk.node,
                        "attempt": chunk.attempt,
                        "stream": chunk.stream,
                        "line": text,
                    }
                )
            else:
                click.echo(f"{chunk.attempt} {chunk.stream}: {present.printable(text)}")


def _unknown(job: JobId) -> Exit:
    complain(f"no job {job!r} in the ledger; `ffrtmp jobs list` shows what is there")
    return Exit.FAILED
