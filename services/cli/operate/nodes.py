"""`ffrtmp nodes cordon`, `uncordon`, `drain`, `remove`: what is ordered of nodes."""

import getpass
from collections.abc import Awaitable, Callable, Sequence

import click

from events.ids import NodeId
from events.requests import Reply
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.jobs.arguments import job_id as checked
from services.cli.jobs.filtered.asking import confirmed
from services.cli.operate.draining import watch_drain
from services.cli.output import complain, show_json

ALIVE = ("online", "suspected")
"""States of nodes whose workers can end what runs."""


@click.command()
@click.argument("node_ids", nargs=-1, required=True, metavar="NODE…", callback=checked)
@click.option("--reason", default="", help="Why; kept in the ledger, shown by `nodes list`.")
@output_option
@pass_invocation
def cordon(invocation: Invocation, /, *, node_ids: tuple[str, ...], reason: str) -> int:
    """Give nodes nothing new; what runs there goes on.

    A cordon outlives restarts, of the worker too, until `uncordon`.
    """

    async def work(fleet: Fleet) -> int:
        order = _signed(fleet.client.cordon, reason)
        return _exit(await _order(invocation, node_ids, order))

    return invocation.work(work)


@click.command()
@click.argument("node_ids", nargs=-1, required=True, metavar="NODE…", callback=checked)
@output_option
@pass_invocation
def uncordon(invocation: Invocation, /, *, node_ids: tuple[str, ...]) -> int:
    """Let nodes have work again, whoever or whatever took them out.

    Ends a cordon, a drain that has not come to its end, and the pause of a circuit breaker.
    """

    async def work(fleet: Fleet) -> int:
        by = getpass.getuser()
        return _exit(
            await _order(invocation, node_ids, lambda node: fleet.client.uncordon(node, by=by))
        )

    return invocation.work(work)


@click.command()
@click.argument("node_ids", nargs=-1, required=True, metavar="NODE…", callback=checked)
@click.option("--reason", default="", help="Why; kept in the ledger, shown by `nodes list`.")
@click.option("--wait", is_flag=True, help="Return when nothing runs there any more.")
@output_option
@pass_invocation
def drain(invocation: Invocation, /, *, node_ids: tuple[str, ...], reason: str, wait: bool) -> int:
    """Let nodes finish what runs there, give them nothing new, and end their workers.

    A worker that is started again finds its node cordoned. A node that is lost is cordoned only.
    """

    async def work(fleet: Fleet) -> int:
        before = await fleet.backbone.ledger.last_seq()
        replies = await _order(invocation, node_ids, _signed(fleet.client.drain, reason))
        done = _exit(replies)
        if not wait:
            return done
        waiting = [
            NodeId(reply.node_id)
            for reply in replies
            if reply.error is None and reply.status.split(",")[0] in ALIVE
        ]
        drained = await watch_drain(fleet, waiting, after=before, as_json=invocation.json)
        return done if drained is Exit.OK else drained

    return invocation.work(work)


@click.command()
@click.argument("node_ids", nargs=-1, required=True, metavar="NODE…", callback=checked)
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
@pass_invocation
def remove(invocation: Invocation, /, *, node_ids: tuple[str, ...], yes: bool) -> int:
    """Forget nodes that do not live: drained, lost or refused ones.

    A removed node comes back when its worker registers.
    """
    answer = True if yes else confirmed(f"remove {', '.join(node_ids)}?")
    if answer is None:
        raise click.UsageError("nobody is here to confirm it: nothing was removed; give --yes")
    if not answer:
        complain("nothing was removed")
        return Exit.FAILED

    async def work(fleet: Fleet) -> int:
        by = getpass.getuser()
        return _exit(
            await _order(invocation, node_ids, lambda node: fleet.client.remove(node, by=by))
        )

    return invocation.work(work)


def _signed(
    order: Callable[..., Awaitable[Reply]], reason: str
) -> Callable[[NodeId], Awaitable[Reply]]:
    """Return an order that says who gives it, and why."""
    by = getpass.getuser()
    return lambda node: order(node, by=by, reason=reason)


async def _order(
    invocation: Invocation, node_ids: Sequence[str], order: Callable[[NodeId], Awaitable[Reply]]
) -> list[Reply]:
    """Order the same of each node and show the answers; a refusal keeps back no other order."""
    replies: list[Reply] = []
    for node_id in dict.fromkeys(node_ids):
        reply = await order(NodeId(node_id))
        replies.append(reply)
        if invocation.json:
            show_json(reply)
        elif reply.error is None:
            again = "" if reply.seq else "  (it was already)"
            click.echo(f"{node_id}  {reply.status}{again}")
        else:
            complain(f"refused: {reply.error.message}")
    return replies


def _exit(replies: Sequence[Reply]) -> Exit:
    return Exit.REFUSED if any(reply.error for reply in replies) else Exit.OK
