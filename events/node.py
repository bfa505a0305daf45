"""The life of one node, as facts. The tags are on disk: see `events.job`."""

from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

from msgspec import Meta, Struct

from events.ids import JobId
from events.job import Attempt
from events.spec import Instant, JobSpec

Epoch: TypeAlias = Annotated[int, Meta(ge=1)]
"""Grows with each start of a node's worker; attempts of an earlier epoch are gone."""
Count: TypeAlias = Annotated[int, Meta(ge=0)]


class Action(StrEnum):
    """What is asked of a running attempt."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


class Gpu(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU as the driver describes it."""

    index: Count
    name: str
    uuid: str = ""
    memory_bytes: Count = 0


class Hardware(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node is made of; read once at start."""

    hostname: str = ""
    cpu_model: str = ""
    cpu_threads: Annotated[int, Meta(ge=1)] = 1
    memory_bytes: Count = 0
    disk_bytes: Count = 0
    """Size of the file system of the work directory."""
    gpus: tuple[Gpu, ...] = ()
    ffmpeg: str = ""
    """Version of the ffmpeg chosen on this node."""


class Assignment(Struct, frozen=True, kw_only=True, omit_defaults=True, array_like=False):
    """One job given to the node, with all it needs to begin."""

    job: JobId
    attempt: Attempt
    seq: Annotated[int, Meta(ge=1)]
    """Ledger sequence of the job's `Assigned`: what `Started` must expect."""
    spec: JobSpec


class _Fact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact of a node; `tag` is its type on the wire."""

    tag: ClassVar[str]


class Registered(_Fact, frozen=True):
    """A worker has started here and offers its slots."""

    tag: ClassVar[str] = "node.registered.v1"
    epoch: Epoch
    slots: Annotated[int, Meta(ge=1, le=4096)]
    capabilities: tuple[str, ...] = ()
    """`engine:ffmpeg`, `codec:h264`, `encoder:libx264`, `gpu`, `label:zone=eu`."""
    hardware: Hardware = Hardware()
    address: str = ""
    """Where the node's own endpoints are, as `host:port`: no two live nodes have the same. One
    without endpoints says where it works, as `host/directory`."""
    version: str = ""
    fingerprint: str = ""
    """Tells this machine and work directory from any other that claims the same node id."""
    encoder_sessions: Count = 0
    """Hardware encodes at once that each of its GPUs can do; 0 is none, or not known."""


class Available(_Fact, frozen=True):
    """The node's free room now; a report of state, not a difference."""

    tag: ClassVar[str] = "node.available.v1"
    epoch: Epoch
    slots: Count
    free: Count
    refusing: str = ""
    """Why it takes nothing new for now, as `disk: …`; empty: it takes what fits."""


class Assignments(_Fact, frozen=True):
    """Jobs given to this node; a repeated one is the same attempt, not another."""

    tag: ClassVar[str] = "node.assignments.v1"
    jobs: tuple[Assignment, ...]


class Signal(_Fact, frozen=True):
    """Something is asked of an attempt that runs here."""

    tag: ClassVar[str] = "node.signal.v1"
    job: JobId
    attempt: Attempt
    action: Action


class Suspected(_Fact, frozen=True):
    """The node is silent; it gets nothing new until it speaks."""

    tag: ClassVar[str] = "node.suspected.v1"
    reason: str = ""


class Lost(_Fact, frozen=True):
    """The node is given up; its attempts are lost."""

    tag: ClassVar[str] = "node.lost.v1"
    reason: str = ""


class Recovered(_Fact, frozen=True):
    """The node speaks again."""

    tag: ClassVar[str] = "node.recovered.v1"


class Cordoned(_Fact, frozen=True):
    """The node gets nothing new; what runs goes on."""

    tag: ClassVar[str] = "node.cordoned.v1"
    by: str = ""
    reason: str = ""


class Draining(_Fact, frozen=True):
    """The node finishes what runs, takes nothing new and then stops."""

    tag: ClassVar[str] = "node.draining.v1"
    by: str = ""
    reason: str = ""


class Drained(_Fact, frozen=True):
    """Nothing runs here any more; the worker has stopped in order."""

    tag: ClassVar[str] = "node.drained.v1"
    epoch: Epoch = 1


class Uncordoned(_Fact, frozen=True):
    """The node may get work again."""

    tag: ClassVar[str] = "node.uncordoned.v1"
    by: str = ""


class Removed(_Fact, frozen=True):
    """The node is no longer part of the fleet."""

    tag: ClassVar[str] = "node.removed.v1"
    by: str = ""


class Refused(_Fact, frozen=True):
    """A second worker claimed this identity or address while the first one lives."""

    tag: ClassVar[str] = "node.refused.v1"
    address: str = ""
    reason: str = ""
    epoch: Count = 0
    """The start that is refused; 0: it was refused before it had registered."""
    fingerprint: str = ""


class CircuitOpened(_Fact, frozen=True):
    """Attempts fail here far more often than elsewhere: the node gets nothing until `until`."""

    tag: ClassVar[str] = "node.circuit_opened.v1"
    until: Instant
    failures: Count
    attempts: Count
    """Attempts looked at, of which `failures` failed."""
    reason: str = ""


class CircuitHalfOpened(_Fact, frozen=True):
    """The node is on probation: it gets one attempt at a time."""

    tag: ClassVar[str] = "node.circuit_half_opened.v1"


class CircuitClosed(_Fact, frozen=True):
    """The node has proved itself, or somebody says so: it gets work as any other."""

    tag: ClassVar[str] = "node.circuit_closed.v1"
    by: str = ""


NodeFact: TypeAlias = (
    Registered
    | Available
    | Assignments
    | Signal
    | Suspected
    | Lost
    | Recovered
    | Cordoned
    | Draining
    | Drained
    | Uncordoned
    | Removed
    | Refused
    | CircuitOpened
    | CircuitHalfOpened
    | CircuitClosed
)
