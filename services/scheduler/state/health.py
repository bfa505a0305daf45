"""How attempts end on each node, beside how the same kind of work ends on all others.

A pure fold of the ledger with the events' own times, so every scheduler knows the same. What counts
against a node: attempts that failed, stalled, ran out of time or were never started there. What
says nothing of a node does not count: a permanent failure is the job's own, a lost node is lost.
"""

from collections import OrderedDict, deque
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

from msgspec import Struct

from events import node as node_facts
from events import subjects
from events.codec import Recorded
from events.ids import NodeId
from events.job import AttemptFailed, AttemptLost, Completed, FailureClass, LossCause
from events.spec import JobSpec
from events.state.job import Held, JobState
from services.scheduler.state.needs import requirements

WINDOW_MAX = 20
"""Attempts remembered of each node: its last ones."""
WINDOW_S = 3600.0
"""... and none that ended longer ago than this."""
FAILURES_MIN = 5
"""Fewer failures than this say nothing."""
OTHERS_MIN = 3
"""Attempts on other nodes without which a kind of work is not compared."""
RATE_MIN = 0.5
"""Of the attempts on a node, at least so many failed ..."""
RATIO_MIN = 3.0
"""... and at least so many times as many as would have on the other nodes."""

Kind: TypeAlias = frozenset[str]
"""What kind of work an attempt was: the engine, encoders and codecs it needed."""

_OF_A_KIND = ("engine:", "codec:", "encoder:", "gpu")
_NODE_AT_FAULT = frozenset({LossCause.STALLED, LossCause.TIMED_OUT, LossCause.NOT_STARTED})


class Finding(Struct, frozen=True):
    """What speaks against a node: attempts of kinds that other nodes have done as well."""

    attempts: int
    failures: int
    expected: float
    """Failures to be expected if the other nodes had done the same work."""
    kinds: tuple[Kind, ...]
    """What failed here, the earliest first."""

    @property
    def sick(self) -> bool:
        """Whether it is enough to keep work away."""
        often = self.failures >= FAILURES_MIN and self.failures >= RATE_MIN * self.attempts
        return often and self.failures >= RATIO_MIN * self.expected


class _Seen(Struct, frozen=True):
    """One attempt that has ended."""

    kind: Kind
    failed: bool
    at: datetime


class _Probation(Struct):
    """A circuit that was opened and not closed since."""

    openings: int
    since_seq: int | None = None
    """Attempts assigned before this say nothing of the trial; None: there is none yet."""
    passed: bool | None = None
    """How the trial has ended; None: it has not."""

    def tries(self, held: Held) -> bool:
        """Tell whether the attempt is part of the trial."""
        return self.since_seq is not None and held.assigned_seq > self.since_seq


class Health:
    """The last attempts of each node, and the trials of those that were taken out."""

    def __init__(self) -> None:
        self.failing: dict[NodeId, None] = {}
        """Nodes with another failure since somebody last asked for a finding."""
        self._seen: OrderedDict[NodeId, deque[_Seen]] = OrderedDict()
        self._all: dict[Kind, list[int]] = {}
        """Of each kind of work: attempts and failures on all nodes."""
        self._probation: dict[NodeId, _Probation] = {}

    def apply(self, recorded: Recorded, before: JobState) -> None:
        """Fold one fact of a job or a node; `before`: the job's state without it."""
        if isinstance(before, Held):
            self._attempt(recorded, before)
        elif subjects.is_node(recorded.subject):
            self._circuit(subjects.node_of(recorded.subject), recorded)

    def openings(self, node: NodeId) -> int:
        """Return how often the node was taken out since it last did well."""
        probation = self._probation.get(node)
        return 0 if probation is None else probation.openings

    def taken_out(self) -> list[tuple[NodeId, bool | None]]:
        """Return the nodes that were taken out, and whether they passed their trial since."""
        return [(node, probation.passed) for node, probation in self._probation.items()]

    def finding(self, node: NodeId) -> Finding:
        """Return what speaks against the node, beside what others do of the same kind."""
        own = self._seen.get(node, deque[_Seen]())
        counts: dict[Kind, list[int]] = {}
        for seen in own:
            _count(counts, seen, 1)
        attempts = failures = 0
        expected = 0.0
        for kind, (here, failed_here) in counts.items():
            everywhere, failed_everywhere = self._all[kind]
            others = everywhere - here
            if others >= OTHERS_MIN:
                attempts += here
                failures += failed_here
                expected += here * (failed_everywhere - failed_here) / others
        kinds = tuple(kind for kind, (_, failed_here) in counts.items() if failed_here)
        return Finding(attempts, failures, expected, kinds)

    def _attempt(self, recorded: Recorded, held: Held) -> None:
        failed = _verdict(recorded, held)
        if failed is None:
            return
        seen = _Seen(kind_of(held.terms.spec), failed, recorded.time)
        window = self._seen.setdefault(held.node, deque())
        self._seen.move_to_end(held.node)
        window.append(seen)
        _count(self._all, seen, 1)
        while len(window) > WINDOW_MAX or window[0].at < _horizon(recorded.time):
            _count(self._all, window.popleft(), -1)
        self._forget_idle(recorded.time)
        if failed:
            self.failing[held.node] = None
        probation = self._probation.get(held.node)
        if probation is not None and probation.tries(held):
            probation.passed = not failed

    def _circuit(self, node: NodeId, recorded: Recorded) -> None:
        probation = self._probation.get(node)
        match recorded.fact:
            case node_facts.CircuitOpened():
                self._probation[node] = _Probation(self.openings(node) + 1)
                self._forget(node)
            case node_facts.CircuitHalfOpened() | node_facts.Registered() if probation is not None:
                self._probation[node] = _Probation(probation.openings, recorded.seq)
                self._forget(node)
            case node_facts.CircuitClosed() | node_facts.Removed():
                self._probation.pop(node, None)
                self._forget(node)
            case _:
                pass

    def _forget(self, node: NodeId) -> None:
        """Take a node's attempts out: what comes is judged anew."""
        for seen in self._seen.pop(node, ()):
            _count(self._all, seen, -1)
        self.failing.pop(node, None)

    def _forget_idle(self, now: datetime) -> None:
        """Take out the nodes whose last attempt ended too long ago; the first is the most idle."""
        while self._seen:
            node, window = next(iter(self._seen.items()))
            if window[-1].at >= _horizon(now):
                return
            self._forget(node)


def kind_of(spec: JobSpec) -> Kind:
    """Return what kind of work the job is, whatever else it asks of a node."""
    return _kind(requirements(spec))


@lru_cache(maxsize=1_000)
def _kind(capabilities: frozenset[str]) -> Kind:
    return frozenset(need for need in capabilities if need.startswith(_OF_A_KIND))


def _verdict(recorded: Recorded, held: Held) -> bool | None:
    """Return whether the attempt failed by its node's fault; None: no end that tells anything."""
    match recorded.fact:
        case Completed(attempt=held.attempt):
            return False
        case AttemptFailed(attempt=held.attempt, failure=failure):
            return None if failure is FailureClass.PERMANENT else True
        case AttemptLost(attempt=held.attempt, cause=cause):
            return True if cause in _NODE_AT_FAULT else None
        case _:
            return None


def _count(counts: dict[Kind, list[int]], seen: _Seen, step: int) -> None:
    both = counts.setdefault(seen.kind, [0, 0])
    both[0] += step
    both[1] += step * seen.failed
    if not both[0]:
        del counts[seen.kind]


def _horizon(now: datetime) -> datetime:
    try:
        return now - timedelta(seconds=WINDOW_S)
    except OverflowError:  # whatever instant a writer gave: within an hour of the first there is
        return datetime.min.replace(tzinfo=now.tzinfo)
