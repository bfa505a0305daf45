"""What holds for the whole fleet, as facts. The tags are on disk: see `events.job`."""

from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

from msgspec import Meta, Struct

from events.ids import TOKEN_PATTERN

Weight: TypeAlias = Annotated[float, Meta(gt=0, le=1_000)]
Tenant: TypeAlias = Annotated[str, Meta(pattern=TOKEN_PATTERN)]


class PolicyKind(StrEnum):
    """In which order waiting jobs are given out."""

    WEIGHTED = "weighted"
    """Queue weight times priority weight, as a head start: nobody waits for ever."""
    STRICT = "strict"
    """Queue, then priority, then first come: lower ones wait for as long as there are higher."""
    FAIR = "fair"
    """Tenants take turns by their shares; inside a tenant as `weighted`."""


class QueueWeights(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each queue counts."""

    live: Weight = 10.0
    default: Weight = 5.0
    batch: Weight = 1.0


class PriorityWeights(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each priority counts; a job's weight is that of its queue times that of its priority."""

    high: Weight = 3.0
    medium: Weight = 2.0
    low: Weight = 1.0


class Policy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the fleet ranks its jobs."""

    kind: PolicyKind = PolicyKind.WEIGHTED
    aging_s_per_weight: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    """A job of weight w is treated as if submitted w times this earlier."""
    queues: QueueWeights = QueueWeights()
    priorities: PriorityWeights = PriorityWeights()
    shares: Annotated[dict[Tenant, Weight], Meta(max_length=1_000)] = {}
    """Of each tenant under `fair`; a tenant that is not named has 1."""


class _Fact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact of the fleet; `tag` is its type on the wire."""

    tag: ClassVar[str]


class PolicyChanged(_Fact, frozen=True):
    """From here on jobs are ranked by this policy, the waiting ones too."""

    tag: ClassVar[str] = "cluster.policy_changed.v1"
    policy: Policy
    by: str = ""
    reason: str = ""


class LeaderElected(_Fact, frozen=True):
    """From here on the named scheduler decides; what others append meets its expectation."""

    tag: ClassVar[str] = "cluster.leader_elected.v1"
    scheduler: str
    term: Annotated[int, Meta(ge=1)]
    """Grows with each election."""


class LeaderResigned(_Fact, frozen=True):
    """The leader has stopped in order; a standby takes over at once."""

    tag: ClassVar[str] = "cluster.leader_resigned.v1"
    scheduler: str
    term: Annotated[int, Meta(ge=1)]


ClusterFact: TypeAlias = PolicyChanged | LeaderElected | LeaderResigned
