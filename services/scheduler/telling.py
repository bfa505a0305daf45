"""What nodes are told: their assignments, and what is asked of attempts they run.

A node acts on what is on its own subject. What it has not acted on in time is said again: the fact
for it may be lost, and to hear a thing twice does no harm.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import StrEnum

import msgspec
import structlog
from msgspec import Struct

from events import subjects
from events.ids import JobId, NodeId
from events.job import PauseRequested, ResumeRequested
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
        self._told: dict[JobId, _Told] = {}

    def assignment(self, job: JobId, attempt: int, seq: int) -> Assignment | None:
        """Return what the node must know; None: the job has moved on meanwhile."""
        state = self._world.job(job)
        if isinstance(state, Absent):
            return None
        self._told[job] = _Told(attempt, _Matter.RUN, self._clock.monotonic_s())
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
        for job, held in list(self._world.holders()):
            what = self._untold(job, held, now_s, repeat_s=repeat_s)
            if what is None:
                continue
            self._told[job] = _Told(held.attempt, what, now_s)
            if what is _Matter.RUN:
                _log.info("assignment.repeated", job=job, node=held.node, attempt=held.attempt)
                given.setdefault(held.node, []).append(_again(job, held))
            else:
                signal = Signal(job=job, attempt=held.attempt, action=Action(what))
                signals.append(Entry(self._pen.write(subjects.node(held.node), signal)))
        if signals:
            await append(self._ledger, signals, "signaling")
        await self.tell(given)
        self._told = {job: told for job, told in self._told.items() if job in self._world.jobs}

    def _untold(self, job: JobId, held: Held, now_s: float, *, repeat_s: float) -> _Matter | None:
        """Return what the node must hear about this attempt now; None: nothing."""
        what = _open_matter(held)
        if what is None:
            return None
        told = self._told.get(job)
        if told is None or told.attempt != held.attempt:
            first = what is not _Matter.RUN or self._overdue(held, repeat_s)
            return what if first else None
        if told.what is not what or now_s - told.at_s > repeat_s:
            return what
        return None

    def _overdue(self, held: Held, repeat_s: float) -> bool:
        """Tell whether whoever assigned it has had time to tell the node."""
        since = self._clock.now() - held.assigned_at
        return since > timedelta(seconds=repeat_s)


def parts(assignments: Sequence[Assignment]) -> Iterator[tuple[Assignment, ...]]:
    """Split assignments, in order, so that none but a single large one exceeds `TOLD_BYTES_MAX`."""
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
