"""`ffrtmp policy`: how waiting jobs are ranked, for the whole fleet."""

import getpass
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import click
import msgspec
from msgspec import Struct

from events.cluster import Policy, PolicyChanged, PolicyKind
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.output import complain, show_json, show_table
from tui import present

Payload: TypeAlias = dict[str, Any]
FIELDS = {"weight": "queues", "priority": "priorities", "share": "shares"}
"""Which field of the policy each repeated option fills."""


class Setting(Struct, frozen=True, kw_only=True):
    """The policy as the ledger has it; one that nobody has set is what a fresh fleet has."""

    policy: Policy = Policy()
    seq: int = 0
    """Ledger sequence of the change; 0: nobody has set one."""
    time: datetime | None = None
    by: str = ""
    reason: str = ""


@click.group()
def policy() -> None:
    """Show and set how waiting jobs are ranked."""


@policy.command()
@output_option
@pass_invocation
def show(invocation: Invocation, /) -> int:
    """Show the policy and its weights, and who set it."""

    async def work(fleet: Fleet) -> int:
        setting = await current(fleet)
        if invocation.json:
            show_json(in_full(setting))
        else:
            _show(setting)
        return Exit.OK

    return invocation.work(work)


@policy.command("set")
@click.option("--kind", type=click.Choice([kind.value for kind in PolicyKind]))
@click.option("--weight", multiple=True, metavar="QUEUE=W", help="As live=10; repeat.")
@click.option("--priority", multiple=True, metavar="PRIORITY=W", help="As high=3; repeat.")
@click.option("--share", multiple=True, metavar="TENANT=W", help="Under `fair`; repeat.")
@click.option(
    "--aging-s",
    type=float,
    help="Seconds of waiting that a weight of 1 is worth: the smaller, the nearer to first come.",
)
@click.option("--fresh", is_flag=True, help="Begin with what a fresh fleet has.")
@click.option("--reason", default="", help="Why; kept in the ledger.")
@output_option
@pass_invocation
def set_policy(
    invocation: Invocation,
    /,
    *,
    kind: str | None,
    aging_s: float | None,
    fresh: bool,
    reason: str,
    **weights: tuple[str, ...],
) -> int:
    """Rank jobs anew, the waiting ones too; what is not given stays as it is."""
    changes = _changes(kind, aging_s, weights)
    if not (changes or fresh):
        raise click.UsageError("nothing to change: give --kind, a weight, --aging-s or --fresh")
    changed(Policy(), changes)  # what is wrong in itself needs no fleet to tell

    async def work(fleet: Fleet) -> int:
        before = Policy() if fresh else (await current(fleet)).policy
        wanted = changed(before, changes)
        reply = await fleet.client.set_policy(wanted, by=getpass.getuser(), reason=reason)
        if reply.error is not None:
            complain(f"refused: {reply.error.message}")
            return Exit.REFUSED
        if invocation.json:
            show_json(reply)
        else:
            _show(await current(fleet))
        return Exit.OK

    return invocation.work(work)


async def current(fleet: Fleet) -> Setting:
    """Return the policy that the ledger has now."""
    from events import subjects  # noqa: PLC0415 - not for --help

    setting = Setting()
    for at in await fleet.backbone.ledger.read(subjects.POLICY):
        fact = at.fact
        if isinstance(fact, PolicyChanged):
            setting = Setting(
                policy=fact.policy, seq=at.seq, time=at.time, by=fact.by, reason=fact.reason
            )
    return setting


def changed(before: Policy, changes: Payload) -> Policy:
    """Return `before` with these changes. Raises click.UsageError naming what cannot be."""
    from events.requests import InvalidRequest, SetPolicy, decode_request  # noqa: PLC0415 - see top

    merged = in_full(before)
    for name, value in changes.items():
        merged[name] = {**merged[name], **value} if isinstance(value, dict) else value
    try:
        return decode_request(SetPolicy, msgspec.json.encode({"policy": merged})).policy
    except InvalidRequest as invalid:
        raise click.UsageError(invalid.message.replace("$.policy.", "")) from None


def in_full(struct: Struct) -> Payload:
    """Return a struct for programs, with the fields that are at their defaults too."""
    return {
        name: in_full(value) if isinstance(value, Struct) else value
        for name, value in msgspec.structs.asdict(struct).items()
    }


def _changes(
    kind: str | None, aging_s: float | None, weights: Mapping[str, Sequence[str]]
) -> Payload:
    changes: Payload = {}
    if kind is not None:
        changes["kind"] = kind
    if aging_s is not None:
        changes["aging_s_per_weight"] = aging_s
    for option, pairs in weights.items():
        if pairs:
            changes[FIELDS[option]] = dict(_weight(option, pair) for pair in pairs)
    return changes


def _weight(option: str, pair: str) -> tuple[str, float]:
    name, _, value = pair.partition("=")
    try:
        return name, float(value)
    except ValueError:
        message = f"--{option}: given: {pair!r}; allowed: NAME=NUMBER, as live=10"
        raise click.UsageError(message) from None


def _show(setting: Setting) -> None:
    policy = setting.policy
    rows = [
        ("policy", str(policy.kind)),
        ("set", _set_by(setting)),
        ("aging", f"{policy.aging_s_per_weight:g} s of waiting are worth a weight of 1"),
        ("queues", _listed(in_full(policy.queues))),
        ("priorities", _listed(in_full(policy.priorities))),
        ("shares", f"{_listed(policy.shares)}{'; ' if policy.shares else ''}any other tenant 1"),
    ]
    show_table(("", ""), rows)


def _set_by(setting: Setting) -> str:
    if not setting.seq:
        return "by nobody: schedulers rank as their own settings say, these are the defaults"
    when = "" if setting.time is None else f"{setting.time:%Y-%m-%d} "
    words = f"{when}{present.clock_time(setting.time)} UTC by {setting.by or 'somebody'}"
    return f"{words}, sequence {setting.seq}" + (f": {setting.reason}" if setting.reason else "")


def _listed(weights: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {weight:g}" for name, weight in weights.items())
