"""Which jobs go where, now: pure, and in the time it takes to assign them.

Of the nodes that can take a job those with most left are compared by a score; each term is 0 to 1:

    score = free share of the scarcest resource
          + speed at this kind of work, as a share of the fastest of them
          - 1 if it has a GPU and the job does not want one
          - half the share of its CPU that is busy, as its last heartbeat says

A node whose speed at it is not known counts as the fastest: so it is tried.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from itertools import chain

from msgspec import Struct

from events.ids import JobId, NodeId
from events.job import Placement
from events.state.job import Waiting
from services.scheduler.state.capacity import cost, minus
from services.scheduler.state.lineup import Lineup
from services.scheduler.state.needs import Need
from services.scheduler.state.ready import Line
from services.scheduler.state.rooms import Remainder, Room, Rooms
from services.scheduler.state.speed import kind_of
from services.scheduler.state.world import World

LOAD_WEIGHT = 0.5
"""What runs for the fleet counts in the free share already; this is for what else keeps it busy."""
PASS_JOBS_MAX = 1_000
"""Most jobs given out in one pass; the next pass follows at once."""
COMPARED_MAX = 8
"""Most nodes compared for one job. They are the emptiest that can: of thousands, eight of the
emptiest are as good a choice as all of them, and cost the same in any fleet."""


class Choice(Struct, frozen=True):
    """One job for one node, and why."""

    job: JobId
    node: NodeId
    placement: Placement


def place(world: World, now: datetime, jobs_max: int = PASS_JOBS_MAX) -> list[Choice]:
    """Return the best waiting job for what is free, best first, each with its best node.

    Changes nothing, and looks at no job but those it places and the heads of their lines.
    """
    choices: list[Choice] = []
    if not len(world.rooms):
        return choices
    waiting = world.ready.needs()
    world.rooms.ask(chain.from_iterable(need.capabilities for need in waiting))
    needs = {need: _Search(world, need) for need in waiting}
    lineup = Lineup(world, _worth_it(waiting, needs))
    with closing(_Trial(world.rooms)) as trial:
        while len(choices) < jobs_max and (head := lineup.head()) is not None:
            trial.settle()
            found = needs[head.line.need].best(head.job)
            if found is None:
                lineup.drop()  # nobody free can run these: others may be given out all the same
                continue
            choices.append(_choice(world, head.job, found, now))
            trial.take(found.node, head.line.need)
            lineup.take()
    return choices


def _worth_it(
    waiting: Mapping[Need, Sequence[Line]], searches: Mapping[Need, "_Search"]
) -> Iterator[Line]:
    """Yield the lines for whose jobs there is a node."""
    for need, lines in waiting.items():
        if searches[need].any():
            yield from lines


class _Found(Struct, frozen=True):
    node: NodeId
    score: float
    speed: float
    slots: int
    """Free ones."""
    runner_up: str
    candidates: int


class _Search:
    """Looks for nodes for jobs of one need, during one pass."""

    def __init__(self, world: World, need: Need) -> None:
        self._world = world
        self._gpu_wanted = need.wants_gpu
        if need.avoid and not world.elsewhere(need):
            need = need._replace(avoid=())
        self._need = need
        self._exhausted: bool | None = None
        """Whether no node has room any more: a pass only takes room; None: not looked at yet."""
        self._candidates = 0
        """How many nodes could take one when the first was given out; 0: none was yet."""

    def any(self) -> bool:
        """Tell whether any node can take one."""
        if self._exhausted is None:
            self._exhausted = not self._world.rooms.any(self._need)
        return not self._exhausted

    def best(self, job: JobId) -> _Found | None:
        """Return the best node for `job`; None: none has room left."""
        nodes = [] if self._exhausted else self._world.rooms.fitting(self._need, COMPARED_MAX)
        if not nodes:
            self._exhausted = True
            return None
        self._candidates = self._candidates or self._world.rooms.count(self._need)
        scores = self._scores(job, nodes)
        best = max(range(len(nodes)), key=lambda at: scores[at][0])
        node, left = nodes[best]
        others = [at for at in range(len(nodes)) if at != best]
        second = max(others, key=lambda at: scores[at][0]) if others else None
        runner_up = "" if second is None else nodes[second][0]
        return _Found(node, *scores[best], left.free.slots, runner_up, self._candidates)

    def _scores(
        self, job: JobId, nodes: Sequence[tuple[NodeId, Remainder]]
    ) -> Sequence[tuple[float, float]]:
        """Return score and speed of each node for the job."""
        state = self._world.job(job)
        assert isinstance(state, Waiting)
        kind = kind_of(state.terms.spec)
        speeds = [self._world.speeds.of(node, kind) for node, _ in nodes]
        fastest = max(speeds)
        loads = self._world.loads
        return [
            (
                left.free_share
                + (speed / fastest if speed else 1.0)
                - (left.gpu and not self._gpu_wanted)
                - LOAD_WEIGHT * loads.get(node, 0.0),
                speed,
            )
            for (node, left), speed in zip(nodes, speeds, strict=True)
        ]


class _Trial:
    """Takes room of nodes on trial: `close` gives all of it back."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._before: dict[NodeId, Room] = {}
        self._taken: tuple[NodeId, Need] | None = None
        """Last, and not noted in the rooms yet: most often nobody asks for them any more."""

    def take(self, node: NodeId, need: Need) -> None:
        """Take what such a job takes of the node, as far as rooms tell after `settle`."""
        self.settle()
        self._taken = node, need

    def settle(self) -> None:
        """Let the rooms tell what is left."""
        if self._taken is None:
            return
        (node, need), self._taken = self._taken, None
        room = self._rooms.get(node)
        assert room is not None, "chosen for its room"
        self._before.setdefault(node, room)
        free = minus(room.free, cost(need, room.hardware_only))
        self._rooms.set(node, room._replace(free=free) if free.slots > 0 else None)

    def close(self) -> None:
        """Give everything back."""
        for node, room in self._before.items():
            self._rooms.set(node, room)


def _choice(world: World, job: JobId, found: _Found, now: datetime) -> Choice:
    state = world.job(job)
    assert isinstance(state, Waiting)
    terms = state.terms
    placement = Placement(
        weight=world.ranking.weight(terms.queue, terms.priority),
        waited_s=max(0.0, round((now - terms.submitted_at).total_seconds(), 3)),
        candidates=found.candidates,
        free=found.slots,
        runner_up=found.runner_up,
        score=round(found.score, 3),
        speed=round(found.speed, 3),
    )
    return Choice(job, found.node, placement)
