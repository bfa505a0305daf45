"""`ffrtmp jobs cancel`, `pause`, `resume`, `retry`, `reprioritize`: what is asked of a job."""

import getpass
from collections.abc import Awaitable, Callable, Sequence

import click

from events.ids import JobId
from events.requests import Reply
from events.spec import Priority, Queue
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.jobs.arguments import job_id as checked
from services.cli.jobs.watch import watch_to_end
from services.cli.output import complain, show_json


@click.command()
@click.argument("job_ids", nargs=-1, required=True, callback=checked)
@click.option("--reason", default="", help="Why; kept in the ledger.")
@click.option("--follow", is_flag=True, help="Wait until they have ended.")
@output_option
@pass_invocation
def cancel(
    invocation: Invocation, /, *, job_ids: tuple[str, ...], reason: str, follow: bool
) -> int:
    """End jobs, wherever they are."""

    async def work(fleet: Fleet) -> int:
        done = await _ask_each(
            invocation,
            job_ids,
            lambda job: fleet.client.cancel(job, by=getpass.getuser(), reason=reason),
        )
        if follow and done is Exit.OK:
            await watch_to_end(fleet, [JobId(job) for job in job_ids], as_json=invocation.json)
        return done

    return invocation.work(work)


@click.command()
@click.argument("job_ids", nargs=-1, required=True, callback=checked)
@click.option("--reason", default="", help="Why; kept in the ledger.")
@output_option
@pass_invocation
def pause(invocation: Invocation, /, *, job_ids: tuple[str, ...], reason: str) -> int:
    """Stop the processes of running jobs where they are.

    They keep their slots and their memory, and their time-outs stand still.
    """

    async def work(fleet: Fleet) -> int:
        return await _ask_each(
            invocation,
            job_ids,
            lambda job: fleet.client.pause(job, by=getpass.getuser(), reason=reason),
        )

    return invocation.work(work)


@click.command()
@click.argument("job_ids", nargs=-1, required=True, callback=checked)
@output_option
@pass_invocation
def resume(invocation: Invocation, /, *, job_ids: tuple[str, ...]) -> int:
    """Let paused jobs go on."""

    async def work(fleet: Fleet) -> int:
        return await _ask_each(
            invocation, job_ids, lambda job: fleet.client.resume(job, by=getpass.getuser())
        )

    return invocation.work(work)


@click.command()
@click.argument("job_ids", nargs=-1, required=True, callback=checked)
@output_option
@pass_invocation
def retry(invocation: Invocation, /, *, job_ids: tuple[str, ...]) -> int:
    """Run failed or canceled jobs again, as if none of their attempts had failed."""

    async def work(fleet: Fleet) -> int:
        return await _ask_each(
            invocation, job_ids, lambda job: fleet.client.retry(job, by=getpass.getuser())
        )

    return invocation.work(work)


@click.command()
@click.argument("job_ids", nargs=-1, required=True, callback=checked)
@click.option("--queue", type=click.Choice([word.value for word in Queue]))
@click.option("--priority", type=click.Choice([word.value for word in Priority]))
@output_option
@pass_invocation
def reprioritize(
    invocation: Invocation,
    /,
    *,
    job_ids: tuple[str, ...],
    queue: str | None,
    priority: str | None,
) -> int:
    """Rank jobs that have not ended anew; what is not given stays as it is."""
    if queue is None and priority is None:
        raise click.UsageError("nothing to change: give --queue, --priority or both")
    rank = (Queue(queue) if queue else None, Priority(priority) if priority else None)

    async def work(fleet: Fleet) -> int:
        return await _ask_each(
            invocation,
            job_ids,
            lambda job: fleet.client.reprioritize(job, rank, by=getpass.getuser()),
        )

    return invocation.work(work)


async def _ask_each(
    invocation: Invocation, job_ids: Sequence[str], ask: Callable[[JobId], Awaitable[Reply]]
) -> Exit:
    """Ask the same of each job and show the answers; one that is refused keeps back no other."""
    refused = False
    for job_id in job_ids:
        reply = await ask(JobId(job_id))
        if invocation.json:
            show_json(reply)
        elif reply.error is None:
            click.echo(f"{job_id}  {reply.status}")
        else:
            complain(f"refused: {reply.error.message}")
        refused = refused or reply.error is not None
    return Exit.REFUSED if refused else Exit.OK
