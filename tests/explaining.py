"""A ledger told fact by fact, and what is explained of it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import reduce

from events import subjects
from events.cluster import Policy
from events.codec import Fact, Recorded
from events.ids import JobId, NodeId
from events.job import Assigned, AttemptFailed, FailureClass, Retried, Started, Submitted
from events.node import Registered
from events.requests import Explanation
from events.spec import JobSpec
from events.state.job import INITIAL, Absent, JobState, evolve, status_of
from events.subjects import Subject
from services.config import SchedulerSettings
from services.scheduler.explaining.case import Dossier
from services.scheduler.explaining.explanation import explain
from services.scheduler.state.ranking import initial_policy
from services.scheduler.state.world import World
from tests.vocabulary import instant, recorded
from tests.worlds import noop

SETTINGS = SchedulerSettings()
N1, N2 = NodeId("n1"), NodeId("n2")


class Story:
    """Facts in their order, one a second, and the world they lead to."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.ledger: list[Recorded] = []
        self.world = World(policy or initial_policy(SETTINGS))

    def job(self, job: str, *facts: Fact) -> None:
        """Tell facts of a job."""
        self._tell(subjects.job(JobId(job)), facts)

    def node(self, node: str, *facts: Fact) -> None:
        """Tell facts of a node."""
        self._tell(subjects.node(NodeId(node)), facts)

    def fleet(self, *facts: Fact) -> None:
        """Tell facts of the whole fleet."""
        self._tell(subjects.POLICY, facts)

    def submit(self, job: str, spec: JobSpec | None = None) -> None:
        """Tell that a job was submitted."""
        self.job(job, Submitted(spec=noop() if spec is None else spec))

    def register(self, node: str, slots: int = 1, *capabilities: str) -> None:
        """Tell that a node offers slots, as one that runs no-ops and what else is given."""
        offers = ("engine:noop", *capabilities)
        self.node(node, Registered(epoch=1, slots=slots, capabilities=offers))

    def add(self, event: Recorded) -> None:
        """Tell an event as it was recorded."""
        if isinstance(event.fact, Retried):
            job = subjects.job_of(event.subject)
            self.world.recall(job, _state(self.ledger, job))
        self.ledger.append(event)
        self.world.apply(event)

    def explain(self, job: str, at_s: float | None = None) -> Explanation:
        """Explain a job at the last fact, or at so many seconds of the story."""
        now = instant(self.world.seq) if at_s is None else instant(0) + timedelta(seconds=at_s)
        return explained(self.world, self.ledger, JobId(job), now)

    def says(self, job: str, at_s: float | None = None) -> tuple[str, str]:
        """Return what is said of a job: why, and what is next."""
        told = self.explain(job, at_s)
        return told.summary, told.next

    def _tell(self, subject: Subject, facts: Sequence[Fact]) -> None:
        for fact in facts:
            self.add(recorded(len(self.ledger) + 1, fact, subject))


def explained(world: World, ledger: Sequence[Recorded], job: JobId, now: datetime) -> Explanation:
    """Explain a job from a world and the ledger that led to it."""
    state = _state(ledger, job)
    needed = () if isinstance(state, Absent) else state.terms.spec.depends_on
    dossier = Dossier(
        job=job,
        facts=[event for event in ledger if event.subject == subjects.job(job)],
        dependencies={each: status_of(_state(ledger, each)) for each in needed},
    )
    return explain(world, dossier, now, settings=SETTINGS)


def _state(ledger: Sequence[Recorded], job: JobId) -> JobState:
    return reduce(evolve, (e for e in ledger if e.subject == subjects.job(job)), INITIAL)


def given(node: NodeId = N1, attempt: int = 1) -> Assigned:
    """Return that a node may run an attempt."""
    return Assigned(node=node, attempt=attempt)


def running(story: Story, job: str = "a", node: str = "n1", attempt: int = 1) -> None:
    """Let a node run a job."""
    story.job(job, given(NodeId(node), attempt), Started(node=NodeId(node), attempt=attempt))


def one_node(slots: int = 1) -> Story:
    """Return a story of one node and a job for it."""
    story = Story()
    story.register("n1", slots)
    story.submit("a")
    return story


def failing(failure: FailureClass = FailureClass.TRANSIENT, attempt: int = 1) -> AttemptFailed:
    """Return that an attempt on `n1` failed."""
    return AttemptFailed(node=N1, attempt=attempt, failure=failure, message="connection reset")
