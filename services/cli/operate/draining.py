"""Watches nodes drain: a line when something has ended there, and one when all has."""

from collections.abc import Sequence

import click
from msgspec import Struct

from events import subjects
from events.codec import Fact, Recorded, Unknown
from events.ids import NodeId
from events.node import Available, Drained, Lost, Refused, Registered, Removed, Uncordoned
from services.cli.invocation import Exit, Fleet
from services.cli.output import complain, show_json


class Drain(Struct, frozen=True, kw_only=True):
    """How far one node has come; what programs get, one a line."""

    node_id: NodeId
    drained: bool = False
    over: bool = False
    """Nothing more is to be waited for."""
    busy: int | None = None
    """Slots that are in use; None: not known."""
    slots: int | None = None
    reason: str = ""
    """Why it will not be drained; empty: it is, or still may be."""


async def watch_drain(fleet: Fleet, nodes: Sequence[NodeId], *, after: int, as_json: bool) -> Exit:
    """Wait until these nodes are drained; FAILED when one of them will not be.

    `after` is a ledger sequence before the orders to drain them.
    """
    waiting = dict.fromkeys(nodes)
    failed = False
    if not waiting:
        return Exit.OK
    if not as_json:
        click.echo(f"waiting for what runs on {', '.join(waiting)}; Ctrl-C does not stop the drain")
    filters = [subjects.only(subjects.node(node)) for node in waiting]
    async with fleet.backbone.ledger.follow(after=after, filters=filters) as batches:
        async for batch in batches:
            for node, seen in _newest(batch).items():
                if node not in waiting:
                    continue
                _show(seen, as_json=as_json)
                if seen.over:
                    del waiting[node]
                    failed = failed or not seen.drained
            if not waiting:
                break
    return Exit.FAILED if failed else Exit.OK


def _newest(batch: Sequence[Recorded]) -> dict[NodeId, Drain]:
    """Return the last that a batch tells of each node; an end is the last there is to tell."""
    found: dict[NodeId, Drain] = {}
    for recorded in batch:
        node = subjects.node_of(recorded.subject)
        seen = told(node, recorded.fact)
        if seen is not None and not (node in found and found[node].over):
            found[node] = seen
    return found


def told(node: NodeId, fact: Fact | Unknown) -> Drain | None:
    """Return what one fact tells of a node that is to drain; None: nothing."""
    match fact:
        case Available(slots=slots, free=free, refusing=""):  # else nothing is free, used or not
            return Drain(node_id=node, busy=max(slots - free, 0), slots=slots)
        case Drained():
            return Drain(node_id=node, drained=True, over=True)
        case Uncordoned(by=by):
            return _failed(node, f"it was let back{f' by {by}' if by else ''}")
        case Lost(reason=reason):
            return _failed(node, f"it was lost on the way{f': {reason}' if reason else ''}")
        case Registered():
            return _failed(node, "its worker was started anew; the node is cordoned")
        case Removed() | Refused():
            return _failed(node, "it is gone")
        case _:
            return None


def _failed(node: NodeId, reason: str) -> Drain:
    return Drain(node_id=node, over=True, reason=reason)


def _show(seen: Drain, *, as_json: bool) -> None:
    if as_json:
        show_json(seen)
    elif seen.drained:
        click.echo(f"{seen.node_id}  drained")
    elif seen.over:
        complain(f"{seen.node_id} will not be drained: {seen.reason}")
    else:
        click.echo(f"{seen.node_id}  draining, {seen.busy} of {seen.slots} slots in use")
