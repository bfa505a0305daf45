"""Everything a next event may change, in memory, and what a batch of events changes of it.

Nothing here reads or writes: the store brings in what is missing, writes what changed, and says
when that is committed.
"""

from collections.abc import Sequence

from msgspec import Struct

from events.codec import Recorded, Unknown
from events.subjects import JOB_PREFIX
from events.telemetry import Heartbeat, Progress
from projections.fold import jobs, nodes
from projections.fold.audit import audit_row, entity_of, payload_of
from projections.fold.jobs import HotJob
from projections.fold.nodes import HotNode
from projections.fold.rows import AttemptRow, Micros, Row, micros
from projections.fold.telemetry import heartbeat_row, progress_row

FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What a fold raises that has a mistake in it; it parks one entity and stops nothing."""

_TELEMETRY_JOB = "ffrtmp.telemetry.job."
_TELEMETRY_NODE = "ffrtmp.telemetry.node."


class Changes(Struct):
    """Rows that one batch of events leads to."""

    audit: list[Row] = []
    parked: list[Row] = []
    heartbeats: list[Row] = []
    progress: list[Row] = []
    attempts: list[AttemptRow] = []
    jobs: dict[str, HotJob] = {}
    """Jobs whose rows changed, by subject: one row each, however many facts there were."""
    nodes: dict[str, HotNode] = {}


class World:
    """Hot jobs, all nodes, and what is known of the rest."""

    def __init__(self) -> None:
        self.jobs: dict[str, HotJob] = {}
        """By subject."""
        self.nodes: dict[str, HotNode] = {}
        """By node id."""
        self.settled: set[int] = set()
        """Hashes of the subjects of jobs that are not hot any more: 65 bytes a job."""
        self.parked: dict[str, int] = {}
        """Subject to sequence of the event that could not be folded."""
        self._changes = Changes()

    def missing(self, batch: Sequence[Recorded]) -> set[str]:
        """Return the subjects of settled jobs that `batch` has facts of."""
        return {
            recorded.subject
            for recorded in batch
            if recorded.subject not in self.jobs and hash(recorded.subject) in self.settled
        }

    def settle(self, subject: str) -> None:
        """Let go of a job of which no further fact is expected."""
        self.jobs.pop(subject, None)
        self.settled.add(hash(subject))

    def release(self, subject: str) -> None:
        """Let go of a job that was brought back, unless it is expected to change again."""
        job = self.jobs.get(subject)
        if job is not None and job.settled:
            self.settle(subject)

    def ledger(self, batch: Sequence[Recorded]) -> Changes:
        """Fold events of the ledger and return what they change."""
        changes = self._begin()
        for recorded in batch:
            at = micros(recorded.time)
            kind, entity = entity_of(recorded.subject)
            job_no = None
            if kind == "job":
                job_no = self._job(recorded, entity, at)
            elif kind == "node":
                self._node(recorded, entity, at)
            changes.audit.append(audit_row(recorded, at, kind=kind, entity=entity, job_no=job_no))
        return changes

    def telemetry(self, batch: Sequence[Recorded]) -> Changes:
        """File reports, and take the newest of each running attempt and node into its row."""
        changes = self._begin()
        for recorded in batch:
            fact, at, subject = recorded.fact, micros(recorded.time), recorded.subject
            if isinstance(fact, Progress):
                self._progress(recorded.seq, fact, subject.removeprefix(_TELEMETRY_JOB), at)
            elif isinstance(fact, Heartbeat):
                self._heartbeat(recorded.seq, fact, subject.removeprefix(_TELEMETRY_NODE), at)
            elif isinstance(fact, Unknown):
                self._file_parked("telemetry", recorded, at, fact.problem)
        return changes

    def _begin(self) -> Changes:
        self._changes = Changes()
        return self._changes

    def _job(self, recorded: Recorded, job_id: str, at: Micros) -> int | None:
        """Fold a fact of a job; return the job's number, None: there is no such job."""
        subject = recorded.subject
        job = self.jobs.get(subject)
        if isinstance(recorded.fact, Unknown) or subject in self.parked:
            return None if job is None else job.row.job_no
        try:
            if job is None:
                job = jobs.begun(recorded, job_id, at)
                if job is None:
                    return None
                self.jobs[subject] = job
            elif closed := jobs.step(job, recorded, at):
                self._changes.attempts.append(closed)
        except FAULTS as fault:
            self._park(recorded, at, fault)
        else:
            self._changes.jobs[subject] = job
        return None if job is None else job.row.job_no

    def _node(self, recorded: Recorded, node_id: str, at: Micros) -> None:
        if isinstance(recorded.fact, Unknown) or recorded.subject in self.parked:
            return
        node = self.nodes.get(node_id) or nodes.first(recorded, node_id)
        try:
            nodes.step(node, recorded, at)
        except FAULTS as fault:
            self._park(recorded, at, fault)
        else:
            self.nodes[node_id] = self._changes.nodes[node_id] = node

    def _progress(self, seq: int, fact: Progress, job_id: str, at: Micros) -> None:
        self._changes.progress.append(progress_row(seq, at, job_id, fact))
        subject = JOB_PREFIX + job_id
        job = self.jobs.get(subject)
        if job is not None and jobs.report(job, fact, at):
            self._changes.jobs[subject] = job

    def _heartbeat(self, seq: int, fact: Heartbeat, node_id: str, at: Micros) -> None:
        self._changes.heartbeats.append(heartbeat_row(seq, at, node_id, fact))
        node = self.nodes.get(node_id)
        if node is not None and nodes.report(node, fact, at):
            self._changes.nodes[node_id] = node

    def _park(self, recorded: Recorded, at: Micros, fault: Exception) -> None:
        self.parked[recorded.subject] = recorded.seq
        self._file_parked("ledger", recorded, at, f"{type(fault).__name__}: {fault}")

    def _file_parked(self, stream: str, recorded: Recorded, at: Micros, reason: str) -> None:
        row = (stream, recorded.seq, at, recorded.subject, reason, payload_of(recorded))
        self._changes.parked.append(row)
