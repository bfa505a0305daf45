"""A scheduler's world, told fact by fact."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Raw, json

from events import subjects
from events.cluster import ClusterFact, Policy
from events.codec import Fact, Recorded, Unknown
from events.ids import EventId, JobId, NodeId
from events.job import JobFact, Submitted
from events.node import NodeFact, Registered
from events.spec import JobSpec
from events.subjects import Subject
from services.scheduler.placement import Choice
from services.scheduler.state.world import World
from tests.vocabulary import instant

if TYPE_CHECKING:
    from events.state.job import JobState


class Told:
    """A world and the ledger it was told, one fact a second unless an instant is given."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.world = World(policy or Policy())
        self.source = "test"
        """Who says what is told from now on."""
        self.also: list[Callable[[Recorded, JobState], None]] = []
        """What folds each fact beside the world: it is given the state before it, too."""

    def job(self, job: str, *facts: JobFact | Unknown, at: datetime | None = None) -> int:
        """Tell facts of a job; return the sequence of the last one."""
        return self._tell(subjects.job(JobId(job)), facts, at)

    def node(self, node: str, *facts: NodeFact, at: datetime | None = None) -> int:
        """Tell facts of a node; return the sequence of the last one."""
        return self._tell(subjects.node(NodeId(node)), facts, at)

    def fleet(self, *facts: ClusterFact) -> int:
        """Tell facts of the whole fleet; return the sequence of the last one."""
        return self._tell(subjects.POLICY, facts, None)

    def submit(self, job: str, spec: JobSpec | None = None, at: datetime | None = None) -> int:
        """Tell that a job was submitted."""
        return self.job(job, Submitted(spec=spec or noop()), at=at)

    def register(self, node: str, slots: int = 1, *capabilities: str, epoch: int = 1) -> int:
        """Tell that a node offers slots, as one that runs no-ops and what else is given."""
        offers = ("engine:noop", *capabilities)
        return self.node(node, Registered(epoch=epoch, slots=slots, capabilities=offers))

    def _tell(self, subject: Subject, facts: Sequence[Fact | Unknown], at: datetime | None) -> int:
        for fact in facts:
            seq = self.world.seq + 1
            kind = fact.type if isinstance(fact, Unknown) else fact.tag
            data = Raw(b"{}" if isinstance(fact, Unknown) else json.encode(fact))
            time = at or instant(seq)
            event_id = EventId(f"e-{seq}")
            recorded = Recorded(seq, subject, fact, time, event_id, self.source, kind, None, data)
            before = self.world.before(recorded)
            self.world.apply(recorded)
            for each in self.also:
                each(recorded, before)
        return self.world.seq


def noop(**fields: object) -> JobSpec:
    """Return a specification that every node of a test can run."""
    return json.decode(json.encode({"engine": "noop", **fields}), type=JobSpec)


def pairs(choices: Sequence[Choice]) -> list[tuple[str, str]]:
    """Return which job goes to which node, in order."""
    return [(choice.job, choice.node) for choice in choices]
