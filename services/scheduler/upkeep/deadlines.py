"""Attempts that their node will not end any more: found when due, not by looking at all of them.

What a due attempt is given up for follows from the state alone, so a scheduler that has just
started knows it at once. Paused time counts in no time-out.
"""

from datetime import datetime

from events import subjects
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import LossCause
from events.node import Registered
from events.state.job import Held
from events.state.node import Node, NodeStatus
from services.config import SchedulerSettings
from services.scheduler.deciders.job import GiveUp
from services.scheduler.state.world import World
from services.scheduler.upkeep.alarms import Alarms, later
from services.scheduler.upkeep.timers import Draft, decided

GIVEN_UP_A_PASS_MAX = 10_000
"""Most overdue attempts given up in one pass; the next pass goes on."""
AGAIN_S = 1.0
"""An attempt that could not be given up (a fact of it was on its way) is looked at again."""

_AWAY = {
    NodeStatus.DRAINED: LossCause.DRAINED,
    NodeStatus.LOST: LossCause.NODE_LOST,
    NodeStatus.REMOVED: LossCause.NODE_LOST,
    NodeStatus.REFUSED: LossCause.NODE_LOST,
}


class Deadlines:
    """When each attempt of one world is due, and the nodes that may have left theirs behind."""

    def __init__(self, world: World, settings: SchedulerSettings) -> None:
        self._world = world
        self._settings = settings
        self._alarms = Alarms()
        self._left: dict[NodeId, None] = {}
        for job, _ in world.holders():
            self._look_at(job)

    def apply(self, recorded: Recorded) -> None:
        """Take note of a fact that the world has folded."""
        if subjects.is_job(recorded.subject):
            self._look_at(subjects.job_of(recorded.subject))
        elif subjects.is_node(recorded.subject):
            node_id = subjects.node_of(recorded.subject)
            away = self._world.node(node_id).status in _AWAY
            if away or isinstance(recorded.fact, Registered):
                self._left[node_id] = None

    def give_up(self, now: datetime) -> list[Draft]:
        """Give up the attempts that their node will not end any more."""
        drafts: list[Draft] = []
        for node_id in list(self._left):
            gone = [job for job in self._world.held.get(node_id, ()) if self._is_left(job)]
            for job in gone:
                drafts += self._given_up(job, now)
            if not gone:
                del self._left[node_id]
        for job in self._alarms.ring(now, GIVEN_UP_A_PASS_MAX):
            if self._loss(job, now) is None:
                continue
            self._alarms.set(job, later(now, AGAIN_S))
            drafts += self._given_up(job, now)
        return list({draft.job: draft for draft in drafts}.values())

    def _look_at(self, job: JobId) -> None:
        state = self._world.job(job)
        if not isinstance(state, Held):
            self._alarms.clear(job)
            return
        if _left_by(self._world.node(state.node), state) is not None:
            self._left[state.node] = None
        due = due_at(state, self._settings)
        if due is None:
            self._alarms.clear(job)
        else:
            self._alarms.set(job, due)

    def _is_left(self, job: JobId) -> bool:
        state = self._world.job(job)
        return isinstance(state, Held) and _left_by(self._world.node(state.node), state) is not None

    def _loss(self, job: JobId, now: datetime) -> tuple[LossCause, str] | None:
        state = self._world.job(job)
        if not isinstance(state, Held):
            return None
        return loss(self._world.node(state.node), state, now, self._settings)

    def _given_up(self, job: JobId, now: datetime) -> list[Draft]:
        state, found = self._world.job(job), self._loss(job, now)
        assert isinstance(state, Held)
        assert found is not None
        cause, reason = found
        command = GiveUp(attempt=state.attempt, cause=cause, reason=reason)
        return list(decided(self._world, job, command))


def due_at(state: Held, settings: SchedulerSettings) -> datetime | None:
    """Return when the attempt is to be given up if nothing happens; None: never, or it stands."""
    if state.started_at is None:
        return later(state.assigned_at, settings.assign_s)
    timeout_s = state.terms.spec.timeout_s
    if timeout_s is None or state.paused_at is not None:
        return None
    allowed_s = timeout_s + state.paused_s + settings.timeout_margin_s
    return later(state.started_at, allowed_s)


def loss(
    node: Node, state: Held, now: datetime, settings: SchedulerSettings
) -> tuple[LossCause, str] | None:
    """Return why the attempt is given up, with the figures; None: it is not."""
    left = _left_by(node, state)
    if left is not None:
        return left, ""
    due = due_at(state, settings)
    if due is None or now < due:
        return None
    if state.started_at is None:
        return LossCause.NOT_STARTED, f"not started within {settings.assign_s:g} s"
    ran_s = (now - state.started_at).total_seconds() - state.paused_s
    reason = (
        f"ran for {ran_s:.1f} s, {state.paused_s:.1f} s of pauses not counted; "
        f"allowed: {state.terms.spec.timeout_s:g} s, and {settings.timeout_margin_s:g} s for the "
        "worker to end it"
    )
    return LossCause.TIMED_OUT, reason


def _left_by(node: Node, state: Held) -> LossCause | None:
    if node.status in _AWAY:
        return _AWAY[node.status]
    return LossCause.NODE_RESTARTED if state.assigned_seq < node.registered_seq else None
