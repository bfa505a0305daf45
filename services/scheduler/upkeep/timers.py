"""What follows from facts and the passing of time, without anybody asking: pure.

Ended attempts are settled, pending jobs released, those that no node can run rejected. All timers
are computed from the state, so a scheduler that has just started has them at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from itertools import islice

from msgspec import Struct

from events.ids import JobId
from events.job import JobFact
from events.state.job import Pending, Waiting
from events.state.node import Node
from services.config import SchedulerSettings
from services.scheduler.deciders.job import (
    JobCommand,
    Reject,
    Release,
    RetryPolicy,
    Settle,
    decide,
)
from services.scheduler.state import capacity
from services.scheduler.state.lineup import in_order
from services.scheduler.state.needs import Need
from services.scheduler.state.ready import Line
from services.scheduler.state.world import World

LOOKED_AT_MAX = 1_000
"""Most jobs of one requirement set looked at in one pass."""
REJECTED_A_PASS_MAX = 100
"""Most unplaceable jobs rejected in one pass; the next pass goes on."""


class Draft(Struct, frozen=True):
    """A fact to append to a job if nothing has happened to it since."""

    job: JobId
    fact: JobFact
    expected: int


def settle(world: World, now: datetime, policy: RetryPolicy) -> list[Draft]:
    """Decide what follows the attempts that ended without success."""
    drafts: list[Draft] = []
    for job in sorted(world.halted):
        drafts += decided(world, job, Settle(job=job, now=now, policy=policy))
    return drafts


def release(world: World, now: datetime) -> list[Draft]:
    """Let the jobs go whose start time or back-off has come and that wait for no other job."""
    drafts: list[Draft] = []
    for job in world.due(now):
        state = world.job(job)
        if not isinstance(state, Pending):
            continue
        if state.backoff or not state.terms.spec.depends_on:
            drafts += decided(world, job, Release(now=now))
        else:
            world.unblocked[job] = None
    return drafts


def reject_unplaceable(world: World, now: datetime, settings: SchedulerSettings) -> list[Draft]:
    """Reject what no registered node could ever run, once it has waited long enough for one."""
    registered = [node for node in world.nodes.values() if capacity.registered(node)]
    if not registered:
        return []
    drafts: list[Draft] = []
    before = now - timedelta(seconds=settings.unschedulable_s)
    for need, lines in world.ready.needs().items():
        if any(capacity.fits_ever(node, need) for node in registered):
            continue
        why, field = _why_never(registered, need)
        reason = (
            f"{why}; waited {settings.unschedulable_s:g} s; "
            "start a worker that has them, or ask for less, and submit again"
        )
        for job in _waiting_since(world, lines, before):
            drafts += decided(world, job, Reject(reason=reason, field=field))
    return drafts


def _why_never(registered: Sequence[Node], need: Need) -> tuple[str, str]:
    """Return why none of the nodes could ever run such a job, and the field at fault."""
    able = [node for node in registered if need.capabilities <= node.capabilities]
    if able:
        return capacity.beyond(able, need), "$.limits"
    missing = need.capabilities.difference(*(node.capabilities for node in registered))
    wanted = ", ".join(sorted(missing or need.capabilities))
    return f"no registered node has all of: {wanted}", "$.requires"


def _waiting_since(world: World, lines: Iterable[Line], before: datetime) -> list[JobId]:
    with closing(in_order(world, lines)) as walk:
        looked_at = [place.job for place in islice(walk, LOOKED_AT_MAX)]
    return [job for job in looked_at if _since(world, job) < before][:REJECTED_A_PASS_MAX]


def _since(world: World, job: JobId) -> datetime:
    state = world.job(job)
    assert isinstance(state, Waiting), "only waiting jobs are ready"
    return state.since


def decided(world: World, job: JobId, command: JobCommand) -> Iterator[Draft]:
    """Yield what `command` decides on the job's state; nothing while a fact is on its way."""
    if world.claimed(job):
        return
    state = world.job(job)
    for fact in decide(command, state):
        yield Draft(job, fact, state.version)
