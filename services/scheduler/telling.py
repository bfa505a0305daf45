"""What nodes are told: their assignments, and what is asked of attempts they run.

A node acts on what is on its own subject. What it has not acted on in time is said again: the fact
for it may be lost, and to hear a thing twice does no harm.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec
import structlog
from msgspec import Struct

from events import subjects
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.job import (
    Assigned,
    AttemptFailed,
    AttemptLost,
    Canceled,
    CancelRequested,
    Completed,
    Declined,
    Failed,
    Paused,
    PauseRequested,
    Resumed,
    ResumeRequested,
    Started,
)
from events.node import Action, Assignment, Assignments, Signal
from events.state.job import Absent, Held
from services.clock import Clock, Pen
from services.log.persist import append
from services.log.port import Entry, EventLog
from services.scheduler.state.world import World

TOLD_BYTES_MAX = 256 * 1024
"""A fact with more assignments than this is split: it stays far below the log's largest message."""

_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger()


class _Matter(StrEnum):
    """What a node is told about an attempt."""

    RUN = "run"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


_TURNS = frozenset(
    {Assigned, Declined, Started, CancelRequested, PauseRequested, ResumeRequested, Paused, Resumed}
    | {Completed, AttemptFailed, AttemptLost, Canceled, Failed}
)
"""Facts after which a node has something else to hear of an attempt, or nothing any more."""


class _Told(Struct, frozen=True):
    """When a node was last told what about an attempt."""

    attempt: int
    what: _Matter
    at_s: float


def _again(job: JobId, held: Held) -> Assignment:
    return Assignment(job=job, attempt=held.attempt, seq=held.version, spec=held.terms.spec)


def _open_matter(held: Held) -> _Matter | None:
    """Return what the node has not acted on yet; None: nothing."""
    if held.cancel is not None:
        return _Matter.CANCEL
    if held.started_at is None:
        return _Matter.RUN
    if isinstance(held.asked, PauseRequested) and not held.paused:
        return _Matter.PAUSE
    if isinstance(held.asked, ResumeRequested) and held.paused:
        return _Matter.RESUME
    return None


class Told:
    """What one scheduler has told the nodes of its world."""

    def __init__(self, world: World, ledger: EventLog, *, clock: Clock, pen: Pen) -> None:
        self._world = world
        self._ledger = ledger
        self._clock = clock
        self._pen = pen
        self._told: OrderedDict[JobId, _Told] = OrderedDict()
        """What they have not acted on, the earliest first: those to be told again are in front."""
        self._news: dict[JobId, None] = {}
        """Attempts about which the node may have to hear something at once."""

    def apply(self, recorded: Recorded) -> None:
        """Take note of a fact that the world has folded."""
        if type(recorded.fact) not in _TURNS or not subjects.is_job(recorded.subject):
            return
        job = subjects.job_of(recorded.subject)
        held = self._world.job(job)
        what = _open_matter(held) if isinstance(held, Held) else None
        if what is None:
            self._told.pop(job, None)
            self._news.pop(job, None)
        elif what is not _Matter.RUN:
            self._news[job] = None
        elif isinstance(held, Held):
            self._assigned(job, held)

    def assignment(self, job: JobId, attempt: int, seq: int) -> Assignment | None:
        """Return what the node must know; None: the job has moved on meanwhile."""
        state = self._world.job(job)
        if isinstance(state, Absent):
            return None
        self._note(job, _Told(attempt, _Matter.RUN, self._clock.monotonic_s()))
        return Assignment(job=job, attempt=attempt, seq=seq, spec=state.terms.spec)

    async def tell(self, given: dict[NodeId, list[Assignment]]) -> None:
        """Write each node's assignments on its own subject, where its worker reads."""
        entries = [
            Entry(self._pen.write(subjects.node(node), Assignments(jobs=part)))
            for node, jobs in given.items()
            for part in parts(jobs)
        ]
        if entries:
            await append(self._ledger, entries, "assigning")

    async def repeat(self, repeat_s: float) -> None:
        """Tell nodes again what they have not acted on: the fact for them may be lost."""
        now_s = self._clock.monotonic_s()
        given: dict[NodeId, list[Assignment]] = {}
        signals: list[Entry] = []
        for job in self._due(now_s - repeat_s):
            held = self._world.job(job)
            what = _open_matter(held) if isinstance(held, Held) else None
            if what is None:
                continue
            assert isinstance(held, Held)
            self._note(job, _Told(held.attempt, what, now_s))
            if what is _Matter.RUN:
                _log.info("assignment.repeated", job=job, node=held.node, attempt=held.attempt)
                given.setdefault(held.node, []).append(_again(job, held))
            else:
                signal = Signal(job=job, attempt=held.attempt, action=Action(what))
                signals.append(Entry(self._pen.write(subjects.node(held.node), signal)))
        if signals:
            await append(self._ledger, signals, "signaling")
        await self.tell(given)

    def _due(self, before_s: float) -> list[JobId]:
        """Take out what there may be to tell: news, and what was told before that instant."""
        due, self._news = self._news, {}
        while self._told:
            job, told = next(iter(self._told.items()))
            if told.at_s >= before_s:
                break
            del self._told[job]
            due[job] = None
        return list(due)

    def _assigned(self, job: JobId, held: Held) -> None:
        """Note an assignment: whoever made it has time to tell the node."""
        told = self._told.get(job)
        if told is None or told.attempt != held.attempt:
            age_s = (self._clock.now() - held.assigned_at).total_seconds()
            at_s = self._clock.monotonic_s() - max(age_s, 0.0)
            self._note(job, _Told(held.attempt, _Matter.RUN, at_s))

    def _note(self, job: JobId, told: _Told) -> None:
        self._told[job] = told
        self._told.move_to_end(job)


def parts(assignments: Sequence[Assignment]) -> Iterator[tuple[Assignment, ...]]:
    """Split assignments, in order, so that none but a single large one exceeds `TOLD_BYTES_MAX`."""
    if len(assignments) == 1:
        yield tuple(assignments)
        return
    part: list[Assignment] = []
    size = 0
    for assignment in assignments:
        more = len(_encode(assignment))
        if part and size + more > TOLD_BYTES_MAX:
            yield tuple(part)
            part, size = [], 0
        part.append(assignment)
        size += more
    if part:
        yield tuple(part)
