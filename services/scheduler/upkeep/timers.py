"""What follows from facts and the passing of time, without anybody asking: pure.

Ended attempts are settled, pending jobs released, attempts of silent nodes given up. All timers are
computed from the state, so a scheduler that has just started has them at once.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

from msgspec import Struct

from events.ids import JobId
from events.job import JobFact, LossCause
from events.state.job import Held, Pending, Waiting
from events.state.node import NodeStatus
from services.config import SchedulerSettings
from services.scheduler.deciders.job import (
    GiveUp,
    JobCommand,
    Reject,
    Release,
    RetryPolicy,
    Settle,
    decide,
)
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


def give_up(world: World, now: datetime, settings: SchedulerSettings) -> list[Draft]:
    """Give up the attempts that their node will not end any more."""
    drafts: list[Draft] = []
    for job, state in list(world.holders()):
        cause = _loss(world, state, now, settings)
        if cause is not None:
            drafts += decided(world, job, GiveUp(attempt=state.attempt, cause=cause))
    return drafts


def reject_unplaceable(world: World, now: datetime, settings: SchedulerSettings) -> list[Draft]:
    """Reject what no registered node could ever run, once it has waited long enough for one."""
    registered = [
        node for node in world.nodes.values() if node.epoch and node.status != NodeStatus.REMOVED
    ]
    if not registered:
        return []
    drafts: list[Draft] = []
    before = now - timedelta(seconds=settings.unschedulable_s)
    for requirement in world.ready.requirements():
        if any(requirement <= node.capabilities for node in registered):
            continue
        missing = requirement.difference(*(node.capabilities for node in registered))
        wanted = ", ".join(sorted(missing or requirement))
        reason = (
            f"no registered node has all of: {wanted}; waited {settings.unschedulable_s:g} s; "
            "start a worker that has them, or ask for less, and submit again"
        )
        for job in _waiting_since(world, requirement, before):
            drafts += decided(world, job, Reject(reason=reason, field="$.requires"))
    return drafts


def _waiting_since(world: World, requirement: frozenset[str], before: datetime) -> list[JobId]:
    walk = world.ready.ordered(requirement)
    found = [job for _, _, job in islice(walk, LOOKED_AT_MAX) if _since(world, job) < before]
    walk.close()
    return found[:REJECTED_A_PASS_MAX]


def _since(world: World, job: JobId) -> datetime:
    state = world.job(job)
    assert isinstance(state, Waiting), "only waiting jobs are ready"
    return state.since


def _loss(
    world: World, state: Held, now: datetime, settings: SchedulerSettings
) -> LossCause | None:
    node = world.node(state.node)
    if node.status is NodeStatus.DRAINED:
        return LossCause.DRAINED
    if node.status in {NodeStatus.LOST, NodeStatus.REMOVED}:
        return LossCause.NODE_LOST
    if state.assigned_seq < node.registered_seq:
        return LossCause.NODE_RESTARTED
    overdue = now - state.assigned_at > timedelta(seconds=settings.assign_s)
    return LossCause.NOT_STARTED if state.started_at is None and overdue else None


def decided(world: World, job: JobId, command: JobCommand) -> Iterator[Draft]:
    """Yield what `command` decides on the job's state; nothing while a fact is on its way."""
    if world.claimed(job):
        return
    state = world.job(job)
    for fact in decide(command, state):
        yield Draft(job, fact, state.version)
