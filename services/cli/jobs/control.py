"""`ffrtmp jobs cancel`, `pause`, `resume`, `retry`, `reprioritize`: what is asked of jobs.

Each is asked of jobs that are named, piped in, or chosen by a filter; the request is decided on the
ledger, whatever was shown before.
"""

import getpass
from collections.abc import Awaitable, Callable
from typing import Any

import click

from events.ids import JobId
from events.requests import Reply
from events.spec import Priority, Queue
from services.cli.invocation import Invocation, output_option, pass_invocation
from services.cli.jobs.filtered import verbs
from services.cli.jobs.filtered.selection import Order, carry_out, selection_of, selection_options
from services.client import Client

EPILOG = """
A filter's jobs are shown first and must be confirmed, on the terminal or by --yes; without a
terminal and without --yes nothing is asked, and the status is 2. Jobs in states in which it cannot
be asked of them are left out. Status 0: all that were asked did it, or had ended meanwhile; 3: some
were refused otherwise; 4: some gave no answer. To ask again is safe: what is done already stays as
it is.
"""


@click.command(epilog=EPILOG)
@click.option("--reason", default="", help="Why; kept in the ledger.")
@click.option("--follow", is_flag=True, help="Wait until they have ended.")
@selection_options()
@output_option
@pass_invocation
def cancel(
    invocation: Invocation,
    /,
    *,
    reason: str,
    follow: bool,
    **selected: Any,  # noqa: ANN401 - click hands over what the options above say
) -> int:
    """End jobs, wherever they are."""

    def ask(client: Client) -> Callable[[JobId], Awaitable[Reply]]:
        return lambda job: client.cancel(job, by=getpass.getuser(), reason=reason)

    order = Order(verb=verbs.CANCEL, ask=ask, follow=follow)
    return carry_out(invocation, selection_of(selected), order)


@click.command(epilog=EPILOG)
@click.option("--reason", default="", help="Why; kept in the ledger.")
@selection_options()
@output_option
@pass_invocation
def pause(
    invocation: Invocation,
    /,
    *,
    reason: str,
    **selected: Any,  # noqa: ANN401 - click hands over what the options above say
) -> int:
    """Stop the processes of running jobs where they are.

    They keep their slots and their memory, and their time-outs stand still.
    """

    def ask(client: Client) -> Callable[[JobId], Awaitable[Reply]]:
        return lambda job: client.pause(job, by=getpass.getuser(), reason=reason)

    return carry_out(invocation, selection_of(selected), Order(verb=verbs.PAUSE, ask=ask))


@click.command(epilog=EPILOG)
@selection_options()
@output_option
@pass_invocation
def resume(
    invocation: Invocation,
    /,
    **selected: Any,  # noqa: ANN401 - click hands over what the options above say
) -> int:
    """Let paused jobs go on.

    A filter without --state means jobs that stand still; with --state processing also one whose
    pause is still on its way to the node.
    """

    def ask(client: Client) -> Callable[[JobId], Awaitable[Reply]]:
        return lambda job: client.resume(job, by=getpass.getuser())

    return carry_out(invocation, selection_of(selected), Order(verb=verbs.RESUME, ask=ask))


@click.command(epilog=EPILOG)
@selection_options()
@output_option
@pass_invocation
def retry(
    invocation: Invocation,
    /,
    **selected: Any,  # noqa: ANN401 - click hands over what the options above say
) -> int:
    """Run failed or canceled jobs again, as if none of their attempts had failed.

    `jobs dead` shows which failed and why: `jobs retry --state failed --failure transient`.
    """

    def ask(client: Client) -> Callable[[JobId], Awaitable[Reply]]:
        return lambda job: client.retry(job, by=getpass.getuser())

    return carry_out(invocation, selection_of(selected), Order(verb=verbs.RETRY, ask=ask))


@click.command(epilog=EPILOG)
@click.option("--queue", type=click.Choice([word.value for word in Queue]), help="The new queue.")
@click.option(
    "--priority", type=click.Choice([word.value for word in Priority]), help="The new priority."
)
@selection_options(rank_prefix="in-")
@output_option
@pass_invocation
def reprioritize(
    invocation: Invocation,
    /,
    *,
    queue: str | None,
    priority: str | None,
    **selected: Any,  # noqa: ANN401 - click hands over what the options above say
) -> int:
    """Rank jobs that have not ended anew; what is not given stays as it is.

    --queue and --priority are the new rank; --in-queue and --in-priority filter by the present one.
    """
    if queue is None and priority is None:
        raise click.UsageError("nothing to change: give --queue, --priority or both")
    rank = (Queue(queue) if queue else None, Priority(priority) if priority else None)

    def ask(client: Client) -> Callable[[JobId], Awaitable[Reply]]:
        return lambda job: client.reprioritize(job, rank, by=getpass.getuser())

    return carry_out(invocation, selection_of(selected), Order(verb=verbs.REPRIORITIZE, ask=ask))
