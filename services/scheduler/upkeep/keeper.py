"""All upkeep of one world in one place: what it folds beside the world, hears, and what follows."""

from events import subjects
from events.codec import Recorded
from events.node import Registered
from events.state.job import JobState
from services.backbone import Backbone
from services.clock import Clock, Pen
from services.config import SchedulerSettings
from services.log.persist import append
from services.log.port import Entry
from services.scheduler.state.health import Health
from services.scheduler.state.world import World
from services.scheduler.upkeep import breaker, timers
from services.scheduler.upkeep.deadlines import Deadlines
from services.scheduler.upkeep.dependencies import Waits, dependency_drafts
from services.scheduler.upkeep.liveness import Liveness, record
from services.scheduler.upkeep.strays import Strays
from services.scheduler.upkeep.timers import Draft


class Upkeep:
    """What one scheduler does about its world without being asked."""

    def __init__(
        self,
        world: World,
        backbone: Backbone,
        settings: SchedulerSettings,
        *,
        clock: Clock,
        pen: Pen,
    ) -> None:
        self.health = Health()
        self._world = world
        self._ledger = backbone.ledger
        self._settings = settings
        self._clock = clock
        self._pen = pen
        self._deadlines = Deadlines(world, settings)
        self._strays = Strays(world)
        self._waits = Waits(world, pending_s=settings.pending_s)
        self._liveness = Liveness(world, backbone, settings, clock=clock, pen=pen)

    def apply(self, recorded: Recorded, before: JobState) -> None:
        """Take note of a fact that the world has folded; `before`: its job's state without it."""
        self.health.apply(recorded, before)
        self._deadlines.apply(recorded)
        self._strays.apply(recorded)
        self._waits.apply(recorded)
        if type(recorded.fact) is Registered and subjects.is_node(recorded.subject):
            self._liveness.registered(subjects.node_of(recorded.subject))

    def begin(self) -> None:
        """Prepare to act: another scheduler may have, up to now."""
        self._strays.begin()
        self._waits.begin()
        self._liveness.begin()

    async def listen(self) -> None:
        """Note which nodes speak, until cancelled."""
        await self._liveness.listen()

    async def watch(self) -> None:
        """Record what follows for nodes, and tell them to end what they lost."""
        await self._liveness.watch(self._ledger)
        await self._judge()
        signals = self._strays.entries(self._pen)
        if signals:
            await append(self._ledger, signals, "signaling")

    def timed(self) -> list[Draft]:
        """Return what the passing of time brings about, of each job at most one fact."""
        now = self._clock.now()
        drafts = [
            *timers.release(self._world, now),
            *self._deadlines.give_up(now),
            *timers.reject_unplaceable(self._world, now, self._settings),
            *self._waits.circles(),
        ]
        return list({draft.job: draft for draft in drafts}.values())

    async def dependent(self) -> list[Draft]:
        """Return what follows for jobs from what has become of those they wait for."""
        now = self._clock.now()
        drafts = await dependency_drafts(self._world, self._ledger, now)
        drafts += await self._waits.overdue(self._ledger, now)
        return list({draft.job: draft for draft in drafts}.values())

    async def _judge(self) -> None:
        """Open and close circuits; what loses a race or meets an outage is judged again."""
        now = self._clock.now()
        judged = breaker.judge(self._world, self.health, now, self._settings.breaker_s)
        entries: list[Entry] = []
        for node_id, fact in judged:
            version = self._world.node(node_id).version
            entries.append(Entry(self._pen.write(subjects.node(node_id), fact), version))
        if entries:
            await record(self._ledger, entries, "judging nodes")
